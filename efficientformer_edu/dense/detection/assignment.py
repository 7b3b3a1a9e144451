"""Label assignment: which prediction learns which object.

Sources: Lin et al., *Focal Loss for Dense Object Detection*, 2017, section 4, for anchors, implemented like
torchvision's `Matcher`; Ge et al., *YOLOX*, 2021, section 2.1, for SimOTA. Anchors are fixed, so they are matched to
objects by IoU alone. Without anchors, each object is assigned to the predictions with the lowest current cost.

Input: the anchors or predictions of one image, and its objects. Output: the index of an object for each of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from efficientformer_edu.dense.detection.boxes import box_area, box_iou
from efficientformer_edu.dense.detection.priors import Positions

BACKGROUND = -1  # trained as background
IGNORED_ANCHOR = -2  # ignored: neither clearly an object nor clearly background

MATCHED_IOU, BACKGROUND_IOU = 0.5, 0.4  # at or above: matched to the box; below: background

RADIUS = 2.5  # strides from the centre of a box, along x and along y
TOP_IOUS = 10  # number of predictions whose IoUs determine k
IOU_WEIGHT = 3.0
FAR_COST = 1e5  # exceeds all other costs: such a position is selected only if no other is left
MIN_IOU = 1e-8  # keeps −log finite
MIN_PROBABILITY = 1e-6  # keeps −log finite


def match_anchors(anchors: Float[Tensor, "anchors 4"], boxes: Float[Tensor, "objects 4"]) -> Int[Tensor, " anchors"]:
    """Match each anchor to the box with the highest IoU.

    An anchor with an IoU of at least 0.5 is matched to that box, below 0.4 it is background, and in between it is
    ignored. So that every box has an anchor, the anchors with the highest IoU for some box are matched regardless of
    that IoU. As in torchvision, they are matched to the box with which they have the highest IoU, which is hardly ever
    a different one.

    Returns:
        The index of the box, `BACKGROUND` or `IGNORED_ANCHOR`. A box that overlaps no anchor, such as one without area,
        is not matched.
    """
    if not len(boxes):
        return torch.full((len(anchors),), BACKGROUND, device=anchors.device)
    ious = box_iou(anchors, boxes)  # (anchors, objects)
    best, box_index = ious.max(dim=1)  # (anchors,) each
    best_for_box = ((ious == ious.amax(dim=0)) & (ious > 0)).any(dim=1)  # (anchors,)
    box_index = box_index.where((best >= MATCHED_IOU) | best_for_box, IGNORED_ANCHOR)
    return box_index.where((best >= BACKGROUND_IOU) | best_for_box, BACKGROUND)


class Assignment(NamedTuple):
    """The training target of each position.

    Attributes:
        box_index: index of the assigned box, or `BACKGROUND`.
        iou: IoU of the predicted box with the assigned one; 0 for background.
    """

    box_index: Int[Tensor, " positions"]
    iou: Float[Tensor, " positions"]


@torch.no_grad()
def simota(
    predicted: Float[Tensor, "positions 4"],
    objectness: Float[Tensor, " positions"],
    classes: Float[Tensor, "positions num_classes"],
    positions: Positions,
    boxes: Float[Tensor, "objects 4"],
    labels: Int[Tensor, " objects"],
) -> Assignment:
    """SimOTA: assign to each box its k lowest-cost predictions; k depends on the quality of the predictions.

    * Candidates of a box: positions whose centre lies inside it, or within 2.5 strides of its centre along x and y.
    * Cost of a candidate: BCE(√(p_class · p_object), one-hot) + 3 · (−log IoU) + 10⁵ unless its centre fulfils both.
    * k: the sum of the 10 highest IoUs among the candidates, rounded down, and at least 1.
    * A position selected by several boxes is assigned to the one with the lowest cost.

    YOLOX's code pools the candidates of all boxes, and assigns a position selected by several boxes to the box with the
    lowest cost even if that box did not select it. Here a box considers only its own candidates. So a box outside the
    image gets none; neither does a box without area.

    Args:
        predicted: predicted boxes.
        objectness: logits.
        classes: logits.
        positions: positions of the predictions.
        boxes: boxes of the objects.
        labels: labels of the objects.
    """
    if not len(boxes):
        zeros = torch.zeros_like(objectness)
        return Assignment(torch.full_like(zeros, BACKGROUND, dtype=torch.long), zeros)
    inside, near = _centred_in(positions, boxes)
    candidate = (inside | near) & (box_area(boxes) > 0)  # (positions, objects)
    ious = box_iou(predicted, boxes)  # (positions, objects), as `cost`
    cost = _class_cost(objectness, classes)[:, labels] - IOU_WEIGHT * (ious + MIN_IOU).log()
    cost = (cost + FAR_COST * ~(inside & near)).masked_fill(~candidate, math.inf)

    best = ious.where(candidate, 0).topk(min(TOP_IOUS, len(positions.strides)), dim=0).values  # (10, objects)
    k = best.sum(dim=0).floor().clamp(min=1)  # (objects,)
    rank = cost.argsort(dim=0, stable=True).argsort(dim=0)  # (positions, objects): 0 for the lowest cost of a box
    lowest_cost, box_index = cost.masked_fill(rank >= k, math.inf).min(dim=1)  # (positions,) each
    assigned = lowest_cost.isfinite()
    assigned_iou = ious.gather(1, box_index[:, None])[:, 0]  # (positions,)
    return Assignment(box_index.where(assigned, BACKGROUND), assigned_iou.where(assigned, 0))


def _centred_in(positions: Positions, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each position's centre lies in each box, and whether it is near the box centre: (positions, objects)."""
    centres, radius = positions.centres[:, None], RADIUS * positions.strides[:, None, None]  # (positions, 1, 2 or 1)
    low, high = boxes[:, :2], boxes[:, 2:]  # (objects, 2) each
    inside = (low < centres) & (centres < high)  # (positions, objects, 2)
    near = (centres - (low + high) / 2).abs() < radius
    return inside.all(dim=2), near.all(dim=2)


def _class_cost(objectness: Tensor, classes: Tensor) -> Tensor:
    """BCE(√(p_class · p_object), one-hot) per position and class: −log p of the class, −log(1 − p) of the others."""
    p = (classes.sigmoid() * objectness.sigmoid()[:, None]).sqrt()  # (positions, num_classes)
    p = p.clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    negative = -(1 - p).log()
    return negative.sum(dim=1, keepdim=True) - negative - p.log()
