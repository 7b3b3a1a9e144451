"""One row of the report: what is reported, what we have beside it, and how the two compare."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from efficientformer_edu.report.wording import reported

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
        "follows the code": "paper and released code differ; ours is checked to be the code's",
        "consistent": "follows by arithmetic from other reported numbers; nothing was run",
        "same trend": "measured here on another machine: other numbers, the same finding",
        "inconclusive": "measured here; the 95 % confidence interval allows both answers",
        "disagrees": "ours differs; the reason stands beside it",
        "not reproducible here": "needs a device, data or training that a laptop does not have",
        "not yet": "nothing answers it so far",
        "background": "said for context; there is nothing to reproduce",
    }
)
"""What each status says, in the order of the summary."""


@dataclass(frozen=True)
class Verdict:
    """How ours compares with what is reported.

    Attributes:
        status: a key of `MEANINGS`.
        ours: our numbers or words; empty where there are none.
        kind: which of the three kinds of numbers `ours` holds; None where it is empty.
        why: the reason for the status, in words; empty where the status says it all.

    Raises:
        ValueError: for another status or kind, or if one of `ours` and `kind` is there without the other.
    """

    status: Status
    ours: str = ""
    kind: Kind | None = None
    why: str = ""

    def __post_init__(self) -> None:
        if self.status not in MEANINGS:
            raise ValueError(f"status={self.status!r} is not possible; allowed: {', '.join(MEANINGS)}")
        if self.kind not in (None, *get_args(Kind)):
            raise ValueError(f"kind={self.kind!r} is not possible; allowed: {', '.join(get_args(Kind))}, None")
        if bool(self.ours) != bool(self.kind):
            raise ValueError(f"ours={self.ours!r} with kind={self.kind!r}: a number has a kind, and a kind a number")


@dataclass(frozen=True)
class Row:
    """One reported item, answered.

    Attributes:
        part: the part of the paper, a heading of the page.
        where: the place in it, such as "Table 1" or "Eq. 5".
        item: what is reported there; `where` and `item` together are unique.
        record: the record of `efficientformer_edu.paper` that the row answers to.
        chapter: number of the chapter that is about it.
        verdict: how ours compares.
        command: a Python expression that gives ours, or the shell command of a measurement; empty where there is none.
        notebook: name of the chapter's notebook without its ending; empty while the chapter is not written.
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
        """What a stored result calls the row: `Table 1: EfficientFormer-L1, latency, NPU`."""
        return f"{self.where}: {self.item}"

    @property
    def status(self) -> Status:
        return self.verdict.status

    @property
    def ours(self) -> str:
        return self.verdict.ours

    @property
    def kind(self) -> Kind | None:
        return self.verdict.kind

    @property
    def reported(self) -> str:
        """What is reported, from the record."""
        return reported(self.record)

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of all sources of the record, as `paper.TAGS` explains them."""
        return tuple(dict.fromkeys(_tags(self.record)))

    @property
    def why(self) -> str:
        """The reason for the status."""
        return self.verdict.why

    @property
    def place(self) -> str:
        """The chapter in words, and what a row that nothing answers is waiting for."""
        if not self.notebook:
            return f"chapter {self.chapter}: not written yet"
        return f"chapter {self.chapter}" + (": no result stored yet" if self.status == "not yet" else "")


def _tags(record: object) -> list[str]:
    if isinstance(record, tuple):
        return [tag for part in record for tag in _tags(part)]
    if not is_dataclass(record):
        return []
    found = list(getattr(record, "tags", ()))
    return found + [
        tag for field in fields(record) if field.name != "tags" for tag in _tags(getattr(record, field.name))
    ]
