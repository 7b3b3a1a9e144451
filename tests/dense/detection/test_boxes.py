"""Boxes: areas and unions against counted pixels, offsets by hand and round trip, NMS against its definition."""

from __future__ import annotations

import math
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from box_strategies import boxes as some_boxes
from box_strategies import counted_iou, pixels
from hypothesis import given
from hypothesis import strategies as st

from efficientformer_edu.dense.detection import boxes as module
from efficientformer_edu.dense.detection.boxes import area, clip, decode, encode, iou, nms, nms_by_class, paired_iou

NONE = torch.zeros(0, 4)
THRESHOLDS = st.sampled_from([0.0, 0.25, 0.5, 0.75])  # a ratio of small numbers is never rounded to one of these
PATHS = pytest.mark.parametrize("kernel", [module._kernel(), None], ids=["kernel if there is one", "loop"])


def box(*corners: float, learns: bool = False) -> torch.Tensor:
    return torch.tensor([corners], dtype=torch.float64, requires_grad=learns)


def test_by_hand():
    a = box(0, 0, 2, 2)
    others = torch.cat([box(1, 1, 3, 3), box(0, 0, 2, 2), box(0, 0, 1, 2), box(2, 0, 4, 2), box(1, 1, 1, 1)])
    assert area(others).tolist() == [4, 4, 2, 4, 0]
    assert iou(a, others).tolist() == [[1 / 7, 1, 1 / 2, 0, 0]]  # touching boxes do not overlap
    assert area(box(3, 3, 1, 1)).tolist() == [0]  # two negative sides have no area


@given(some_boxes(), some_boxes())
def test_against_counted_pixels(a, b):
    assert area(a).tolist() == [len(pixels(row)) for row in a.tolist()]
    expected = [[counted_iou(row, other) for other in b.tolist()] for row in a.tolist()]
    torch.testing.assert_close(iou(a, b), torch.tensor(expected).view(len(a), len(b)))
    torch.testing.assert_close(paired_iou(a, a), (area(a) > 0).float())


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
    assert clip(boxes, (8, 10)).tolist() == [[0, 0, 5, 6], [1, 2, 10, 8], [10, 1, 10, 3], [0, 0, 0, 0]]


def test_offsets_by_hand():
    """The centre moves by (2, 2), half an anchor's width and its full height; the height is doubled."""
    anchor, target = box(0, 0, 4, 2), box(2, 1, 6, 5)
    offsets = torch.tensor([[0.5, 1.0, 0.0, math.log(2)]], dtype=torch.float64)
    torch.testing.assert_close(encode(target, anchor), offsets)
    torch.testing.assert_close(decode(offsets, anchor), target)
    torch.testing.assert_close(decode(offsets.expand(3, 1, 4), anchor), target.expand(3, 1, 4))


@given(some_boxes(), some_boxes())
def test_offsets_there_and_back(boxes, anchors):
    both = [pair for pair in zip(boxes, anchors, strict=False) if area(torch.stack(pair)).all()]
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


@PATHS
@given(some_boxes(), st.data())
def test_suppression_by_its_definition(kernel, boxes, data):
    scores = data.draw(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=len(boxes), max_size=len(boxes)))
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(boxes), max_size=len(boxes)))
    threshold = data.draw(THRESHOLDS)
    by_class = []
    for label in set(labels):
        members = [i for i in range(len(boxes)) if labels[i] == label]
        kept = suppressed(boxes[members].tolist(), [scores[i] for i in members], threshold)
        by_class += [members[i] for i in kept]
    score_tensor, label_tensor = torch.tensor(scores), torch.tensor(labels, dtype=torch.long)
    with mock.patch.object(module, "_kernel", lambda: kernel):
        assert nms(boxes, score_tensor, threshold).tolist() == suppressed(boxes.tolist(), scores, threshold)
        indices = nms_by_class(boxes, score_tensor, label_tensor, threshold).tolist()
    assert indices == sorted(by_class, key=lambda i: (-scores[i], i))


def test_many_equal_scores_keep_their_order():
    left = torch.arange(500)[:, None] * 2.0
    boxes, scores = torch.cat([left, left, left + 1, left + 1], dim=1), torch.full((500,), 0.5)
    assert nms(boxes, scores, 0.5).tolist() == list(range(500))
    assert nms_by_class(boxes, scores, torch.arange(500) % 2, 0.5).tolist() == list(range(500))


@pytest.mark.skipif(module._kernel() is None, reason="torchvision's kernel is not installed")
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.45, 0.7])
def test_the_kernel_and_the_loop_agree(threshold):
    """Also if an IoU of 1/10, 3/10, 9/20 or 7/10 in float32 is compared with the rounded threshold."""
    generator = torch.Generator().manual_seed(0)
    corner, size = (torch.randint(1, 20, (300, 2), generator=generator).float() for _ in range(2))
    boxes, scores = torch.cat([corner, corner + size], dim=1), torch.rand(300, generator=generator)
    boxes = torch.cat([boxes, torch.tensor([[50.0, 0, 51, tenths] for tenths in range(1, 11)])])
    scores = torch.cat([scores, torch.rand(10, generator=generator)])
    with_kernel = nms(boxes, scores, threshold)
    with mock.patch.object(module, "_kernel", lambda: None):
        assert torch.equal(nms(boxes, scores, threshold), with_kernel)


def bare(boxes, scores, threshold):
    """The error of a declared operator without a kernel."""
    raise NotImplementedError("Could not run 'torchvision::nms' with arguments from the 'CPU' backend")


def missing(name):
    raise ModuleNotFoundError(f"No module named {name!r}")


def other_torch(name):
    raise RuntimeError("operator torchvision::nms does not exist")


@pytest.mark.parametrize("load", [missing, other_torch, lambda name: SimpleNamespace(nms=bare)])
def test_the_kernel_is_used_only_if_it_runs(load):
    with mock.patch.object(module, "import_module", load):
        assert module._kernel.__wrapped__() is None


def test_a_kernel_that_runs_is_used():
    def keep_all(boxes, scores, threshold):
        assert scores.tolist() == sorted(set(scores.tolist()), reverse=True)  # in order and distinct
        return torch.arange(len(boxes))

    with mock.patch.object(module, "import_module", lambda name: SimpleNamespace(nms=keep_all)):
        assert module._kernel.__wrapped__() is keep_all
    with mock.patch.object(module, "_kernel", lambda: keep_all):
        assert nms(torch.zeros(4, 4), torch.tensor([0.5, 0.1, 0.5, 0.9]), 0.5).tolist() == [3, 0, 2, 1]


def test_no_boxes():
    scores, labels = torch.zeros(0), torch.zeros(0, dtype=torch.long)
    assert iou(NONE, torch.rand(3, 4)).shape == (0, 3) and iou(torch.rand(3, 4), NONE).shape == (3, 0)
    for same in (clip(NONE, (5, 5)), encode(NONE, NONE), decode(NONE, NONE)):
        assert same.shape == (0, 4)
    assert nms(NONE, scores, 0.5).tolist() == nms_by_class(NONE, scores, labels, 0.5).tolist() == []
