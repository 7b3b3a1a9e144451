"""A photograph with what a network found in it: a box for each object, or the class of each pixel.

Comes: what `dense.predict.predict_photo` gives. Goes: a drawing in which each pixel of the photograph is one dot, so
that its picture is as large as the photograph and a margin. `scenes` lays what was found beside what is there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from efficientformer_edu.config_values import rate
from efficientformer_edu.dense.detections import Detections
from efficientformer_edu.dense.examples import BACKGROUND, IGNORED
from efficientformer_edu.dense.predict import Found
from efficientformer_edu.figures.class_colours import class_colours
from efficientformer_edu.figures.colours import PAPER
from efficientformer_edu.figures.legends import Key, key_width, legend_height, paint_legend
from efficientformer_edu.figures.photographs import UNJUDGED, Mark, canvas, paint, paint_areas, paint_marks, pixels
from efficientformer_edu.figures.style import Drawing, array
from efficientformer_edu.figures.tags import Box, tag_size

SCORE = 0.3  # boxes with less are not drawn: they are many, and most of them wrong
SMALL = 480  # a photograph whose longer side has fewer pixels is enlarged by a whole number
LETTERS = 40  # how often the height of the letters goes into a square photograph's side
LEAST = 12.0  # dots of the letters
MOST = 12  # classes that a legend names
NINTHS = (
    ("at the upper left", "at the top", "at the upper right"),
    ("on the left", "in the middle", "on the right"),
    ("at the lower left", "at the bottom", "at the lower right"),
)


def draw_overlay(found: Found, score: float = SCORE) -> Drawing:
    """A photograph with boxes and their scores, or with the class of each pixel and a legend.

    Saved as PNG, each pixel of the photograph is one dot; where its longer side has fewer than 480, a square of dots.
    Letters and lines grow with the photograph. Words stay on it, or on the margin of one too narrow for them.

    Args:
        found: what was found.
        score: boxes with less are left out.

    Raises:
        ValueError: for a score that is none.
    """
    image, marks = pixels(found.image), marks_of(found, rate("score", score))
    height, width = image.shape[:2]
    zoom = math.ceil(SMALL / max(height, width))
    dots = max(LEAST, zoom * math.sqrt(width * height) / LETTERS)
    keys = [] if found.semantic is None else legend(shares(found.semantic, found.classes), found.classes)
    if found.detections is not None and not marks:
        keys.append(Key(_nothing(score)))
    sizes = [tag_size(mark.words, dots) for mark in marks]
    room = math.ceil(max([zoom * width, *(size[0] for size in sizes), *(key_width(key, dots) for key in keys)]))
    tall = math.ceil(max([zoom * height, *(size[1] for size in sizes)]))
    margin, below = round(dots), math.ceil(legend_height(keys, room, dots))
    with canvas(room + 2 * margin, tall + below + 2 * margin) as (figure, axes):
        left, top = margin + (room - zoom * width) // 2, margin + (tall - zoom * height) // 2
        frame: Box = (left, top, left + zoom * width, top + zoom * height)
        if found.semantic is None:
            paint(axes, image, frame)
        else:
            paint_areas(axes, image, array(found.semantic), found.classes, frame, dots)
        paint_marks(axes, marks, frame, zoom, dots, _widened(frame, sizes))
        paint_legend(axes, keys, (margin, margin + tall), room, dots)
    return figure


def overlay_alt_text(found: Found, score: float = SCORE) -> str:
    """What the drawing shows, for readers who do not see it. Arguments and errors as for `draw_overlay`."""
    height, width = found.image.shape[1:]
    marks = marks_of(found, rate("score", score))
    said = [f"A photograph of {width}×{height} pixels"]
    if marks:
        surest = marks[0]
        said.append(f"boxes around {counted(mark.name for mark in marks)}")
        said.append(f"the surest is {surest.words}, {_where(surest.box, width, height)}")
    elif found.detections is not None:
        said.append(_nothing(score))
    if found.semantic is not None:
        parts = shares(found.semantic, found.classes)
        said.append("its pixels show " + ", ".join(f"{name} {part:.0%}" for name, part in parts.items()))
    return "; ".join(said) + "."


def surest(found: Found, score: float) -> Detections:
    """The boxes with such a score, the surest first; none of a network for segmentation."""
    boxes, scores, labels = found.detections or (torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= score]
    return Detections(boxes[order], scores[order], labels[order])


def marks_of(found: Found, score: float) -> list[Mark]:
    """A mark for each box with such a score, the surest first."""
    boxes, scores, labels = (values.tolist() for values in surest(found, score))
    names, colours = [found.classes[label] for label in labels], class_colours(found.classes)
    return [
        Mark(tuple(box), name, f"{name} {one:.0%}", colours[name])
        for box, name, one in zip(boxes, names, scores, strict=True)
    ]


def shares(semantic: Any, classes: Sequence[str]) -> dict[str, float]:
    """What pixels show, each class with its part of the picture, the largest first."""
    labels, counts = np.unique(array(semantic), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    names = [UNJUDGED if label == IGNORED else classes[label] for label in labels[order]]
    return dict(zip(names, (counts[order] / counts.sum()).tolist(), strict=True))


def legend(parts: dict[str, float], classes: Sequence[str]) -> list[Key]:
    """An entry for each class that pixels show, but the background, which has no colour."""
    colours = class_colours(classes) | {UNJUDGED: PAPER}
    keys = [Key(f"{name} {part:.0%}", colours[name]) for name, part in parts.items() if name != BACKGROUND]
    return keys if len(keys) <= MOST else [*keys[:MOST], Key(f"and {len(keys) - MOST} more")]


def counted(names: Iterable[str]) -> str:
    """Names, each once, with how often it comes where that is more: 2 × disc, star."""
    return ", ".join(f"{count} × {name}" if count > 1 else name for name, count in Counter(names).items())


def _nothing(score: float) -> str:
    return f"no object with a score of {score:.0%} or more"


def _widened(frame: Box, sizes: Sequence[tuple[float, float]]) -> Box:
    """The frame, widened on both sides alike where a tag has no room in it."""
    left, top, right, bottom = frame
    across = max([0.0, *(width - (right - left) for width, _ in sizes)]) / 2
    down = max([0.0, *(height - (bottom - top) for _, height in sizes)]) / 2
    return left - across, top - down, right + across, bottom + down


def _where(box: Box, width: int, height: int) -> str:
    """In which of nine parts of the picture the middle of a box is."""
    x, y = (box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height
    return NINTHS[min(int(3 * y), 2)][min(int(3 * x), 2)]
