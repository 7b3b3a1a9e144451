"""Section 3: the four observations on the phone, and Fig. 2, the latency profile behind them."""

from __future__ import annotations

from dataclasses import dataclass

from efficientformer_edu.paper.reading import fields, read
from efficientformer_edu.paper.records import check_tags


@dataclass(frozen=True)
class Share:
    """A range from `low` to `high`, in `unit`, of the quantity `label`, with tags as in `Reported`."""

    label: str
    low: float
    high: float
    unit: str
    tags: tuple[str, ...]
    note: str = ""

    def __post_init__(self) -> None:
        check_tags(self.label, self.tags)


@dataclass(frozen=True)
class Observation:
    """One claim of section 3.

    Attributes:
        number: 1 to 4, as in the paper.
        name: the paper's own heading.
        compared: the models that the paper compares, by their names in Table 1.
        reason: the explanation, in our words.
        consequence: the design decision in EfficientFormer.
        tags: keys of `TAGS`.
        share: the share of latency concerned, if that is sourced.
    """

    number: int
    name: str
    compared: tuple[str, ...]
    reason: str
    consequence: str
    tags: tuple[str, ...]
    share: Share | None = None

    def __post_init__(self) -> None:
        check_tags(self.name, self.tags)


@dataclass(frozen=True)
class Profile:
    """The sourced content of Fig. 2: the models, and the operator classes into which their latency is divided."""

    models: tuple[str, ...]
    operators: tuple[str, ...]
    notes: tuple[str, ...]
    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        check_tags("Fig. 2", self.tags)


def observations() -> tuple[Observation, ...]:
    """Return the four observations of section 3, in order."""
    records = []
    for data in read("observations")["observations"]:
        values = fields(data)
        share = Share(**fields(values.pop("share"))) if "share" in values else None
        records.append(Observation(share=share, **values))
    return tuple(records)


def figure2() -> Profile:
    """Return Fig. 2 as far as it is sourced, which excludes the milliseconds of single operators."""
    return Profile(**fields(read("observations")["figure2"]))
