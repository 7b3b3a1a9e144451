"""The paper's Table 1, Table 2 and Appendix B, and the same models as measured or counted by other projects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientformer_edu.paper.reading import fields, read, reported
from efficientformer_edu.paper.records import Reported, check_tags, find


@dataclass(frozen=True)
class Column:
    """A column of a table: one quantity.

    Attributes:
        name: name in code, such as `"top1"`.
        label: name in print.
        unit: unit of every cell.
        protocol: how it was measured, as far as that is sourced.
        tags: keys of `TAGS`, sources of the protocol; empty without a protocol.
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
        name: name as printed in the paper.
        cells: the sourced cells, in the order of the columns.
        kind: the paper's class of the model, such as `"conv"` or `"hybrid"`; empty if the table has none.
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
        """Return a cell, or None if it is not sourced.

        Args:
            model: name of the row as printed, or its preset.
            column: name of the column.

        Raises:
            ValueError: for an unknown model or column, with a suggestion.
        """
        rows = {row.name: row for row in self.rows} | {row.preset: row for row in self.rows if row.preset}
        row = find(model, rows, f"row of {self.title}")
        match = find(column, {item.name: item for item in self.columns}, f"column of {self.title}")
        return next((cell for cell in row.cells if cell.quantity == match.name), None)

    def __getitem__(self, key: tuple[str, str]) -> Reported:
        """Return the cell at (model, column). Raises ValueError like `cell`, and also if the cell is not sourced."""
        model, column = key
        cell = self.cell(model, column)
        if cell is None:
            raise ValueError(f"{column!r} of {model!r} in {self.title} is not sourced")
        return cell

    def to_markdown(self) -> str:
        """Return a Markdown table, marked as reported. Every number has its tags; an empty cell is not sourced."""
        lines = [
            "| reported | " + " | ".join(_heading(column) for column in self.columns) + " |",
            "|---|" + "---|" * len(self.columns),
        ]
        for row in self.rows:
            cells = (self.cell(row.name, column.name) for column in self.columns)
            lines.append(f"| {row.name} | " + " | ".join(_printed(cell) for cell in cells) + " |")
        return "\n".join(lines)


def table1() -> Table:
    """Return Table 1, ImageNet-1K: `params` (M), `macs` (G), `epochs`, `top1` (%), `npu` and `cpu` latency (ms).

    The latencies are for an iPhone 12 with iOS 15. They are not comparable with those of `measured_elsewhere`.
    """
    return _table(read("table1"))


def table2() -> Table:
    """Return Table 2, all values in %.

    Mask R-CNN on COCO: `ap_box`, `ap50_box`, `ap75_box`, `ap_mask`, `ap50_mask`, `ap75_mask`. Semantic FPN on ADE20K:
    `miou`.
    """
    return _table(read("table2"))


def appendix_b() -> Table:
    """Return Appendix B: `top1` (%) and `npu` latency (ms) of L3 with GeLU, ReLU and HardSwish (secondary source)."""
    return _table(read("appendix_b"))


def measured_elsewhere() -> tuple[Table, ...]:
    """Return latencies (ms) of the same models on other phones or systems, one table per protocol."""
    return tuple(_table(data) for data in read("elsewhere")["tables"])


def counted_elsewhere() -> tuple[Table, ...]:
    """Return parameters and operations of the same models as printed by other projects, one table per source.

    The columns are named by their quantity: `params`, `macs`, or `flops` if each MAC counts as two. Their labels are
    the headings of the project.
    """
    return tuple(_table(data) for data in read("counted")["tables"])


def evaluated_elsewhere() -> tuple[Table, ...]:
    """Return accuracies, `top1` and `top5` (%), of the published checkpoints with other projects' crops.

    They are not comparable with `table1`, because L1's published checkpoint is a different one.
    """
    return tuple(_table(data) for data in read("evaluated")["tables"])


def _table(data: Mapping[str, Any]) -> Table:
    columns = tuple(Column(name, **fields(about)) for name, about in data["columns"].items())
    return Table(data["title"], columns, tuple(_row(row, columns) for row in data["rows"]), data.get("note", ""))


def _row(data: Mapping[str, Any], columns: tuple[Column, ...]) -> Row:
    values = fields(data)
    cells = tuple(
        reported(values.pop(column.name), column.name, unit=column.unit, protocol=column.protocol)
        for column in columns
        if column.name in values
    )
    return Row(cells=cells, **values)


def _heading(column: Column) -> str:
    return f"{column.label}, {column.unit}" if column.unit else column.label


def _printed(cell: Reported | None) -> str:
    values = () if cell is None else (cell, *cell.also)
    return "; ".join(f"{value.printed} ({', '.join(filter(None, (value.note, *value.tags)))})" for value in values)
