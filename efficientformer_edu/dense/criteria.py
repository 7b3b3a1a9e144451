"""Criteria: the loss of each head, as a combination of loss functions.

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
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from efficientformer_edu.dense import losses
from efficientformer_edu.dense.anchor_head import AnchorPredictions
from efficientformer_edu.dense.assignment import BETWEEN, match_anchors, simota
from efficientformer_edu.dense.boxes import encode, precise
from efficientformer_edu.dense.examples import IGNORED, Target
from efficientformer_edu.dense.network import DenseConfig
from efficientformer_edu.dense.places import predictions_at_places

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
        classes.append(losses.focal(logits[learns], one_hot[learns]))
        offset_targets = encode(target.boxes[number[on_box]], output.anchors[on_box])  # (matched, 4)
        boxes.append(losses.offsets_l1(offsets[on_box], offset_targets))
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
        boxes.append(BOX_WEIGHT * losses.iou_loss(predicted[on_box], target.boxes[number]))
        objects.append(losses.binary(objectness, on_box.to(objectness)))
        classes.append(losses.binary(logits[on_box], one_hot * overlap[:, None]))
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
    overlap, predicted_area, true_area = losses.dice_areas(logits, semantic)
    return {
        "cross_entropy": losses.cross_entropy_sum(logits, semantic),
        "pixels": (semantic != IGNORED).sum(),
        "overlap": overlap,
        "predicted_area": predicted_area,
        "true_area": true_area,
    }


def segmentation_losses(sums: Sums) -> Terms:
    """`cross_entropy` and `dice`."""
    return {
        "cross_entropy": sums["cross_entropy"] / sums["pixels"].clamp(min=1),
        "dice": losses.dice_from_areas(sums["overlap"], sums["predicted_area"], sums["true_area"]),
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
