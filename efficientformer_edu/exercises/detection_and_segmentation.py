"""Checks of chapter 9, detection and segmentation: IoU of boxes, NMS, SimOTA label assignment, mean IoU.

Sources: those of `dense.boxes` and `dense.assignment`. The reference solutions use neither: they count unit squares and
pixels in sets, and the test cases of NMS and SimOTA are small enough to solve by hand. Typical wrong answers are
computed by `detection_and_segmentation_slips`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from efficientformer_edu.exercises import detection_and_segmentation_slips as slips
from efficientformer_edu.exercises._check import ExerciseError, call, describe, done, expect_shape, require

ROWS = [(0, 0, 4, 4), (1, 1, 7, 3), (8, 2, 12, 9), (3, 3, 5, 5)]  # corners (x₁, y₁, x₂, y₂)
COLUMNS = [(0, 0, 4, 4), (2, 2, 6, 6), (9, 7, 12, 12)]


def strip(*lefts: float) -> list[slips.Box]:
    """Boxes of 10×10 on one line; two boxes shifted by d have an IoU of (10 − d) / (10 + d)."""
    return [(left, 0.0, left + 10.0, 10.0) for left in lefts]


NMS_CASES: Sequence[tuple[list[slips.Box], list[float], float, list[int]]] = (  # last: the kept boxes, best first
    (
        strip(4, 0, 2),
        [0.5, 0.75, 0.625],
        0.5,
        [1, 0],
    ),  # the third box overlaps both others, which hardly overlap each other
    (strip(40, 0, 1, 20, 41, 21), [0.25, 0.5, 0.375, 0.75, 0.875, 0.125], 0.5, [4, 3, 1]),
    ([(0, 0, 10, 10), (0, 0, 10, 5), (30, 0, 40, 10)], [0.5, 0.75, 0.25], 0.5, [1, 0, 2]),  # an IoU of exactly 0.5
)
ASSIGN_CASES: Sequence[tuple[list[list[float]], list[list[float]], list[int]]] = (  # costs, IoUs, assigned boxes
    (  # k = 2, 1 and 1, from sums of 2.625, 1.25 and 0.75; two select the third position
        [[3, 1, 2, 9, 8, 7], [9, 2, 1, 4, 7, 8], [5, 6, 7, 9, 2, 1]],
        [[0.75, 0.75, 0.625, 0.5, 0, 0], [0, 0.5, 0.5, 0.25, 0, 0], [0, 0, 0, 0, 0.5, 0.25]],
        [-1, 0, 1, -1, -1, 2],
    ),
    (  # k = 3 and 2, from sums of 3.75 and 2.375; all twelve IoUs would give 4. Both select the first position
        [[1, 6, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13], [3, 2, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]],
        [[0.375] * 12, [0.875, 0.25, 0.875, 0.375] + [0] * 8],
        [0, 1, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1],
    ),
)
IOU_CASES: Sequence[tuple[list[list[int]], list[list[int]], int]] = (  # predicted, truth, classes
    (  # class 2 is predicted but never true; class 3 is neither
        [[0, 0, 1, 1], [0, 1, 1, 1], [2, 0, 1, 0], [0, 0, 0, 1]],
        [[0, 0, 1, 1], [0, 0, 1, 255], [0, 0, 1, 255], [0, 0, 0, 255]],
        4,
    ),
    ([[13, 19, 19], [0, 13, 19]], [[13, 19, 13], [0, 13, 255]], 20),
)


def check_iou(iou: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Compare with ratios of unit squares; common mistakes are identified."""
    got = call(iou, torch.tensor(ROWS, dtype=torch.float), torch.tensor(COLUMNS, dtype=torch.float))
    expect_shape(got, (len(ROWS), len(COLUMNS)), "A row for each box of a, a column for each box of b.")
    for sentence, ratio in slips.IOU.items():
        wrong = [[ratio(a, b) for b in COLUMNS] for a in ROWS]
        require(not _close(got, wrong), sentence)
    for row, a in zip(got.tolist(), ROWS, strict=True):
        for value, b in zip(row, COLUMNS, strict=True):
            shared, together = len(squares(a) & squares(b)), len(squares(a) | squares(b))
            message = f"{a} and {b} share {shared} of {together} unit squares"
            require(abs(value - shared / together) < 1e-5, f"{message}: {shared / together:.4f}; you have {value:.4f}.")
    done("every box with every other, and 0 where they do not meet.")


