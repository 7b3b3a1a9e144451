"""Estimates with 95 % confidence intervals, paired comparisons, and the verdicts that follow from them.

Latency and accuracy share this module. Latency distributions are right-skewed because of background activity, so we
report their median; accuracies are averaged. Both intervals come from the percentile bootstrap (20,000 resamples).

With few samples the percentile interval is too narrow: five values vary less than the population they come from,
and their spread is itself uncertain. The interval is therefore expanded until it is as wide, for normally distributed
samples, as Student's t interval. Source: Hesterberg, *What Teachers Should Know About the Bootstrap*, 2015, section
4.1, the expanded percentile interval.

An interval covers the variation between the samples of one run. It does not cover systematic errors, such as a
background process or a different library version.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["better", "worse", "equivalent", "inconclusive", "too few"]
Agreement = Literal["supported", "contradicted", "inconclusive", "too few"]
Trend = Literal["better", "worse", "equivalent"]

LEVEL = 0.95
MIN_SAMPLES = 5  # with four pairs, chance alone puts all differences on one side in one of eight comparisons
RESAMPLES = 20_000
CHUNK = 2_000_000  # resampled values held in memory at once


class Estimate(NamedTuple):
    """A median or mean with its 95 % confidence interval.

    Attributes:
        value: the median or mean, in the unit of the samples.
        low: lower end of the interval.
        high: upper end of the interval.
        samples: the number of samples, rounds or pairs; fewer than `MIN_SAMPLES` allow no verdict.
    """

    value: float
    low: float
    high: float
    samples: int

    @property
    def relative_width(self) -> float:
        """Width of the interval divided by the value."""
        return (self.high - self.low) / self.value

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the interval; None with fewer than `MIN_SAMPLES` samples."""
        return None if self.samples < MIN_SAMPLES else (self.low, self.high)

    def verdict(self, reference: float = 0.0, *, higher_is_better: bool = True, margin: float = 0.0) -> Verdict:
        """Compare with a reference value.

        Args:
            reference: 0 for a difference, 1 for a ratio.
            higher_is_better: True for accuracy, False for latency.
            margin: the largest distance from the reference that counts as equivalent, in the unit of the value.

        Returns:
            "better" or "worse" if the whole interval lies on that side of the reference, else "equivalent" if it lies
            within the margin, else "inconclusive"; "too few" with fewer than `MIN_SAMPLES` samples.
        """
        if self.samples < MIN_SAMPLES:
            return "too few"
        if self.low > reference or self.high < reference:
            return "better" if (self.low > reference) == higher_is_better else "worse"
        if self.low > reference - margin and self.high < reference + margin:
            return "equivalent"
        return "inconclusive"

    def claim(self, side: Literal["above", "below"], bound: float) -> Agreement:
        """Whether the whole interval lies on the claimed side of a bound, or "too few" below `MIN_SAMPLES` samples."""
        if self.samples < MIN_SAMPLES:
            return "too few"
        if self.low <= bound <= self.high:
            return "inconclusive"
        return "supported" if (self.low > bound) == (side == "above") else "contradicted"

    def agreement(self, reported: Trend, margin: float) -> Agreement:
        """Whether a difference, where higher is better, supports a reported trend.

        A reported "better" or "worse" is contradicted by the opposite only. A reported "equivalent" is supported if the
        interval lies within the margin around 0, and contradicted if it lies entirely outside.
        """
        if reported != "equivalent":
            return self.claim("above" if reported == "better" else "below", 0)
        above, below = self.claim("above", -margin), self.claim("below", margin)
        return above if above == below else "contradicted" if "contradicted" in (above, below) else "inconclusive"

    @property
    def points(self) -> str:
        """A difference of accuracy in percentage points with its interval."""
        value, low, high = (f"{part:+.2f}" for part in self.scaled(100)[:3])
        if self.samples < MIN_SAMPLES:
            return f"{value} points (too few pairs: {self.samples})"
        return f"{value} points ({low} to {high})"

    def scaled(self, factor: float) -> Estimate:
        """The estimate in another unit, such as milliseconds for seconds with `factor=1e3`."""
        return Estimate(factor * self.value, factor * self.low, factor * self.high, self.samples)

    def __str__(self) -> str:
        if self.samples < MIN_SAMPLES:
            return f"{self.value:.3g} (too few rounds: {self.samples})"
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"

    def __format__(self, spec: str) -> str:
        """The value and the ends of the interval in a number format; without one, as `str` shows them."""
        if not spec:
            return str(self)
        value, low, high = (format(part, spec) for part in self[:3])
        return f"{value} (too few: {self.samples})" if self.samples < MIN_SAMPLES else f"{value} ({low} to {high})"


