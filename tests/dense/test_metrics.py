"""Average precision and intersection over union, against hand-computed values."""

from __future__ import annotations

import sys

import pytest
import torch

from efficientformer_edu.data.examples import IGNORED, Example
from efficientformer_edu.dense.detection.postprocess import Detections
from efficientformer_edu.dense.metrics import (
    DetectionScores,
    SegmentationScores,
    evaluate_detections,
    evaluate_segmentation,
)

CLASSES = ("cat", "dog", "owl")
BOX = [10.0, 10.0, 50.0, 50.0]
FAR = [60.0, 60.0, 90.0, 90.0]
EMPTY: tuple[list, list, list] = ([], [], [])


def corners(boxes: list) -> torch.Tensor:
    return torch.tensor(boxes).view(-1, 4).float()


def truth(boxes: list, labels: list[int], crowd: list[bool] | None = None) -> Example:
    n = len(boxes)
    crowds = torch.tensor(crowd or [False] * n, dtype=torch.bool)
    image = torch.zeros(3, 100, 100, dtype=torch.uint8)
    masks = torch.zeros(n, 100, 100, dtype=torch.bool)
    return Example(image, corners(boxes), torch.tensor(labels, dtype=torch.int64), crowds, masks, image[0])


def detections(boxes: list, scores: list[float], labels: list[int]) -> Detections:
    return Detections(corners(boxes), torch.tensor(scores).float(), torch.tensor(labels, dtype=torch.int64))


def detection_scores(*pairs: tuple[Detections, Example]) -> DetectionScores:
    return evaluate_detections(pairs, CLASSES, len(pairs))


def test_a_perfect_detector() -> None:
    scores = detection_scores(
        (detections([BOX, FAR], [0.9, 0.3], [0, 2]), truth([BOX, FAR], [0, 2])),
        (detections([FAR], [0.1], [0]), truth([FAR], [0])),
    )
    assert (scores.ap, scores.ap50, scores.ap75) == pytest.approx((1, 1, 1))
    assert scores.by_class == (pytest.approx(1), None, pytest.approx(1))  # there is no dog to detect
    assert (scores.classes, scores.count) == (CLASSES, 2)


def test_a_detector_that_finds_nothing() -> None:
    scores = detection_scores((detections(*EMPTY), truth([BOX, FAR], [0, 1])))
    assert (scores.ap, scores.ap50, scores.ap75, scores.by_class) == (0, 0, 0, (0, 0, None))


def test_a_shifted_box_is_right_at_the_thresholds_below_its_iou() -> None:
    """40×40 pixels, shifted by 9: IoU = 31/49 = 0.633, above 0.50, 0.55 and 0.60, below the other seven of ten."""
    scores = detection_scores((detections([[19, 10, 59, 50]], [0.9], [1]), truth([BOX], [1])))
    assert (scores.ap, scores.ap50, scores.ap75) == pytest.approx((0.3, 1, 0))


def test_half_of_the_objects_detected() -> None:
    """Precision 1 up to a recall of 1/2: at 51 of the 101 recalls from 0 to 1."""
    scores = detection_scores((detections([BOX], [0.9], [0]), truth([BOX, FAR], [0, 0])))
    assert scores.ap == pytest.approx(51 / 101)


def test_a_wrong_box_counts_only_if_it_is_more_confident_than_a_right_box() -> None:
    right, wrong = (BOX, 0), (FAR, 0)
    for order, expected in (((wrong, right), 1 / 2), ((right, wrong), 1)):
        boxes, labels = (list(part) for part in zip(*order, strict=True))
        assert detection_scores((detections(boxes, [0.9, 0.8], labels), truth([BOX], [0]))).ap == pytest.approx(
            expected
        )


def test_a_second_box_on_an_object_is_wrong() -> None:
    scores = detection_scores((detections([BOX, BOX, FAR], [0.9, 0.8, 0.7], [0, 0, 0]), truth([BOX, FAR], [0, 0])))
    # Precision 1 up to a recall of 1/2, then 2 of 3.
    assert scores.ap == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_the_class_counts_and_the_mean_is_over_classes_not_objects() -> None:
    pairs = [(detections([BOX], [0.9], [0]), truth([BOX], [0]))] * 3
    scores = detection_scores(*pairs, (detections([BOX], [0.9], [2]), truth([BOX], [1])))
    assert scores.ap == pytest.approx((1 + 0) / 2)
    assert scores.by_class == (pytest.approx(1), 0, None)  # an owl was predicted, but there is none


def test_crowds_are_neither_right_nor_wrong() -> None:
    """Two boxes in a crowd with higher scores than the right box change nothing; nor does an undetected crowd."""
    boxes = [[60, 60, 70, 70], [70, 70, 90, 90], BOX]
    for many in (detections(boxes, [0.9, 0.8, 0.7], [0, 0, 0]), detections([BOX], [0.7], [0])):
        assert detection_scores((many, truth([FAR, BOX], [0, 0], [True, False]))).ap == pytest.approx(1)
    # Without the mark they are two false positives before a true positive, and a missed object: 1/3 up to 1/2.
    scores = detection_scores((detections(boxes, [0.9, 0.8, 0.7], [0, 0, 0]), truth([FAR, BOX], [0, 0])))
    assert scores.ap50 == pytest.approx(51 / 101 / 3)


