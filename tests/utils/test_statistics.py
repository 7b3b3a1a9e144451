"""Estimates, verdicts and tests, against hand-computed values, tables, and counts of every resample."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientformer_edu.utils.statistics import (
    Estimate,
    accuracy_difference,
    expanded_tail,
    holm,
    mcnemar,
    mean_estimate,
    median_estimate,
    paired_difference,
    paired_ratio,
    paired_t_test,
    t_quantile,
    t_tail,
)

times = st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=40)


@given(times)
def test_interval_contains_the_median_and_stays_within_the_samples(samples: list[float]) -> None:
    estimate = median_estimate(samples)
    assert estimate.value == np.median(samples)
    assert min(samples) <= estimate.low <= estimate.value <= estimate.high <= max(samples)
    assert estimate.samples == len(samples)
    assert median_estimate(samples) == estimate


def test_an_outlier_hardly_moves_the_median() -> None:
    samples = [1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0, 1.01, 0.99, 1.0]
    assert median_estimate([*samples, 50.0]).high < 1.05


@pytest.mark.parametrize("count", [5, 10, 25])
@pytest.mark.parametrize("estimate", [median_estimate, mean_estimate])
def test_coverage_is_about_the_nominal_level(estimate, count: int) -> None:
    random = np.random.default_rng(1)
    estimates = [estimate(list(random.normal(size=count))) for _ in range(300)]
    assert 0.90 <= sum(interval.low <= 0 <= interval.high for interval in estimates) / 300 <= 0.995


def test_interval_equals_the_quantiles_of_every_resample() -> None:
    """Five samples have 5⁵ = 3125 equally likely resamples; here all of them are counted."""
    samples = [0.013, -0.002, 0.021, 0.008, 0.004]
    means = np.array([np.mean(resample) for resample in itertools.product(samples, repeat=5)])
    low, high = np.quantile(means, [expanded_tail(5), 1 - expanded_tail(5)])
    estimate = mean_estimate(samples)
    assert estimate.value == pytest.approx(0.044 / 5)
    assert estimate.low == pytest.approx(low, abs=5e-4) and estimate.high == pytest.approx(high, abs=5e-4)


def test_many_samples_are_resampled_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = list(np.random.default_rng(4).normal(size=64))
    at_once = mean_estimate(samples)
    monkeypatch.setattr("efficientformer_edu.utils.statistics.CHUNK", 64 * 1000)
    assert mean_estimate(samples) == at_once


def test_strata_are_resampled_separately() -> None:
    """Differences between the strata do not widen the interval; differences within them do."""
    first, second, third = [0.50, 0.51, 0.52], [0.70, 0.71, 0.72], [0.90, 0.91, 0.92]
    stratified = mean_estimate(first, second, third)
    assert stratified.value == pytest.approx(0.71) and stratified.samples == 9
    assert 0 < stratified.high - stratified.low < 0.03
    assert mean_estimate([*first, *second, *third]).high > 0.80
    means = np.array([np.mean(resample) for resample in itertools.product(first, repeat=3)])
    spread = means.std() / math.sqrt(3)  # of the mean of three independent strata
    expected = math.sqrt(3 / 2) * t_quantile(6) * spread
    assert stratified.high - 0.71 == pytest.approx(expected, rel=0.1)


def test_a_stratum_of_a_single_sample_allows_no_interval() -> None:
    estimate = mean_estimate([0.1, 0.2, 0.3, 0.4], [0.3])
    assert (estimate.low, estimate.high) == (-math.inf, math.inf)
    assert mean_estimate([0.01]) == Estimate(0.01, -math.inf, math.inf, 1)


def test_pairing_cancels_what_slows_both() -> None:
    machine = np.random.default_rng(3).uniform(1, 5, size=30)  # up to five times slower in some rounds
    assert paired_ratio(list(2 * machine), list(machine)) == Estimate(2.0, 2.0, 2.0, 30)
    assert median_estimate(list(machine)).relative_width > 0.2
    with pytest.raises(ValueError, match=r"3 and 2 rounds"):
        paired_ratio([1.0, 2.0, 3.0], [1.0, 2.0])


def test_pairs_have_the_same_seed() -> None:
    base = {0: 0.5, 1: 0.7, 2: 0.6, 3: 0.9}
    changed = {3: 0.8, 1: 0.6, 0: 0.4, 7: 0.1}
    estimate = paired_difference(changed, base)
    assert estimate.samples == 3 and estimate.value == pytest.approx(-0.1)
    assert paired_difference(dict(reversed(changed.items())), base) == estimate
    with pytest.raises(ValueError, match=r"\[7\].*\[0, 1, 2, 3\]"):
        paired_difference({7: 0.1}, base)


def test_pairing_shows_what_the_spread_of_the_seeds_hides() -> None:
    base = {seed: 0.6 + 0.05 * seed for seed in range(5)}
    changed = {seed: top1 - 0.004 - 0.0001 * seed for seed, top1 in base.items()}
    assert paired_difference(changed, base).verdict() == "worse"
    shuffled = dict(zip(changed, [changed[seed] for seed in (2, 4, 1, 0, 3)], strict=True))
    assert paired_difference(shuffled, base).verdict() == "inconclusive"


@pytest.mark.parametrize(
    ("low", "high", "samples", "verdict"),
    [
        (-0.02, -0.01, 5, "worse"),
        (0.01, 0.02, 5, "better"),
        (0.001, 0.002, 5, "better"),  # a small difference is still a difference
        (-0.01, 0.02, 5, "inconclusive"),
        (-0.004, 0.004, 5, "equivalent"),
        (-0.005, 0.004, 5, "inconclusive"),
        (0.0, 0.02, 5, "inconclusive"),
        (-0.02, -0.01, 4, "too few"),
        (-0.004, 0.004, 4, "too few"),
        (-math.inf, math.inf, 1, "too few"),
    ],
)
def test_verdict_on_a_difference(low: float, high: float, samples: int, verdict: str) -> None:
    assert Estimate((low + high) / 2, low, high, samples).verdict(margin=0.005) == verdict


@pytest.mark.parametrize(
    ("low", "high", "samples", "verdict"),
    [(1.2, 1.4, 30, "worse"), (0.7, 0.9, 30, "better"), (0.9, 1.1, 30, "inconclusive"), (1.2, 1.4, 4, "too few")],
)
def test_verdict_on_a_ratio_of_latencies(low: float, high: float, samples: int, verdict: str) -> None:
    assert Estimate(1.0, low, high, samples).verdict(1.0, higher_is_better=False) == verdict


@pytest.mark.parametrize(
    ("low", "high", "samples", "side", "agreement"),
    [
        (1.2, 1.4, 5, "above", "supported"),
        (0.7, 0.9, 5, "above", "contradicted"),
        (0.9, 1.1, 5, "above", "inconclusive"),
        (0.7, 0.9, 5, "below", "supported"),
        (1.2, 1.4, 5, "below", "contradicted"),
        (1.0, 1.4, 5, "above", "inconclusive"),
        (1.2, 1.4, 4, "above", "too few"),
        (1.2, 1.2, 1, "above", "too few"),
    ],
)
def test_agreement_with_a_claim(low: float, high: float, samples: int, side, agreement: str) -> None:
    assert Estimate((low + high) / 2, low, high, samples).claim(side, 1.0) == agreement


@pytest.mark.parametrize(
    ("low", "high", "samples", "reported", "agreement"),
    [
        (-0.02, -0.01, 5, "worse", "supported"),
        (-0.02, -0.01, 5, "better", "contradicted"),
        (0.01, 0.02, 5, "better", "supported"),
        (0.01, 0.02, 5, "worse", "contradicted"),
        (-0.01, 0.02, 5, "worse", "inconclusive"),
        (-0.004, 0.004, 5, "equivalent", "supported"),
        (-0.004, -0.001, 5, "equivalent", "supported"),  # worse, but by less than the margin
        (-0.006, 0.004, 5, "equivalent", "inconclusive"),
        (-0.006, -0.002, 5, "equivalent", "inconclusive"),
        (0.006, 0.02, 5, "equivalent", "contradicted"),
        (-0.02, -0.006, 5, "equivalent", "contradicted"),
        (-0.004, 0.004, 4, "equivalent", "too few"),
        (-0.02, -0.01, 4, "worse", "too few"),
    ],
)
def test_agreement_with_a_trend(low: float, high: float, samples: int, reported, agreement: str) -> None:
    assert Estimate((low + high) / 2, low, high, samples).agreement(reported, margin=0.005) == agreement


def test_printed_estimates() -> None:
    assert str(Estimate(1.234, 1.2, 1.3, 5)) == "1.23 (1.2 to 1.3)"
    assert "too few" in str(Estimate(1.234, 1.2, 1.3, 4)) and "4" in str(Estimate(1.234, 1.2, 1.3, 4))
    assert Estimate(-0.0123, -0.02, 0.0004, 5).points == "-1.23 points (-2.00 to +0.04)"
    assert Estimate(-0.0123, -0.02, 0.0004, 3).points == "-1.23 points (too few pairs: 3)"


@pytest.mark.parametrize(("degrees", "printed"), [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (19, 2.093)])
def test_t_quantiles_of_the_tables(degrees: int, printed: float) -> None:
    assert t_quantile(degrees) == pytest.approx(printed, abs=2e-3)
    assert t_tail(printed, degrees) == pytest.approx(0.025, abs=2e-5)


def test_tail_of_five_pairs() -> None:
    """√(5/4) · 2.776 = 3.104 standard deviations; a normal distribution has 0.00095 beyond."""
    assert expanded_tail(5) == pytest.approx(0.00095, abs=1e-5)
    assert expanded_tail(1000) == pytest.approx(0.025, abs=5e-4)


def test_paired_t_test_of_a_textbook_example() -> None:
    """Differences 1, 2, 3, 4: mean 2.5, s = 1.291, t = 3.873 with 3 degrees of freedom, p = 0.0305."""
    assert paired_t_test([1.0, 2.0, 3.0, 4.0]) == pytest.approx(0.0305, abs=1e-4)
    assert paired_t_test([0.1]) == 1 and paired_t_test([0.0, 0.0]) == 1 and paired_t_test([0.1, 0.1]) == 0


def test_mcnemar_by_hand() -> None:
    """Nine images decide: 8 for the first network and 1 for the second, so p = 2 · (1 + 9) / 2⁹."""
    first = [True] * 8 + [False] + [True] * 50 + [False] * 41
    second = [False] * 8 + [True] + [True] * 50 + [False] * 41
    assert mcnemar(first, second) == mcnemar(second, first) == pytest.approx(20 / 512)
    assert mcnemar(first, first) == 1
    with pytest.raises(ValueError, match="100 and 2"):
        mcnemar(first, second[:2])


def test_paired_accuracy_ignores_images_that_both_networks_agree_on() -> None:
    random = np.random.default_rng(5)
    difficulty = random.uniform(size=1000)
    first, second = difficulty < 0.86, difficulty < 0.84  # the second never beats the first
    estimate = accuracy_difference(list(first), list(second))
    assert estimate.value == pytest.approx(first.mean() - second.mean()) and estimate.samples == 1000
    standard_error = math.sqrt(estimate.value * (1 - estimate.value) / 1000)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * standard_error, rel=0.1)
    independent = math.sqrt(0.86 * 0.14 / 1000 + 0.84 * 0.16 / 1000)
    assert estimate.verdict() == "better" and abs(estimate.value) < 1.96 * independent
    with pytest.raises(ValueError, match="0 and 0"):
        accuracy_difference([], [])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [adjusted[index] for index in order] == sorted(adjusted)


def test_an_estimate_needs_samples() -> None:
    with pytest.raises(ValueError, match="at least one"):
        median_estimate([])