def median_estimate(samples: Sequence[float]) -> Estimate:
    """The median with its interval; the same samples always give the same interval.

    Raises:
        ValueError: without samples.
    """
    return _estimate([samples], "median")


def mean_estimate(samples: Sequence[float], *more_strata: Sequence[float]) -> Estimate:
    """The mean with its interval.

    Args:
        samples: values that are resampled with replacement.
        more_strata: further groups of values. Each group is resampled separately, so that differences between the
            groups, such as latency targets, do not widen the interval.

    Raises:
        ValueError: if a group is empty.
    """
    return _estimate([samples, *more_strata], "mean")


def paired_ratio(samples: Sequence[float], reference: Sequence[float]) -> Estimate:
    """The median of the ratios of two timed subjects, round by round.

    Both were timed directly after each other in every round, so a slow round affects both.

    Raises:
        ValueError: if the two have different numbers of rounds.
    """
    if len(samples) != len(reference):
        raise ValueError(f"paired ratio of {len(samples)} and {len(reference)} rounds; both must have the same rounds")
    return median_estimate([sample / other for sample, other in zip(samples, reference, strict=True)])


def paired_difference(changed: Mapping[int, float], base: Mapping[int, float]) -> Estimate:
    """The mean difference of accuracy over the seeds that both networks were trained with.

    Args:
        changed: accuracy by seed, from 0 to 1.
        base: accuracy of the reference network by seed.

    Raises:
        ValueError: if they have no seed in common.
    """
    seeds = sorted(changed.keys() & base.keys())
    if not seeds:
        raise ValueError(f"no pairs: seeds {sorted(changed)} and {sorted(base)} have none in common")
    return mean_estimate([changed[seed] - base[seed] for seed in seeds])


