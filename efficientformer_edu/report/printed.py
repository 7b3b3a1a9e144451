"""Comparing with a printed number: it stands for all numbers that round to it."""

from __future__ import annotations

from efficientformer_edu.paper import Ratio, Table
from efficientformer_edu.paper.ratios import compare


def digits(value: float) -> int:
    """Decimal digits behind the point, as printed."""
    return 0 if isinstance(value, int) else len(str(value).partition(".")[2])


def rounds_to(ours: float, value: float) -> bool:
    """Whether ours, rounded as far as the printed value is, is that value."""
    return round(ours, digits(value)) == value


def follows_from_cells(ratio: Ratio, table: Table) -> bool:
    """Whether two numbers that round to the ratio's cells can have a ratio that rounds to the stated one.

    Raises:
        ValueError: if one of the cells is not sourced.
    """
    mine = _interval(table[ratio.model, ratio.stated.quantity].value)
    other = _interval(table[ratio.against, ratio.stated.quantity].value)
    possible = [compare(ratio.relation, a, b) for a in mine for b in other]  # monotone in both: the corners suffice
    low, high = _interval(ratio.stated.value)
    return low <= max(possible) and (ratio.at_least or min(possible) <= high)


def _interval(value: float) -> tuple[float, float]:
    half = 10.0 ** -digits(value) / 2
    return value - half, value + half
