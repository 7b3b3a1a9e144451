"""From the TOML files of this folder to records.

The files are written to be checked against the paper by eye: one value a line, with its tags. Field names of the files
are those of the records, so a misspelt one raises TypeError.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from efficientformer_edu.paper.records import Reported, Statement


def read(topic: str) -> dict[str, Any]:
    """What `<topic>.toml` in this folder holds."""
    return tomllib.loads(files(__package__).joinpath(f"{topic}.toml").read_text(encoding="utf-8"))


def fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with tuples in place of lists, ready to be the arguments of a frozen record."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}


def reported(data: Mapping[str, Any], quantity: str, **common: str) -> Reported:
    """A number. `common` holds the unit and the protocol that it shares with its column."""
    also = tuple(reported(other, quantity, **common) for other in data.get("also", ()))
    return Reported(quantity, **{**common, **fields(data), "also": also})


def statement(data: Mapping[str, Any]) -> Statement:
    """A sentence."""
    return Statement(**fields(data))


def said(data: Mapping[str, Any] | None, quantity: str) -> Reported | Statement | None:
    """A number if it has a value, else a sentence; None for what is not sourced."""
    if data is None:
        return None
    return reported(data, quantity) if "value" in data else statement(data)
