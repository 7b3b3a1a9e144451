"""Checks of single configuration values. Each check returns the value in its normalized form or raises ValueError."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable, Collection, Iterable
from typing import Any

ACTIVATIONS = ("gelu", "relu", "relu6", "prelu", "leaky_relu", "silu", "hard_swish")


def wrong(name: str, value: object, allowed: str) -> ValueError:
    """The error for a value that is not allowed for a field."""
    return ValueError(f"{name}={value!r} is not possible; allowed: {allowed}")


def unknown(name: object, known: Collection[str], what: str = "field", given: Collection[str] = ()) -> ValueError:
    """The error for an unknown name, with the most similar known one.

    Args:
        name: the unknown name.
        known: all available names.
        what: kind of name, for the message.
        given: names that are already in use; they are not suggested.
    """
    similar = difflib.get_close_matches(str(name), [other for other in known if other not in given], n=1)
    hint = f"Did you mean {similar[0]!r}?" if similar else f"Available: {', '.join(known)}"
    return ValueError(f"Unknown {what} {name!r}. {hint}")


def known_fields(fields: Collection[str], known: Collection[str]) -> None:
    """Raise ValueError for names that are not fields."""
    for name in fields:
        if name not in known:
            raise unknown(name, known, given=fields)


def natural(name: str, value: Any, least: int = 0) -> int:
    """An integer of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or number < least:
        raise wrong(name, value, f"a whole number, at least {least}")
    return number


def count(name: str, value: Any) -> int:
    """A positive integer."""
    return natural(name, value, least=1)


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise wrong(name, value, "True or False")
    return value


def four(name: str, value: Any, each: Callable[[str, Any], Any]) -> tuple[Any, ...]:
    """Four values, one per stage, each checked by `each`."""
    if isinstance(value, str) or not isinstance(value, Iterable) or len(items := tuple(value)) != 4:
        raise wrong(name, value, "four values, one for each stage")
    return tuple(each(name, item) for item in items)


def pair(name: str, value: Any) -> tuple[int, int]:
    """Height and width, from two integers or one for both."""
    items = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value, value)
    if len(items) != 2:
        raise wrong(name, value, "one whole number, or two: height and width")
    return count(name, items[0]), count(name, items[1])


def real(name: str, value: Any, allowed: str = "a finite number") -> float:
    """A finite number."""
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__") or not math.isfinite(value):
        raise wrong(name, value, allowed)
    return float(value)


def positive(name: str, value: Any) -> float:
    """A finite number above 0."""
    number = real(name, value, allowed := "a finite number above 0")
    if number <= 0:
        raise wrong(name, value, allowed)
    return number


def rate(name: str, value: Any) -> float:
    """A probability from 0 to below 1."""
    number = real(name, value, allowed := "a number from 0 to below 1")
    if not 0 <= number < 1:
        raise wrong(name, value, allowed)
    return number


def activation(name: str, value: Any) -> str:
    """The name of an activation."""
    if value not in ACTIVATIONS:
        raise wrong(name, value, ", ".join(ACTIVATIONS))
    return str(value)
