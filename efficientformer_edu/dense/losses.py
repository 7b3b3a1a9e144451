"""Loss functions of detection and segmentation.

Sources: Lin et al., *Focal Loss for Dense Object Detection*, 2017; Yu et al., *UnitBox*, 2016, for the IoU loss, in
YOLOX's form; Milletari et al., *V-Net*, 2016, for Dice, here with sums instead of V-Net's sums of squares.

Detection losses are sums, because only the criterion knows the number of matched predictions to divide by.
Segmentation losses are means over the given images; for a batch that several processes share, the criterion first adds
up the sums of all processes. Without any target, all losses are 0 and have a gradient of 0.

Input: predictions and targets. Output: a scalar.

Criteria: the loss of each head, as a combination of loss functions.

Sources: Lin et al., *Focal Loss for Dense Object Detection*, 2017, sections 3 and 4; Ge et al., *YOLOX*, 2021, section
2.1, `get_losses`; NetsPresso Trainer's choice of losses for these heads. For segmentation, Dice is added to the
cross-entropy.

A criterion has two steps, so that several processes can share a batch: `sums` adds up the contributions of one
process's images, and `losses` computes the terms of the loss from the sums of all processes. In between, the trainer
adds up the sums of the processes; this module does not communicate. Calling a criterion runs both steps for the images
of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from efficientformer_edu.data.examples import IGNORED, Target
from efficientformer_edu.dense.detection.assignment import BETWEEN, match_anchors, simota
from efficientformer_edu.dense.detection.boxes import encode, paired_iou, precise
from efficientformer_edu.dense.detection.heads import AnchorPredictions
from efficientformer_edu.dense.detection.priors import predictions_at_places
from efficientformer_edu.dense.network import DenseConfig

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


BOX_WEIGHT = 5.0  # of YOLOX's loss on boxes

Sums = dict[str, Tensor]
"""Contributions of images to the loss, by name: sums over predictions or pixels, and the counts to divide them by."""

Terms = dict[str, Tensor]
"""The terms of a loss by name, scalars; the total loss is their sum."""


@dataclass(frozen=True)
class Criterion:
    """The training loss of a head.

    Attributes:
        sums: maps the output of a network, one target per image, and the strides of the head's feature maps to the
            contributions of these images. Segmentation does not use strides; there they may be `()`.
        losses: maps the sums of all images to the terms of the loss.
    """

    sums: Callable[[Any, Sequence[Target], Sequence[int]], Sums]
    losses: Callable[[Sums], Terms]

    def __call__(self, output: Any, targets: Sequence[Target], strides: Sequence[int]) -> Terms:
        """The terms of the loss of these images."""
        return self.losses(self.sums(output, targets, strides))


def criterion(config: DenseConfig) -> Criterion:
    """The criterion of a network, selected by its head.

    Raises:
        ValueError: for a classification network, which `training` trains.
    """
    _, head = config.names
    if head not in _CRITERIA:
        raise ValueError(
            f"{head} has no criterion here; {', '.join(_CRITERIA)} have one, and training trains classifiers"
        )
    return _CRITERIA[head]


def anchor_sums(output: AnchorPredictions, targets: Sequence[Target], strides: Sequence[int]) -> Sums:
    """RetinaNet's loss: `class`, the focal loss over all anchors but ignored ones; `box`, the L1 loss of matched ones.

    `matched` counts the anchors that are matched to a box.
    """
    classes, boxes, matched = [], [], 0
    for logits, offsets, target in zip(precise(output.classes), precise(output.boxes), targets, strict=True):
        number = match_anchors(output.anchors, target.boxes)  # (anchors,)
        learns, on_box = number != BETWEEN, number >= 0
        one_hot = torch.zeros_like(logits)  # (anchors, num_classes)
        one_hot[on_box, target.labels[number[on_box]]] = 1
        classes.append(focal(logits[learns], one_hot[learns]))
        offset_targets = encode(target.boxes[number[on_box]], output.anchors[on_box])  # (matched, 4)
        boxes.append(offsets_l1(offsets[on_box], offset_targets))
        matched += len(offset_targets)
    return _added(matched, {"class": classes, "box": boxes})


def anchor_free_sums(
    output: Sequence[Float[Tensor, "B _ _ _"]], targets: Sequence[Target], strides: Sequence[int]
) -> Sums:
    """YOLOX's loss: `box`, 5 · (1 − IoU²), and `class` for positions assigned by SimOTA; `objectness` for all.

    The class target is the IoU of the predicted box instead of 1, so that the confidence reflects the quality of the
    box. `matched` counts the positions that are assigned to a box.
    """
    predictions = predictions_at_places(output, strides)
    boxes, objects, classes, matched = [], [], [], 0
    for predicted, objectness, logits, target in zip(*predictions[:3], targets, strict=True):
        number, overlap = simota(predicted, objectness, logits, predictions.places, target.boxes, target.labels)
        on_box = number >= 0  # (positions,)
        number, overlap = number[on_box], overlap[on_box]  # (matched,) each
        one_hot = F.one_hot(target.labels[number], logits.shape[1])  # (matched, num_classes)
        boxes.append(BOX_WEIGHT * iou_loss(predicted[on_box], target.boxes[number]))
        objects.append(binary(objectness, on_box.to(objectness)))
        classes.append(binary(logits[on_box], one_hot * overlap[:, None]))
        matched += len(number)
    return _added(matched, {"box": boxes, "objectness": objects, "class": classes})


def per_match(sums: Sums) -> Terms:
    """The terms of detection: each sum divided by the number of matched predictions, or by 1 without matches."""
    return {name: value / sums["matched"].clamp(min=1) for name, value in sums.items() if name != "matched"}


def segmentation_sums(
    output: Float[Tensor, "B num_classes _ _"], targets: Sequence[Target], strides: Sequence[int]
) -> Sums:
    """The sums of cross-entropy and Dice, on logits upsampled to the size of the targets."""
    semantic = torch.stack([target.semantic for target in targets if target.semantic is not None])  # (B, H, W)
    size = (semantic.shape[1], semantic.shape[2])
    logits = F.interpolate(precise(output), size=size, mode="bilinear", align_corners=False)  # (B, num_classes, H, W)
    overlap, predicted_area, true_area = dice_areas(logits, semantic)
    return {
        "cross_entropy": cross_entropy_sum(logits, semantic),
        "pixels": (semantic != IGNORED).sum(),
        "overlap": overlap,
        "predicted_area": predicted_area,
        "true_area": true_area,
    }


def segmentation_losses(sums: Sums) -> Terms:
    """`cross_entropy` and `dice`."""
    return {
        "cross_entropy": sums["cross_entropy"] / sums["pixels"].clamp(min=1),
        "dice": dice_from_areas(sums["overlap"], sums["predicted_area"], sums["true_area"]),
    }


_SEGMENTATION = Criterion(segmentation_sums, segmentation_losses)
_CRITERIA: Mapping[str, Criterion] = {
    "anchor_decoupled_head": Criterion(anchor_sums, per_match),
    "anchor_free_decoupled_head": Criterion(anchor_free_sums, per_match),
    "all_mlp_decoder": _SEGMENTATION,
    "semantic_fpn": _SEGMENTATION,
}


def _added(matched: int, by_image: Mapping[str, Sequence[Tensor]]) -> Sums:
    """The sums over images, and the number of matched predictions."""
    sums = {name: torch.stack(list(values)).sum() for name, values in by_image.items()}
    return {**sums, "matched": torch.tensor(matched, device=next(iter(sums.values())).device)}
