"""The paper's tables, cell by cell: Table 1, Table 2, Appendix B, and the same models measured or counted elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientformer_edu.paper.reading import fields, read, reported
from efficientformer_edu.paper.records import Reported, check_tags, find


@dataclass(frozen=True)
class Column:
    """A quantity of a table.

    Attributes:
        name: in code, such as `"top1"`.
        label: in print.
        unit: of every cell.
        protocol: how it was measured, as far as that is sourced.
        tags: keys of `TAGS` that vouch for the protocol; none without one.
    """

    name: str
    label: str
    unit: str
    protocol: str = ""
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.protocol:
            check_tags(self.name, self.tags)


@dataclass(frozen=True)
class Row:
    """One model of a table.

    Attributes:
        name: as the paper spells it.
        cells: the sourced ones, in the order of the columns.
        kind: the paper's class of the model, such as `"conv"` or `"hybrid"`; empty where the table has none.
        preset: `"l1"`, `"l3"` or `"l7"` for a network that this package builds, else empty.
    """

    name: str
    cells: tuple[Reported, ...]
    kind: str = ""
    preset: str = ""


@dataclass(frozen=True)
class Table:
    """A table of reported numbers; `table["EfficientFormer-L1", "top1"]` or `table["l1", "top1"]` is one cell."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""

    def cell(self, model: str, column: str) -> Reported | None:
        """The cell, or None if it is not sourced.

        Args:
            model: name of the row as printed, or its preset.
            column: name of the column.

        Raises:
            ValueError: for a model or column that the table does not have, naming the nearest.
        """
        rows = {row.name: row for row in self.rows} | {row.preset: row for row in self.rows if row.preset}
        row = find(model, rows, f"row of {self.title}")
        wanted = find(column, {one.name: one for one in self.columns}, f"column of {self.title}")
        return next((cell for cell in row.cells if cell.quantity == wanted.name), None)

    def __getitem__(self, place: tuple[str, str]) -> Reported:
        """The cell at (model, column). Raises ValueError like `cell`, and also if the cell is not sourced."""
        model, column = place
        cell = self.cell(model, column)
        if cell is None:
            raise ValueError(f"{column!r} of {model!r} in {self.title} is not sourced")
        return cell

    def to_markdown(self) -> str:
        """The table for a page, marked as reported. Every number carries its tags, an empty cell is not sourced."""
        lines = [
            "| reported | " + " | ".join(_heading(column) for column in self.columns) + " |",
            "|---|" + "---|" * len(self.columns),
        ]
        for row in self.rows:
            cells = (self.cell(row.name, column.name) for column in self.columns)
            lines.append(f"| {row.name} | " + " | ".join(_printed(cell) for cell in cells) + " |")
        return "\n".join(lines)


def table1() -> Table:
    """Table 1, ImageNet-1K: `params` (M), `macs` (G), `epochs`, `top1` (%), `npu` and `cpu` latency (ms).

    The latencies are of an iPhone 12 with iOS 15. Compare them with nothing from `measured_elsewhere`.
    """
    return _table(read("table1"))


def table2() -> Table:
    """Table 2, all in %.

    Mask R-CNN on COCO: `ap_box`, `ap50_box`, `ap75_box`, `ap_mask`, `ap50_mask`, `ap75_mask`. Semantic FPN on ADE20K:
    `miou`.
    """
    return _table(read("table2"))


def appendix_b() -> Table:
    """Appendix B: `top1` (%) and `npu` latency (ms) of L3 with GeLU, ReLU and HardSwish, reported second-hand."""
    return _table(read("appendix_b"))


def measured_elsewhere() -> tuple[Table, ...]:
    """Latencies (ms) of the same models on other phones or systems, one table for each protocol."""
    return tuple(_table(data) for data in read("elsewhere")["tables"])


def counted_elsewhere() -> tuple[Table, ...]:
    """Parameters and operations of the same models as other projects print them, one table for each place.

    The columns are named by what they hold: `params`, `macs`, or `flops` where each MAC counts as two. Their labels
    say how the project heads them.
    """
    return tuple(_table(data) for data in read("counted")["tables"])


def evaluated_elsewhere() -> tuple[Table, ...]:
    """Accuracies, `top1` and `top5` (%), of the published checkpoints with other projects' crops.

    Compare them with nothing from `table1`: L1's checkpoint is another one.
    """
    return tuple(_table(data) for data in read("evaluated")["tables"])


def _table(data: Mapping[str, Any]) -> Table:
    columns = tuple(Column(name, **fields(about)) for name, about in data["columns"].items())
    return Table(data["title"], columns, tuple(_row(row, columns) for row in data["rows"]), data.get("note", ""))


def _row(data: Mapping[str, Any], columns: tuple[Column, ...]) -> Row:
    about = fields(data)
    cells = tuple(
        reported(about.pop(column.name), column.name, unit=column.unit, protocol=column.protocol)
        for column in columns
        if column.name in about
    )
    return Row(cells=cells, **about)


def _heading(column: Column) -> str:
    return f"{column.label}, {column.unit}" if column.unit else column.label


def _printed(cell: Reported | None) -> str:
    values = () if cell is None else (cell, *cell.also)
    return "; ".join(f"{value.printed} ({', '.join(filter(None, (value.note, *value.tags)))})" for value in values)
