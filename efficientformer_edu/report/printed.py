"""Compare printed numbers, each of which stands for all numbers that round to it."""

from __future__ import annotations

from efficientformer_edu.paper import Ratio, Reported, Table
from efficientformer_edu.paper.ratios import compare


def follows_from_cells(ratio: Ratio, table: Table) -> bool:
    """Return whether numbers that round to the ratio's cells can give a ratio that rounds to the stated value.

    Raises:
        ValueError: if one of the cells is not sourced.
    """
    values = _interval(table[ratio.model, ratio.stated.quantity])
    baselines = _interval(table[ratio.against, ratio.stated.quantity])
    possible = [
        compare(ratio.relation, a, b) for a in values for b in baselines
    ]  # monotone in both: the corners suffice
    low, high = _interval(ratio.stated)
    return low <= max(possible) and (ratio.at_least or min(possible) <= high)


def _interval(cell: Reported) -> tuple[float, float]:
    half = 10.0**-cell.digits / 2
    return cell.value - half, cell.value + half
