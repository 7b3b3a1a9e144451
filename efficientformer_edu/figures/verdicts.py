"""Which boxes are right and which objects were missed, and which pixels are wrong: what drawings of scenes mark.

Comes: an example and what was found in it. Goes: a verdict on each box, object or pixel. How good a network is on many
examples, `dense.metrics` says.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from efficientformer_edu.dense.boxes import LEAST_UNION, area, iou, shared_area
from efficientformer_edu.dense.detections import Detections
from efficientformer_edu.dense.examples import IGNORED, Example

ENOUGH = 0.5  # IoU with an object, to have found it; and part of a box inside a crowd, not to be wrong


class Verdict(NamedTuple):
    """What is right.

    Attributes:
        right: whether a box is, for each.
        found: whether an object was, for each but crowds.
    """

    right: list[bool]
    found: list[bool]

    def __str__(self) -> str:
        return f"{sum(self.found)} of {len(self.found)} found, {self.right.count(False)} wrong"


def judge(example: Example, detections: Detections) -> Verdict:
    """Which boxes are right, as COCO counts them at an IoU of 0.5.

    The boxes choose in their order, the surest first. One is right if it has such an IoU with an object of its class
    that is not taken yet; it takes the one with the highest. One that lies by half in a crowd of its class is not
    wrong.
    """
    boxes, _, labels = detections
    alike = labels[:, None] == example.labels  # (boxes, objects)
    shared = iou(boxes, example.boxes) * (alike & ~example.crowd)  # (boxes, objects)
    in_crowd = torch.zeros(len(boxes), dtype=torch.bool)
    for crowd, fits in zip(example.boxes[example.crowd], alike[:, example.crowd].T, strict=True):
        in_crowd |= fits & (shared_area(boxes, crowd) / area(boxes).clamp(min=LEAST_UNION) >= ENOUGH)
    taken, right = torch.zeros_like(example.crowd), []
    for overlaps, lenient in zip(shared, in_crowd.tolist(), strict=True):
        enough = (overlaps >= ENOUGH) & ~taken
        if enough.any():
            taken[(overlaps * enough).argmax()] = True
        right.append(bool(enough.any()) or lenient)
    return Verdict(right, taken[~example.crowd].tolist())


def wrong_pixels(example: Example, semantic: Tensor) -> Bool[Tensor, "H W"]:
    """Where another class was found than is there; nowhere that no class is."""
    return (semantic != example.semantic) & (example.semantic != IGNORED)


def wrong_words(example: Example, semantic: Tensor) -> str:
    """How many of the pixels that have a class are wrong."""
    judged = int((example.semantic != IGNORED).sum())
    part = int(wrong_pixels(example, semantic).sum()) / max(judged, 1)
    return f"{part:.1%} of the pixels wrong"
