"""A small table that can be written as aligned text, Markdown, CSV or JSON.

Text and Markdown show formatted values; CSV and JSON keep numbers and booleans unformatted. An estimate with its
confidence interval is one column in text and Markdown, and three columns of numbers in CSV and JSON. Standard library
only.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from efficientformer_edu.utils.statistics import Estimate

Format = Literal["table", "markdown", "csv", "json"]
Cell: TypeAlias = "str | bool | int | float | Estimate | None"
ENDS = ("low", "high")  # columns of CSV and JSON after a column with estimates: the ends of their intervals


@dataclass(frozen=True)
class Table:
    """Rows under named columns.

    Attributes:
        columns: column names, all different.
        rows: one cell per column; None is a missing value.
        total: whether the last row is the total. It is separated by a rule in text, and left out of CSV and JSON.
        formats: format specification of the numbers by column name: `{"share": ".1%"}` or
            `{"ms": ".2f"}`. Without one, integers get thousands separators and floats up to six significant digits.
        missing: text and Markdown for None.

    Raises:
        ValueError: if a column name is repeated, or `formats` names a column that the table does not have.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: bool = False
    formats: Mapping[str, str] = field(default_factory=dict, repr=False)
    missing: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        names = self._records()[0]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"the column name {repeated[0]!r} is repeated; allowed: different names")
        if unknown := self.formats.keys() - set(self.columns):
            raise ValueError(f"formats names {min(unknown)!r}; allowed: {', '.join(map(repr, self.columns))}")

    def to(self, format: Format) -> str:
        """Return the table in one of the formats. Raises ValueError for an unknown format."""
        writers = {
            "table": self.to_text,
            "markdown": self.to_markdown,
            "csv": self.to_csv,
            "json": self.to_json,
        }
        if format not in writers:
            raise ValueError(f"format={format!r} is not possible; allowed: {', '.join(get_args(Format))}")
        return writers[format]()

    def select(self, columns: Sequence[str]) -> Table:
        """Return the table with these columns only. Raises ValueError for a column that it does not have."""
        if unknown := [column for column in columns if column not in self.columns]:
            raise ValueError(f"column {unknown[0]!r} does not exist; allowed: {', '.join(map(repr, self.columns))}")
        indices = [self.columns.index(column) for column in columns]
        rows = tuple(tuple(row[index] for index in indices) for row in self.rows)
        formats = {column: spec for column, spec in self.formats.items() if column in columns}
        return replace(self, columns=tuple(columns), rows=rows, formats=formats)

    def formatted(self) -> list[list[str]]:
        """Return all rows as strings, with the column formats applied."""
        specs = [self.formats.get(column, "") for column in self.columns]
        return [
            [self.missing if cell is None else format_cell(cell, spec) for cell, spec in zip(row, specs, strict=True)]
            for row in self.rows
        ]

    def to_text(self) -> str:
        """Return aligned columns for a terminal, with numbers right-aligned."""
        cells = [self.columns, *self.formatted()]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(f"{text:{'>' if right else '<'}{width}}" for text, right, width in zip(*parts, strict=True))
            for parts in ((row, self._right, widths) for row in cells)
        ]
        rule = "  ".join("-" * width for width in widths)
        lines.insert(1, rule)
        if self.total:
            lines.insert(-1, rule)
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def to_markdown(self) -> str:
        """Return a Markdown table, with the total in bold. A `|` inside a cell is escaped."""
        header, *rows = ([_escaped(text) for text in row] for row in [list(self.columns), *self.formatted()])
        if self.total:
            rows[-1] = [f"**{text}**" if text else "" for text in rows[-1]]
        ruler = ["---:" if right else "---" for right in self._right]
        return "\n".join(f"| {' | '.join(row)} |" for row in [header, ruler, *rows])

    def to_csv(self) -> str:
        """Return comma-separated values without the total; numbers are not rounded."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerows(self._records())
        return buffer.getvalue()

    def to_json(self) -> str:
        """Return a JSON list with one object per row, without the total; numbers and booleans keep their type."""
        names, *rows = self._records()
        return json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def _records(self) -> list[list[Any]]:
        """Column names, then the rows without the total, with three columns for each column of estimates.

        The ends of an interval are None if it rests on too few samples.
        """
        wide = [any(isinstance(row[index], tuple) for row in self.rows) for index, _ in enumerate(self.columns)]
        records: list[list[Any]] = [[]]
        for name, is_wide in zip(self.columns, wide, strict=True):
            records[0] += [name, *(f"{name} {end}" for end in ENDS)] if is_wide else [name]
        for row in self.rows[:-1] if self.total else self.rows:
            records.append([])
            for cell, is_wide in zip(row, wide, strict=True):
                ends = cell.interval if isinstance(cell, tuple) else None
                value = cell.value if isinstance(cell, tuple) else cell
                records[-1] += [value, *(ends or (None, None))] if is_wide else [value]
        return records

    @property
    def _right(self) -> list[bool]:
        return [any(_is_number(row[index]) for row in self.rows) for index, _ in enumerate(self.columns)]


def format_cell(cell: Cell, spec: str = "") -> str:
    """Format a cell for reading: 1,291,284,736, 2.5, "30.1 %" for the format ".1%", "yes", or "" for None."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return " ".join(cell.splitlines())
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    default = "" if isinstance(cell, tuple) else ",d" if isinstance(cell, int) else ",g"
    return format(cell, spec or default).replace("%", " %")


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float | tuple) and not isinstance(cell, bool)


def _escaped(text: str) -> str:
    """Escape text for a Markdown table cell, where a bare `|` ends the cell."""
    return re.sub(r"(\\*)\|", r"\1\1\\|", text)
