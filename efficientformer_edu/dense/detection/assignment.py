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

from efficientformer_edu.dense.detection.boxes import area, iou
from efficientformer_edu.dense.detection.priors import Places

BACKGROUND = -1  # trained as background
BETWEEN = -2  # ignored: neither clearly an object nor clearly background

ON_BOX, OFF_BOX = 0.5, 0.4  # IoU at or above which an anchor is matched to a box, and below which it is background

RADIUS = 2.5  # strides from the centre of a box, along x and along y
BEST = 10  # number of predictions whose IoUs determine k
IOU_WEIGHT = 3.0
AWAY = 1e5  # exceeds all other costs: such a position is selected only if no other is left
LEAST_IOU = 1e-8  # keeps −log finite
LEAST_PROBABILITY = 1e-6  # keeps −log finite


def match_anchors(anchors: Float[Tensor, "anchors 4"], boxes: Float[Tensor, "objects 4"]) -> Int[Tensor, " anchors"]:
    """Match each anchor to the box with the highest IoU.

    An anchor with an IoU of at least 0.5 is matched to that box, below 0.4 it is background, and in between it is
    ignored. So that every box has an anchor, the anchors with the highest IoU for some box are matched regardless of
    that IoU. As in torchvision, they are matched to the box with which they have the highest IoU, which is hardly ever
    a different one.

    Returns:
        The index of the box, `BACKGROUND` or `BETWEEN`. A box that overlaps no anchor, such as one without area, is not
        matched.
    """
    if not len(boxes):
        return torch.full((len(anchors),), BACKGROUND, device=anchors.device)
    overlap = iou(anchors, boxes)  # (anchors, objects)
    best, number = overlap.max(dim=1)  # (anchors,) each
    unbeaten = ((overlap == overlap.amax(dim=0)) & (overlap > 0)).any(dim=1)  # (anchors,)
    number = number.where((best >= ON_BOX) | unbeaten, BETWEEN)
    return number.where((best >= OFF_BOX) | unbeaten, BACKGROUND)


class Assignment(NamedTuple):
    """The training target of each position.

    Attributes:
        number: index of the assigned box, or `BACKGROUND`.
        overlap: IoU of the predicted box with the assigned one; 0 for background.
    """

    number: Int[Tensor, " places"]
    overlap: Float[Tensor, " places"]


@torch.no_grad()
def simota(
    predicted: Float[Tensor, "places 4"],
    objectness: Float[Tensor, " places"],
    classes: Float[Tensor, "places num_classes"],
    places: Places,
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
        places: positions of the predictions.
        boxes: boxes of the objects.
        labels: labels of the objects.
    """
    if not len(boxes):
        zeros = torch.zeros_like(objectness)
        return Assignment(torch.full_like(zeros, BACKGROUND, dtype=torch.long), zeros)
    inside, near = _centred_in(places, boxes)
    candidate = (inside | near) & (area(boxes) > 0)  # (positions, objects)
    overlap = iou(predicted, boxes)  # (positions, objects)
    # (positions, objects)
    cost = _class_cost(objectness, classes)[:, labels] - IOU_WEIGHT * (overlap + LEAST_IOU).log()
    cost = (cost + AWAY * ~(inside & near)).masked_fill(~candidate, math.inf)

    best = overlap.where(candidate, 0).topk(min(BEST, len(places.strides)), dim=0).values  # (10, objects)
    k = best.sum(dim=0).floor().clamp(min=1)  # (objects,)
    rank = cost.argsort(dim=0, stable=True).argsort(dim=0)  # (positions, objects): 0 for the lowest cost of a box
    lowest_cost, number = cost.masked_fill(rank >= k, math.inf).min(dim=1)  # (positions,) each
    assigned = lowest_cost.isfinite()
    return Assignment(number.where(assigned, BACKGROUND), overlap.gather(1, number[:, None])[:, 0].where(assigned, 0))


def _centred_in(places: Places, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each position's centre lies in each box, and whether it is near the box centre: (positions, objects)."""
    centres, strides = places.centres[:, None], places.strides[:, None, None]  # (positions, 1, 2), (positions, 1, 1)
    low, high = boxes[:, :2], boxes[:, 2:]  # (objects, 2) each
    inside = (low < centres) & (centres < high)  # (positions, objects, 2)
    near = (centres - (low + high) / 2).abs() < RADIUS * strides
    return inside.all(dim=2), near.all(dim=2)


def _class_cost(objectness: Tensor, classes: Tensor) -> Tensor:
    """BCE(√(p_class · p_object), one-hot) per position and class: −log p of the class, −log(1 − p) of the others."""
    p = (classes.sigmoid() * objectness.sigmoid()[:, None]).sqrt()  # (positions, num_classes)
    p = p.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    none = -(1 - p).log()
    return none.sum(dim=1, keepdim=True) - none - p.log()