def accuracy_difference(correct: Sequence[bool], reference: Sequence[bool]) -> Estimate:
    """How much more accurate one network is than another on the same test images, by the paired bootstrap over images.

    The two accuracies are not independent, because most images are easy or hard for both networks. Only the images
    that exactly one of them classifies correctly matter.

    Args:
        correct: whether the network classified each image correctly.
        reference: the same for the network it is compared with.

    Returns:
        The difference of the accuracies, between -1 and 1. The interval covers the choice of test images, not the
        choice of the training seed.

    Raises:
        ValueError: without images, or for different numbers of images.
    """
    first, second = np.asarray(correct, dtype=bool), np.asarray(reference, dtype=bool)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise ValueError(f"{first.size} and {second.size} answers; both networks must classify the same images")
    count = len(first)
    wins, losses = int((first & ~second).sum()), int((second & ~first).sum())
    shares = [wins / count, losses / count, (count - wins - losses) / count]
    resampled = np.random.default_rng(0).multinomial(count, shares, size=RESAMPLES)  # (resamples, 3)
    low, high = np.quantile((resampled[:, 0] - resampled[:, 1]) / count, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate((wins - losses) / count, float(low), float(high), count)


def mcnemar(correct: Sequence[bool], reference: Sequence[bool]) -> float:
    """Two-sided exact p-value of McNemar's test: are two networks equally accurate on the same test images?

    If they are, each image that exactly one of them classifies correctly is equally likely to favour either.
    Arguments and errors are those of `accuracy_difference`.
    """
    accuracy_difference(correct, reference)  # checks the arguments
    first, second = np.asarray(correct, dtype=bool), np.asarray(reference, dtype=bool)
    wins, losses = int((first & ~second).sum()), int((second & ~first).sum())
    count, fewer = wins + losses, min(wins, losses)
    return min(1.0, 2 * sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count)


def paired_t_test(samples: Sequence[float]) -> float:
    """Two-sided p-value for a mean of 0, by Student's t test; 1 for fewer than two samples.

    The interval of `mean_estimate` is a bootstrap interval of the same width, so the two agree unless the samples are
    strongly skewed. Holm's correction needs p-values, and the bootstrap of five pairs is too coarse for small ones.
    """
    if len(samples) < 2:
        return 1.0
    mean, spread = float(np.mean(samples)), float(np.std(samples, ddof=1))
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    return 2 * t_tail(abs(mean) / spread * math.sqrt(len(samples)), len(samples) - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the given order.

    Testing every adjusted value against 0.05 keeps the probability of a single false finding in the whole family at
    5 %. Source: Holm, *A Simple Sequentially Rejective Multiple Test Procedure*, 1979.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def t_tail(t: float, degrees: int) -> float:
    """Probability that Student's t exceeds a positive value.

    With t = √degrees · tan θ the density is proportional to cos(θ)^(degrees − 1), which is integrated numerically.
    """
    angles, density = _t_density(degrees)
    beyond = angles >= math.atan(t / math.sqrt(degrees))
    return float(density[beyond].sum() / density.sum() / 2)


def t_quantile(degrees: int) -> float:
    """How many standard errors on each side of the mean contain 95 % of Student's t distribution."""
    angles, density = _t_density(degrees)
    cumulative = np.cumsum(density)
    angle = angles[np.searchsorted(cumulative, LEVEL * cumulative[-1])]
    return math.sqrt(degrees) * math.tan(float(angle))


@cache
def expanded_tail(count: int, degrees: int | None = None) -> float:
    """The share of resampled values outside each end of the expanded percentile interval.

    Args:
        count: samples, or those of the smallest stratum.
        degrees: of freedom; `count - 1` if None.
    """
    t = t_quantile(count - 1 if degrees is None else degrees)
    return NormalDist().cdf(-math.sqrt(count / (count - 1)) * t)


def _t_density(degrees: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angles from 0 to π/2 and the unnormalized density there."""
    angles = np.linspace(0, math.pi / 2, 200_001)
    return angles, np.cos(angles) ** (degrees - 1)


def _estimate(strata: Sequence[Sequence[float]], statistic: Literal["median", "mean"]) -> Estimate:
    groups = [np.asarray(stratum, dtype=float) for stratum in strata]
    if not all(group.size for group in groups):
        raise ValueError("no samples: an estimate needs at least one")
    function = np.median if statistic == "median" else np.mean
    value = float(function(np.concatenate(groups)))
    count, smallest = sum(map(len, groups)), min(map(len, groups))
    if smallest < 2:
        return Estimate(value, -math.inf, math.inf, count)
    generator = np.random.default_rng(0)
    rows = max(1, CHUNK // count)
    resampled = []
    for start in range(0, RESAMPLES, rows):
        size = min(rows, RESAMPLES - start)
        samples = [group[generator.integers(len(group), size=(size, len(group)))] for group in groups]  # (size, n) each
        resampled.append(function(np.concatenate(samples, axis=1), axis=1))  # (size,)
    tail = expanded_tail(smallest, count - len(groups))
    low, high = np.quantile(np.concatenate(resampled), [tail, 1 - tail])
    return Estimate(value, float(low), float(high), count)
