"""Boxes: areas and unions against counted pixels, offsets by hand and round trip, NMS against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from box_strategies import boxes as some_boxes
from box_strategies import counted_iou, pixels
from hypothesis import given
from hypothesis import strategies as st

from efficientformer_edu.dense.detection.boxes import (
    batched_nms,
    box_area,
    box_iou,
    clip_boxes,
    decode,
    encode,
    nms,
    paired_iou,
)
from efficientformer_edu.utils.optional import import_optional

NONE = torch.zeros(0, 4)
THRESHOLDS = st.sampled_from([0.0, 0.25, 0.5, 0.75])  # a ratio of small numbers is never rounded to one of these


def box(*corners: float, learns: bool = False) -> torch.Tensor:
    return torch.tensor([corners], dtype=torch.float64, requires_grad=learns)


def test_by_hand():
    a = box(0, 0, 2, 2)
    others = torch.cat([box(1, 1, 3, 3), box(0, 0, 2, 2), box(0, 0, 1, 2), box(2, 0, 4, 2), box(1, 1, 1, 1)])
    assert box_area(others).tolist() == [4, 4, 2, 4, 0]
    assert box_iou(a, others).tolist() == [[1 / 7, 1, 1 / 2, 0, 0]]  # touching boxes do not overlap
    assert box_area(box(3, 3, 1, 1)).tolist() == [0]  # two negative sides have no area


@given(some_boxes(), some_boxes())
def test_against_counted_pixels(a, b):
    assert box_area(a).tolist() == [len(pixels(row)) for row in a.tolist()]
    expected = [[counted_iou(row, other) for other in b.tolist()] for row in a.tolist()]
    torch.testing.assert_close(box_iou(a, b), torch.tensor(expected).view(len(a), len(b)))
    torch.testing.assert_close(paired_iou(a, a), (box_area(a) > 0).float())


def test_the_gradient_of_pairs():
    a = torch.cat([box(0, 0, 4, 4), box(1, 2, 5, 4), box(0, 0, 9, 9)]).requires_grad_()
    b = torch.cat([box(1, 1, 6, 5), box(0, 0, 3, 3.5), box(2, 3, 4, 5)]).requires_grad_()
    assert torch.autograd.gradcheck(paired_iou, (a, b))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2)),
        ((0, 0, 2, 2), (2, 2, 3, 3)),
        ((0, 0, 2, 2), (7, 7, 8, 8)),
        ((1, 1, 1, 1), (1, 1, 1, 1)),
        ((1, 1, 1, 1), (0, 0, 2, 2)),
        ((0, 0, 1e-30, 1e-30), (0, 0, 1e-30, 1e-30)),
        ((3, 3, 1, 1), (0, 0, 2, 2)),
    ],
    ids=str,
)
def test_the_gradient_is_finite_everywhere(a, b):
    a, b = box(*a).float().requires_grad_(), box(*b).float().requires_grad_()
    shared = paired_iou(a, b)
    shared.sum().backward()
    assert 0 <= shared.item() <= 1 and a.grad.isfinite().all() and b.grad.isfinite().all()


def test_clip():
    boxes = torch.cat([box(-3, -4, 5, 6), box(1, 2, 30, 40), box(12, 1, 15, 3), box(-9, -9, -1, -1)])
    assert clip_boxes(boxes, (8, 10)).tolist() == [[0, 0, 5, 6], [1, 2, 10, 8], [10, 1, 10, 3], [0, 0, 0, 0]]


def test_offsets_by_hand():
    """The centre moves by (2, 2), half an anchor's width and its full height; the height is doubled."""
    anchor, target = box(0, 0, 4, 2), box(2, 1, 6, 5)
    offsets = torch.tensor([[0.5, 1.0, 0.0, math.log(2)]], dtype=torch.float64)
    torch.testing.assert_close(encode(target, anchor), offsets)
    torch.testing.assert_close(decode(offsets, anchor), target)
    torch.testing.assert_close(decode(offsets.expand(3, 1, 4), anchor), target.expand(3, 1, 4))


