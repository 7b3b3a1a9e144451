"""The losses: values by hand, gradients by hand or finite differences, and empty targets."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from efficientformer_edu.data.examples import IGNORED
from efficientformer_edu.dense.losses import binary, cross_entropy, dice, focal, iou_loss, offsets_l1

LN2, LN3 = math.log(2), math.log(3)  # sigmoid(ln 3) is 3/4


def double(numbers: object) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def gradient(loss, x: Tensor, *others: Tensor) -> list:
    x = x.clone().requires_grad_()
    loss(x, *others).backward()
    return x.grad.tolist()


@pytest.mark.parametrize(
    ("logit", "target", "expected"),
    [
        (0.0, 1.0, 1 / 4 * 1 / 4 * LN2),
        (0.0, 0.0, 3 / 4 * 1 / 4 * LN2),
        (LN3, 1.0, 1 / 4 * 1 / 16 * math.log(4 / 3)),
        (LN3, 0.0, 3 / 4 * 9 / 16 * math.log(4)),
    ],
)
def test_focal_by_hand(logit, target, expected):
    assert focal(double([[logit]]), double([[target]])).item() == pytest.approx(expected, rel=1e-12)
    twice = focal(double([[logit, logit]] * 3), double([[target, target]] * 3)).item()
    assert twice == pytest.approx(6 * expected, rel=1e-12), "a sum, not a mean"


def test_the_gradient_of_focal():
    """By hand, d/dx of −(1 − p)² · log p at p = ½ is (1 − p)² · (2 · p · log p − (1 − p)) = −¼ · (ln 2 + ½)."""
    slope = (LN2 + 0.5) / 4
    expected = [pytest.approx([-slope / 4, 3 * slope / 4])]
    assert gradient(focal, double([[0.0, 0.0]]), double([[1.0, 0.0]])) == expected
    logits, targets = double([[-2.0, 0.3, 4.0], [1.5, -0.1, -6.0]]), double([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    assert torch.autograd.gradcheck(lambda x: focal(x, targets), logits.requires_grad_())


def test_binary_by_hand():
    assert binary(double([0.0, LN3]), double([1.0, 0.0])).item() == pytest.approx(LN2 + math.log(4))
    assert binary(double([LN3]), double([0.5])).item() == pytest.approx(-0.5 * math.log(3 / 4) - 0.5 * math.log(1 / 4))
    assert gradient(binary, double([LN3, 0.0]), double([0.5, 1.0])) == pytest.approx([0.75 - 0.5, 0.5 - 1.0])


def test_offsets_l1_by_hand():
    predicted, target = (
        double([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]]),
        double([[1.5, 0.0, 3.0, 5.0], [0, 0, 0, 9]]),
    )
    assert offsets_l1(predicted, target).item() == 0.5 + 2 + 1 + 9
    assert gradient(offsets_l1, predicted, target) == [[-1, 1, 0, -1], [0, 0, 0, -1]]


def test_iou_loss_by_hand():
    """IoUs of 1/7, 1 and 0: 1 − 1/49, nothing, and 1."""
    predicted = double([[0, 0, 2, 2], [3, 3, 5, 6], [0, 0, 1, 1]])
    target = double([[1, 1, 3, 3], [3, 3, 5, 6], [1, 0, 2, 1]])
    assert iou_loss(predicted, target).item() == pytest.approx(1 - 1 / 49 + 0 + 1)


def test_the_gradient_of_the_iou_loss():
    """By hand: with its right side at x = 2, a box of height 1 covers x / 4 of a box that is 4 wide: 1 − x²/16."""
    grad = gradient(iou_loss, double([[0, 0, 2, 1]]), double([[0, 0, 4, 1]]))
    assert grad[0][2] == pytest.approx(-2 / 8)
    predicted, target = double([[0, 0, 4, 5], [1, 2, 6, 7]]), double([[1, 1, 6, 4], [0, 0, 5, 6.5]])
    assert torch.autograd.gradcheck(lambda x: iou_loss(x, target), predicted.requires_grad_())
    apart = gradient(iou_loss, double([[0, 0, 1, 1], [2, 2, 2, 2]]), double([[5, 5, 6, 6], [2, 2, 2, 2]]))
    assert apart == [[0] * 4] * 2


def picture(*rows: list[int]) -> Tensor:
    return torch.tensor([rows], dtype=torch.uint8)


# Two classes in a row of four pixels: the first has probabilities 3/4, 3/4, 1/2 and, on the ignored pixel, 3/4.
ROW = double([[[[LN3, LN3, 0.0, LN3]], [[0.0, 0.0, 0.0, 0.0]]]])
SHOWN = picture([0, 1, 1, IGNORED])


def test_cross_entropy_by_hand():
    expected = (math.log(4 / 3) + math.log(4) + LN2) / 3
    assert cross_entropy(ROW, SHOWN).item() == pytest.approx(expected)
    assert cross_entropy(ROW.repeat(2, 1, 1, 1), SHOWN.repeat(2, 1, 1)).item() == pytest.approx(expected)
    first, second = gradient(cross_entropy, ROW, SHOWN)[0]
    assert first[0] == pytest.approx([-0.25 / 3, 0.75 / 3, 0.5 / 3, 0]) and second[0] == pytest.approx(
        [-x for x in first[0]]
    )


def test_dice_by_hand():
    """First class: predicted area 2, true area 1, overlap 3/4. Second: 1, 2 and 1/4 + 1/2."""
    assert dice(ROW, SHOWN).item() == pytest.approx(((1 - 2 * 0.75 / (2 + 1)) + (1 - 2 * 0.75 / (1 + 2))) / 2)
    only_first = picture([0, 0, IGNORED, IGNORED])
    assert dice(ROW, only_first).item() == pytest.approx(1 - 2 * 1.5 / (1.5 + 2)), "the second class is not there"
    third = torch.cat([ROW, torch.full_like(ROW[:, :1], -1e4)], dim=1)
    assert dice(third, SHOWN).item() == pytest.approx(dice(ROW, SHOWN).item()), (
        "nor is a third, of which nothing is predicted"
    )
    assert torch.tensor(gradient(dice, third, SHOWN)).isfinite().all()


def test_dice_treats_a_batch_as_a_single_image():
    wide, two = torch.cat([ROW, ROW.flip(3)], dim=3), torch.cat([ROW, ROW.flip(3)])
    semantic = picture([0, 0, 0, 0]), picture([0, 1, 0, 0])
    expected = dice(wide, torch.cat(semantic, dim=2)).item()
    assert dice(two, torch.cat(semantic)).item() == pytest.approx(expected)


def test_the_gradient_of_dice():
    logits = torch.randn(2, 3, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    semantic = torch.cat([picture([0, 2, 2], [IGNORED, 0, 2]), picture([2, 2, 0], [0, IGNORED, IGNORED])])
    assert torch.autograd.gradcheck(lambda x: dice(x, semantic), logits)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, semantic), logits)


@pytest.mark.parametrize("loss", [cross_entropy, dice])
def test_what_is_ignored_changes_nothing(loss):
    semantic, other = picture([0, 1, IGNORED, IGNORED]), ROW.clone()
    other[..., 2:] = double([7.0, -7.0])
    assert loss(other, semantic).item() == loss(ROW, semantic).item()
    assert not any(row[0][i] for row in gradient(loss, ROW, semantic)[0] for i in (2, 3))


@pytest.mark.parametrize("loss", [cross_entropy, dice])
def test_what_is_right_costs_nothing(loss):
    semantic = picture([0, 1, 1, IGNORED])
    sure = torch.stack([semantic == 0, semantic == 1], dim=1).double() * 100
    assert loss(sure, semantic).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("loss", [cross_entropy, dice])
def test_all_pixels_ignored(loss):
    nothing = torch.full((2, 3, 4), IGNORED, dtype=torch.uint8)
    logits = torch.randn(2, 5, 3, 4, requires_grad=True)
    value = loss(logits, nothing)
    value.backward()
    assert value.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize(("loss", "width"), [(focal, 3), (binary, 3), (offsets_l1, 4), (iou_loss, 4)])
def test_nothing_to_learn_from(loss, width):
    predicted = torch.zeros(0, width, requires_grad=True)
    value = loss(predicted, torch.zeros(0, width))
    value.backward()
    assert value.item() == 0 and predicted.grad.shape == (0, width)


@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_logits_without_measure(logit):
    logits = torch.full((1, 2, 2, 2), logit, requires_grad=True)
    flat, targets = logits[0, :, 0], torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    semantic = picture([0, 1], [1, IGNORED])
    total = (
        focal(flat, targets.round()) + binary(flat, targets) + cross_entropy(logits, semantic) + dice(logits, semantic)
    )
    total.backward()
    assert total.isfinite() and logits.grad.isfinite().all()
