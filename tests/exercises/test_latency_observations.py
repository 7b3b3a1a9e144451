"""Mistakes that chapter 1 does not list: each check also names them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from efficientformer_edu.exercises import latency_observations as checks
from efficientformer_edu.exercises._check import ExerciseError


def refused(check: Any, answer: Any, match: str) -> None:
    with pytest.raises(ExerciseError, match=match):
        check(answer)


def turns(subjects: Any, rounds: int, warm_up: int, clock: Any) -> dict[str, list[float]]:
    for _ in range(warm_up):
        for subject in subjects.values():
            subject()
    samples: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, subject in subjects.items():
            started = clock()
            subject()
            samples[name].append(clock() - started)
    return samples


def backwards(subjects: Any, rounds: int, warm_up: int, clock: Any) -> dict[str, list[float]]:
    samples = turns(dict(reversed(subjects.items())), rounds, warm_up, clock)
    return {name: samples[name] for name in subjects}


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda *_: 7, "returns a dictionary with the samples of A, B"),
        (lambda s, *at: {name: sum(samples) for name, samples in turns(s, *at).items()}, "every sample, not the mean"),
        (lambda s, n, w, c: turns(s, n, w + 1, c), "are 12 calls; you made 14"),
        (backwards, "in the order given; your calls were B A B A"),
        (
            lambda s, *at: {name: samples[1:] for name, samples in turns(s, *at).items()},
            "has 4 samples, but there were 5",
        ),
        (
            lambda s, *at: {name: [sample / 2 for sample in samples] for name, samples in turns(s, *at).items()},
            "The calls of",
        ),
    ],
)
def test_wrong_timers_are_named(answer: Any, match: str) -> None:
    refused(checks.check_interleaved, answer, match)


def test_consecutive_rounds_are_detected_with_any_warm_up() -> None:
    def in_a_row(subjects: Any, rounds: int, warm_up: int, clock: Any) -> dict[str, list[float]]:
        samples = turns(subjects, 0, warm_up, clock)
        for name, subject in subjects.items():
            samples |= turns({name: subject}, rounds, 0, clock)
        return samples

    refused(checks.check_interleaved, in_a_row, "B seems to take 1.21 times as long as A; it does 1.00 times")


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda a, b, draws: float(np.median(a / b)), r"Return \(median, low, high\)"),
        (lambda a, b, draws: (1.0, 2.0, 0.5), "low end is above the high end"),
        (lambda a, b, draws: (1.0, 0.9, 1.2), "you have 1.000"),
        (
            lambda a, b, draws: (
                np.median(a) / np.median(b),
                *np.quantile(np.median((a / b)[draws], axis=1), [0.025, 0.975]),
            ),
            "not the ratio of the medians",
        ),
    ],
)
def test_wrong_intervals_are_named(answer: Any, match: str) -> None:
    refused(checks.check_ratio_interval, answer, match)


def linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
    layer.weight.data = weight.detach()
    if bias is not None:
        layer.bias.data = bias.detach()
    return layer


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda norm, old: 7, "Return a linear layer; got 7"),
        (lambda norm, old: linear(old.weight * norm.weight, None), "the bias of the folded layer"),
        (lambda norm, old: linear((old.weight * norm.weight)[:-1], old.bias[:-1]), "wrong shape"),
        (lambda norm, old: linear(old.weight, old.bias + old.weight @ norm.bias), "multiplied by γ_j"),
        (lambda norm, old: linear(old.weight * norm.weight, 2 * old.bias), r"must be b \+ W·β"),
    ],
)
def test_wrong_folds_are_named(answer: Any, match: str) -> None:
    refused(checks.check_fold_affine, answer, match)


def test_wrong_byte_counts_are_named() -> None:
    refused(checks.check_bytes_copied, lambda steps, x: 0, "768 bytes are copied; you count 0")
