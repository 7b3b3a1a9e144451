"""Medians and ratios of timed rounds, each with the interval that the rounds allow, and verdicts from intervals.

Latencies are skewed: now and then the machine does something else. So the middle is a median, and the interval comes
from the bootstrap: the rounds are drawn again and again with replacement, and the interval holds the middle 95 % of the
medians found. A ratio is taken round by round, for the two members of a pair ran one right after the other, under the
same conditions, and what slowed one has mostly slowed both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

Verdict = Literal["holds here", "does not hold here", "cannot tell"]

DRAWS = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """A median and the ends of its 95 % bootstrap interval, in the unit of what was measured."""

    median: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Width of the interval as a part of the median."""
        return (self.high - self.low) / self.median

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


def interval(samples: Sequence[float]) -> Interval:
    """The median of some samples with its bootstrap interval; the same samples always give the same interval.

    Raises:
        ValueError: without samples.
    """
    if not samples:
        raise ValueError("no samples: an interval needs at least one round")
    values = np.asarray(samples, dtype=float)
    drawn = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))  # (draws, rounds)
    medians = np.median(values[drawn], axis=1)
    low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(np.median(values)), float(low), float(high))


def paired_ratio(samples: Sequence[float], against: Sequence[float]) -> Interval:
    """How many times as long as `against`, round by round.

    Raises:
        ValueError: if the two have another number of rounds, so that they are no pairs.
    """
    if len(samples) != len(against):
        raise ValueError(f"{len(samples)} rounds against {len(against)}: pairs need the same rounds")
    return interval([one / other for one, other in zip(samples, against, strict=True)])


def verdict(found: Interval, claim: Literal["above", "below"], bound: float) -> Verdict:
    """Whether a claim holds: the whole interval lies on the claimed side, on the other side, or on both."""
    if found.low <= bound <= found.high:
        return "cannot tell"
    return "holds here" if (found.low > bound) == (claim == "above") else "does not hold here"
