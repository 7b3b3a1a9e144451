"""Right answers pass, and mistakes that chapter 7 does not list are also named."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu.exercises import ablations as checks
from efficientformer_edu.exercises._check import ExerciseError
from efficientformer_edu.model import MB3D, MB4D, EfficientFormer

Runs = Mapping[int, float]
Values = Sequence[float]


def refused(check: Any, *answer: Any, match: str) -> None:
    with pytest.raises(ExerciseError, match=match):
        check(*answer)


def pairs(changed: Runs, base: Runs) -> list[float]:
    return [changed[seed] - base[seed] for seed in sorted(changed.keys() & base.keys())]


def bootstrap(values: Values, level: float, tail: float | None = None) -> tuple[float, float]:
    tail = (1 - level) / 2 if tail is None else tail
    means = [sum(sample) / len(sample) for sample in product(values, repeat=len(values))]
    low, high = np.quantile(means, [tail, 1 - tail])
    return low, high


def errors(changed: Values, base: Values) -> tuple[float, float]:
    root = math.sqrt(len(base))
    differences = [a - b for a, b in zip(changed, base, strict=True)]
    return (
        statistics.stdev(differences) / root,
        math.hypot(statistics.stdev(changed), statistics.stdev(base)) / root,
    )


def chance(rows: int, count: int) -> tuple[float, float]:
    p_value = 2 * 0.5**count
    return rows * p_value, 1 - (1 - p_value) ** rows


class MaxPooling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, stride=1, padding=1) - x


def max_pooling(network: EfficientFormer) -> None:
    for block in network.modules():
        if isinstance(block, MB4D):
            block.add_module("token_mixer", MaxPooling())


def test_right_answers_pass(capsys: pytest.CaptureFixture[str]) -> None:
    checks.check_differences(pairs)
    checks.check_bootstrap(bootstrap)
    checks.check_errors(errors)
    checks.check_chance(chance)
    checks.check_max_pooling(MaxPooling, max_pooling)
    assert capsys.readouterr().out.count("Well done") == 5


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda c, b: [x - y for x, y in zip(sorted(c.values()), sorted(b.values()), strict=True)], "by position"),
        (lambda c, b: [c[seed] - b.get(seed, 0.83) for seed in sorted(c)], "It has no pair"),
        (lambda c, b: [abs(difference) for difference in pairs(c, b)], "all positive"),
        (lambda c, b: [c[seed] - b[seed] for seed in c if seed in b], "not in the order of the seeds"),
        (lambda c, b: pairs(c, b)[:3], "4 seeds were trained with both; you have 3"),
        (lambda c, b: [0.5 * difference for difference in pairs(c, b)], "The differences are"),
        (lambda c, b: [c[seed] - b[seed] for seed in c], "raised KeyError"),
    ],
)
def test_wrong_pairs_are_named(answer: Any, match: str) -> None:
    refused(checks.check_differences, answer, match=match)


def without_replacement(values: Values, level: float) -> tuple[float, float]:
    means = [statistics.fmean(sample) for sample in permutations(values)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return low, high


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (without_replacement, "without replacement"),
        (lambda values, level: bootstrap(values, level)[::-1], "the lower end comes first"),
        (lambda values, level: bootstrap(values, level, tail=0.0), "you leave out nothing"),
        (lambda values, level: (bootstrap(values, level, 0.0)[0], bootstrap(values, level, 1 - level)[1]), "one side"),
        (lambda values, level: bootstrap(values, level, 0.01), "the ends are"),
        (lambda values, level: 0.3, "return two ends"),
    ],
)
def test_a_wrong_interval_is_named(answer: Any, match: str) -> None:
    refused(checks.check_bootstrap, answer, match=match)


def alone(values: Values) -> float:
    return statistics.stdev(values) / math.sqrt(len(values))


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda c, b: tuple(error / math.sqrt(5) for error in errors(c, b)), "you divide by n. Squares"),
        (lambda c, b: (errors(c, b)[0], abs(alone(c) - alone(b))), "you take their difference"),
        (lambda c, b: errors(c, b)[::-1], "the two are exchanged"),
        (lambda c, b: (1.0, 1.0), "the errors are"),
        (lambda c, b: 1.0, "return two errors"),
    ],
)
def test_wrong_errors_are_named(answer: Any, match: str) -> None:
    refused(checks.check_errors, answer, match=match)


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda rows, count: (chance(rows, count)[0], (2 * 0.5**count) ** rows), "every row has a verdict"),
        (lambda rows, count: (1.0, 1.0), "0.0625, 0.0625; you have"),
        (lambda rows, count: 0.1, "return two numbers"),
    ],
)
def test_wrong_chances_are_named(answer: Any, match: str) -> None:
    refused(checks.check_chance, answer, match=match)


class WithZeros(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, stride=1) - x


class TheOtherWay(MaxPooling):
    def forward(self, x: Tensor) -> Tensor:
        return x - F.max_pool2d(x, 3, stride=1, padding=1)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False) - x


class Wide(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 5, stride=1, padding=2) - x


class Smaller(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, stride=1)


@pytest.mark.parametrize(
    ("mixer", "match"),
    [
        (WithZeros, "You pad with zeros"),
        (TheOtherWay, "you have x − Pool"),
        (Mean, "the mean over the neighbourhood"),
        (Wide, "a pixel and its eight neighbours"),
        (Smaller, "keeps the size of the map"),
    ],
)
def test_a_wrong_mixer_is_named(mixer: type[nn.Module], match: str) -> None:
    refused(checks.check_max_pooling, mixer, max_pooling, match=match)


def everywhere(network: EfficientFormer) -> None:
    for block in network.modules():
        if isinstance(block, MB3D | MB4D):
            block.add_module("token_mixer", MaxPooling())


def first_stage(network: EfficientFormer) -> None:
    for block in network.stages[0].modules():
        if isinstance(block, MB4D):
            block.add_module("token_mixer", MaxPooling())


def retrained(network: EfficientFormer) -> None:
    max_pooling(network)
    nn.init.zeros_(network.head.weight)


def undone(network: EfficientFormer) -> None:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (everywhere, "exchanged attention as well"),
        (first_stage, "1 of 5 MB4D"),
        (retrained, "The weights differ from before"),
        (undone, "max_pooling is not done yet"),
        (lambda network: EfficientFormer(network.config), "still has its own mixers"),
    ],
)
def test_a_wrong_change_is_named(change: Any, match: str) -> None:
    refused(checks.check_max_pooling, MaxPooling, change, match=match)
