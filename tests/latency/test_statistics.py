"""Medians, intervals and verdicts on samples whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientformer_edu.latency.statistics import Interval, interval, paired_ratio, verdict

times = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40)


@given(times)
def test_an_interval_holds_its_median_and_stays_within_the_samples(samples: list[float]) -> None:
    found = interval(samples)
    assert found.median == np.median(samples)
    assert min(samples) <= found.low <= found.median <= found.high <= max(samples)
    assert interval(samples) == found


def test_equal_samples_leave_no_doubt() -> None:
    assert interval([2.0] * 7) == Interval(2.0, 2.0, 2.0)


def test_one_outlier_hardly_moves_the_interval() -> None:
    quiet = [1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0]
    assert interval([*quiet, 50.0]).high < 1.05


def test_the_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        found = interval(list(random.lognormal(sigma=0.3, size=25)))  # its median is 1
        covered += found.low <= 1 <= found.high
    assert 0.90 <= covered / 300 <= 0.99


def test_more_rounds_make_it_narrower() -> None:
    random = np.random.default_rng(2)
    few, many = (interval(list(random.normal(10, 1, size=n))) for n in (10, 1000))
    assert many.width < few.width / 3


def test_pairs_cancel_what_slows_both() -> None:
    random = np.random.default_rng(3)
    mood = random.uniform(1, 5, size=30)  # the machine is up to five times slower in some rounds
    one, twice = mood * 1.0, mood * 2.0
    assert paired_ratio(list(twice), list(one)) == Interval(2.0, 2.0, 2.0)
    assert interval(list(twice)).width > 0.2


@pytest.mark.parametrize(
    ("low", "high", "claim", "said"),
    [
        (1.2, 1.4, "above", "holds here"),
        (0.7, 0.9, "above", "does not hold here"),
        (0.9, 1.1, "above", "cannot tell"),
        (0.7, 0.9, "below", "holds here"),
        (1.2, 1.4, "below", "does not hold here"),
        (1.0, 1.4, "above", "cannot tell"),
    ],
)
def test_a_verdict_follows_from_the_interval(low: float, high: float, claim, said: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high), claim, 1.0) == said


def test_what_is_no_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one round"):
        interval([])
    with pytest.raises(ValueError, match="3 rounds against 2: pairs need the same rounds"):
        paired_ratio([1.0, 2.0, 3.0], [1.0, 2.0])
