"""Assignment: which prediction is to learn which object.

Sources: Lin et al., *Focal Loss for Dense Object Detection*, 2017, section 4, for anchors, as torchvision's `Matcher`
does it; Ge et al., *YOLOX*, 2021, section 2.1, for SimOTA. Anchors are known before the network has seen anything, so
their objects are too. Without anchors, a prediction is given the object that it costs least to learn at the time.

Comes: anchors or predictions of one image, and its objects. Goes: for each of them the number of its object.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from efficientformer_edu.dense.boxes import area, iou
from efficientformer_edu.dense.places import Places

BACKGROUND = -1  # learns that there is nothing
BETWEEN = -2  # learns nothing: neither clearly on an object nor clearly off

ON_BOX, OFF_BOX = 0.5, 0.4  # IoU from which an anchor is on a box, and below which it is off all boxes

RADIUS = 2.5  # strides from the middle of a box, along x and along y
BEST = 10  # predictions whose IoUs say how many a box gets
IOU_WEIGHT = 3.0
AWAY = 1e5  # outweighs all else: such a place is taken only where there is no other
LEAST_IOU = 1e-8  # keeps −log finite
LEAST_PROBABILITY = 1e-6  # likewise


def match_anchors(anchors: Float[Tensor, "anchors 4"], boxes: Float[Tensor, "objects 4"]) -> Int[Tensor, " anchors"]:
    """The box that each anchor is to learn: the one with which it has the highest IoU.

    From an IoU of 0.5 on an anchor is on that box, below 0.4 it is background, and between it learns nothing. So that
    no box goes without, the anchors that no other anchor beats on some box are on one whatever their IoU. As in
    torchvision that is the box that they share most with themselves, which hardly ever is another.

    Returns:
        The number of the box, `BACKGROUND` or `BETWEEN`. A box that no anchor touches, such as one without area, gets
        none.
    """
    if not len(boxes):
        return torch.full((len(anchors),), BACKGROUND, device=anchors.device)
    overlap = iou(anchors, boxes)  # (anchors, objects)
    best, number = overlap.max(dim=1)  # (anchors,) each
    unbeaten = ((overlap == overlap.amax(dim=0)) & (overlap > 0)).any(dim=1)  # (anchors,)
    number = number.where((best >= ON_BOX) | unbeaten, BETWEEN)
    return number.where((best >= OFF_BOX) | unbeaten, BACKGROUND)


class Assignment(NamedTuple):
    """What each place is to learn.

    Attributes:
        number: of its box, or `BACKGROUND`.
        overlap: IoU of what it predicts with that box; 0 without one.
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
    """SimOTA: each box takes the k predictions that are cheapest for it, and k follows from how good they are.

    * Candidates of a box: places whose centre lies in it, or within 2.5 strides of its middle along x and along y.
    * Cost of a candidate: BCE(√(p_class · p_object), one-hot) + 3 · (−log IoU) + 10⁵ if its centre is not both.
    * k: the sum of the 10 best IoUs among the candidates, rounded down, and at least 1.
    * A place that several boxes want goes to the one for which it is cheapest.

    YOLOX's code pools the candidates of all boxes, and gives a place that several want to the box for which it is
    cheapest even if that box is none of them. Here a box looks at its own candidates alone. So one that lies outside
    of the image takes none; neither does one without area.

    Args:
        predicted: boxes.
        objectness: logits.
        classes: logits.
        places: where the predictions are made.
        boxes: of the objects.
        labels: of the objects.
    """
    if not len(boxes):
        nothing = torch.zeros_like(objectness)
        return Assignment(torch.full_like(nothing, BACKGROUND, dtype=torch.long), nothing)
    inside, near = _centred_in(places, boxes)
    candidate = (inside | near) & (area(boxes) > 0)  # (places, objects)
    overlap = iou(predicted, boxes)  # (places, objects)
    cost = _class_cost(objectness, classes)[:, labels] - IOU_WEIGHT * (overlap + LEAST_IOU).log()  # (places, objects)
    cost = (cost + AWAY * ~(inside & near)).masked_fill(~candidate, math.inf)

    best = overlap.where(candidate, 0).topk(min(BEST, len(places.strides)), dim=0).values  # (10, objects)
    k = best.sum(dim=0).floor().clamp(min=1)  # (objects,)
    rank = cost.argsort(dim=0, stable=True).argsort(dim=0)  # (places, objects): 0 for a box's cheapest place
    price, number = cost.masked_fill(rank >= k, math.inf).min(dim=1)  # (places,) each
    taken = price.isfinite()
    return Assignment(number.where(taken, BACKGROUND), overlap.gather(1, number[:, None])[:, 0].where(taken, 0))


def _centred_in(places: Places, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the centre of each place lies in each box, and whether it is near the middle of it: (places, objects)."""
    centres, strides = places.centres[:, None], places.strides[:, None, None]  # (places, 1, 2), (places, 1, 1)
    low, high = boxes[:, :2], boxes[:, 2:]  # (objects, 2) each
    inside = (low < centres) & (centres < high)  # (places, objects, 2)
    near = (centres - (low + high) / 2).abs() < RADIUS * strides
    return inside.all(dim=2), near.all(dim=2)


def _class_cost(objectness: Tensor, classes: Tensor) -> Tensor:
    """For each place and class, BCE(√(p_class · p_object), one-hot): −log p of the class, −log(1 − p) of the others."""
    p = (classes.sigmoid() * objectness.sigmoid()[:, None]).sqrt()  # (places, num_classes)
    p = p.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    none = -(1 - p).log()
    return none.sum(dim=1, keepdim=True) - none - p.log()