@pytest.mark.parametrize(
    "pair",
    [
        (detections(*EMPTY), truth([], [])),
        (detections([BOX], [0.9], [0]), truth([], [])),
        (detections([BOX], [0.9], [0]), truth([BOX], [0], [True])),
    ],
)
def test_without_an_object_there_is_nothing_to_evaluate(pair: tuple[Detections, Example]) -> None:
    with pytest.raises(ValueError, match="no objects"):
        detection_scores(pair)


def test_an_image_without_objects_among_others() -> None:
    empty = detections(*EMPTY), truth([], [])
    objects = detections([BOX], [0.5], [0]), truth([BOX], [0])
    assert detection_scores(empty, objects).ap == pytest.approx(1)
    wrong = detections([BOX], [0.9], [0]), truth([], [])
    assert detection_scores(wrong, objects).ap == pytest.approx(0.5)


def test_more_than_a_hundred_boxes() -> None:
    """COCO counts the best hundred boxes of an image; number 101 is right, but is not counted."""
    many = [[float(x), 0.0, x + 5.0, 5.0] for x in range(100)]
    scores = torch.linspace(1, 0.1, 101).tolist()
    assert detection_scores((detections([*many, BOX], scores, [0] * 101), truth([BOX], [0]))).ap == 0


def test_the_summary_and_record_of_a_detector() -> None:
    scores = DetectionScores(CLASSES, 0.51234, 0.75, 0.5, (0.5, None, 0.52468), 1234)
    assert str(scores) == "AP 0.5123, AP50 0.7500, AP75 0.5000 on 1,234 images"
    assert scores.scores == {"ap": 0.51234, "ap50": 0.75}
    assert scores.result == {"ap": 0.51234, "ap50": 0.75, "ap75": 0.5, "images": 1234}
    table = scores.table()
    assert table.rows == (("cat", 0.5), ("dog", None), ("owl", 0.52468), ("all", 0.51234))
    assert [row[1] for row in table.formatted()] == ["0.5000", "–", "0.5247", "0.5123"]


def pixels(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.uint8)


def showing(*rows: list[int]) -> Example:
    semantic = pixels(*rows)
    none = torch.zeros(0, dtype=torch.int64)
    height, width = semantic.shape
    masks = torch.zeros(0, height, width, dtype=torch.bool)
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    return Example(image, torch.zeros(0, 4), none, none.bool(), masks, semantic)


def segmentation_scores(*pairs: tuple[torch.Tensor, Example], classes: tuple[str, ...] = CLASSES) -> SegmentationScores:
    return evaluate_segmentation(pairs, classes, len(pairs))


def test_iou_by_hand_without_ignored_pixels_and_absent_classes() -> None:
    """0: 1 pixel in common, 3 in the union; 1: 2 and 3; 2: 0 and 1, because it is predicted on an ignored pixel."""
    pair = pixels([0, 1, 1], [1, 0, 2]), showing([0, 0, 1], [1, 2, IGNORED])
    scores = segmentation_scores(pair, classes=(*CLASSES, "elk"))
    assert scores.by_class == (pytest.approx(1 / 3), pytest.approx(2 / 3), 0, None)
    assert scores.miou == pytest.approx(1 / 3)  # of three classes: there is no elk, and none was predicted
    assert scores.pixel_accuracy == pytest.approx(3 / 5)


def test_a_class_that_is_answered_but_not_there_counts() -> None:
    scores = segmentation_scores((pixels([0, 2]), showing([0, 0])))
    assert scores.by_class == (0.5, None, 0)
    assert scores.miou == 0.25


def test_pixels_are_counted_over_all_images() -> None:
    """1 of 2 and 4 of 4 pixels: 5/6, not the mean of the images, which is 3/4."""
    scores = segmentation_scores((pixels([0, 1]), showing([0, 0])), (pixels([0, 0], [0, 0]), showing([0, 0], [0, 0])))
    assert scores.by_class[0] == pytest.approx(5 / 6)
    assert scores.pixel_accuracy == pytest.approx(5 / 6)
    assert scores.count == 2


def test_perfect_pixels_and_none_right() -> None:
    right = segmentation_scores((pixels([0, 1, 2]), showing([0, 1, 2])))
    assert (right.miou, right.pixel_accuracy, right.by_class) == (1, 1, (1, 1, 1))
    wrong = segmentation_scores((pixels([1, 2, 0]), showing([0, 1, 2])))
    assert (wrong.miou, wrong.pixel_accuracy) == (0, 0)


def test_only_ignored_pixels() -> None:
    with pytest.raises(ValueError, match="no pixel with a class"):
        segmentation_scores((pixels([0, 1]), showing([IGNORED, IGNORED])))


def test_the_summary_and_record_of_a_segmentation() -> None:
    scores = SegmentationScores(CLASSES, 0.41, 0.875, (0.5, None, 0.32), 5)
    assert str(scores) == "mIoU 0.4100, pixel accuracy 87.50% on 5 images"
    assert scores.scores == {"miou": 0.41, "pixel_accuracy": 0.875}
    assert scores.result == {"miou": 0.41, "pixel_accuracy": 0.875, "images": 5}
    table = scores.table()
    assert table.rows == (("cat", 0.5), ("dog", None), ("owl", 0.32), ("all", 0.41))
    assert [row[1] for row in table.formatted()] == ["0.5000", "–", "0.3200", "0.4100"]


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def line(missing: str) -> str:
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, missing, None)
            with pytest.raises(ImportError) as caught:
                detection_scores((detections(*EMPTY), truth([BOX], [0])))
        return str(caught.value)

    for missing in ("pycocotools.mask", "torchmetrics.detection.mean_ap"):
        message = line(missing)
        assert missing.partition(".")[0] in message and "pip install" in message
