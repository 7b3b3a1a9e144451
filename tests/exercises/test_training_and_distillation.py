"""Mistakes that chapter 6 does not list: each check also names them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from efficientformer_edu.exercises import training_and_distillation as checks
from efficientformer_edu.exercises._check import ExerciseError
from efficientformer_edu.training.recipe import Recipe


def refused(check: Any, answer: Any, match: str) -> None:
    with pytest.raises(ExerciseError, match=match):
        check(answer)


def logs(student: Tensor, teacher: Tensor, student_tau: float, teacher_tau: float) -> tuple[Tensor, Tensor]:
    return (student / student_tau).log_softmax(1), (teacher / teacher_tau).log_softmax(1)


def kl(
    student: Tensor, teacher: Tensor, student_tau: float, teacher_tau: float, reduction: str = "batchmean"
) -> Tensor:
    return F.kl_div(*logs(student, teacher, student_tau, teacher_tau), reduction=reduction, log_target=True)


@pytest.mark.parametrize(
    ("soft_loss", "match"),
    [
        (lambda s, z, tau: tau * kl(s, z, tau, tau), "You multiply by τ"),
        (lambda s, z, tau: tau**2 * kl(s, z, tau, 1.0), "soften the student alone"),
        (lambda s, z, tau: tau**2 * kl(s, z, tau, tau, "sum"), "You add up the images"),
        (lambda s, z, tau: tau**2 * F.cross_entropy(s / tau, (z / tau).softmax(1)), "This is a cross entropy"),
        (lambda s, z, tau: tau**2 * kl(s, z, tau, tau, "none").sum(1), "one number"),
        (lambda s, z, tau: kl(s, z, tau, tau) + 1, "With τ = 2 the loss"),
    ],
)
def test_a_wrong_divergence_is_named(soft_loss: Any, match: str) -> None:
    refused(checks.check_soft_loss, soft_loss, match)


def rate(recipe: Recipe, epoch: float, low: float | None = None) -> float:
    low = recipe.min_lr if low is None else low
    if epoch < recipe.warmup_epochs:
        return recipe.warmup_lr + (recipe.max_lr - recipe.warmup_lr) * epoch / recipe.warmup_epochs
    return low + (recipe.max_lr - low) * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (
            lambda r, e: rate(r, e) if e < r.warmup_epochs else r.min_lr + rate(r, e, low=0),
            "min_lr to the whole cosine",
        ),
        (lambda r, e: rate(r, e) if e < r.warmup_epochs else 2 * rate(r, e) - r.min_lr, "halve it"),
        (lambda r, e: rate(r, e + 1), "the rate is"),
        (lambda r, e: None, "a `return` is missing"),
    ],
)
def test_a_wrong_rate_is_named(answer: Any, match: str) -> None:
    refused(checks.check_rate, answer, match)


def lengths(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1, keepdim=True)


def longest(weight: Tensor, factor: float) -> Tensor:
    return factor * lengths(weight).clamp(min=1e-3)


def mutating_clip(weight: Tensor, grad: Tensor, factor: float) -> Tensor:
    return grad.mul_((longest(weight, factor) / lengths(grad)).clamp(max=1))


@pytest.mark.parametrize(
    ("clip", "match"),
    [
        (mutating_clip, "You changed the arguments"),
        (lambda w, g, c: g / lengths(g) * torch.minimum(lengths(g), longest(w, c)), "NaN"),
        (lambda w, g, c: g * (longest(w, 1.0) / lengths(g)).clamp(max=1), "without the factor"),
        (lambda w, g, c: torch.where(lengths(g) > longest(w, c), g * longest(w, c), g), "gradient's own length"),
        (lambda w, g, c: g, "Row 1: weights of length 5"),
        (lambda w, g, c: g[0], "the shape of the gradient"),
    ],
)
def test_a_wrong_clipping_is_named(clip: Any, match: str) -> None:
    refused(checks.check_clip, clip, match)


def targets(
    labels: Tensor, classes: int, box: tuple[int, int, int, int], size: int, smoothing: float, before: float = 1.0
) -> Tensor:
    top, bottom, left, right = (min(max(side, 0), size) for side in box)
    kept = 1 - (bottom - top) * (right - left) / size**2
    smooth = F.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
    return before * (kept * smooth + (1 - kept) * smooth.flip(0))


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda *args: targets(*args[:-1], 0.0), "the smoothing is missing"),
        (lambda *args: targets(*args, before=0.9), "sums to 1, yours to 0.900"),
        (lambda labels, *args: targets(labels.flip(0), *args), "you swap the two shares"),
        (lambda labels, *args: targets(labels[[0, 2, 1, 3]], *args), "keeps 0.7500 of its pixels"),
        (lambda *args: targets(*args)[:, :4], "one probability for each image and class"),
    ],
)
def test_wrong_targets_are_named(answer: Any, match: str) -> None:
    refused(checks.check_cutmix, answer, match)
