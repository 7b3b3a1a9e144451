"""Intervals and verdicts of paired differences, against values worked out by hand and by counting every resample."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from efficientformer_edu.training.statistics import (
    ALIKE,
    Difference,
    expanded_tail,
    mean_interval,
    paired_difference,
    students_t,
)


@pytest.mark.parametrize(("freedom", "printed"), [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (19, 2.093)])
def test_students_t_is_that_of_the_tables(freedom: int, printed: float) -> None:
    assert students_t(freedom) == pytest.approx(printed, abs=2e-3)


def test_the_tail_of_five_pairs() -> None:
    """√(5/4) · 2.776 = 3.104 standard deviations; a normal distribution has 0.00095 beyond."""
    assert expanded_tail(5) == pytest.approx(0.00095, abs=1e-5)
    assert expanded_tail(1000) == pytest.approx(0.025, abs=5e-4)


def test_the_interval_is_that_of_all_resamples() -> None:
    """Five samples have 5⁵ = 3125 resamples; here all are counted instead of 20,000 drawn."""
    samples = [0.013, -0.002, 0.021, 0.008, 0.004]
    means = np.array([np.mean(drawn) for drawn in itertools.product(samples, repeat=5)])
    low, high = np.quantile(means, [expanded_tail(5), 1 - expanded_tail(5)])
    found = mean_interval(samples)
    assert found.mean == pytest.approx(0.044 / 5)
    assert found.low == pytest.approx(low, abs=5e-4) and found.high == pytest.approx(high, abs=5e-4)
    assert found.pairs == 5 and mean_interval(samples) == found


@pytest.mark.parametrize("count", [5, 10, 20])
def test_it_covers_the_true_mean_about_as_often_as_it_says(count: int) -> None:
    random = np.random.default_rng(1)
    covered = sum(
        one.low <= 0 <= one.high for one in (mean_interval(list(random.normal(size=count))) for _ in range(300))
    )
    assert 0.90 <= covered / 300 <= 0.98


def test_pairs_are_those_of_the_same_seed() -> None:
    base = {0: 0.5, 1: 0.7, 2: 0.6, 3: 0.9}
    changed = {3: 0.8, 1: 0.6, 0: 0.4, 7: 0.1}
    found = paired_difference(changed, base)
    assert found.pairs == 3
    assert found.mean == pytest.approx(-0.1) and found.high - found.low == pytest.approx(0.0)
    backwards = dict(reversed(changed.items()))
    assert paired_difference(backwards, dict(reversed(base.items()))) == found
    with pytest.raises(ValueError, match=r"seeds \[7\] and \[0, 1, 2, 3\] have none in common"):
        paired_difference({7: 0.1}, base)


def test_pairing_shows_what_the_spread_of_the_seeds_hides() -> None:
    base = {seed: 0.6 + 0.05 * seed for seed in range(5)}
    changed = {seed: top1 - 0.004 - 0.0001 * seed for seed, top1 in base.items()}
    assert paired_difference(changed, base).verdict == "worse"
    shuffled = dict(zip(changed, [changed[seed] for seed in (2, 4, 1, 0, 3)], strict=True))
    assert paired_difference(shuffled, base).verdict == "cannot tell"


@pytest.mark.parametrize(
    ("low", "high", "pairs", "verdict"),
    [
        (-0.02, -0.01, 5, "worse"),
        (0.01, 0.02, 5, "better"),
        (-0.01, 0.02, 5, "cannot tell"),
        (0.0, 0.0, 5, "cannot tell"),
        (0.0, 0.02, 5, "cannot tell"),
        (-0.02, -0.01, 4, "cannot tell"),
        (-math.inf, math.inf, 1, "cannot tell"),
    ],
)
def test_a_verdict_follows_from_the_interval(low: float, high: float, pairs: int, verdict: str) -> None:
    assert Difference((low + high) / 2, low, high, pairs).verdict == verdict


@pytest.mark.parametrize(
    ("low", "high", "pairs", "said", "agreement"),
    [
        (-0.02, -0.01, 5, "worse", "agrees"),
        (-0.02, -0.01, 5, "better", "disagrees"),
        (0.01, 0.02, 5, "better", "agrees"),
        (0.01, 0.02, 5, "worse", "disagrees"),
        (-0.01, 0.02, 5, "worse", "cannot tell"),
        (-0.004, 0.004, 5, "alike", "agrees"),
        (-0.004, -0.001, 5, "alike", "agrees"),  # worse, but by less than half a point
        (-0.006, 0.004, 5, "alike", "cannot tell"),
        (-0.006, -0.002, 5, "alike", "cannot tell"),
        (0.006, 0.02, 5, "alike", "disagrees"),
        (-0.02, -0.006, 5, "alike", "disagrees"),
        (-0.004, 0.004, 4, "alike", "cannot tell"),
    ],
)
def test_agreement_follows_from_the_interval(low: float, high: float, pairs: int, said, agreement: str) -> None:
    assert ALIKE == 0.005
    assert Difference((low + high) / 2, low, high, pairs).agreement(said) == agreement


def test_one_pair_has_no_ends() -> None:
    assert mean_interval([0.01]) == Difference(0.01, -math.inf, math.inf, 1)


def test_words() -> None:
    assert str(Difference(-0.0123, -0.02, 0.0004, 5)) == "-1.23 points (-2.00 to +0.04)"
