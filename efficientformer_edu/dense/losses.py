"""Loss functions of detection and segmentation.

Sources: Lin et al., *Focal Loss for Dense Object Detection*, 2017; Yu et al., *UnitBox*, 2016, for the IoU loss, in
YOLOX's form; Milletari et al., *V-Net*, 2016, for Dice, here with sums instead of V-Net's sums of squares.

Detection losses are sums, because only the criterion knows the number of matched predictions to divide by.
Segmentation losses are means over the given images; for a batch that several processes share, the criterion first adds
up the sums of all processes. Without any target, all losses are 0 and have a gradient of 0.

Input: predictions and targets. Output: a scalar.
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
    """Focal loss, summed: a binary cross-entropy that down-weights well-classified examples.

        FL = Σ −αₜ · (1 − pₜ)² · log pₜ

    pₜ is the predicted probability of the target: p = sigmoid(logit) if the target is 1, and 1 − p if it is 0. αₜ is
    1/4 if the target is 1, and 3/4 if it is 0.
    """
    p = logits.sigmoid()
    wrong = p + targets - 2 * p * targets  # 1 − pₜ
    alpha = ALPHA * targets + (1 - ALPHA) * (1 - targets)
    minus_log = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")  # −log pₜ
    return (alpha * wrong**GAMMA * minus_log).sum()


def binary(logits: Float[Tensor, "*n"], targets: Float[Tensor, "*n"]) -> Float[Tensor, ""]:
    """Binary cross-entropy, summed, for targets t from 0 to 1.

    BCE = Σ −t · log p − (1 − t) · log(1 − p),   p = sigmoid(logit)
    """
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")


def offsets_l1(predicted: Float[Tensor, "n 4"], wanted: Float[Tensor, "n 4"]) -> Float[Tensor, ""]:
    """L1 loss of box offsets, summed over boxes and their four values.

    L1 = Σ |d − d*|,   d = (dx, dy, dw, dh)
    """
    return F.l1_loss(predicted, wanted, reduction="sum")


def iou_loss(predicted: Float[Tensor, "n 4"], wanted: Float[Tensor, "n 4"]) -> Float[Tensor, ""]:
    """IoU loss, summed over pairs of boxes.

        L = Σ 1 − IoU²

    The square is YOLOX's: the gradient is largest for boxes that are nearly right. For a box that is disjoint from its
    target the gradient is 0; SimOTA hardly ever creates such pairs.
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
    in these pixels. A class that does not occur would always have the loss 1, even if hardly any of it is predicted.
    Small and large classes have the same weight, unlike in the cross-entropy.
    """
    return dice_from_areas(*dice_areas(logits, semantic))


def dice_areas(
    logits: Float[Tensor, "B num_classes H W"], semantic: UInt8[Tensor, "B H W"]
) -> tuple[Float[Tensor, " num_classes"], Float[Tensor, " num_classes"], Int[Tensor, " num_classes"]]:
    """The inner sums of `dice`, in pixels: overlap, predicted area and true area of each class."""
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
    loss = 1 - 2 * overlap / (predicted_area + true_area).clamp(min=1)  # at least 1 for a class that is present
    return loss.where(present, 0).sum() / present.sum().clamp(min=1)
