"""Criteria: what each head is trained by, put together from the losses.

Sources: Lin et al., *Focal Loss for Dense Object Detection*, 2017, sections 3 and 4; Ge et al., *YOLOX*, 2021, section
2.1, `get_losses`; NetsPresso Trainer's choice of losses for these heads. Dice is added to its cross entropy for
segmentation.

Comes: the output of a `DenseNetwork`, and the targets of a batch. Goes: the parts of the loss by name; their sum is the
loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from efficientformer_edu.dense import losses
from efficientformer_edu.dense.anchor_head import AnchorPredictions
from efficientformer_edu.dense.assignment import BETWEEN, match_anchors, simota
from efficientformer_edu.dense.boxes import encode, precise
from efficientformer_edu.dense.examples import Target
from efficientformer_edu.dense.network import DenseConfig
from efficientformer_edu.dense.places import predictions_at_places
from efficientformer_edu.training.synchronized import total

BOX_WEIGHT = 5.0  # of YOLOX's loss on boxes

Parts = dict[str, Tensor]
Criterion = Callable[[Any, Sequence[Target], Sequence[int]], Parts]
"""The output of a network, one target an image, and the strides of the head's maps, to the parts of the loss.

Segmentation has no use for strides; there they may be `()`.
"""


def criterion(config: DenseConfig) -> Criterion:
    """The criterion of a network, by its head.

    Raises:
        ValueError: for a network for classification, which `training` trains.
    """
    _, head = config.names
    if head not in _CRITERIA:
        raise ValueError(
            f"{head} has no criterion here; {', '.join(_CRITERIA)} have one, and training trains classifiers"
        )
    return _CRITERIA[head]


def anchor_criterion(output: AnchorPredictions, targets: Sequence[Target], strides: Sequence[int]) -> Parts:
    """RetinaNet's: `class`, the focal loss over all anchors that learn, and `box`, the L1 loss of those on a box.

    Both are divided by the number of anchors of the whole batch that are on a box, or by 1 where there are none.
    """
    classes, boxes, matched = [], [], 0
    for logits, offsets, target in zip(precise(output.classes), precise(output.boxes), targets, strict=True):
        number = match_anchors(output.anchors, target.boxes)  # (anchors,)
        learns, on_box = number != BETWEEN, number >= 0
        one_hot = torch.zeros_like(logits)  # (anchors, num_classes)
        one_hot[on_box, target.labels[number[on_box]]] = 1
        classes.append(losses.focal(logits[learns], one_hot[learns]))
        wanted = encode(target.boxes[number[on_box]], output.anchors[on_box])  # (matched, 4)
        boxes.append(losses.offsets_l1(offsets[on_box], wanted))
        matched += len(wanted)
    return {"class": _per(matched, classes), "box": _per(matched, boxes)}


def anchor_free_criterion(
    output: Sequence[Float[Tensor, "B _ _ _"]], targets: Sequence[Target], strides: Sequence[int]
) -> Parts:
    """YOLOX's: `box`, 5 · (1 − IoU²), and `class` of the places that SimOTA gives a box; `objectness` of all places.

    The class is to be as sure as the box is good: its target is the IoU, not 1. All are divided by the number of places
    of the whole batch that have a box, or by 1 where there are none.
    """
    found = predictions_at_places(output, strides)
    boxes, objects, classes, matched = [], [], [], 0
    for predicted, objectness, logits, target in zip(*found[:3], targets, strict=True):
        number, overlap = simota(predicted, objectness, logits, found.places, target.boxes, target.labels)
        on_box = number >= 0  # (places,)
        number, overlap = number[on_box], overlap[on_box]  # (matched,) each
        one_hot = F.one_hot(target.labels[number], logits.shape[1])  # (matched, num_classes)
        boxes.append(BOX_WEIGHT * losses.iou_loss(predicted[on_box], target.boxes[number]))
        objects.append(losses.binary(objectness, on_box.to(objectness)))
        classes.append(losses.binary(logits[on_box], one_hot * overlap[:, None]))
        matched += len(number)
    return {"box": _per(matched, boxes), "objectness": _per(matched, objects), "class": _per(matched, classes)}


def segmentation_criterion(
    output: Float[Tensor, "B num_classes _ _"], targets: Sequence[Target], strides: Sequence[int]
) -> Parts:
    """`cross_entropy` and `dice`, on logits that are enlarged to the size of the targets."""
    semantic = torch.stack([target.semantic for target in targets])  # (B, H, W)
    size = (semantic.shape[1], semantic.shape[2])
    logits = F.interpolate(precise(output), size=size, mode="bilinear", align_corners=False)  # (B, num_classes, H, W)
    return {"cross_entropy": losses.cross_entropy(logits, semantic), "dice": losses.dice(logits, semantic)}


_CRITERIA: Mapping[str, Criterion] = {
    "anchor_decoupled_head": anchor_criterion,
    "anchor_free_decoupled_head": anchor_free_criterion,
    "all_mlp_decoder": segmentation_criterion,
    "semantic_fpn": segmentation_criterion,
}


def _per(matched: int, sums: Sequence[Tensor]) -> Tensor:
    """The sums of all images of all processes, for one matched prediction."""
    lost = torch.stack(list(sums)).sum()
    return total(lost) / total(torch.tensor(matched, device=lost.device)).clamp(min=1)