def check_nms(nms: Callable[[Tensor, Tensor, float], Any]) -> None:
    """Compare with cases solved by hand; each common mistake shows in one of them."""
    answers = [
        _numbers(call(nms, torch.tensor(boxes, dtype=torch.float), torch.tensor(scores), threshold), None)
        for boxes, scores, threshold, _ in NMS_CASES
    ]
    for sentence, rule in slips.NMS.items():
        require(answers != [rule(*case[:3]) for case in NMS_CASES], sentence)
    for answer, (boxes, scores, threshold, expected) in zip(answers, NMS_CASES, strict=True):
        lefts = ", ".join(f"{box[0]:g}" for box in boxes)
        message = f"Boxes that start at x = {lefts}, scores {scores}, threshold {threshold}: {expected} are kept"
        require(answer == expected, f"{message}, best first; you have {answer}.")
    done("of each heap the best box is left.")


def check_assign(assign: Callable[[Tensor, Tensor], Any]) -> None:
    """Compare with cases solved by hand; each common mistake shows in one of them."""
    answers = [
        _numbers(call(assign, torch.tensor(costs, dtype=torch.float), torch.tensor(ious)), len(expected))
        for costs, ious, expected in ASSIGN_CASES
    ]
    for sentence, rule in slips.ASSIGN.items():
        require(answers != [rule(costs, ious) for costs, ious, _ in ASSIGN_CASES], sentence)
    for answer, (costs, _, expected) in zip(answers, ASSIGN_CASES, strict=True):
        message = f"With {len(costs)} boxes and {len(expected)} places the answer is {expected}"
        require(answer == expected, f"{message}; you have {answer}.")
    done("good predictions earn a box more places, and no place has two boxes.")


def check_mean_iou(mean_iou: Callable[[Tensor, Tensor, int], Any]) -> None:
    """Compare with sets of pixels, counted class by class; common mistakes are identified."""
    answers = [
        _number(call(mean_iou, *(torch.tensor(labels, dtype=torch.uint8) for labels in maps), classes))
        for *maps, classes in IOU_CASES
    ]
    for sentence, mean in slips.MEAN_IOU.items():
        require(not _close(answers, [mean(np.array(p), np.array(t), n) for p, t, n in IOU_CASES]), sentence)
    for value, (predicted, truth, classes) in zip(answers, IOU_CASES, strict=True):
        expected = counted_iou(predicted, truth, classes)
        require(
            abs(value - expected) < 1e-5,
            f"With {classes} classes the mean IoU is {expected:.4f}; you have {value:.4f}.",
        )
    done("what nobody knows is not judged, and what is nowhere has no IoU.")


def squares(box: slips.Box) -> set[tuple[int, int]]:
    """The unit squares covered by a box with integer corners, each represented by its upper left corner."""
    left, top, right, bottom = map(int, box)
    return {(x, y) for x in range(left, right) for y in range(top, bottom)}


def counted_iou(predicted: Sequence[Sequence[int]], truth: Sequence[Sequence[int]], classes: int) -> float:
    """The mean IoU from sets of pixels."""
    known = {(y, x) for y, row in enumerate(truth) for x, label in enumerate(row) if label != slips.IGNORED}
    ious = []
    for label in range(classes):
        predicted_pixels, true_pixels = (
            {(y, x) for y, x in known if labels[y][x] == label} for labels in (predicted, truth)
        )
        if predicted_pixels | true_pixels:
            ious.append(len(predicted_pixels & true_pixels) / len(predicted_pixels | true_pixels))
    return sum(ious) / len(ious)


def _close(got: Any, expected: Any) -> bool:
    return bool(np.allclose(np.asarray(got, dtype=float), np.asarray(expected, dtype=float), atol=1e-5))


def _number(got: Any) -> float:
    """The learner's answer as a float, from a number or a tensor with one element."""
    try:
        return float(got)
    except (TypeError, ValueError, RuntimeError):
        raise ExerciseError(f"Return one number; {describe(got)} came.") from None


def _numbers(got: Any, count: int | None) -> list[int]:
    """The learner's answer as integers, from a list, an array or a tensor; checks the length if a count is given."""
    values = got.tolist() if hasattr(got, "tolist") else got
    try:
        integers = [int(value) for value in values]
    except (TypeError, ValueError):
        raise ExerciseError(f"Return whole numbers, in a list or a tensor; {describe(got)} came.") from None
    enough = count is None or len(integers) == count
    require(enough, f"One number for each of {count} places is wanted; {len(integers)} came.")
    return integers
