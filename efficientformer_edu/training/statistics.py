"""The mean difference of paired runs with a bootstrap interval, the verdict from it, and what it says of a report.

Two runs of the same seed are a pair: they see the same images in the same order. The differences of the pairs are drawn
again and again with replacement, and the interval holds the middle of the means found. With few pairs the middle 95 %
would be too narrow: five differences spread less than those they stand for, and their spread is itself uncertain. So
the interval holds as much more as makes it as wide, for normal differences, as Student's t does. Source: Hesterberg,
*What Teachers Should Know About the Bootstrap*, 2015, section 4.1, the expanded percentile interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np

Trend = Literal["worse", "alike", "better"]
Verdict = Literal["worse", "better", "cannot tell"]
Agreement = Literal["agrees", "disagrees", "cannot tell"]

DRAWS = 20_000
LEVEL = 0.95
FEWEST = 5  # pairs: with four, chance alone puts all differences on one side in every eighth row
ALIKE = 0.005  # half a percentage point of accuracy, more than which on either side is no longer alike


class Difference(NamedTuple):
    """The mean of paired differences of accuracy, parts of 1, and the ends of its interval; how many pairs."""

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def verdict(self) -> Verdict:
        """The side of 0 on which the whole interval lies; it cannot be told with fewer than five pairs."""
        if self.pairs < FEWEST or self.low <= 0 <= self.high:
            return "cannot tell"
        return "worse" if self.high < 0 else "better"

    def agreement(self, said: Trend) -> Agreement:
        """Whether the interval bears out what is reported.

        "worse" and "better" are borne out by that verdict, and contradicted by its opposite. "alike" is borne out by an
        interval within half a point of 0, and contradicted by one that lies wholly outside.
        """
        if said != "alike":
            if self.verdict == "cannot tell":
                return "cannot tell"
            return "agrees" if self.verdict == said else "disagrees"
        if self.pairs < FEWEST:
            return "cannot tell"
        if self.low > -ALIKE and self.high < ALIKE:
            return "agrees"
        return "disagrees" if self.high < -ALIKE or self.low > ALIKE else "cannot tell"

    def __str__(self) -> str:
        mean, low, high = (f"{100 * value:+.2f}" for value in self[:3])
        return f"{mean} points ({low} to {high})"


def paired_difference(changed: Mapping[int, float], base: Mapping[int, float]) -> Difference:
    """How much more accurate the changed network is, over the seeds that both were trained with.

    Args:
        changed: accuracy by seed.
        base: the same of the base.

    Raises:
        ValueError: if they have no seed in common.
    """
    seeds = sorted(changed.keys() & base.keys())
    if not seeds:
        raise ValueError(f"no pairs: seeds {sorted(changed)} and {sorted(base)} have none in common")
    return mean_interval([changed[seed] - base[seed] for seed in seeds])


def mean_interval(samples: Sequence[float]) -> Difference:
    """The mean of some samples with its interval, without ends for a single one; the same samples give the same."""
    values = np.asarray(samples, dtype=float)
    if len(values) == 1:
        return Difference(float(values[0]), -math.inf, math.inf, 1)
    drawn = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))  # (draws, pairs)
    tail = expanded_tail(len(values))
    low, high = np.quantile(values[drawn].mean(axis=1), [tail, 1 - tail])
    return Difference(float(values.mean()), float(low), float(high), len(values))


def expanded_tail(count: int) -> float:
    """The part of the means that is left out on each side: that of a normal distribution beyond √(n/(n−1)) · t."""
    return NormalDist().cdf(-math.sqrt(count / (count - 1)) * students_t(count - 1))


def students_t(freedom: int) -> float:
    """How many standard errors on each side hold 95 % of Student's t distribution.

    With t = √f · tan θ its density is proportional to cos(θ)^(f−1), which is summed here until 95 % are reached.
    """
    angles = np.linspace(0, math.pi / 2, 200_001)
    held = np.cumsum(np.cos(angles) ** (freedom - 1))
    angle = angles[np.searchsorted(held, LEVEL * held[-1])]
    return math.sqrt(freedom) * math.tan(float(angle))
