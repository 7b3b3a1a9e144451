"""A small table with a header, written as text for a terminal, Markdown, CSV or JSON.

Whole numbers are exact, and get a comma after each thousand where people read them. Needs nothing but the standard
library.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import Literal, get_args

Format = Literal["table", "markdown", "csv", "json"]
Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows under named columns.

    Attributes:
        columns: their names.
        rows: one value for each column. A column holds either words or numbers; None stands for an empty cell.
        total: whether the last row sums the others, and is set apart.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: bool = False

    def to(self, format: Format) -> str:
        """The table in one of the formats. Raises ValueError for another."""
        writers = {
            "table": self.to_text,
            "markdown": self.to_markdown,
            "csv": self.to_csv,
            "json": self.to_json,
        }
        if format not in writers:
            raise ValueError(f"format={format!r} is not possible; allowed: {', '.join(get_args(Format))}")
        return writers[format]()

    def to_text(self) -> str:
        """Aligned columns for a terminal, numbers to the right."""
        cells = [self.columns, *([shown(cell) for cell in row] for row in self.rows)]
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
        """A Markdown table, its last row in bold if it is the total."""
        rows = [[shown(cell) for cell in row] for row in self.rows]
        if self.total:
            rows[-1] = [f"**{text}**" if text else "" for text in rows[-1]]
        ruler = ["---:" if right else "---" for right in self._right]
        return "\n".join(f"| {' | '.join(row)} |" for row in [list(self.columns), ruler, *rows])

    def to_csv(self) -> str:
        """Comma-separated values without the total, numbers as they are."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerows([self.columns, *self._body])
        return buffer.getvalue()

    def to_json(self) -> str:
        """A list of objects, one for each row but the total."""
        return json.dumps([dict(zip(self.columns, row, strict=True)) for row in self._body], indent=2)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    @property
    def _body(self) -> tuple[tuple[Cell, ...], ...]:
        return self.rows[:-1] if self.total else self.rows

    @property
    def _right(self) -> list[bool]:
        return [any(isinstance(row[place], int | float) for row in self.rows) for place, _ in enumerate(self.columns)]


def shown(cell: Cell) -> str:
    """A cell as people read it: 1,291,284,736, 30.1 %, or nothing."""
    match cell:
        case None:
            return ""
        case int():
            return f"{cell:,}"
        case float():
            return f"{cell:.1%}".replace("%", " %")
    return cell
