"""Loss functions of detection and segmentation, and the criterion of each head as a combination of them.

Sources: Lin et al., *Focal Loss for Dense Object Detection*, 2017; Yu et al., *UnitBox*, 2016, for the IoU loss, in the
form of Ge et al., *YOLOX*, 2021; Milletari et al., *V-Net*, 2016, for Dice, here with sums instead of sums of squares.
The combinations are NetsPresso Trainer's; for segmentation, Dice is added to the cross-entropy.

Detection losses are sums, because only the criterion knows the number of matched predictions to divide by.
Segmentation losses are means. Without any target, all losses are 0 and have a gradient of 0.

A criterion has two steps, so that several processes can share a batch: `sums` adds up the contributions of one
process's images, and `losses` computes the terms of the loss from the sums of all processes. In between, the trainer
adds up the sums of the processes; this module does not communicate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from efficientformer_edu.data.examples import IGNORED, Target
from efficientformer_edu.dense.detection.assignment import IGNORED_ANCHOR, match_anchors, simota
from efficientformer_edu.dense.detection.boxes import at_least_float32, encode, paired_iou
from efficientformer_edu.dense.detection.heads import AnchorPredictions
from efficientformer_edu.dense.detection.priors import decode_outputs

ALPHA, GAMMA = 0.25, 2.0  # RetinaNet's
BOX_WEIGHT = 5.0  # of YOLOX's loss on boxes


def focal_loss(logits: Float[Tensor, "n num_classes"], targets: Float[Tensor, "n num_classes"]) -> Float[Tensor, ""]:
    """Focal loss, summed: a binary cross-entropy that down-weights well-classified examples.

        FL = Σ −αₜ · (1 − pₜ)² · log pₜ

    pₜ is the predicted probability of the target: p = sigmoid(logit) if the target is 1, and 1 − p if it is 0. αₜ is
    1/4 if the target is 1, and 3/4 if it is 0.
    """
    p = logits.sigmoid()
    error = p + targets - 2 * p * targets  # 1 − pₜ
    alpha = ALPHA * targets + (1 - ALPHA) * (1 - targets)
    minus_log = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")  # −log pₜ
    return (alpha * error**GAMMA * minus_log).sum()


def bce_loss(logits: Float[Tensor, "*n"], targets: Float[Tensor, "*n"]) -> Float[Tensor, ""]:
    """Binary cross-entropy, summed, for targets t from 0 to 1.

    BCE = Σ −t · log p − (1 − t) · log(1 − p),   p = sigmoid(logit)
    """
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")


def iou_loss(predicted: Float[Tensor, "n 4"], targets: Float[Tensor, "n 4"]) -> Float[Tensor, ""]:
    """IoU loss, summed over pairs of boxes.

        L = Σ 1 − IoU²

    The square is YOLOX's: the gradient is largest for boxes that are nearly right. For a box that is disjoint from its
    target the gradient is 0; SimOTA hardly ever creates such pairs.
    """
    return (1 - paired_iou(predicted, targets) ** 2).sum()


def cross_entropy(logits: Float[Tensor, "B num_classes H W"], semantic: UInt8[Tensor, "B H W"]) -> Float[Tensor, ""]:
    """Cross-entropy, averaged over the N pixels of the batch that have a class, that is, are not `IGNORED`.

    CE = 1/N · Σ −log p_y,   p = softmax(logits), y = the pixel's class
    """
    return segmentation_losses(_segmentation_sums(logits, semantic))["cross_entropy"]


def dice_loss(logits: Float[Tensor, "B num_classes H W"], semantic: UInt8[Tensor, "B H W"]) -> Float[Tensor, ""]:
    """Dice loss: one minus the overlap of a class's predicted and true area, averaged over classes.

        Dice = 1/C · Σ_c (1 − 2 · Σ p_c·g_c / (Σ p_c + Σ g_c)),   p = softmax(logits), g_c = 1 where the class is c

    The inner sums run over all pixels of the batch that are not `IGNORED`, the outer one over the C classes that occur
    in these pixels. A class that does not occur would always have the loss 1, even if hardly any of it is predicted.
    Small and large classes have the same weight, unlike in the cross-entropy.
    """
    return segmentation_losses(_segmentation_sums(logits, semantic))["dice"]


Sums = dict[str, Tensor]
"""Contributions of images to the loss, by name: sums over predictions or pixels, and the counts to divide them by."""

Terms = dict[str, Tensor]
"""The terms of a loss by name, scalars; the total loss is their sum."""


@dataclass(frozen=True)
class Criterion:
    """The training loss of a head; calling it runs both steps for the images of one process.

    Attributes:
        sums: maps the output of a network, one target per image, and the strides of the head's feature maps to the
            contributions of these images. Segmentation does not use strides; there they may be `()`.
        losses: maps the sums of all images to the terms of the loss.
    """

    sums: Callable[[Any, Sequence[Target], Sequence[int]], Sums]
    losses: Callable[[Sums], Terms]

    def __call__(self, output: Any, targets: Sequence[Target], strides: Sequence[int]) -> Terms:
        return self.losses(self.sums(output, targets, strides))


def anchor_sums(output: AnchorPredictions, targets: Sequence[Target], strides: Sequence[int]) -> Sums:
    """RetinaNet's loss: `class`, the focal loss over all anchors but ignored ones; `box`, the L1 loss of matched ones.

    `matched` counts the anchors that are matched to a box.
    """
    classes, boxes, matched = [], [], 0
    predictions = at_least_float32(output.classes), at_least_float32(output.boxes)
    for logits, offsets, target in zip(*predictions, targets, strict=True):
        box_index = match_anchors(output.anchors, target.boxes)  # (anchors,)
        in_loss, on_box = box_index != IGNORED_ANCHOR, box_index >= 0
        one_hot = torch.zeros_like(logits)  # (anchors, num_classes)
        one_hot[on_box, target.labels[box_index[on_box]]] = 1
        classes.append(focal_loss(logits[in_loss], one_hot[in_loss]))
        offset_targets = encode(target.boxes[box_index[on_box]], output.anchors[on_box])  # (matched, 4)
        boxes.append(F.l1_loss(offsets[on_box], offset_targets, reduction="sum"))
        matched += len(offset_targets)
    return _add_images(matched, {"class": classes, "box": boxes})


def anchor_free_sums(
    output: Sequence[Float[Tensor, "B _ _ _"]], targets: Sequence[Target], strides: Sequence[int]
) -> Sums:
    """YOLOX's loss: `box`, 5 · (1 − IoU²), and `class` for positions assigned by SimOTA; `objectness` for all.

    The class target is the IoU of the predicted box instead of 1, so that the confidence reflects the quality of the
    box. `matched` counts the positions that are assigned to a box.
    """
    decoded = decode_outputs(output, strides)
    boxes, objects, classes, matched = [], [], [], 0
    for predicted, objectness, logits, target in zip(*decoded[:3], targets, strict=True):
        box_index, iou = simota(predicted, objectness, logits, decoded.positions, target.boxes, target.labels)
        on_box = box_index >= 0  # (positions,)
        box_index, iou = box_index[on_box], iou[on_box]  # (matched,) each
        one_hot = F.one_hot(target.labels[box_index], logits.shape[1])  # (matched, num_classes)
        boxes.append(BOX_WEIGHT * iou_loss(predicted[on_box], target.boxes[box_index]))
        objects.append(bce_loss(objectness, on_box.to(objectness)))
        classes.append(bce_loss(logits[on_box], one_hot * iou[:, None]))
        matched += len(box_index)
    return _add_images(matched, {"box": boxes, "objectness": objects, "class": classes})


def per_match(sums: Sums) -> Terms:
    """The terms of detection: each sum divided by the number of matched predictions, or by 1 without matches."""
    return {name: value / sums["matched"].clamp(min=1) for name, value in sums.items() if name != "matched"}


def segmentation_sums(
    output: Float[Tensor, "B num_classes _ _"], targets: Sequence[Target], strides: Sequence[int]
) -> Sums:
    """The sums of cross-entropy and Dice, on logits upsampled to the size of the targets."""
    semantic = torch.stack([target.semantic for target in targets if target.semantic is not None])  # (B, H, W)
    size = (semantic.shape[1], semantic.shape[2])
    logits = F.interpolate(at_least_float32(output), size=size, mode="bilinear", align_corners=False)
    return _segmentation_sums(logits, semantic)


def segmentation_losses(sums: Sums) -> Terms:
    """`cross_entropy` and `dice`."""
    present = sums["true_area"] > 0  # (num_classes,)
    areas = (sums["predicted_area"] + sums["true_area"]).clamp(min=1)  # at least 1 for a class that is present
    dice = (1 - 2 * sums["overlap"] / areas).where(present, 0).sum() / present.sum().clamp(min=1)
    return {"cross_entropy": sums["cross_entropy"] / sums["pixels"].clamp(min=1), "dice": dice}


ANCHOR = Criterion(anchor_sums, per_match)
ANCHOR_FREE = Criterion(anchor_free_sums, per_match)
SEGMENTATION = Criterion(segmentation_sums, segmentation_losses)


def _segmentation_sums(logits: Float[Tensor, "B num_classes H W"], semantic: UInt8[Tensor, "B H W"]) -> Sums:
    """The sums over pixels: cross-entropy, number of pixels, and overlap, predicted and true area of each class."""
    with_class = semantic != IGNORED
    classes = torch.arange(logits.shape[1], device=logits.device)
    true = semantic[:, None] == classes[:, None, None]  # (B, num_classes, H, W)
    p = logits.softmax(dim=1).where(with_class[:, None], 0)
    overlap, predicted_area, true_area = (x.sum(dim=(0, 2, 3)) for x in (p * true, p, true))  # (num_classes,) each
    return {
        "cross_entropy": F.cross_entropy(logits, semantic.long(), ignore_index=IGNORED, reduction="sum"),
        "pixels": with_class.sum(),
        "overlap": overlap,
        "predicted_area": predicted_area,
        "true_area": true_area,
    }


def _add_images(matched: int, by_image: Mapping[str, Sequence[Tensor]]) -> Sums:
    """The sums over images, and the number of matched predictions."""
    sums = {name: torch.stack(list(values)).sum() for name, values in by_image.items()}
    return {**sums, "matched": torch.tensor(matched, device=next(iter(sums.values())).device)}
