"""The losses of detection and segmentation, each by itself.

Sources: Lin et al., *Focal Loss for Dense Object Detection*, 2017; Yu et al., *UnitBox*, 2016, for learning from the
IoU, in YOLOX's form; Milletari et al., *V-Net*, 2016, for Dice, here with sums where V-Net has squares.

Those for detection are sums, because only the criterion knows the number of matched predictions by which they are
divided. Those for segmentation are means over the images that they are given; for a batch that several processes share,
the criterion adds up the sums of all processes first. With nothing to learn from, all are 0 and have a gradient of 0.

Comes: what a network predicts and what it should. Goes: one number.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from efficientformer_edu.dense.boxes import paired_iou
from efficientformer_edu.dense.examples import IGNORED

ALPHA, GAMMA = 0.25, 2.0  # RetinaNet's


def focal(logits: Float[Tensor, "n num_classes"], targets: Float[Tensor, "n num_classes"]) -> Float[Tensor, ""]:
    """Focal loss, summed: a binary cross entropy in which what is already right hardly counts.

        FL = Σ −αₜ · (1 − pₜ)² · log pₜ

    pₜ is the probability given to the truth: p = sigmoid(logit) where the target is 1, and 1 − p where it is 0. αₜ is
    1/4 where the target is 1, and 3/4 where it is 0.
    """
    p = logits.sigmoid()
    wrong = p + targets - 2 * p * targets  # 1 − pₜ
    alpha = ALPHA * targets + (1 - ALPHA) * (1 - targets)
    minus_log = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")  # −log pₜ
    return (alpha * wrong**GAMMA * minus_log).sum()


def binary(logits: Float[Tensor, "*n"], targets: Float[Tensor, "*n"]) -> Float[Tensor, ""]:
    """Binary cross entropy, summed, for targets t anywhere from 0 to 1.

    BCE = Σ −t · log p − (1 − t) · log(1 − p),   p = sigmoid(logit)
    """
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")


def offsets_l1(predicted: Float[Tensor, "n 4"], wanted: Float[Tensor, "n 4"]) -> Float[Tensor, ""]:
    """How far the offsets of boxes are off, summed over boxes and their four numbers.

    L1 = Σ |d − d*|,   d = (dx, dy, dw, dh)
    """
    return F.l1_loss(predicted, wanted, reduction="sum")


def iou_loss(predicted: Float[Tensor, "n 4"], wanted: Float[Tensor, "n 4"]) -> Float[Tensor, ""]:
    """What boxes lack of covering those that they should, summed over pairs.

        L = Σ 1 − IoU²

    The square is YOLOX's: it pulls hardest at boxes that are nearly right. A box that does not meet its partner is not
    pulled at all; SimOTA hardly ever makes such pairs.
    """
    return (1 - paired_iou(predicted, wanted) ** 2).sum()


def cross_entropy(logits: Float[Tensor, "B num_classes H W"], semantic: UInt8[Tensor, "B H W"]) -> Float[Tensor, ""]:
    """Cross-entropy, averaged over the pixels that have a class.

        CE = 1/N · Σ −log p_y,   p = softmax(logits), y = the pixel's class

    N is the number of pixels of the batch that are not `IGNORED`.
    """
    return cross_entropy_sum(logits, semantic) / (semantic != IGNORED).sum().clamp(min=1)


def cross_entropy_sum(
    logits: Float[Tensor, "B num_classes H W"], semantic: UInt8[Tensor, "B H W"]
) -> Float[Tensor, ""]:
    """The sum of `cross_entropy` over the pixels, before it is divided by N."""
    return F.cross_entropy(logits, semantic.long(), ignore_index=IGNORED, reduction="sum")


def dice(logits: Float[Tensor, "B num_classes H W"], semantic: UInt8[Tensor, "B H W"]) -> Float[Tensor, ""]:
    """Dice loss: one minus the overlap of a class's predicted and true area, averaged over classes.

        Dice = 1/C · Σ_c (1 − 2 · Σ p_c·g_c / (Σ p_c + Σ g_c)),   p = softmax(logits), g_c = 1 where the class is c

    The inner sums run over all pixels of the batch that are not `IGNORED`, the outer one over the C classes that occur
    in these pixels. A class that does not occur could only have the loss 1, however little of it is predicted. A small
    class counts as much as a large one, which is what Dice adds to the cross-entropy.
    """
    return dice_from_areas(*dice_areas(logits, semantic))


def dice_areas(
    logits: Float[Tensor, "B num_classes H W"], semantic: UInt8[Tensor, "B H W"]
) -> tuple[Float[Tensor, " num_classes"], Float[Tensor, " num_classes"], Int[Tensor, " num_classes"]]:
    """The inner sums of `dice`, in pixels: of each class the overlap, the predicted area and the true area."""
    classes = torch.arange(logits.shape[1], device=logits.device)
    true = semantic[:, None] == classes[:, None, None]  # (B, num_classes, H, W)
    p = logits.softmax(dim=1).where((semantic != IGNORED)[:, None], 0)
    overlap, predicted_area, true_area = (x.sum(dim=(0, 2, 3)) for x in (p * true, p, true))  # (num_classes,) each
    return overlap, predicted_area, true_area


def dice_from_areas(
    overlap: Float[Tensor, " num_classes"],
    predicted_area: Float[Tensor, " num_classes"],
    true_area: Int[Tensor, " num_classes"],
) -> Float[Tensor, ""]:
    """`dice` from its inner sums."""
    present = true_area > 0
    loss = 1 - 2 * overlap / (predicted_area + true_area).clamp(min=1)  # where a class is present it is at least 1
    return loss.where(present, 0).sum() / present.sum().clamp(min=1)
