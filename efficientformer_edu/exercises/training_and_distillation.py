"""Checks for chapter 6, training and distillation: soft distillation, learning rate, clipping and cutmix targets.

Paper: section 5.1. Each check has its own oracle: a loop over logarithms, the package's schedule, rows clipped one by
one, or the classes of single pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from efficientformer_edu.exercises._check import (
    call,
    close,
    compare,
    describe,
    done,
    expect_shape,
    random_tensor,
    require,
)
from efficientformer_edu.training.optimization import SMALLEST_NORM, learning_rate
from efficientformer_edu.training.recipe import CODE, LAPTOP, PAPER, Recipe

Box = tuple[int, int, int, int]  # top, bottom, left, right in pixels; bottom and right are exclusive
Targets = Callable[[Tensor, int, Box, int, float], Tensor]

BOXES = ((0, 4, 0, 4), (2, 6, 4, 8), (-3, 5, 6, 14), (5, 13, -2, 6))  # the last two extend beyond an image of 8×8
RECIPES = (CODE, PAPER, LAPTOP, LAPTOP.replace(epochs=10, warmup_epochs=2.5, min_lr=1e-4, warmup_lr=5e-5))
QUARTERS = 4  # points per epoch at which the rate is compared


def check_soft_loss(soft_loss: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Compare with an explicit sum over images and classes, at three temperatures."""
    dist, teacher = random_tensor(4, 3, seed=1), random_tensor(4, 3, seed=2)
    for tau in (2.0, 1.0, 5.0):
        got = call(soft_loss, dist, teacher, tau)
        expect_shape(got, (), "The loss is one number, the mean over the images.")
        student_probs, teacher_probs = _softmax(dist, tau), _softmax(teacher, tau)
        expected = tau**2 * _divergence(teacher_probs, student_probs)
        mistakes = {
            "The order matters: it is KL(teacher ‖ student), so the teacher's probabilities come first.": (
                tau**2 * _divergence(student_probs, teacher_probs)
            ),
            "τ² is missing. Without it the gradient shrinks as the temperature rises.": expected / tau**2,
            "You multiply by τ. It is τ²: each of the two softmaxes shrinks the gradient by τ.": expected / tau,
            "τ belongs inside the softmax of both, teacher and student; you soften the teacher alone.": (
                tau**2 * _divergence(teacher_probs, _softmax(dist, 1.0))
            ),
            "τ belongs inside the softmax of both, teacher and student; you soften the student alone.": (
                tau**2 * _divergence(_softmax(teacher, 1.0), student_probs)
            ),
            "You average over images and classes, as the released code does. Here only the images are averaged: "
            'reduction="batchmean", or a sum over the classes first.': expected / 3,
            "You add up the images. The loss is their mean, or it would grow with the batch.": 4 * expected,
            "This is a cross entropy, not a divergence: subtract the entropy of the teacher's own prediction.": (
                expected + tau**2 * _entropy(teacher_probs)
            ),
        }
        message = f"With τ = {tau:g} the loss of this batch is {expected:.4f}; you have {float(got):.4f}."
        compare(float(got), expected, mistakes, message, partial(close, rtol=0, atol=1e-5))
    done("the teacher's knowledge about the wrong classes, and a gradient of the same size at any temperature.")


def _softmax(logits: Tensor, tau: float) -> list[list[float]]:
    rows = [[math.exp(logit / tau) for logit in row] for row in logits.tolist()]
    return [[value / sum(row) for value in row] for row in rows]


def _divergence(target: list[list[float]], estimate: list[list[float]]) -> float:
    """KL(target ‖ estimate), the mean over the images."""
    pairs = [pair for rows in zip(target, estimate, strict=True) for pair in zip(*rows, strict=True)]
    return sum(p * math.log(p / q) for p, q in pairs) / len(target)


def _entropy(rows: list[list[float]]) -> float:
    return -sum(p * math.log(p) for row in rows for p in row) / len(rows)


def check_rate(rate: Callable[[Recipe, float], float]) -> None:
    """Compare with the package's schedule at every quarter of an epoch, and identify common mistakes."""
    for recipe in RECIPES:
        for quarter in range(QUARTERS * recipe.epochs):
            epoch = quarter / QUARTERS
            got, expected = float(call(rate, recipe, epoch)), learning_rate(recipe, quarter, QUARTERS)
            message = f"the rate is {expected:.3g}, not {describe(got)}."
            at = f"In epoch {epoch:g} of {recipe.epochs}, with a warm-up of {recipe.warmup_epochs:g}: "
            compare(got, expected, _rate_mistakes(recipe, epoch), message, partial(close, rtol=1e-6, atol=0), at)
    done("linear up to the maximum, then the cosine that has been running from the start.")


def _rate_mistakes(recipe: Recipe, epoch: float) -> dict[str, float]:
    low, high, first, span = recipe.min_lr, recipe.max_lr, recipe.warmup_lr, recipe.warmup_epochs
    wave = math.cos(math.pi * epoch / recipe.epochs)
    late = math.cos(math.pi * (epoch - span) / (recipe.epochs - span))
    return {
        "you take learning_rate, which is for a batch of 1024. recipe.max_lr is scaled to the batch.": (
            first + (recipe.learning_rate - first) * epoch / (span or 1)
            if epoch < span
            else low + (recipe.learning_rate - low) * (1 + wave) / 2
        ),
        "the warm-up starts at warmup_lr, not at 0.": high * epoch / span if epoch < span else math.nan,
        "your cosine starts when the warm-up ends. Here it starts with the run, so it is already on its way down.": (
            low + (high - low) * (1 + late) / 2
        ),
        "your cosine ends at 0; it should end at min_lr.": high * (1 + wave) / 2,
        "you add min_lr to the whole cosine, so that it starts above the maximum.": low + high * (1 + wave) / 2,
        "1 + cos goes from 2 down to 0: halve it.": low + (high - low) * (1 + wave),
    }


