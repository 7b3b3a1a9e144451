"""Checks of chapter 9: IoU of boxes, NMS, SimOTA label assignment, mean IoU.

The reference solutions share no code with `dense.detection`: they count unit squares and pixels in sets, and the test
cases of NMS and SimOTA are small enough to solve by hand. Typical wrong answers are computed too, each with the message
shown to the learner. A wrong rule that gives the correct answer in every case would reject correct solutions: the
tests exclude this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import eq
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from efficientformer_edu.exercises._check import (
    ExerciseError,
    call,
    close,
    compare,
    describe,
    done,
    expect_shape,
    require,
)

IGNORED = 255
BEST = 10

Box = tuple[float, float, float, float]
Table = Sequence[Sequence[float]]
Labels = NDArray[np.int64]


def _sides(a: Box, b: Box, more: float = 0) -> tuple[float, float]:
    """Width and height of the intersection; negative if the boxes do not overlap."""
    return min(a[2], b[2]) - max(a[0], b[0]) + more, min(a[3], b[3]) - max(a[1], b[1]) + more


def _shared(a: Box, b: Box, more: float = 0) -> float:
    width, height = _sides(a, b, more)
    return max(width, 0) * max(height, 0)


def _ratio(shared: float, a: Box, b: Box, more: float = 0) -> float:
    return shared / (_shared(a, a, more) + _shared(b, b, more) - shared)


def _unclamped(a: Box, b: Box) -> float:
    width, height = _sides(a, b)
    return _ratio(width * height, a, b)


def _clamped_late(a: Box, b: Box) -> float:
    width, height = _sides(a, b)
    return _ratio(max(width * height, 0), a, b)


def _as_sizes(a: Box, b: Box) -> float:
    a, b = ((x, y, x + width, y + height) for x, y, width, height in (a, b))
    return _ratio(_shared(a, b), a, b)


IOU_MISTAKES: Mapping[str, Callable[[Box, Box], float]] = {
    "If two boxes do not overlap, width and height of their intersection are negative. Clamp each at 0.": _unclamped,
    "Clamp width and height at 0 separately, before you multiply: if both are negative, their product is positive.": (
        _clamped_late
    ),
    "You divide by the sum of both areas. The union is less: the intersection counts twice in that sum.": (
        lambda a, b: _shared(a, b) / (_shared(a, a) + _shared(b, b))
    ),
    "You add 1 to each side, as the first PASCAL VOC did for boxes of whole pixels. Here a side is x₂ − x₁.": (
        lambda a, b: _ratio(_shared(a, b, 1), a, b, 1)
    ),
    "You read a box as corner and size. It is two corners: x₁, y₁, x₂, y₂.": _as_sizes,
    "You divide by the smaller area. A box in the middle of a large one would then count as a perfect match.": (
        lambda a, b: _shared(a, b) / min(_shared(a, a), _shared(b, b))
    ),
    "You divide by the area of the box of a alone.": lambda a, b: _shared(a, b) / _shared(a, a),
    "You divide by the area of the box of b alone.": lambda a, b: _shared(a, b) / _shared(b, b),
    "This is 1 − IoU, a distance.": lambda a, b: 1 - _ratio(_shared(a, b), a, b),
}


def _nms(
    boxes: Sequence[Box],
    scores: Sequence[float],
    threshold: float,
    key: Callable[[float], float] = lambda score: -score,
    drops: Callable[[float, float], bool] = lambda overlap, threshold: overlap > threshold,
    suppressors: Callable[[list[int], list[int]], list[int]] = lambda kept, seen: kept,
) -> list[int]:
    """Greedy suppression: a box is kept unless one of the boxes returned by `suppressors` suppresses it."""
    kept, seen = list[int](), list[int]()
    for index in sorted(range(len(boxes)), key=lambda other: key(scores[other])):
        overlaps = [
            _ratio(_shared(boxes[index], boxes[other]), boxes[index], boxes[other]) for other in suppressors(kept, seen)
        ]
        if not any(drops(overlap, threshold) for overlap in overlaps):
            kept.append(index)
        seen.append(index)
    return kept


def _ranks(boxes: Sequence[Box], scores: Sequence[float], threshold: float) -> list[int]:
    order = sorted(range(len(boxes)), key=lambda index: -scores[index])
    return [order.index(index) for index in _nms(boxes, scores, threshold)]


def _in_order(boxes: Sequence[Box], scores: Sequence[float], threshold: float) -> list[int]:
    return sorted(_nms(boxes, scores, threshold))


NMS_MISTAKES: Mapping[str, Callable[[Sequence[Box], Sequence[float], float], list[int]]] = {
    "A box that has been dropped must not drop others: compare with the boxes that are kept.": (
        partial(_nms, suppressors=lambda kept, seen: seen)
    ),
    "You take the boxes in the order of the input. Begin with the highest score.": (partial(_nms, key=lambda score: 0)),
    "You begin with the lowest score.": partial(_nms, key=lambda score: score),
    "You drop boxes that overlap little and keep boxes that overlap much.": (
        partial(_nms, drops=lambda overlap, threshold: overlap < threshold)
    ),
    "A box is only dropped if the IoU is above the threshold, not if it is equal to it.": (
        partial(_nms, drops=lambda overlap, threshold: overlap >= threshold)
    ),
    "You compare with the best box alone. Every box that is kept drops its neighbours.": (
        partial(_nms, suppressors=lambda kept, seen: kept[:1])
    ),
    "You compare with the box that was kept last alone. Every box that is kept drops its neighbours.": (
        partial(_nms, suppressors=lambda kept, seen: kept[-1:])
    ),
    "These are indices into the sorted list. Return indices into the input.": _ranks,
    "The boxes are correct, but in the order of the input; return the best first.": _in_order,
}


def _assign(
    costs: Table,
    ious: Table,
    count: Callable[[list[float]], int] = lambda best: max(1, int(sum(best[:BEST]))),
    order_by: Callable[[float, float], float] = lambda cost, iou: cost,
    winner: Callable[[list[int], list[float], list[float]], int] = lambda boxes, costs, ious: min(
        boxes, key=lambda box: costs[box]
    ),
) -> list[int]:
    """Each box takes the first `count` positions sorted by `order_by`; `winner` resolves conflicts between boxes."""
    takers: list[list[int]] = [[] for _ in costs[0]]
    for box, (box_costs, box_ious) in enumerate(zip(costs, ious, strict=True)):
        order = sorted(range(len(box_costs)), key=lambda position: order_by(box_costs[position], box_ious[position]))
        for position in order[: count(sorted(box_ious, reverse=True))]:
            takers[position].append(box)
    columns = zip(takers, zip(*costs, strict=True), zip(*ious, strict=True), strict=True)
    return [winner(boxes, list(cost), list(iou)) if boxes else -1 for boxes, cost, iou in columns]


ASSIGN_MISTAKES: Mapping[str, Callable[[Table, Table], list[int]]] = {
    "Round the sum of the IoUs down, not to the nearest whole number.": (
        partial(_assign, count=lambda best: max(1, round(sum(best[:BEST]))))
    ),
    "Every box gets at least one position, even if its IoUs sum to less than 1.": (
        partial(_assign, count=lambda best: int(sum(best[:BEST])))
    ),
    "You sum all IoUs. k follows from the ten best.": (partial(_assign, count=lambda best: max(1, int(sum(best))))),
    "Every box takes ten positions here. Ten is the number of IoUs that are summed; the sum, rounded down, is k.": (
        partial(_assign, count=lambda best: BEST)
    ),
    "A box takes the positions of least cost, not those with the highest IoU; the IoUs only determine how many.": (
        partial(_assign, order_by=lambda cost, iou: -iou)
    ),
    "You take the positions of highest cost.": partial(_assign, order_by=lambda cost, iou: -cost),
    "You assign a contested position to the last box: the later one overwrites. It belongs to the box of lower cost.": (
        partial(_assign, winner=lambda boxes, costs, ious: boxes[-1])
    ),
    "You assign a contested position to the first box. It belongs to the box of lower cost.": (
        partial(_assign, winner=lambda boxes, costs, ious: boxes[0])
    ),
    "You assign a contested position to the box with the higher IoU. It belongs to the box of lower cost.": (
        partial(_assign, winner=lambda boxes, costs, ious: max(boxes, key=lambda box: ious[box]))
    ),
    "You assign a contested position to no box. It belongs to the box of lower cost.": (
        partial(
            _assign,
            winner=lambda boxes, costs, ious: boxes[0] if len(boxes) == 1 else -1,
        )
    ),
    "You assign every position to the box of least cost. A box takes its k positions of least cost and no more.": (
        partial(_assign, count=lambda best: len(best))
    ),
}


def _confusion(predicted: Labels, truth: Labels, classes: int, ignored: bool = False) -> Labels:
    """Confusion matrix: rows true, columns predicted; ignored pixels, if counted, are in an additional row."""
    rows = truth.ravel() if not ignored else np.minimum(truth.ravel(), classes)
    known = rows != IGNORED
    counts = np.zeros((classes + 1, classes), dtype=np.int64)
    np.add.at(counts, (rows[known], predicted.ravel()[known]), 1)
    return counts


def _mean(predicted: Labels, truth: Labels, classes: int, **options: Any) -> float:
    ious = _class_ious(_confusion(predicted, truth, classes, options.pop("ignored", False)), **options)
    return float(np.nanmean(ious))


def _class_ious(counts: Labels, empty: float = np.nan, below: str = "union") -> NDArray[np.float64]:
    """The ratio for each class; `empty` where the denominator is 0."""
    right = np.diagonal(counts).astype(float)
    predicted, true = counts.sum(axis=0), counts.sum(axis=1)[:-1]
    denominator = {
        "union": predicted + true - right,
        "sum": predicted + true,
        "half": (predicted + true) / 2,
        "true": true,
        "predicted": predicted,
    }[below]
    return np.divide(right, denominator, out=np.full_like(right, empty), where=denominator > 0)


def _accuracy(predicted: Labels, truth: Labels, classes: int) -> float:
    counts = _confusion(predicted, truth, classes)
    return float(np.trace(counts) / counts.sum())


def _wrapped(predicted: Labels, truth: Labels, classes: int) -> float:
    """With pair indices of eight bits, which overflow beyond 255."""
    known = truth != IGNORED
    pairs = (truth[known] * classes + predicted[known]) % 256
    counts = np.bincount(pairs, minlength=classes**2)[: classes**2].reshape(classes, classes)
    return float(np.nanmean(_class_ious(np.vstack([counts, np.zeros((1, classes), dtype=np.int64)]))))


MEAN_IOU_MISTAKES: Mapping[str, Callable[[Labels, Labels, int], float]] = {
    "You count pixels whose true class is 255. Leave them out before anything is counted.": (
        partial(_mean, ignored=True)
    ),
    "A class that neither occurs nor is predicted has no IoU. You count it as 0; leave it out of the mean.": (
        partial(_mean, empty=0.0)
    ),
    "A class that neither occurs nor is predicted has no IoU. You count it as 1; leave it out of the mean.": (
        partial(_mean, empty=1.0)
    ),
    "This is the share of correct pixels: large classes hide the small ones.": _accuracy,
    "You divide by the sum of both areas. The union is less: the intersection counts twice in that sum.": (
        partial(_mean, below="sum")
    ),
    "This is Dice's coefficient, twice the intersection over the sum of both areas; IoU divides by the union.": (
        partial(_mean, below="half")
    ),
    "You divide by the true pixels of a class alone, so predicting it everywhere would not reduce its score.": (
        partial(_mean, below="true")
    ),
    "You divide by the predicted pixels of a class alone, so predicting it once would be enough.": (
        partial(_mean, below="predicted")
    ),
    "The maps are of type uint8, in which truth · classes overflows beyond 255. Take `.long()` first.": _wrapped,
}


ROWS = [(0, 0, 4, 4), (1, 1, 7, 3), (8, 2, 12, 9), (3, 3, 5, 5)]  # corners (x₁, y₁, x₂, y₂)
COLUMNS = [(0, 0, 4, 4), (2, 2, 6, 6), (9, 7, 12, 12)]


def shifted_boxes(*lefts: float) -> list[Box]:
    """Boxes of 10×10 on one line; two boxes shifted by d have an IoU of (10 − d) / (10 + d)."""
    return [(left, 0.0, left + 10.0, 10.0) for left in lefts]


NMS_CASES: Sequence[tuple[list[Box], list[float], float, list[int]]] = (  # last: the kept boxes, best first
    (
        shifted_boxes(4, 0, 2),
        [0.5, 0.75, 0.625],
        0.5,
        [1, 0],
    ),  # the third box overlaps both others, which hardly overlap each other
    (shifted_boxes(40, 0, 1, 20, 41, 21), [0.25, 0.5, 0.375, 0.75, 0.875, 0.125], 0.5, [4, 3, 1]),
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
    mistakes = {message: [[rule(a, b) for b in COLUMNS] for a in ROWS] for message, rule in IOU_MISTAKES.items()}
    expected = np.array([[len(squares(a) & squares(b)) / len(squares(a) | squares(b)) for b in COLUMNS] for a in ROWS])
    row, column = np.unravel_index(np.abs(got.detach().numpy() - expected).argmax(), expected.shape)
    a, b = ROWS[row], COLUMNS[column]
    message = (
        f"{a} and {b} share {len(squares(a) & squares(b))} of {len(squares(a) | squares(b))} unit squares: "
        f"{expected[row, column]:.4f}; you have {float(got[row, column]):.4f}."
    )
    compare(got, expected, mistakes, message)
    done("every box with every other, and 0 for boxes that do not overlap.")


def check_nms(nms: Callable[[Tensor, Tensor, float], Any]) -> None:
    """Compare with cases solved by hand; each common mistake shows in one of them."""
    answers = [
        _integers(call(nms, torch.tensor(boxes, dtype=torch.float), torch.tensor(scores), threshold), None)
        for boxes, scores, threshold, _ in NMS_CASES
    ]
    mistakes = {message: [rule(*case[:3]) for case in NMS_CASES] for message, rule in NMS_MISTAKES.items()}
    expected = [case[3] for case in NMS_CASES]
    wrong = _first_difference(answers, expected)
    boxes, scores, threshold, _ = NMS_CASES[wrong]
    lefts = ", ".join(f"{box[0]:g}" for box in boxes)
    message = (
        f"Boxes that start at x = {lefts}, scores {scores}, threshold {threshold}: {expected[wrong]} are kept, best "
        f"first; you have {answers[wrong]}."
    )
    compare(answers, expected, mistakes, message, eq)
    done("of each group of overlapping boxes, the best is kept.")


def check_assign(assign: Callable[[Tensor, Tensor], Any]) -> None:
    """Compare with cases solved by hand; each common mistake shows in one of them."""
    answers = [
        _integers(call(assign, torch.tensor(costs, dtype=torch.float), torch.tensor(ious)), len(expected))
        for costs, ious, expected in ASSIGN_CASES
    ]
    mistakes = {message: [rule(*case[:2]) for case in ASSIGN_CASES] for message, rule in ASSIGN_MISTAKES.items()}
    expected = [case[2] for case in ASSIGN_CASES]
    wrong = _first_difference(answers, expected)
    message = (
        f"With {len(ASSIGN_CASES[wrong][0])} boxes and {len(expected[wrong])} positions the answer is "
        f"{expected[wrong]}; you have {answers[wrong]}."
    )
    compare(answers, expected, mistakes, message, eq)
    done("good predictions earn a box more positions, and no position has two boxes.")


def check_mean_iou(mean_iou: Callable[[Tensor, Tensor, int], Any]) -> None:
    """Compare with sets of pixels, counted class by class; common mistakes are identified."""
    answers = [
        _number(call(mean_iou, *(torch.tensor(labels, dtype=torch.uint8) for labels in maps), classes))
        for *maps, classes in IOU_CASES
    ]
    mistakes = {
        message: [rule(np.array(p), np.array(t), n) for p, t, n in IOU_CASES]
        for message, rule in MEAN_IOU_MISTAKES.items()
    }
    expected = [counted_iou(*case) for case in IOU_CASES]
    wrong = int(np.argmax(np.abs(np.array(answers) - expected)))
    message = (
        f"With {IOU_CASES[wrong][2]} classes the mean IoU is {expected[wrong]:.4f}; you have {answers[wrong]:.4f}."
    )
    compare(answers, expected, mistakes, message, partial(close, rtol=0, atol=1e-5))
    done("pixels without a class are ignored, and a class that does not occur has no IoU.")


def _first_difference(answers: Sequence[Any], expected: Sequence[Any]) -> int:
    return next((i for i, answer in enumerate(answers) if answer != expected[i]), 0)


def squares(box: Box) -> set[tuple[int, int]]:
    """The unit squares covered by a box with integer corners, each represented by its upper left corner."""
    left, top, right, bottom = map(int, box)
    return {(x, y) for x in range(left, right) for y in range(top, bottom)}


def counted_iou(predicted: Sequence[Sequence[int]], truth: Sequence[Sequence[int]], classes: int) -> float:
    """The mean IoU from sets of pixels."""
    known = {(y, x) for y, row in enumerate(truth) for x, label in enumerate(row) if label != IGNORED}
    ious = []
    for label in range(classes):
        predicted_pixels, true_pixels = (
            {(y, x) for y, x in known if labels[y][x] == label} for labels in (predicted, truth)
        )
        if predicted_pixels | true_pixels:
            ious.append(len(predicted_pixels & true_pixels) / len(predicted_pixels | true_pixels))
    return sum(ious) / len(ious)


def _number(got: Any) -> float:
    """The learner's answer as a float, from a number or a tensor with one element."""
    try:
        return float(got)
    except (TypeError, ValueError, RuntimeError):
        raise ExerciseError(f"Return a single number; got {describe(got)}.") from None


def _integers(got: Any, count: int | None) -> list[int]:
    """The learner's answer as integers, from a list, an array or a tensor; checks the length if a count is given."""
    values = got.tolist() if hasattr(got, "tolist") else got
    try:
        integers = [int(value) for value in values]
    except (TypeError, ValueError):
        raise ExerciseError(f"Return integers, in a list or a tensor; got {describe(got)}.") from None
    message = f"Return one integer for each of {count} positions; got {len(integers)}."
    require(count is None or len(integers) == count, message)
    return integers
