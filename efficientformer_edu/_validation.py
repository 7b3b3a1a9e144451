"""Checks of single values. Each check returns the value in its normalized form or raises ValueError."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable, Collection, Iterable
from typing import Any

ACTIVATIONS = ("gelu", "relu", "relu6", "prelu", "leaky_relu", "silu", "hard_swish")


def invalid_value(name: str, value: object, allowed: str) -> ValueError:
    """The error for a value that is not allowed for a field."""
    return ValueError(f"{name}={value!r} is not possible; allowed: {allowed}")


def unknown_name(
    name: object, known: Collection[str], what: str = "field", present: Collection[str] = ()
) -> ValueError:
    """The error for an unknown name. It suggests the most similar known name that is not already `present`."""
    similar = difflib.get_close_matches(str(name), [other for other in known if other not in present], n=1)
    hint = f"Did you mean {similar[0]!r}?" if similar else f"Available: {', '.join(known)}"
    return ValueError(f"Unknown {what} {name!r}. {hint}")


def known_fields(fields: Collection[str], known: Collection[str]) -> None:
    """Raise ValueError for names that are not fields."""
    for name in fields:
        if name not in known:
            raise unknown_name(name, known, present=fields)


def non_negative_int(name: str, value: Any, minimum: int = 0) -> int:
    """An integer of at least `minimum`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = minimum - 1
    if isinstance(value, bool) or number < minimum:
        raise invalid_value(name, value, f"a whole number, at least {minimum}")
    return number


def positive_int(name: str, value: Any) -> int:
    """An integer of at least 1."""
    return non_negative_int(name, value, minimum=1)


def boolean(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise invalid_value(name, value, "True or False")
    return value


def per_stage(check: Callable[[str, Any], Any]) -> Callable[[str, Any], tuple[Any, ...]]:
    """The check for four values, one per stage, that all pass `check`."""

    def check_all(name: str, value: Any) -> tuple[Any, ...]:
        if isinstance(value, str) or not isinstance(value, Iterable) or len(items := tuple(value)) != 4:
            raise invalid_value(name, value, "four values, one for each stage")
        return tuple(check(name, item) for item in items)

    return check_all


def pair(name: str, value: Any) -> tuple[int, int]:
    """Height and width, from two integers or one for both."""
    items = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value, value)
    if len(items) != 2:
        raise invalid_value(name, value, "one whole number, or two: height and width")
    return positive_int(name, items[0]), positive_int(name, items[1])


def finite_float(name: str, value: Any, allowed: str = "a finite number") -> float:
    """A finite number."""
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__") or not math.isfinite(value):
        raise invalid_value(name, value, allowed)
    return float(value)


def positive_float(name: str, value: Any) -> float:
    """A finite number above 0."""
    if finite_float(name, value, allowed := "a finite number above 0") <= 0:
        raise invalid_value(name, value, allowed)
    return float(value)


def probability(name: str, value: Any) -> float:
    """A number from 0 to below 1."""
    if not 0 <= finite_float(name, value, allowed := "a number from 0 to below 1") < 1:
        raise invalid_value(name, value, allowed)
    return float(value)


def activation(name: str, value: Any) -> str:
    """The name of an activation."""
    if value not in ACTIVATIONS:
        raise invalid_value(name, value, ", ".join(ACTIVATIONS))
    return str(value)
