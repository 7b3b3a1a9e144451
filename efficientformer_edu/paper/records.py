"""Reported numbers and statements with their sources, read from the TOML files of this folder.

The paper's PDF was not available when this data was collected. Each value therefore has tags that name its sources, and
values without a source are omitted: an empty cell means "not sourced". The files have one value per line, so that a
reader can compare them with the paper. Their field names are those of the records; a misspelled name raises TypeError.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from importlib.resources import files
from types import MappingProxyType
from typing import Any, TypeVar

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
"""The source that each tag stands for. If a value has several tags, each source confirms the value or its row."""

Record = TypeVar("Record")


@dataclass(frozen=True)
class Reported:
    """One number that was reported, not computed or measured here.

    Attributes:
        quantity: the quantity; for a table cell, the name of its column.
        value: the number, with the digits of its source.
        unit: its unit; empty if it has none.
        tags: keys of `TAGS`, at least one.
        protocol: how it was measured, as far as that is sourced.
        note: the condition under which it is valid.
        also: other reported values of the same quantity, each with its condition as a note.
        decimals: decimal places in print; needed if the last one is 0, else taken from the value.

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
    decimals: int | None = None

    def __post_init__(self) -> None:
        check_tags(self.quantity, self.tags)

    @property
    def digits(self) -> int:
        """Decimal places in print."""
        if self.decimals is not None:
            return self.decimals
        return max(0, -int(Decimal(str(self.value)).as_tuple().exponent))  # 1e-05 has five

    @property
    def printed(self) -> str:
        """The number with all its decimal places, and with thousands separators from 10,000."""
        return f"{self.value:{',' if self.value >= 10_000 else ''}.{self.digits}f}"

    def stands_for(self, exact: float) -> bool:
        """Return whether an exact number, in the same unit, rounds to the printed number."""
        return round(exact, self.digits) == self.value

    def __str__(self) -> str:
        return f"{self.printed} {self.unit}".strip() + f" ({origin(self.tags, self.note)})"


@dataclass(frozen=True)
class Statement:
    """A fact in our words, with the tags of its source. `note` gives the location. Raises like `Reported`."""

    text: str
    tags: tuple[str, ...]
    note: str = ""

    def __post_init__(self) -> None:
        check_tags(self.text, self.tags)

    def __str__(self) -> str:
        return f"{self.text} ({origin(self.tags, self.note)})"


def origin(tags: tuple[str, ...], note: str = "") -> str:
    """Describe the origin of a printed value: `reported, V, CP`, followed by the note if there is one."""
    kind = "derived from what is reported" if tags == ("D",) else "reported"
    return ", ".join((kind, *tags)) + (f"; {note}" if note else "")


def check_tags(of: str, tags: tuple[str, ...]) -> None:
    """Raise ValueError unless there is at least one tag, each known and none twice."""
    if not tags or len(set(tags)) != len(tags) or not set(tags) <= TAGS.keys():
        raise ValueError(f"tags={tags!r} of {of!r}: use one or more of {', '.join(TAGS)}, each once")


def find(name: str, records: Mapping[str, Record], what: str) -> Record:
    """Return a record by name. Case, separators, and `×` instead of `x` are ignored.

    Raises:
        ValueError: for an unknown name, with similar names, or with all names if none is similar.
    """
    normalized = {_normalize(known): known for known in records}
    if (key := _normalize(str(name))) in normalized:
        return records[normalized[key]]
    near = [normalized[known] for known in get_close_matches(key, normalized)]
    hint = f"did you mean {_listed(near)}?" if near else f"available: {_listed(records)}"
    raise ValueError(f"unknown {what}: {name!r}; {hint}")


def _normalize(name: str) -> str:
    return "".join(letter for letter in name.casefold().replace("×", "x") if letter.isalnum())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def read(topic: str) -> dict[str, Any]:
    """Return the content of `<topic>.toml` in this folder."""
    return tomllib.loads(files(__package__).joinpath(f"{topic}.toml").read_text(encoding="utf-8"))


def fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Convert lists to tuples, so that the data can be the arguments of a frozen record."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}


def reported(data: Mapping[str, Any], quantity: str, **common: str) -> Reported:
    """Create a number. `common` has the unit and the protocol of its column."""
    also = tuple(reported(other, quantity, **common) for other in data.get("also", ()))
    return Reported(quantity, **{**common, **fields(data), "also": also})


def statement(data: Mapping[str, Any]) -> Statement:
    """Create a statement."""
    return Statement(**fields(data))


def reported_or_statement(data: Mapping[str, Any] | None, quantity: str) -> Reported | Statement | None:
    """Create a number if there is a value, else a statement; None for missing data."""
    if data is None:
        return None
    return reported(data, quantity) if "value" in data else statement(data)
