"""Boxes: intersection over union, encoding as offsets from anchors, and non-maximum suppression.

Sources: Girshick et al., *Rich Feature Hierarchies*, 2014, for the offsets; Everingham et al., *The PASCAL Visual
Object Classes Challenge*, 2010, for the intersection over union. Results agree with torchvision, whose names are used.

A box is its corners (x₁, y₁, x₂, y₂) in pixels, with x to the right, y down, and x₁ ≤ x₂, y₁ ≤ y₂. Pixel (i, j) covers
the square from (j, i) to (j + 1, i + 1), so a box of one pixel has area 1.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

MIN_UNION = 1e-9  # square pixels; keeps the ratio and its gradient finite
MAX_LOG_SCALE = math.log(1000 / 16)  # torchvision's, from Detectron: an anchor of 16 pixels grows to 1000 at most


def at_least_float32(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Convert half precision to float32: it cannot represent single pixels far from the origin."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def box_area(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Width · height, in square pixels; 0 if corners are exchanged."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def intersection_area(a: Float[Tensor, "*#n 4"], b: Float[Tensor, "*#n 4"]) -> Float[Tensor, "*_"]:
    """The area of intersection of each box in `a` and the corresponding box in `b`, in square pixels."""
    return box_area(torch.cat([torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], dim=-1))


def paired_iou(a: Float[Tensor, "*#n 4"], b: Float[Tensor, "*#n 4"]) -> Float[Tensor, "*_"]:
    """Intersection over union of each box in `a` and the corresponding box in `b`: |A ∩ B| / |A ∪ B|.

    It is 0 if neither box has an area, and its gradient is finite everywhere; for disjoint boxes, the gradient is 0.
    """
    intersection = intersection_area(a, b)
    return intersection / (box_area(a) + box_area(b) - intersection).clamp(min=MIN_UNION)


def box_iou(a: Float[Tensor, "n 4"], b: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """Intersection over union of each box in `a` and each box in `b`."""
    return paired_iou(a[:, None], b[None])  # (n, 1, 4) and (1, m, 4) to (n, m)


def clip_boxes(boxes: Float[Tensor, "*n 4"], size: tuple[int, int]) -> Float[Tensor, "*n 4"]:
    """Clip boxes to an image of `size` (height, width); a box outside the image has area 0 afterwards."""
    height, width = size
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def encode(boxes: Float[Tensor, "n 4"], anchors: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    """The offsets (dx, dy, dw, dh) from anchors to boxes, as in `AnchorPredictions`.

        dx = (x − xₐ) / wₐ,   dy = (y − yₐ) / hₐ,   dw = log(w / wₐ),   dh = log(h / hₐ)

    for centres (x, y) and sizes (w, h). Boxes and anchors must have an area, as all matched ones do.
    """
    (centre, size), (anchor, scale) = _centre_and_size(boxes), _centre_and_size(anchors)
    return torch.cat([(centre - anchor) / scale, (size / scale).log()], dim=-1)


def decode(offsets: Float[Tensor, "*B n 4"], anchors: Float[Tensor, "n 4"]) -> Float[Tensor, "*B n 4"]:
    """Apply offsets to anchors: the inverse of `encode`, in float32 at least.

    As in torchvision, dw and dh are clamped to at most log(1000 / 16), so that outliers do not overflow.
    """
    offsets = at_least_float32(offsets)
    anchor, scale = _centre_and_size(anchors)
    centre = anchor + scale * offsets[..., :2]
    half = scale * offsets[..., 2:].clamp(max=MAX_LOG_SCALE).exp() / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def nms(boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], threshold: float) -> Int[Tensor, " kept"]:
    """Non-maximum suppression: of boxes that overlap strongly, only the best is kept.

    Greedy: the box with the highest score is kept, all boxes whose IoU with it exceeds `threshold` are dropped, and so
    on with the remaining boxes. For equal scores the first box wins. All pairs of boxes are compared at once, which
    is intended for a few thousand boxes.

    Returns:
        Indices of the kept boxes, best first.
    """
    order = scores.argsort(descending=True, stable=True)
    # On the CPU, because each step of the loop would synchronize with the device; in double precision, as torchvision.
    suppresses = (box_iou(boxes[order], boxes[order]).cpu().double() > threshold).numpy()  # (n, n)
    kept = np.ones(len(boxes), dtype=bool)
    for i in range(len(boxes)):
        if kept[i]:
            kept[i + 1 :] &= ~suppresses[i, i + 1 :]
    return order[torch.from_numpy(kept).to(order.device)]


def batched_nms(
    boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], labels: Int[Tensor, " n"], threshold: float
) -> Int[Tensor, " kept"]:
    """`nms` within each class: boxes of different classes do not suppress each other."""
    kept = torch.zeros_like(labels, dtype=torch.bool)
    for label in labels.unique():
        (members,) = (labels == label).nonzero(as_tuple=True)
        kept[members[nms(boxes[members], scores[members], threshold)]] = True
    (indices,) = kept.nonzero(as_tuple=True)
    return indices[scores[indices].argsort(descending=True, stable=True)]


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
