"""Section 3, the four observations on the phone, and Fig. 2, the profile behind them."""

from __future__ import annotations

from dataclasses import dataclass

from efficientformer_edu.paper.reading import fields, read
from efficientformer_edu.paper.records import check_tags


@dataclass(frozen=True)
class Share:
    """A range (`low` to `high`, in `unit`) of what `label` names, with tags as in `Reported`."""

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
        compared: the models that the paper compares to see it, by their names in Table 1.
        reason: why it is so, in our words.
        consequence: what EfficientFormer does about it.
        tags: keys of `TAGS`.
        share: how much time it is about, where that is sourced.
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
    """What is known of Fig. 2: the models on one axis, the classes of operators that share their latency."""

    models: tuple[str, ...]
    operators: tuple[str, ...]
    notes: tuple[str, ...]
    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        check_tags("Fig. 2", self.tags)


def observations() -> tuple[Observation, ...]:
    """The four observations of section 3, in order."""
    found = []
    for data in read("observations")["observations"]:
        about = fields(data)
        share = Share(**fields(about.pop("share"))) if "share" in about else None
        found.append(Observation(share=share, **about))
    return tuple(found)


def figure2() -> Profile:
    """Fig. 2 as far as it is sourced: no milliseconds of single operators."""
    return Profile(**fields(read("observations")["figure2"]))
