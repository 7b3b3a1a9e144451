"""A row of the report: the reported value as one line of text, our value, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import singledispatch
from types import MappingProxyType
from typing import Any, Literal, get_args

from efficientformer_edu import paper


@singledispatch
def reported(record: object) -> str:
    """Return the description. Raises TypeError for any other object."""
    raise TypeError(f"{type(record).__name__} is not a record of the paper")


@reported.register
def _(record: paper.Reported) -> str:
    values = (record, *record.also)
    return "; ".join(
        f"{value.printed} {value.unit}".strip() + (f" ({value.note})" if value.note else "") for value in values
    )


@reported.register
def _(record: paper.Statement) -> str:
    return f"{record.text} ({record.note})" if record.note else record.text


@reported.register
def _(record: paper.Setting) -> str:
    sides = {"paper": record.paper, "code": record.code, "the run": record.run}
    return "; ".join(f"{side}: {reported(value)}" for side, value in sides.items() if value is not None)


@reported.register
def _(record: paper.Row) -> str:
    return "; ".join(f"{cell.quantity} {reported(cell)}" for cell in record.cells)


@reported.register
def _(record: paper.Ratio) -> str:
    return ("more than " if record.at_least else "") + reported(record.stated)


@reported.register
def _(record: paper.Equation) -> str:
    return record.meaning


@reported.register
def _(record: paper.Architecture) -> str:
    return described(record.widths, record.depths, record.mb3d)


@reported.register
def _(record: paper.Printed) -> str:
    return f"{blocks(record.mb4d, record.mb3d)}; {reported(record.params)}"


@reported.register
def _(record: paper.Difference) -> str:
    stated = {"paper": record.paper, "code": record.code}
    sides = "; ".join(f"{side}: {reported(value)}" for side, value in stated.items() if value is not None)
    return f"{sides} {record.consequence.text}" if record.consequence else sides


@reported.register
def _(record: paper.Observation) -> str:
    share = record.share
    return record.name + (f" {share.label}: {share.low} to {share.high} {share.unit}." if share else "")


@reported.register
def _(record: paper.Profile) -> str:
    return f"{', '.join(record.models)} by {', '.join(record.operators)}. {' '.join(record.notes)}"


@reported.register
def _(record: paper.Step) -> str:
    return record.what


def described(widths: tuple[int, ...], depths: tuple[int, ...], mb3d: int) -> str:
    """Describe a network."""
    lists = (", ".join(map(str, numbers)) for numbers in (widths, depths))
    return "widths {}; depths {}; the last {} MB3D".format(*lists, mb3d)


def blocks(mb4d: int, mb3d: int) -> str:
    """Describe the blocks of a stage."""
    return f"{mb4d} MB4D" + (f" + {mb3d} MB3D" if mb3d else "")


def cells(table: paper.Table) -> Iterator[tuple[paper.Row, str, paper.Reported]]:
    """Yield the sourced cells of a table, each with its row and a description."""
    labels = {column.name: column.label for column in table.columns}
    for row in table.rows:
        for cell in row.cells:
            yield row, f"{row.name}, {labels[cell.quantity]}", cell


Status = Literal[
    "exact",
    "follows the code",
    "consistent",
    "same trend",
    "inconclusive",
    "disagrees",
    "not reproducible here",
    "not yet",
    "background",
]
Kind = Literal["computed", "measured", "reported"]

MEANINGS = MappingProxyType(
    {
        "exact": "computed here; equal to what is reported, to its last printed digit",
        "follows the code": "paper and released code differ; ours is checked to follow the code",
        "consistent": "follows by arithmetic from other reported numbers; nothing was run",
        "same trend": "measured here on a different machine: different numbers, the same finding",
        "inconclusive": "measured here; the 95 % confidence interval allows both answers",
        "disagrees": "ours differs; the row gives the reason",
        "not reproducible here": "needs a device, data or training that a laptop does not have",
        "not yet": "no answer so far",
        "background": "context; there is nothing to reproduce",
    }
)
"""The meaning of each status, in the order of the summary."""


@dataclass(frozen=True)
class Verdict:
    """The comparison of our value with the reported one.

    Attributes:
        status: a key of `MEANINGS`.
        result: our value as text; empty if there is none.
        kind: kind of the numbers in `result`; None if it is empty.
        why: the reason for the status; empty if none is needed.

    Raises:
        ValueError: for an unknown status or kind, or if only one of `result` and `kind` is set.
    """

    status: Status
    result: str = ""
    kind: Kind | None = None
    why: str = ""

    def __post_init__(self) -> None:
        if self.status not in MEANINGS:
            raise ValueError(f"status={self.status!r} is not possible; allowed: {', '.join(MEANINGS)}")
        if self.kind not in (None, *get_args(Kind)):
            raise ValueError(f"kind={self.kind!r} is not possible; allowed: {', '.join(get_args(Kind))}, None")
        if bool(self.result) != bool(self.kind):
            raise ValueError(f"result={self.result!r} with kind={self.kind!r}: set both or neither")


@dataclass(frozen=True)
class Row:
    """One reported item with its verdict.

    Attributes:
        part: the part of the paper, a heading of the page.
        where: the location in it, such as "Table 1" or "Eq. 5".
        item: the reported item; `where` and `item` together are unique.
        record: the record of `efficientformer_edu.paper` for this row.
        chapter: number of the chapter about it.
        verdict: comparison with our value.
        command: a Python expression that gives our value, or the shell command of a measurement; empty if none.
        notebook: stem of the chapter's notebook; empty if the chapter does not exist.
    """

    part: str
    where: str
    item: str
    record: Any
    chapter: int
    verdict: Verdict
    command: str = ""
    notebook: str = ""

    @property
    def name(self) -> str:
        """Name of the row in stored results, such as `Table 1: EfficientFormer-L1, latency, NPU`."""
        return f"{self.where}: {self.item}"

    @property
    def status(self) -> Status:
        return self.verdict.status

    @property
    def result(self) -> str:
        return self.verdict.result

    @property
    def kind(self) -> Kind | None:
        return self.verdict.kind

    @property
    def reported(self) -> str:
        """The reported value as text, from the record."""
        return reported(self.record)

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of all sources of the record; `paper.TAGS` explains them."""
        return tuple(dict.fromkeys(_tags(self.record)))

    @property
    def why(self) -> str:
        """The reason for the status."""
        return self.verdict.why

    @property
    def chapter_label(self) -> str:
        """The chapter as text, and what is missing for a row without an answer."""
        if not self.notebook:
            return f"chapter {self.chapter}: not written yet"
        return f"chapter {self.chapter}" + (": no result stored yet" if self.status == "not yet" else "")


def _tags(record: object) -> list[str]:
    if isinstance(record, tuple):
        return [tag for item in record for tag in _tags(item)]
    if not is_dataclass(record):
        return []
    tags = list(getattr(record, "tags", ()))
    return tags + [
        tag for field in fields(record) if field.name != "tags" for tag in _tags(getattr(record, field.name))
    ]