def check_clip(clip: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Compare with rows clipped one by one: a long gradient, a short one, one of a zero row, and a zero gradient."""
    weight = torch.tensor([[3.0, 4.0, 0.0], [0.3, 0.0, 0.4], [0.0, 0.0, 0.0], [1.0, 2.0, 2.0]])
    grad = torch.tensor([[0.6, 0.0, 0.8], [3e-3, 0.0, 4e-3], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    factor = 0.1
    kept = weight.clone(), grad.clone()
    got = call(clip, weight, grad, factor)
    expect_shape(got, (4, 3), "A clipped gradient has the shape of the gradient.")
    require(
        torch.equal(weight, kept[0]) and torch.equal(grad, kept[1]),
        "You changed the arguments: `*=` and `div_` write into the tensor. Return a new one.",
    )
    require(got.isfinite().all(), "A gradient of 0 became NaN: you divide 0 by 0. It stays 0.")
    norms, floor = weight.norm(dim=1, keepdim=True), SMALLEST_NORM
    longest = factor * norms.clamp(min=floor)
    lengths = grad.norm(dim=1, keepdim=True).clamp(min=1e-12)
    expected = grad * (longest / lengths).clamp(max=1)
    column_limit = factor * weight.norm(dim=0, keepdim=True).clamp(min=floor)
    columns = grad * (column_limit / grad.norm(dim=0, keepdim=True).clamp(min=1e-12)).clamp(max=1)
    mistakes = {
        "You clip the whole weight at once. Each row makes one output and has its own norm: dim=1.": (
            grad * min(1.0, float(factor * weight.norm() / grad.norm()))
        ),
        "You clip columns. The unit of a linear layer is the row that makes one output: dim=1, not dim=0.": columns,
        "You lengthen short gradients to the limit. Shorter ones stay unchanged: no factor above 1.": (
            grad * longest / lengths
        ),
        "Row 3 has weights of 0, and you clip its gradient to 0: it can never learn. Take a norm of at least 1e-3.": (
            grad * (factor * norms / lengths).clamp(max=1)
        ),
        "You clip each element separately. That turns the gradient; clipping should only shorten it.": (
            grad.clamp(min=-longest, max=longest)
        ),
        "You compare lengths without the factor: a gradient may be factor times as long as its weights.": (
            grad * (norms.clamp(min=floor) / lengths).clamp(max=1)
        ),
        "You forget the gradient's own length: a long one is multiplied by longest / |gradient|, not by longest.": (
            torch.where(lengths > longest, grad * longest, grad)
        ),
    }
    same = partial(close, atol=1e-7)
    row = next((row for row in range(4) if not same(got[row], expected[row])), 0)
    message = (
        f"Row {row + 1}: weights of length {float(norms[row]):g} allow a gradient of length {float(longest[row]):g}; "
        f"it was {float(grad[row].norm()):g} and is {float(got[row].norm()):g}."
    )
    compare(got, expected, mistakes, message, same)
    done("each row is compared with its own weights, and keeps its direction.")


def check_cutmix(cutmix_targets: Targets) -> None:
    """Cut and paste images of class labels, and count the pixels of each class."""
    labels, classes, size, smoothing = torch.tensor([0, 2, 3, 1]), 5, 8, 0.1
    one_hot = torch.eye(classes)[labels]
    smooth = one_hot * (1 - smoothing) + smoothing / classes
    for box in BOXES:
        top, bottom, left, right = box
        images = labels.view(-1, 1, 1).expand(-1, size, size).clone()  # each pixel has the label of its image
        inside = slice(max(top, 0), bottom), slice(max(left, 0), right)
        images[:, inside[0], inside[1]] = labels.flip(0).view(-1, 1, 1)
        pixels = torch.stack([torch.eye(classes)[image].mean((0, 1)) for image in images])
        expected = pixels * (1 - smoothing) + smoothing / classes
        got = call(cutmix_targets, labels, classes, box, size, smoothing)
        at = f"With the box {box} in {size}×{size} pixels: "
        expect_shape(got, (4, classes), f"{at}one probability for each image and class.")
        kept = 1 - int((images == labels.flip(0).view(-1, 1, 1))[0].sum()) / size**2
        uncropped = 1 - (bottom - top) * (right - left) / size**2
        others = one_hot * (1 - smoothing) + (1 - one_hot) * smoothing / (classes - 1)
        mistakes = {
            "you take the box as it was sampled. Part of it is outside the image, where nothing is pasted.": (
                uncropped * smooth + (1 - uncropped) * smooth.flip(0)
            ),
            "you swap the two shares: an image keeps the pixels outside the box.": (
                (1 - kept) * smooth + kept * smooth.flip(0)
            ),
            "the partner of image i is image B − 1 − i, so the labels are flipped; you shift them.": (
                kept * smooth + (1 - kept) * smooth.roll(-1, 0)
            ),
            "smoothing is spread over all classes, including the correct one; you leave that one out.": (
                kept * others + (1 - kept) * others.flip(0)
            ),
            "the smoothing is missing.": kept * one_hot + (1 - kept) * one_hot.flip(0),
        }
        total = float(got.sum(1)[0])
        message = f"an image keeps {kept:.4f} of its pixels, the others are its partner's."
        if not close(got.sum(1), torch.ones(4), atol=1e-5):
            message = f"a target sums to 1, yours to {total:.3f}."
        compare(got, expected, mistakes, message, prefix=at)
    done("a target is the share of pixels after pasting.")
