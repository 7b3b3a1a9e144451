"""Assignment: by hand, and against a direct implementation of the rules in Python loops."""

from __future__ import annotations

import math

import pytest
import torch
from box_strategies import boxes as some_boxes
from box_strategies import counted_iou
from hypothesis import given
from hypothesis import strategies as st

from efficientformer_edu.dense.detection.assignment import BACKGROUND, IGNORED_ANCHOR, match_anchors, simota
from efficientformer_edu.dense.detection.boxes import box_iou
from efficientformer_edu.dense.detection.priors import positions_at

NO_BOXES, NO_LABELS = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)


def rows(*boxes: list[float]) -> torch.Tensor:
    return torch.tensor(boxes, dtype=torch.float32).view(-1, 4)


def test_anchors_by_hand():
    """A box of 10×10: IoU 0.6, exactly 0.5, 0.45, exactly 0.4, 0.39, 0."""
    anchors = rows(*([0, 0, 10, high] for high in (6, 5, 4.5, 4, 3.9)), [20, 20, 30, 30])
    assert match_anchors(anchors, rows([0, 0, 10, 10])).tolist() == [
        0,
        0,
        IGNORED_ANCHOR,
        IGNORED_ANCHOR,
        BACKGROUND,
        BACKGROUND,
    ]


def test_a_box_that_no_anchor_fits_keeps_its_best():
    """Two anchors cover a quarter of the box, a third covers less; no other anchor is better."""
    anchors = rows([0, 0, 5, 5], [5, 5, 10, 10], [0, 0, 4, 4])
    assert match_anchors(anchors, rows([0, 0, 10, 10])).tolist() == [0, 0, BACKGROUND]


def test_an_unbeaten_anchor_is_on_the_box_that_it_shares_most_with():
    """It is the best for the large box, but is on the small box: the large box is unassigned, as in torchvision."""
    anchors = rows([0, 0, 4, 4], [90, 90, 99, 99])
    assert match_anchors(anchors, rows([0, 0, 20, 20], [0, 0, 4, 5])).tolist() == [1, BACKGROUND]


def test_of_equal_boxes_the_first():
    assert match_anchors(rows([0, 0, 4, 4]), rows([9, 9, 12, 12], [0, 0, 4, 4], [0, 0, 4, 4])).tolist() == [1]


@pytest.mark.parametrize(
    "boxes",
    [NO_BOXES, rows([3, 3, 3, 3]), rows([3, 3, 3, 9]), rows([50, 50, 60, 60])],
    ids=["none", "point", "line", "off"],
)
def test_nothing_to_match(boxes):
    assert match_anchors(rows([0, 0, 8, 8], [2, 2, 4, 4]), boxes).tolist() == [BACKGROUND] * 2


@given(some_boxes(least=1, most=12), some_boxes())
def test_anchors_by_the_rules(anchors, boxes):
    shared = [[counted_iou(anchor, box) for box in boxes.tolist()] for anchor in anchors.tolist()]
    best_of_box = [max(column) for column in zip(*shared, strict=True)]
    expected = []
    for row in shared:
        most = max(row, default=0)
        kept = any(0 < value == best for value, best in zip(row, best_of_box, strict=True))
        if kept or most >= 0.5:
            expected.append(row.index(most))
        else:
            expected.append(IGNORED_ANCHOR if most >= 0.4 else BACKGROUND)
    assert match_anchors(anchors, boxes).tolist() == expected


POSITIONS = positions_at([(4, 4)], (8,), torch.zeros(0))  # centres at 4, 12, 20 and 28


def assigned(predicted, boxes, labels=None, objectness=0.0, classes=None, positions=POSITIONS):
    """SimOTA with logits 0 by default: all classes are equally likely at every position."""
    count = len(positions.strides)
    objectness = torch.full((count,), float(objectness))
    classes = torch.zeros(count, 2) if classes is None else classes
    labels = torch.zeros(len(boxes), dtype=torch.long) if labels is None else torch.tensor(labels)
    return simota(predicted, objectness, classes, positions, boxes, labels)


