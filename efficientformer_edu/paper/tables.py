"""Table 1, Table 2 and Appendix B, the same models as measured by other projects, and the ratios stated in the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientformer_edu.paper.records import Reported, check_tags, fields, find, read, reported


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

    The latencies are for an iPhone 12 with iOS 15. They are not comparable with those of `external_latencies`.
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


def external_latencies() -> tuple[Table, ...]:
    """Return latencies (ms) of the same models on other phones or systems, one table per protocol."""
    return tuple(_table(data) for data in read("elsewhere")["tables"])


def external_counts() -> tuple[Table, ...]:
    """Return parameters and operations of the same models as printed by other projects, one table per source.

    The columns are named by their quantity: `params`, `macs`, or `flops` if each MAC counts as two. Their labels are
    the headings of the project.
    """
    return tuple(_table(data) for data in read("counted")["tables"])


def external_accuracies() -> tuple[Table, ...]:
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


UNITS = {"points": "percentage points more", "times": "times as fast", "percent": "% less time"}
"""The three kinds of comparison, each with its unit."""


@dataclass(frozen=True)
class Ratio:
    """One comparison of two models as the paper states it.

    Attributes:
        model: the paper's network.
        against: the network that it is compared with.
        relation: a key of `UNITS`. `points`: model minus against. `times`: against over model. `percent`: what model
            saves, in per cent of against.
        stated: the stated number; its quantity is a column of Table 1, or `a100`.
        at_least: whether the text says "more than" the number.
    """

    model: str
    against: str
    relation: str
    stated: Reported
    at_least: bool = False

    def __str__(self) -> str:
        least = "more than " if self.at_least else ""
        return f"{self.model} against {self.against}, {self.stated.quantity}: {least}{self.stated}"

    def from_cells(self, table: Table) -> float | None:
        """Compute the comparison from two cells, without rounding; None if one of them is not sourced."""
        known_models = {row.name for row in table.rows}
        known_columns = {column.name for column in table.columns}
        if not {self.model, self.against} <= known_models or self.stated.quantity not in known_columns:
            return None
        value = table.cell(self.model, self.stated.quantity)
        baseline = table.cell(self.against, self.stated.quantity)
        return None if value is None or baseline is None else compare(self.relation, value.value, baseline.value)


def compare(relation: str, mine: float, other: float) -> float:
    """Compare two numbers by `points`, `times` or `percent`, as defined in `Ratio`.

    Raises:
        ValueError: for an unknown relation.
    """
    match relation:
        case "points":
            return mine - other
        case "times":
            return other / mine
        case "percent":
            return 100 * (1 - mine / other)
    raise ValueError(f"relation={relation!r} is not possible; allowed: {', '.join(UNITS)}")


def ratios() -> tuple[Ratio, ...]:
    """Return the comparisons of section 5.1, in order."""
    data = read("ratios")
    protocols = {column.name: column.protocol for column in table1().columns} | {"a100": data["a100"]["protocol"]}
    records = []
    for ratio in data["ratios"]:
        values = fields(ratio)
        quantity, relation = values.pop("quantity"), values["relation"]
        number = {name: values.pop(name) for name in ("value", "tags", "note") if name in values}
        stated = Reported(quantity, unit=UNITS[relation], protocol=protocols[quantity], **number)
        records.append(Ratio(stated=stated, **values))
    return tuple(records)
