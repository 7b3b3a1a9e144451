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
from efficientformer_edu.dense.detection.boxes import at_least_float32, batched_nms, box_area, clip_boxes, decode
from efficientformer_edu.dense.detection.heads import AnchorPredictions
from efficientformer_edu.dense.detection.priors import decode_outputs


class Detections(NamedTuple):
    """Detected objects in one image, in descending order of score.

    Attributes:
        boxes: corners (x₁, y₁, x₂, y₂) in pixels, within the image.
        scores: from 0 to 1.
        labels: class indices.
    """

    boxes: Float[Tensor, "detections 4"]
    scores: Float[Tensor, " detections"]
    labels: Int[Tensor, " detections"]


@torch.no_grad()
def detect(
    output: AnchorPredictions | Sequence[Float[Tensor, "B _ _ _"]],
    strides: Sequence[int],
    size: tuple[int, int],
    *,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.45,
    pre_nms_topk: int = 1000,
    max_detections: int = 100,
) -> list[Detections]:
    """Detect the objects in each image of a batch.

    The score of a class is its probability; for an anchor-free head, multiplied by the objectness probability.

    Args:
        output: output of the head.
        strides: strides of the feature maps, an attribute of the head; not used with anchors.
        size: height and width of the input images. Boxes are clipped to the image, and dropped if they lie outside.
        score_threshold: candidates have a higher score.
        nms_threshold: the largest IoU of two detections of one class.
        pre_nms_topk: maximum number of candidates per image before NMS.
        max_detections: maximum number of detections per image; COCO evaluates 100.

    Raises:
        ValueError: for thresholds outside [0, 1), and counts that are not integers above 0.
    """
    values.probability("score_threshold", score_threshold)
    values.probability("nms_threshold", nms_threshold)
    values.positive_int("pre_nms_topk", pre_nms_topk)
    values.positive_int("max_detections", max_detections)
    if isinstance(output, AnchorPredictions):
        boxes, scores = decode(output.boxes, output.anchors), at_least_float32(output.classes).sigmoid()
    else:
        decoded = decode_outputs(output, strides)
        boxes, scores = decoded.boxes, decoded.objectness[..., None].sigmoid() * decoded.classes.sigmoid()
    detections = []
    for image_boxes, image_scores in zip(clip_boxes(boxes, size), scores, strict=True):  # (N, 4), (N, num_classes)
        candidates = _candidates(image_boxes, image_scores, score_threshold, pre_nms_topk)
        kept = batched_nms(*candidates, nms_threshold)[:max_detections]
        detections.append(Detections(*(tensor[kept] for tensor in candidates)))
    return detections


def _candidates(boxes: Tensor, scores: Tensor, score_threshold: float, topk: int) -> Detections:
    """The highest-scoring pairs of a position and a class."""
    positions, labels = ((scores > score_threshold) & (box_area(boxes) > 0)[:, None]).nonzero(as_tuple=True)  # (pairs,)
    pair_scores = scores[positions, labels]
    order = pair_scores.argsort(descending=True, stable=True)[:topk]
    return Detections(boxes[positions[order]], pair_scores[order], labels[order])