@given(some_boxes(), some_boxes())
def test_offsets_there_and_back(boxes, anchors):
    both = [pair for pair in zip(boxes, anchors, strict=False) if box_area(torch.stack(pair)).all()]
    boxes, anchors = (torch.stack(column) for column in zip(*both, strict=True)) if both else (NONE, NONE)
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes, rtol=0, atol=1e-4)


def test_a_wild_offset_does_not_overflow():
    wild = torch.tensor([[0.0, 0.0, 1e3, -1e3]])
    torch.testing.assert_close(
        decode(wild, torch.tensor([[0.0, 0.0, 16.0, 16.0]])), torch.tensor([[-492.0, 8, 508, 8]])
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_boxes_are_not_of_half_precision(dtype):
    anchors, offsets = torch.tensor([[1000.0, 1000.0, 1003.0, 1005.0]]), torch.full((1, 4), 0.3, dtype=dtype)
    assert torch.equal(decode(torch.zeros_like(offsets), anchors), anchors)
    assert torch.equal(decode(offsets, anchors), decode(offsets.float(), anchors))


def suppressed(boxes, scores, threshold):
    """The kept boxes by definition: a box is kept unless its IoU with an earlier kept box is too large."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):  # Python's sorting is stable
        if all(counted_iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


@given(some_boxes(), st.data())
def test_suppression_by_its_definition(boxes, data):
    scores = data.draw(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=len(boxes), max_size=len(boxes)))
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(boxes), max_size=len(boxes)))
    threshold = data.draw(THRESHOLDS)
    by_class = []
    for label in set(labels):
        members = [i for i in range(len(boxes)) if labels[i] == label]
        kept = suppressed(boxes[members].tolist(), [scores[i] for i in members], threshold)
        by_class += [members[i] for i in kept]
    score_tensor, label_tensor = torch.tensor(scores), torch.tensor(labels, dtype=torch.long)
    assert nms(boxes, score_tensor, threshold).tolist() == suppressed(boxes.tolist(), scores, threshold)
    indices = batched_nms(boxes, score_tensor, label_tensor, threshold).tolist()
    assert indices == sorted(by_class, key=lambda i: (-scores[i], i))


def test_many_equal_scores_keep_their_order():
    left = torch.arange(500)[:, None] * 2.0
    boxes, scores = torch.cat([left, left, left + 1, left + 1], dim=1), torch.full((500,), 0.5)
    assert nms(boxes, scores, 0.5).tolist() == list(range(500))
    assert batched_nms(boxes, scores, torch.arange(500) % 2, 0.5).tolist() == list(range(500))


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.45, 0.7])
def test_nms_agrees_with_torchvision(threshold):
    """Also if an IoU of 1/10, 3/10, 9/20 or 7/10 in float32 is compared with the rounded threshold."""
    generator = torch.Generator().manual_seed(0)
    corner, size = (torch.randint(1, 20, (300, 2), generator=generator).float() for _ in range(2))
    boxes, scores = torch.cat([corner, corner + size], dim=1), torch.rand(300, generator=generator)
    boxes = torch.cat([boxes, torch.tensor([[50.0, 0, 51, tenths] for tenths in range(1, 11)])])
    scores = torch.cat([scores, torch.rand(10, generator=generator)])
    try:
        expected = import_optional("torchvision.ops").nms(boxes, scores, threshold)
    except (ImportError, RuntimeError):  # missing, or built for another torch
        pytest.skip("torchvision's operator does not run here")
    assert nms(boxes, scores, threshold).tolist() == expected.tolist()


def test_no_boxes():
    scores, labels = torch.zeros(0), torch.zeros(0, dtype=torch.long)
    assert box_iou(NONE, torch.rand(3, 4)).shape == (0, 3) and box_iou(torch.rand(3, 4), NONE).shape == (3, 0)
    for same in (clip_boxes(NONE, (5, 5)), encode(NONE, NONE), decode(NONE, NONE)):
        assert same.shape == (0, 4)
    assert nms(NONE, scores, 0.5).tolist() == batched_nms(NONE, scores, labels, 0.5).tolist() == []
