"""Read the TOML files of this folder into records.

The files have one value per line, with its tags, so that a reader can compare them with the paper. Their field names
are those of the records, so a misspelled name raises TypeError.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from efficientformer_edu.paper.records import Reported, Statement


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


def said(data: Mapping[str, Any] | None, quantity: str) -> Reported | Statement | None:
    """Create a number if there is a value, else a statement; None for missing data."""
    if data is None:
        return None
    return reported(data, quantity) if "value" in data else statement(data)
