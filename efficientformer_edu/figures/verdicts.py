"""Correct boxes, missed objects and wrong pixels of an example, as marked in figures of scenes.

Input: an example and its predictions. Output: a verdict for each box, object or pixel. Metrics over many examples are
in `dense.metrics`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from efficientformer_edu.dense.boxes import LEAST_UNION, area, iou, shared_area
from efficientformer_edu.dense.detections import Detections
from efficientformer_edu.dense.examples import IGNORED, Example

ENOUGH = 0.5  # IoU needed to detect an object, and share of a box inside a crowd needed to be ignored


class Verdict(NamedTuple):
    """Correct boxes and detected objects.

    Attributes:
        right: whether each box is correct.
        found: whether each object that is not a crowd was detected.
    """

    right: list[bool]
    found: list[bool]

    def __str__(self) -> str:
        return f"{sum(self.found)} of {len(self.found)} found, {self.right.count(False)} wrong"


def judge(example: Example, detections: Detections) -> Verdict:
    """Match boxes with objects, as in COCO's evaluation at an IoU of 0.5.

    Boxes are matched in order, most confident first. A box is correct if its IoU with an unmatched object of its class
    is at least 0.5; it is matched with the object of highest IoU. A box that lies at least half inside a crowd of its
    class does not count as wrong.
    """
    boxes, _, labels = detections
    same_class = labels[:, None] == example.labels  # (boxes, objects)
    shared = iou(boxes, example.boxes) * (same_class & ~example.crowd)  # (boxes, objects)
    in_crowd = torch.zeros(len(boxes), dtype=torch.bool)
    for crowd, fits in zip(example.boxes[example.crowd], same_class[:, example.crowd].T, strict=True):
        in_crowd |= fits & (shared_area(boxes, crowd) / area(boxes).clamp(min=LEAST_UNION) >= ENOUGH)
    taken, right = torch.zeros_like(example.crowd), []
    for overlaps, lenient in zip(shared, in_crowd.tolist(), strict=True):
        enough = (overlaps >= ENOUGH) & ~taken
        if enough.any():
            taken[(overlaps * enough).argmax()] = True
        right.append(bool(enough.any()) or lenient)
    return Verdict(right, taken[~example.crowd].tolist())


def wrong_pixels(example: Example, semantic: Tensor) -> Bool[Tensor, "H W"]:
    """A mask of the pixels with a wrong class, without pixels that have no class."""
    return (semantic != example.semantic) & (example.semantic != IGNORED)


def wrong_words(example: Example, semantic: Tensor) -> str:
    """The share of wrong pixels among those that have a class, as text."""
    labelled = int((example.semantic != IGNORED).sum())
    share = int(wrong_pixels(example, semantic).sum()) / max(labelled, 1)
    return f"{share:.1%} of the pixels wrong"
