"""Detections: by hand for both heads, and the effect of thresholds."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor

from efficientformer_edu.dense.detection.heads import AnchorPredictions
from efficientformer_edu.dense.detection.postprocess import detect

SIZE = (32, 48)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def with_anchors(*detections: tuple[list[float], list[float]]) -> AnchorPredictions:
    """One image whose anchors are the boxes, each with a probability per class."""
    anchors = torch.tensor([box for box, _ in detections])
    classes = torch.tensor([[[logit(p) for p in probabilities] for _, probabilities in detections]])
    return AnchorPredictions(classes, torch.zeros(1, len(detections), 4), anchors)


def rounded(x: Tensor) -> list:
    return [round(value, 4) for value in x.tolist()]


LEFT, ALMOST_LEFT, RIGHT = [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 0.0, 40.0, 20.0]


def test_with_anchors_by_hand():
    output = with_anchors((LEFT, [0.7, 0.01]), (ALMOST_LEFT, [0.8, 0.04]), (RIGHT, [0.02, 0.9]))
    (detections,) = detect(output, (), SIZE)
    assert detections.boxes.tolist() == [RIGHT, ALMOST_LEFT]
    assert rounded(detections.scores) == [0.9, 0.8] and detections.labels.tolist() == [1, 0]
    assert detections.labels.dtype == torch.long


def test_without_anchors_by_hand():
    """The score is the product; at strides 8 and 16 every position predicts a box of its own size."""
    fine, coarse = torch.full((2, 7, 1, 2), -20.0), torch.full((2, 7, 1, 1), -20.0)
    for x in (fine, coarse):
        x[:, :2], x[:, 2:4] = 0.5, 0.0
    fine[0, 4:, 0, 1] = torch.tensor([logit(0.5), logit(0.5), logit(0.08)])
    coarse[0, 4:, 0, 0] = torch.tensor([logit(0.8), logit(0.06), logit(0.9)])
    first, second = detect([fine, coarse], (8, 16), SIZE)
    assert first.boxes.tolist() == [[0, 0, 16, 16], [8, 0, 16, 8]]
    assert rounded(first.scores) == [0.72, 0.25] and first.labels.tolist() == [1, 0]
    assert second.boxes.shape == (0, 4) and second.scores.shape == second.labels.shape == (0,)


def test_a_location_can_predict_two_classes_and_classes_do_not_suppress_other_classes():
    (detections,) = detect(with_anchors((LEFT, [0.6, 0.3]), (ALMOST_LEFT, [0.5, 0.4])), (), SIZE)
    assert detections.boxes.tolist() == [LEFT, ALMOST_LEFT]
    assert rounded(detections.scores) == [0.6, 0.4] and detections.labels.tolist() == [0, 1]


def test_boxes_are_cut_at_the_border_and_dropped_outside():
    outside, at_the_edge = [-20.0, 0.0, -10.0, 10.0], [48.0, 0.0, 60.0, 10.0]
    across = [-5.0, -6.0, 100.0, 110.0]
    (detections,) = detect(with_anchors(*((box, [0.9]) for box in (outside, at_the_edge, across))), (), SIZE)
    assert detections.boxes.tolist() == [[0, 0, 48, 32]]


def test_they_are_compared_as_they_are_cut():
    """Boxes that differ only outside of the image are the same box."""
    (detections,) = detect(with_anchors(([40.0, 0, 60, 10], [0.9]), ([40.0, 0, 200, 10], [0.8])), (), SIZE)
    assert detections.boxes.tolist() == [[40, 0, 48, 10]] and rounded(detections.scores) == [0.9]


APART = [([8.0 * i, 0.0, 8.0 * i + 8, 8.0], [p]) for i, p in enumerate((0.3, 0.6, 0.06, 0.04, 0.9))]


@pytest.mark.parametrize(
    ("settings", "scores"),
    [
        ({}, [0.9, 0.6, 0.3, 0.06]),
        ({"score_threshold": 0.0}, [0.9, 0.6, 0.3, 0.06, 0.04]),
        ({"score_threshold": 0.5}, [0.9, 0.6]),
        ({"score_threshold": 0.95}, []),
        ({"max_detections": 1}, [0.9]),
        ({"pre_nms_topk": 2}, [0.9, 0.6]),
    ],
    ids=str,
)
def test_thresholds(settings, scores):
    (detections,) = detect(with_anchors(*APART), (), SIZE, **settings)
    assert rounded(detections.scores) == scores and len(detections.boxes) == len(detections.labels) == len(scores)


def test_candidates_come_before_suppression_and_most_after():
    """The best two are the same object, so one of two candidates is kept, but two of the best three."""
    output = with_anchors((LEFT, [0.9]), (ALMOST_LEFT, [0.8]), (RIGHT, [0.7]))
    assert detect(output, (), SIZE, pre_nms_topk=2)[0].boxes.tolist() == [LEFT]
    assert detect(output, (), SIZE, max_detections=2)[0].boxes.tolist() == [LEFT, RIGHT]


def test_of_equal_candidates_the_first():
    output = with_anchors(*(([float(i), 0.0, i + 1.0, 1.0], [0.5]) for i in range(48)))
    (detections,) = detect(output, (), SIZE, pre_nms_topk=40)
    assert detections.boxes[:, 0].tolist() == list(range(40))


def test_a_candidate_has_more_than_the_threshold():
    output = with_anchors((LEFT, [0.5]))  # a logit of 0: exactly one half
    assert len(detect(output, (), SIZE, score_threshold=0.5)[0].boxes) == 0
    assert len(detect(output, (), SIZE, score_threshold=0.499)[0].boxes) == 1


def test_overlap():
    """An IoU of 9/10."""
    output = with_anchors((LEFT, [0.9]), (ALMOST_LEFT, [0.8]))
    assert len(detect(output, (), SIZE, nms_threshold=0.89)[0].boxes) == 1
    assert len(detect(output, (), SIZE, nms_threshold=0.91)[0].boxes) == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    anchors = with_anchors((RIGHT, [0.9]))
    maps = torch.zeros(1, 6, 1, 1, dtype=dtype)
    for output in (anchors._replace(classes=anchors.classes.to(dtype), boxes=anchors.boxes.to(dtype)), [maps]):
        (detections,) = detect(output, (8,), SIZE)
        assert detections.boxes.dtype == detections.scores.dtype == torch.float32 and len(detections.boxes) == 1


def test_nothing_is_kept_for_a_gradient():
    output = with_anchors((LEFT, [0.9]))
    (detections,) = detect(output._replace(boxes=output.boxes.requires_grad_()), (), SIZE)
    assert not detections.boxes.requires_grad


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score_threshold": 1.0}, "score_threshold=1.0 is not possible; allowed: a number from 0 to below 1"),
        ({"nms_threshold": -0.1}, "nms_threshold=-0.1 is not possible; allowed: a number from 0 to below 1"),
        ({"pre_nms_topk": 0}, "pre_nms_topk=0 is not possible; allowed: a whole number, at least 1"),
        ({"max_detections": 2.5}, "max_detections=2.5 is not possible; allowed: a whole number, at least 1"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        detect(with_anchors((LEFT, [0.9])), (), SIZE, **settings)
