"""Detections: from what a detection head gives to a list of objects.

Source: NetsPresso Trainer's postprocessing, whose thresholds are the defaults; torchvision's RetinaNet. A pair of a
place and a class is a candidate if its score is above a threshold: one place may be found to be two things. Of the best
candidates, those stay that no better one of the same class covers.

Comes: the output of either detection head. Goes: `Detections`, one for each image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from efficientformer_edu import config_values as values
from efficientformer_edu.dense.anchor_head import AnchorPredictions
from efficientformer_edu.dense.boxes import area, clip, decode, nms_by_class, precise
from efficientformer_edu.dense.places import predictions_at_places

SCORE = 0.05  # a candidate has more
OVERLAP = 0.45  # two detections of one class have an IoU of no more
CANDIDATES = 1000  # of an image that are compared with each other
MOST = 100  # detections of an image, as COCO counts them


class Detections(NamedTuple):
    """Objects found in one image, best first.

    Attributes:
        boxes: corners (x₁, y₁, x₂, y₂) in pixels, within the image.
        scores: from 0 to 1.
        labels: places among the classes.
    """

    boxes: Float[Tensor, "found 4"]
    scores: Float[Tensor, " found"]
    labels: Int[Tensor, " found"]


@torch.no_grad()
def detect(
    output: AnchorPredictions | Sequence[Float[Tensor, "B _ _ _"]],
    strides: Sequence[int],
    size: tuple[int, int],
    *,
    score: float = SCORE,
    overlap: float = OVERLAP,
    candidates: int = CANDIDATES,
    most: int = MOST,
) -> list[Detections]:
    """The objects in each image of a batch.

    The score of a class is its probability; with an anchor-free head, times the probability of there being an object.

    Args:
        output: what the head gives.
        strides: of the maps, which the head has; anchors bring their own places and do without.
        size: height and width of the images that the network saw. Boxes are cut at the border, and dropped if they lie
            outside.
        score: what a candidate has to have more of.
        overlap: the largest IoU of two detections of one class.
        candidates: how many, at most, are compared.
        most: how many, at most, are found.

    Raises:
        ValueError: for thresholds that are not from 0 to below 1, and numbers that are not whole and above 0.
    """
    values.rate("score", score)
    values.rate("overlap", overlap)
    values.count("candidates", candidates)
    values.count("most", most)
    if isinstance(output, AnchorPredictions):
        boxes, scores = decode(output.boxes, output.anchors), precise(output.classes).sigmoid()
    else:
        found = predictions_at_places(output, strides)
        boxes, scores = found.boxes, found.objectness[..., None].sigmoid() * found.classes.sigmoid()
    everything = []
    for image_boxes, image_scores in zip(clip(boxes, size), scores, strict=True):  # (places, 4), (places, num_classes)
        one = _candidates(image_boxes, image_scores, score, candidates)
        kept = nms_by_class(*one, overlap)[:most]
        everything.append(Detections(one.boxes[kept], one.scores[kept], one.labels[kept]))
    return everything


def _candidates(boxes: Tensor, scores: Tensor, score: float, most: int) -> Detections:
    """The best pairs of a place and a class."""
    places, labels = ((scores > score) & (area(boxes) > 0)[:, None]).nonzero(as_tuple=True)  # (pairs,) each
    found = scores[places, labels]
    best = found.argsort(descending=True, stable=True)[:most]
    return Detections(boxes[places[best]], found[best], labels[best])
