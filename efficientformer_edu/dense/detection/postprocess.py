"""Postprocessing: convert the output of a detection head into a list of objects.

Source: NetsPresso Trainer's postprocessing, whose thresholds are the defaults; torchvision's RetinaNet. A pair of a
position and a class is a candidate if its score exceeds a threshold, so one position may yield several classes. The
best candidates are then filtered by non-maximum suppression within each class.

Input: the output of either detection head. Output: one `Detections` per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from efficientformer_edu import _validation as values
from efficientformer_edu.dense.detection.boxes import area, clip, decode, nms_by_class, precise
from efficientformer_edu.dense.detection.heads import AnchorPredictions
from efficientformer_edu.dense.detection.priors import predictions_at_places

SCORE = 0.05  # score threshold of candidates
OVERLAP = 0.45  # NMS threshold: largest IoU of two detections of one class
CANDIDATES = 1000  # maximum per image before NMS
MOST = 100  # maximum detections per image, as in COCO


class Detections(NamedTuple):
    """Detected objects in one image, in descending order of score.

    Attributes:
        boxes: corners (x₁, y₁, x₂, y₂) in pixels, within the image.
        scores: from 0 to 1.
        labels: class indices.
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
    """Detect the objects in each image of a batch.

    The score of a class is its probability; for an anchor-free head, multiplied by the objectness probability.

    Args:
        output: output of the head.
        strides: strides of the feature maps, an attribute of the head; not used with anchors.
        size: height and width of the input images. Boxes are clipped to the image, and dropped if they lie outside.
        score: score threshold; candidates have a higher score.
        overlap: NMS threshold: the largest IoU of two detections of one class.
        candidates: maximum number of candidates per image before NMS.
        most: maximum number of detections per image.

    Raises:
        ValueError: for thresholds outside [0, 1), and counts that are not integers above 0.
    """
    values.probability("score", score)
    values.probability("overlap", overlap)
    values.positive_int("candidates", candidates)
    values.positive_int("most", most)
    if isinstance(output, AnchorPredictions):
        boxes, scores = decode(output.boxes, output.anchors), precise(output.classes).sigmoid()
    else:
        predictions = predictions_at_places(output, strides)
        boxes, scores = predictions.boxes, predictions.objectness[..., None].sigmoid() * predictions.classes.sigmoid()
    detections = []
    for image_boxes, image_scores in zip(clip(boxes, size), scores, strict=True):  # (N, 4), (N, num_classes)
        pairs = _candidates(image_boxes, image_scores, score, candidates)
        kept = nms_by_class(*pairs, overlap)[:most]
        detections.append(Detections(pairs.boxes[kept], pairs.scores[kept], pairs.labels[kept]))
    return detections


def _candidates(boxes: Tensor, scores: Tensor, score: float, most: int) -> Detections:
    """The highest-scoring pairs of a position and a class."""
    positions, labels = ((scores > score) & (area(boxes) > 0)[:, None]).nonzero(as_tuple=True)  # (pairs,) each
    pair_scores = scores[positions, labels]
    order = pair_scores.argsort(descending=True, stable=True)[:most]
    return Detections(boxes[positions[order]], pair_scores[order], labels[order])