def test_the_number_of_locations_is_the_sum_of_the_ious():
    """Four locations predict 1/2 of the box, one 3/4, one all of it: 3.75 in total, so the best and three more."""
    predicted = rows(*[[90, 90, 99, 99]] * 16)
    predicted[5], predicted[6] = torch.tensor([[8.0, 8, 24, 24], [8, 8, 24, 20]])
    predicted[[9, 10, 1, 2]] = torch.tensor([8.0, 8, 24, 16])
    assignment = assigned(predicted, rows([8, 8, 24, 24]))
    # Locations 5, 6, 9 and 10 have their centres in the box; 1 and 2 are only near, which costs 10⁵.
    assert [i for i, number in enumerate(assignment.box_index.tolist()) if number == 0] == [5, 6, 9]
    assert assignment.iou[[5, 6, 9]].tolist() == [1, 0.75, 0.5] and assignment.iou.sum() == 2.25
    predicted[2] = torch.tensor([8.0, 8, 24, 20])  # 4 in total now
    assert assigned(predicted, rows([8, 8, 24, 24])).box_index.count_nonzero() == 12  # all except four are BACKGROUND


def test_no_more_than_ten_count():
    assignment = assigned(rows(*[[0, 0, 32, 32]] * 16), rows([0, 0, 32, 32]))
    assert (assignment.box_index == 0).sum() == 10


def test_a_tiny_box_is_assigned_the_location_around_it():
    assignment = assigned(rows(*[[90, 90, 99, 99]] * 16), rows([9, 9, 13, 13]))
    assert assignment.box_index.tolist() == [0 if i == 5 else BACKGROUND for i in range(16)]


def test_a_box_between_all_centres_is_assigned_a_near_location():
    assignment = assigned(rows(*[[90, 90, 99, 99]] * 16), rows([14, 14, 18, 18]))
    assert (
        assignment.box_index.count_nonzero() == 15 and assignment.box_index[0] == 0
    )  # all have the same cost: the first


def test_the_class_decides_between_equal_boxes():
    predicted, classes = rows(*[[90, 90, 99, 99]] * 16), torch.zeros(16, 2)
    classes[5, 0], classes[10, 1] = 3.0, 3.0
    boxes = rows([8, 8, 24, 24])
    assert assigned(predicted, boxes, [0], classes=classes).box_index.argmax() == 5
    assert assigned(predicted, boxes, [1], classes=classes).box_index.argmax() == 10


def test_a_contested_location_goes_to_the_cheaper_box():
    """The only location predicts half of one box and three quarters of the other."""
    location = positions_at([(1, 1)], (8,), torch.zeros(0))
    predicted, boxes = rows([0, 0, 8, 6]), rows([0, 0, 8, 12], [0, 0, 8, 8])
    assignment = assigned(predicted, boxes, positions=location)
    assert assignment.box_index.tolist() == [1] and assignment.iou.tolist() == [0.75]


def test_a_location_goes_only_to_a_box_that_selects_it():
    """Two boxes select location 1. It is cheapest for a third box, which takes one location and has a better one."""
    locations = positions_at([(1, 2)], (8,), torch.zeros(0))  # centres (4, 4) and (12, 4)
    predicted, boxes = rows([0, 0, 16, 8], [0, 0, 12, 8]), rows([10, 0, 14, 8], [9, 0, 16, 8], [0, 0, 16, 8])
    assert assigned(predicted, boxes[:2], positions=locations).box_index.tolist() == [BACKGROUND, 1]
    assert assigned(predicted, boxes, positions=locations).box_index.tolist() == [2, 1]
    torch.testing.assert_close(box_iou(predicted[1:], boxes), torch.tensor([[1 / 7, 3 / 16, 3 / 4]]))


@pytest.mark.parametrize("box", [[12, 12, 12, 12], [4, 12, 28, 12], [100, 100, 140, 140], [-90, 4, -60, 28]])
def test_a_box_without_area_or_outside_of_the_image_takes_no_location(box):
    alone = assigned(rows(*[[8, 8, 24, 24]] * 16), rows(box))
    assert alone.box_index.tolist() == [BACKGROUND] * 16 and not alone.iou.any()
    beside = assigned(rows(*[[8, 8, 24, 24]] * 16), rows(box, [8, 8, 24, 24]))
    assert set(beside.box_index.tolist()) == {BACKGROUND, 1}


