"""A small table that can be written as aligned text, Markdown, CSV or JSON.

Text and Markdown show formatted values; CSV and JSON keep numbers and booleans unformatted. Standard library only.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Format = Literal["table", "markdown", "csv", "json"]
Cell = str | bool | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows under named columns.

    Attributes:
        columns: column names.
        rows: one cell per column; None is an empty cell.
        total: whether the last row is the total. It is separated by a rule in text, and left out of CSV and JSON.
        formats: format specification of the numbers by column name: `{"share": ".1%"}` or
            `{"ms": ".2f"}`. Without one, integers get thousands separators and floats up to six significant digits.

    Raises:
        ValueError: if `formats` names a column that the table does not have.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: bool = False
    formats: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
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

    def formatted(self) -> list[list[str]]:
        """Return all rows as strings, with the column formats applied."""
        specs = [self.formats.get(column, "") for column in self.columns]
        return [[format_cell(cell, spec) for cell, spec in zip(row, specs, strict=True)] for row in self.rows]

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
        writer.writerows([self.columns, *self._body])
        return buffer.getvalue()

    def to_json(self) -> str:
        """Return a JSON list with one object per row, without the total; numbers and booleans keep their type."""
        return json.dumps([dict(zip(self.columns, row, strict=True)) for row in self._body], indent=2)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    @property
    def _body(self) -> tuple[tuple[Cell, ...], ...]:
        return self.rows[:-1] if self.total else self.rows

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
    default = ",d" if isinstance(cell, int) else ",g"
    return format(cell, spec or default).replace("%", " %")


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _escaped(text: str) -> str:
    """Escape text for a Markdown table cell, where a bare `|` ends the cell."""
    return re.sub(r"(\\*)\|", r"\1\1\\|", text)
