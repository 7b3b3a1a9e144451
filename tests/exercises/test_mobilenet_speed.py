"""Mistakes that chapter 5 does not list: each check also names them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from efficientformer_edu.exercises import mobilenet_speed as checks
from efficientformer_edu.exercises._check import ExerciseError


def refused(check: Any, answer: Any, match: str) -> None:
    with pytest.raises(ExerciseError, match=match):
        check(answer)


def fold_before(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> nn.Conv2d:
    """Right, computed from the response of the two layers to unit impulses: an oracle without a formula."""
    if any(conv.padding):
        raise ValueError("padded")
    folded = copy.deepcopy(conv)
    size = conv.kernel_size
    with torch.no_grad():
        zero = torch.zeros(1, conv.in_channels, *size, dtype=torch.float64)
        folded.bias.copy_(conv(norm(zero))[0, :, 0, 0])
        for index in range(zero.numel()):
            impulse = zero.clone().flatten()
            impulse[index] = 1
            folded.weight.view(conv.out_channels, -1)[:, index] = (
                conv(norm(impulse.view_as(zero)))[0, :, 0, 0] - folded.bias
            )
    return folded


def changed(**how: Any) -> Any:
    """The right fold, then modified."""

    def answer(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> nn.Conv2d:
        folded = fold_before(norm, conv)
        for name, change in how.items():
            setattr(folded, name, change(getattr(folded, name)))
        return folded

    return answer


def scaled_offset(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> nn.Conv2d:
    folded = fold_before(norm, conv)
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    offset = norm.bias - factor * norm.running_mean
    with torch.no_grad():
        folded.bias.copy_(conv.bias + folded.weight.sum((2, 3)) @ offset)
    return folded


def crashing(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> nn.Conv2d:
    if any(conv.padding):
        raise KeyError("padding")
    return fold_before(norm, conv)


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda norm, conv: 7, "Return a convolution; got 7"),
        (changed(weight=lambda w: nn.Parameter(2 * w)), "Axis 1 of the weight"),
        (changed(weight=lambda w: nn.Parameter(w[:, :, :1])), "has the weight of the one before"),
        (changed(bias=lambda _: None), "the bias of the folded convolution"),
        (changed(bias=lambda b: nn.Parameter(2 * b)), "the offsets through the whole kernel"),
        (changed(stride=lambda _: (1, 1)), "the stride of the old one"),
        (scaled_offset, "multiplied by the original weight"),
        (crashing, "raised KeyError"),
    ],
)
def test_wrong_folds_are_named(answer: Any, match: str) -> None:
    refused(checks.check_fold_before, answer, match)


def test_an_oracle_without_a_formula_passes(capsys: pytest.CaptureFixture[str]) -> None:
    checks.check_fold_before(fold_before)
    assert capsys.readouterr().out.startswith("Well done: a norm before a convolution folds")


def by_impulses(gamma: torch.Tensor) -> torch.Tensor:
    """The kernel from the response of pooling to a single 1 far from the border."""
    impulse = torch.zeros(1, len(gamma), 7, 7, dtype=gamma.dtype)
    impulse[..., 3, 3] = 1
    pooled = nn.functional.avg_pool2d(impulse, 3, 1, 1)
    return (impulse + gamma[:, None, None] * (pooled - impulse))[0, :, None, 2:5, 2:5]


def test_the_pooling_kernel_by_impulses_passes(capsys: pytest.CaptureFixture[str]) -> None:
    checks.check_pooling_kernel(by_impulses)
    assert "at the border" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda gamma: 7, "Expected a tensor, got 7"),
        (lambda gamma: by_impulses(2 * gamma), "weight γ/9 each"),
        (lambda gamma: by_impulses(gamma) + torch.eye(3)[1].outer(torch.eye(3)[1]), "1 − γ"),
    ],
)
def test_wrong_kernels_are_named(answer: Any, match: str) -> None:
    refused(checks.check_pooling_kernel, answer, match)


def like_for_like(runs: Sequence[Mapping[str, Any]], network: str, baseline: str) -> dict[Any, float]:
    ratios = {}
    for a in runs:
        for b in runs:
            keys = [tuple(run[key] for key in ("engine", "batch", "threads")) for run in (a, b)]
            if (a["network"], b["network"]) == (network, baseline) and keys[0] == keys[1]:
                ratios[keys[0]] = float(np.median(a["seconds"] / b["seconds"]))
    return ratios


def test_pairs_of_runs_pass(capsys: pytest.CaptureFixture[str]) -> None:
    checks.check_like_for_like(like_for_like)
    assert "same rounds" in capsys.readouterr().out


def without_first(*args: Any) -> dict[Any, float]:
    ratios = like_for_like(*args)
    return {key: ratios[key] for key in list(ratios)[1:]}


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda *args: {**like_for_like(*args), ("folded", 1, 1): 1.0}, "Only one of the two ran"),
        (without_first, "1 of the 8 conditions are missing"),
        (lambda *args: {key: 1.01 * value for key, value in like_for_like(*args).items()}, "you have"),
    ],
)
def test_wrong_ratios_are_named(answer: Any, match: str) -> None:
    refused(checks.check_like_for_like, answer, match)


def test_a_wrong_sum_is_rejected_with_the_right_sum() -> None:
    refused(checks.check_predict, lambda *_: 12.0, r"Widths \(48, 96, 224, 448\), .* ms, and you have 12\.0")