def test_no_boxes():
    assignment = assigned(rows(*[[8, 8, 24, 24]] * 16), NO_BOXES)
    assert assignment.box_index.tolist() == [BACKGROUND] * 16 and assignment.box_index.dtype == torch.long
    assert assignment.iou.tolist() == [0] * 16


@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_probabilities_of_0_and_1_cost_something_finite(logit):
    assignment = assigned(rows(*[[8, 8, 24, 24]] * 16), rows([8, 8, 24, 24]), [1], logit, torch.full((16, 2), logit))
    assert (assignment.box_index == 0).sum() == 10


def cross_entropy(p: float, truth: bool) -> float:
    return -math.log(p if truth else 1 - p)


def float_iou(a: list[float], b: list[float]) -> float:
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def by_the_rules(predicted, objectness, classes, positions, boxes, labels):
    """The rules in the docstring of `simota`, as loops."""
    cost, shared = {}, {}
    for i, ((x, y), stride) in enumerate(zip(*(part.tolist() for part in positions), strict=True)):
        for j, (left, top, right, bottom) in enumerate(boxes.tolist()):
            inside = left < x < right and top < y < bottom
            near = abs(x - (left + right) / 2) < 2.5 * stride and abs(y - (top + bottom) / 2) < 2.5 * stride
            if inside or near:
                probabilities = (objectness[i].sigmoid() * classes[i].sigmoid()).sqrt().tolist()
                unsure = sum(cross_entropy(p, c == labels[j]) for c, p in enumerate(probabilities))
                shared[i, j] = float_iou(predicted[i].tolist(), [left, top, right, bottom])
                cost[i, j] = unsure - 3 * math.log(shared[i, j] + 1e-8) + (0 if inside and near else 1e5)
    pairs = set()
    for j in range(len(boxes)):
        own = [i for i in range(len(predicted)) if (i, j) in cost]
        k = max(1, math.floor(sum(sorted((shared[i, j] for i in own), reverse=True)[:10])))
        pairs |= {(i, j) for i in sorted(own, key=lambda i, j=j: cost[i, j])[:k]}
    number = [BACKGROUND] * len(predicted)
    for i in range(len(predicted)):
        number[i] = min((j for box, j in pairs if box == i), key=lambda j, i=i: cost[i, j], default=BACKGROUND)
    return number, [0.0 if j == BACKGROUND else shared[i, j] for i, j in enumerate(number)]


@given(st.integers(0, 2**32), st.integers(0, 6), st.floats(0, 6))
def test_simota_by_the_rules(seed, count, noise):
    """Predictions are the boxes with some noise, so there are many candidates; no two have the same cost."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    locations = positions_at([(6, 5), (3, 3)], (8, 16), normal(1))
    corners = normal(count, 2) * 20 + 20
    boxes = torch.cat([corners, corners + 2 + 30 * normal(count, 2).abs()], dim=1)
    labels = torch.randint(0, 3, (count,), generator=generator)
    predicted = torch.cat([locations.centres - 9, locations.centres + 9], dim=1)
    if count:
        predicted = boxes[torch.randint(0, count, (len(predicted),), generator=generator)]
    predicted = predicted + noise * normal(len(predicted), 4)
    predicted = torch.cat([predicted[:, :2], torch.maximum(predicted[:, 2:], predicted[:, :2] + 1)], dim=1)
    objectness, classes = normal(len(predicted)), normal(len(predicted), 3)
    assignment = simota(predicted, objectness, classes, locations, boxes, labels)
    number, overlap = by_the_rules(predicted, objectness, classes, locations, boxes, labels)
    assert assignment.box_index.tolist() == number
    torch.testing.assert_close(assignment.iou, torch.tensor(overlap, dtype=torch.float64))
