"""Mistakes that chapter 4 does not list: each check also names them."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest

from efficientformer_edu import EfficientFormerConfig, count
from efficientformer_edu.audit import Costs
from efficientformer_edu.exercises import parameters_and_macs as checks
from efficientformer_edu.exercises._check import ExerciseError


def refused(check: Any, *answers: Any, match: str) -> None:
    with pytest.raises(ExerciseError, match=match):
        check(*answers)


def mb4d(config: EfficientFormerConfig, stage: int, image: tuple[int, int]) -> tuple[int, int]:
    channels, hidden = config.embed_dims[stage], config.hidden_dim(stage)
    scales = 0 if config.layer_scale_init is None else 2 * channels
    params = 2 * channels * hidden + 3 * (channels + hidden) + scales
    return params, 2 * channels * hidden * prod(config.grids(image)[stage])


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda *_: 7, "must return two numbers"),
        (lambda *at: (mb4d(*at)[0] - at[0].embed_dims[at[1]] - at[0].hidden_dim(at[1]), 0), "biases of the two conv"),
        (lambda *at: (mb4d(*at)[0] - 2 * at[0].embed_dims[at[1]], 0), "layer scales have"),
        (lambda *at: (mb4d(*at)[0] + 1, 0), "you have 19,249"),
        (lambda *at: (mb4d(*at)[0], mb4d(*at)[1] // prod(at[0].grids(at[2])[at[1]])), "the MACs of one pixel"),
        (lambda *at: (mb4d(*at)[0], mb4d(*at)[1] // 2), "two convolutions"),
        (lambda *at: (mb4d(*at)[0], 2 * mb4d(*at)[1]), "FLOPs"),
        (lambda *at: (mb4d(*at)[0], mb4d(*at)[1] + 1), "Only its two convolutions"),
    ],
)
def test_a_wrong_part_of_a_block_is_named(answer: Any, match: str) -> None:
    refused(checks.check_mb4d_costs, answer, match=match)


def mended(c_in: int, c_out: int, kernel: int) -> int:
    return c_out * (c_in * kernel**2 + 1)


@pytest.mark.parametrize(
    ("slip", "match"),
    [
        (lambda config: config.embed_dims[3], "the sum starts too late"),
        (lambda config: config.embed_dims[3] - config.embed_dims[0], "halfway"),
        (lambda config: config.embed_dims[3] - 3 + (config.in_channels != 3), "your answer is"),
    ],
)
def test_a_wrong_bias_count_is_named(slip: Any, match: str) -> None:
    refused(checks.check_bias_slip, mended, slip, match=match)


def test_a_wrong_rule_for_convolutions_is_named() -> None:
    refused(checks.check_bias_slip, lambda *_: 0, lambda _: 0, match="has 672 parameters; you have 0")


def test_the_same_answer_for_every_count_is_rejected() -> None:
    refused(checks.check_misprint, lambda config, printed: [1], match="fits, you return")
    refused(checks.check_misprint, lambda config, printed: 1, match="return a list, got 1")


def test_a_prediction_without_the_square_of_a_size_is_named() -> None:
    def wide(costs: Costs, size: int) -> float:
        products, head = costs.by("kind")["attention product"].macs, costs.by("stage")["head"].macs
        return (costs.macs - products - head) * size / 224 + products * (size / 224) ** 2 + head

    refused(checks.check_predict, wide, match="also twice as high")
    refused(checks.check_predict, lambda costs, size: 0, match="you predict 0")


def test_a_prediction_that_counts_again_is_right() -> None:
    checks.check_predict(lambda costs, size: count(costs.config, size).macs)
