"""Boxes: how much two of them share, boxes as offsets from anchors, and which of many on one object is kept.

Sources: Girshick et al., *Rich Feature Hierarchies*, 2014, for the offsets; Everingham et al., *The PASCAL Visual
Object Classes Challenge*, 2010, for the intersection over union; built to agree with torchvision.

A box is its corners (x₁, y₁, x₂, y₂) in pixels, with x to the right, y down, and x₁ ≤ x₂, y₁ ≤ y₂. Pixel (i, j) covers
the square from (j, i) to (j + 1, i + 1), so a box of one pixel has area 1. Comes: boxes. Goes: boxes, and numbers about
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from importlib import import_module

import torch
from jaxtyping import Float, Int
from torch import Tensor

LEAST_UNION = 1e-9  # square pixels; keeps the quotient and its gradient finite
LARGEST_GROWTH = math.log(1000 / 16)  # torchvision's, from Detectron: an anchor of 16 pixels grows to 1000 at most

Kernel = Callable[[Tensor, Tensor, float], Tensor]


def precise(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The same in float32, if it came shorter: half precision cannot tell one pixel from the next far from a corner."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def area(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Width · height, in square pixels; 0 where corners are exchanged."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def shared_area(a: Float[Tensor, "*#n 4"], b: Float[Tensor, "*#n 4"]) -> Float[Tensor, "*_"]:
    """The area that each box in `a` and its partner in `b` have in common, in square pixels."""
    return area(torch.cat([torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], dim=-1))


def paired_iou(a: Float[Tensor, "*#n 4"], b: Float[Tensor, "*#n 4"]) -> Float[Tensor, "*_"]:
    """Intersection over union of each box in `a` and its partner in `b`: |A ∩ B| / |A ∪ B|.

    It is 0 where neither has an area, and its gradient is finite everywhere; where two boxes do not meet, the gradient
    is 0.
    """
    shared = shared_area(a, b)
    return shared / (area(a) + area(b) - shared).clamp(min=LEAST_UNION)


def iou(a: Float[Tensor, "n 4"], b: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """Intersection over union of each box in `a` and each in `b`."""
    return paired_iou(a[:, None], b[None])  # (n, 1, 4) and (1, m, 4) to (n, m)


def clip(boxes: Float[Tensor, "*n 4"], size: tuple[int, int]) -> Float[Tensor, "*n 4"]:
    """The part of each box that lies in an image of `size` (height, width); of one outside no area is left."""
    height, width = size
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def encode(boxes: Float[Tensor, "n 4"], anchors: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    """The offsets (dx, dy, dw, dh) that take anchors to boxes, as `AnchorPredictions` has them.

        dx = (x − xₐ) / wₐ,   dy = (y − yₐ) / hₐ,   dw = log(w / wₐ),   dh = log(h / hₐ)

    for centres (x, y) and sizes (w, h). Both have to have an area; boxes and anchors that are matched do.
    """
    (centre, size), (anchor, scale) = _centre_and_size(boxes), _centre_and_size(anchors)
    return torch.cat([(centre - anchor) / scale, (size / scale).log()], dim=-1)


def decode(offsets: Float[Tensor, "*B n 4"], anchors: Float[Tensor, "n 4"]) -> Float[Tensor, "*B n 4"]:
    """The boxes to which offsets take anchors: `encode` backwards, in float32 at least.

    As in torchvision, dw and dh count as log(1000 / 16) where they are larger, so that a wild one does not overflow.
    """
    offsets = precise(offsets)
    anchor, scale = _centre_and_size(anchors)
    centre = anchor + scale * offsets[..., :2]
    half = scale * offsets[..., 2:].clamp(max=LARGEST_GROWTH).exp() / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def nms(boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], threshold: float) -> Int[Tensor, " kept"]:
    """Non-maximum suppression: of boxes that share much, only the best is kept.

    Greedy: the box with the highest score is kept, all that have an IoU above `threshold` with it are dropped, and so
    on with those that are left. Of equal scores the first wins.

    torchvision's kernel does it where there is one, and a loop where there is none; both give the same. The loop
    compares each box with each: it is meant for a few thousand.

    Returns:
        Numbers of the boxes that are kept, best first.
    """
    order = scores.argsort(descending=True, stable=True)
    best_first = boxes[order]
    if (kernel := _kernel()) is not None:
        ranks = torch.arange(len(boxes), 0, -1).to(boxes)  # for scores, so that ties are settled here alone
        return order[kernel(best_first, ranks, threshold)]
    return order[_nms_of_sorted(best_first, threshold)]


def nms_by_class(
    boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], labels: Int[Tensor, " n"], threshold: float
) -> Int[Tensor, " kept"]:
    """`nms` within each class: boxes of different classes do not suppress each other."""
    kept = torch.zeros_like(labels, dtype=torch.bool)
    for label in labels.unique():
        (members,) = (labels == label).nonzero(as_tuple=True)
        kept[members[nms(boxes[members], scores[members], threshold)]] = True
    (numbers,) = kept.nonzero(as_tuple=True)
    return numbers[scores[numbers].argsort(descending=True, stable=True)]


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def _nms_of_sorted(boxes: Tensor, threshold: float) -> Tensor:
    """The loop, for boxes that come best first."""
    overlap = iou(boxes, boxes).cpu()  # (n, n); each step of a loop elsewhere would have to wait for the device
    too_close = overlap.double() > threshold  # in double precision, as the kernel compares
    left = torch.ones(len(boxes), dtype=torch.bool)
    for i in range(len(boxes)):
        if left[i]:
            left[i + 1 :] &= ~too_close[i, i + 1 :]
    return left.nonzero().squeeze(1).to(boxes.device)


@cache
def _kernel() -> Kernel | None:
    """torchvision's, if it runs: a build for another torch does not import, or declares it and does not have it."""
    try:
        kernel: Kernel = import_module("torchvision.ops").nms
        kernel(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, RuntimeError):
        return None
    return kernel
