"""Right answers pass, each mistake is named correctly, and answers of another type get the expected type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from efficientformer_edu.dense.detection import boxes as package
from efficientformer_edu.exercises import detection_and_segmentation as checks
from efficientformer_edu.exercises._check import ExerciseError

IGNORED = checks.IGNORED


def assign(costs: Tensor, ious: Tensor) -> list[int]:
    """Box by box; a contested position goes to the box with the lower cost."""
    owner = [-1] * costs.shape[1]
    for box in range(len(costs)):
        best = sorted(ious[box].tolist())[-10:]
        for position in costs[box].argsort()[: max(1, int(sum(best)))].tolist():
            if owner[position] < 0 or costs[box, position] < costs[owner[position], position]:
                owner[position] = box
    return owner


def mean_iou(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Class by class; returns a tensor of one value."""
    known = truth != IGNORED
    predictions, true = predicted[known], truth[known]
    class_ious = [
        ((predictions == c) & (true == c)).sum() / ((predictions == c) | (true == c)).sum() for c in range(classes)
    ]
    return torch.stack(class_ious).nanmean()


def test_right_answers_pass(capsys: pytest.CaptureFixture[str]) -> None:
    checks.check_iou(package.box_iou)
    checks.check_nms(package.nms)
    checks.check_assign(assign)
    checks.check_mean_iou(mean_iou)
    assert capsys.readouterr().out.count("Well done") == 4


def numbers_of_boxes(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A mistake, called like the learner's answer: with tensors."""
    return lambda *args: rule(*(arg.tolist() if isinstance(arg, Tensor) else arg for arg in args))


def pairwise(ratio: Callable[..., float]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda a, b: torch.tensor([[ratio(first, second) for second in b.tolist()] for first in a.tolist()])


def of_maps(mean: Callable[..., float]) -> Callable[[Tensor, Tensor, int], float]:
    return lambda predicted, truth, classes: mean(predicted.long().numpy(), truth.long().numpy(), classes)


MISTAKES = [
    *((checks.check_iou, pairwise(rule), sentence) for sentence, rule in checks.IOU_MISTAKES.items()),
    *((checks.check_nms, numbers_of_boxes(rule), sentence) for sentence, rule in checks.NMS_MISTAKES.items()),
    *((checks.check_assign, numbers_of_boxes(rule), sentence) for sentence, rule in checks.ASSIGN_MISTAKES.items()),
    *((checks.check_mean_iou, of_maps(rule), sentence) for sentence, rule in checks.MEAN_IOU_MISTAKES.items()),
]


@pytest.mark.parametrize(("check", "answer", "sentence"), MISTAKES, ids=[sentence for *_, sentence in MISTAKES])
def test_every_mistake_is_named_correctly(check: Any, answer: Any, sentence: str) -> None:
    with pytest.raises(ExerciseError) as caught:
        check(answer)
    assert str(caught.value) == sentence


def in_eight_bits(predicted: Tensor, truth: Tensor, classes: int) -> float:
    """A common form of a confusion matrix, without `.long()`."""
    known = truth != IGNORED
    counts = torch.bincount(truth[known] * classes + predicted[known], minlength=classes**2)
    counts = counts[: classes**2].view(classes, classes)
    union = counts.sum(0) + counts.sum(1) - counts.diag()
    return float((counts.diag() / union).nanmean())


@pytest.mark.parametrize(
    ("check", "answer", "match"),
    [
        (checks.check_iou, lambda a, b: package.box_iou(b, a), "A row for each box of a.*Expected shape"),
        (checks.check_iou, lambda a, b: 0.5, "Expected a tensor"),
        (
            checks.check_iou,
            lambda a, b: package.box_iou(a, b) * 0.9,
            "share 16 of 16 unit squares: 1.0000; you have 0.9",
        ),
        (checks.check_nms, lambda boxes, scores, threshold: scores > 0.5, r"\[1, 0\] are kept, best first; you have"),
        (checks.check_nms, lambda boxes, scores, threshold: 1, "Return integers, in a list or a tensor; got 1"),
        (checks.check_assign, lambda costs, ious: [0], "one integer for each of 6 positions; got 1"),
        (checks.check_assign, lambda costs, ious: costs.argmin(1), "one integer for each of 6 positions; got 3"),
        (checks.check_assign, lambda costs, ious: costs, "Return integers"),
        (checks.check_assign, lambda costs, ious: [-1] * costs.shape[1], "3 boxes and 6 positions the answer is"),
        (
            checks.check_mean_iou,
            lambda predicted, truth, classes: truth,
            "Return a single number; got <Tensor of shape",
        ),
        (checks.check_mean_iou, lambda predicted, truth, classes: 0.3, "the mean IoU is .*; you have 0.3000"),
        (checks.check_mean_iou, in_eight_bits, r"Take `\.long\(\)` first"),
    ],
)
def test_other_wrong_answers_report_what_is_expected(check: Any, answer: Any, match: str) -> None:
    with pytest.raises(ExerciseError, match=match):
        check(answer)


def test_no_case_gives_a_contested_position_to_a_third_box() -> None:
    """YOLOX compares all boxes there, this package those that claim the position; here both agree."""
    for costs, ious, expected in checks.ASSIGN_CASES:
        columns = np.array(costs).argmin(axis=0)
        takers = checks._assign(costs, ious, winner=lambda expected, costs, ious: len(expected) - 2)
        contested = [position for position, more in enumerate(takers) if more == 0]
        assert contested
        assert all(columns[position] == expected[position] for position in contested)
