"""A number or a sentence that somebody reported, together with where it was seen.

The paper's PDF was not at hand when the data of this room were collected. So each value says by a tag which source
vouches for it, and a value without a source does not exist here: an empty cell means "not sourced".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from types import MappingProxyType
from typing import TypeVar

TAGS: Mapping[str, str] = MappingProxyType(
    {
        "V": "verbatim in the authors' repository (README, code, history) or in one of its issue threads",
        "FIG": "read off the authors' vector figure in the repository's history, or off its later bitmap",
        "CP": "copied from the paper into the table of another paper",
        "TR": "in a published translation or transcription of the paper's text",
        "NOTE": "in a secondary note only: reported second-hand",
        "PROJ": "in the repository or documentation of another project, which the text names",
        "D": "derived by arithmetic from values with the other tags",
    }
)
"""What each tag says of a value's source. Where a value has several, each vouches for it or for its row."""

Record = TypeVar("Record")


@dataclass(frozen=True)
class Reported:
    """One number that was reported, not computed or measured here.

    Attributes:
        quantity: what the number is, for a cell the name of its column.
        value: the number, with the digits of its source.
        unit: its unit; empty for a bare number.
        tags: keys of `TAGS`, at least one.
        protocol: how it was measured, as far as that is sourced.
        note: the condition under which it holds.
        also: what else the sources say of the same quantity, each under the condition in its note.
        places: decimal places in print, needed where the last of them is a 0; else those of the value.

    Raises:
        ValueError: for no tag or an unknown one.
    """

    quantity: str
    value: float
    unit: str
    tags: tuple[str, ...]
    protocol: str = ""
    note: str = ""
    also: tuple[Reported, ...] = ()
    places: int | None = None

    def __post_init__(self) -> None:
        check_tags(self.quantity, self.tags)

    @property
    def digits(self) -> int:
        """Decimal places in print."""
        if self.places is not None:
            return self.places
        return max(0, -int(Decimal(str(self.value)).as_tuple().exponent))  # 1e-05 has five

    @property
    def printed(self) -> str:
        """The number with all its decimal places, and from five digits on with a comma after each thousand."""
        return f"{self.value:{',' if self.value >= 10_000 else ''}.{self.digits}f}"

    def stands_for(self, exact: float) -> bool:
        """Whether an exact number, in the same unit, is the printed one when rounded as far."""
        return round(exact, self.digits) == self.value

    def __str__(self) -> str:
        return f"{self.printed} {self.unit}".strip() + f" ({origin(self.tags, self.note)})"


@dataclass(frozen=True)
class Statement:
    """One fact in words, ours, with the tags of its source. `note` names the place. Raises like `Reported`."""

    text: str
    tags: tuple[str, ...]
    note: str = ""

    def __post_init__(self) -> None:
        check_tags(self.text, self.tags)

    def __str__(self) -> str:
        return f"{self.text} ({origin(self.tags, self.note)})"


def origin(tags: tuple[str, ...], note: str = "") -> str:
    """The words that go with a printed value: `reported, V, CP`, with the note if there is one."""
    kind = "derived from what is reported" if tags == ("D",) else "reported"
    return ", ".join((kind, *tags)) + (f"; {note}" if note else "")


def check_tags(of: str, tags: tuple[str, ...]) -> None:
    """Raise ValueError unless there is at least one tag, each known and none twice."""
    if not tags or len(set(tags)) != len(tags) or not set(tags) <= TAGS.keys():
        raise ValueError(f"tags={tags!r} of {of!r}: use one or more of {', '.join(TAGS)}, each once")


def find(name: str, records: Mapping[str, Record], what: str) -> Record:
    """The record of that name. Capitals, `×` for `x`, and separators make no difference.

    Raises:
        ValueError: for a name that none has, with the nearest, or with all names if none is near.
    """
    plain = {_plain(known): known for known in records}
    if (wanted := _plain(str(name))) in plain:
        return records[plain[wanted]]
    near = [plain[known] for known in get_close_matches(wanted, plain)]
    hint = f"did you mean {_listed(near)}?" if near else f"there are {_listed(records)}"
    raise ValueError(f"{name!r} is no {what}; {hint}")


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold().replace("×", "x") if letter.isalnum())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
