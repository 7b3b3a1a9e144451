"""What is there beside what a network found: a row for each scene, the truth on the left, the prediction on the right.

Comes: examples, and what `dense.predict` found in them. Goes: a drawing, and the same in words. What counts as right is
in `verdicts`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from torch import Tensor

from efficientformer_edu.config_values import rate
from efficientformer_edu.dense.examples import Example
from efficientformer_edu.dense.predict import Found
from efficientformer_edu.figures.class_colours import class_colours
from efficientformer_edu.figures.colours import FAINT, INK, PAPER, QUERY
from efficientformer_edu.figures.legends import Key, legend_height, paint_legend
from efficientformer_edu.figures.overlays import SCORE, counted, marks_of, shares, surest
from efficientformer_edu.figures.parts import shape_text
from efficientformer_edu.figures.photographs import (
    DASHED,
    DOTTED,
    SOLID,
    Mark,
    canvas,
    paint,
    paint_areas,
    paint_marks,
    pixels,
)
from efficientformer_edu.figures.style import Drawing, array
from efficientformer_edu.figures.tags import Box, points
from efficientformer_edu.figures.verdicts import judge, wrong_pixels, wrong_words

SIDE = 300  # dots of a picture's longer side
THIRD, COLUMNS = 192, 3  # dots of the longer side where only the truth is shown, and how many stand in a row
GAP = 16  # dots around pictures
DOTS = 12.5  # height of the letters
ROW = 22  # dots of a title or a remark
STRIPE = (3, 1, 8)  # dots: of colour, of white beside it, and between two
KEYS = (Key("right", INK, SOLID), Key("wrong", INK, DASHED), Key("missed", INK, DOTTED))

Scene = tuple[Example, Found]
Frames = tuple[Box, Box]  # of the truth and of the prediction


def draw_scenes(scenes: Sequence[Scene], score: float = SCORE) -> Drawing:
    """Truth and prediction beside each other.

    Of a detector, the line of a wrong box is dashed, and an object that was missed has a dotted one. Of a network for
    segmentation, wrong pixels are striped.

    Args:
        scenes: examples with what one network found in them.
        score: boxes with less are left out.

    Raises:
        ValueError: without scenes, for a score that is none, for boxes beside classes of pixels or none of the two, and
            where an example has another size than what was found in it.
    """
    with_boxes = _checked(scenes, score)
    keys = list(KEYS) if with_boxes else _area_keys(scenes)
    sizes = [found.image.shape[1:] for _, found in scenes]
    zooms = [SIDE / max(size) for size in sizes]
    heights = [max(1, round(zoom * height)) for zoom, (height, _) in zip(zooms, sizes, strict=True)]
    tops = np.cumsum([GAP + ROW, *(height + ROW + GAP for height in heights)]).tolist()
    room = 2 * SIDE + GAP
    with canvas(room + 2 * GAP, round(tops[-1] + legend_height(keys, room, DOTS))) as (figure, axes):
        for column, title in enumerate(("truth", "prediction")):
            _write(axes, title, column, GAP, INK)
        for (example, found), zoom, height, top in zip(scenes, zooms, heights, tops, strict=False):
            width = max(1, round(zoom * found.image.shape[2]))
            lefts = [GAP + column * (SIDE + GAP) + (SIDE - width) // 2 for column in (0, 1)]
            truth, prediction = ((left, top, left + width, top + height) for left in lefts)
            draw = _draw_boxes if with_boxes else _draw_areas
            draw(axes, example, found, (truth, prediction), score)
            _write(axes, _remark(example, found, score), 1, top + height, FAINT)
        paint_legend(axes, keys, (GAP, tops[-1] - GAP), room, DOTS)
    return figure


def draw_truth(examples: Sequence[Example], classes: Sequence[str]) -> Drawing:
    """Scenes with the boxes of their objects, three in a row.

    Args:
        examples: all of one size.
        classes: names of the objects.

    Raises:
        ValueError: without examples, or for several sizes.
    """
    sizes = {tuple(example.image.shape[1:]) for example in examples}
    if len(sizes) != 1:
        raise ValueError(f"{len(examples)} examples of {len(sizes)} sizes; wanted: at least one, all of one size")
    ((height, width),) = sizes
    zoom = THIRD / max(height, width)
    across, down = round(zoom * width), round(zoom * height)
    rows = -(-len(examples) // COLUMNS)
    with canvas(COLUMNS * (across + GAP) + GAP, rows * (down + GAP) + GAP) as (figure, axes):
        for number, example in enumerate(examples):
            row, column = divmod(number, COLUMNS)
            left, top = GAP + column * (across + GAP), GAP + row * (down + GAP)
            frame: Box = (left, top, left + across, top + down)
            found = Found(example.image, tuple(classes))
            paint(axes, pixels(example.image), frame)
            paint_marks(axes, _truth(example, found), frame, zoom, DOTS, frame)
    return figure


def scenes_alt_text(scenes: Sequence[Scene], score: float = SCORE) -> str:
    """What the drawing shows, for readers who do not see it. Arguments and errors as for `draw_scenes`."""
    with_boxes = _checked(scenes, score)
    said = [f"Truth and prediction side by side, scenes: {len(scenes)}"]
    for number, (example, found) in enumerate(scenes, start=1):
        if with_boxes:
            right, missed = _marks(example, found, score)
            wrong = counted(mark.name for mark in right if mark.line == DASHED)
            there = counted(found.classes[label] for label in example.labels)
            parts = [there or "no object", _remark(example, found, score)]
            parts += [f"missed: {counted(mark.name for mark in missed)}"] * bool(missed)
            parts += [f"wrong: {wrong}"] * bool(wrong)
        else:
            there = ", ".join(f"{name} {part:.0%}" for name, part in shares(example.semantic, found.classes).items())
            parts = [there, _remark(example, found, score)]
        said.append(f"{number}: {'; '.join(parts)}")
    return ". ".join(said) + "."


def _checked(scenes: Sequence[Scene], score: float) -> bool:
    """Whether the scenes are for boxes."""
    rate("score", score)
    kinds = {found.detections is not None for _, found in scenes}
    if len(kinds) != 1:
        raise ValueError(f"{len(scenes)} scenes to draw; wanted: at least one, all with boxes or all without")
    for example, found in scenes:
        if example.image.shape != found.image.shape:
            there, shown = (shape_text(tuple(image.shape[1:])) for image in (example.image, found.image))
            raise ValueError(f"an example has {there} pixels and what was found {shown}")
    return kinds.pop()


def _remark(example: Example, found: Found, score: float) -> str:
    if found.detections is not None:
        return str(judge(example, surest(found, score)))
    return wrong_words(example, _semantic(found))


def _semantic(found: Found) -> Tensor:
    """The class of each pixel. Raises ValueError if there is none."""
    if found.semantic is None:
        raise ValueError("there is nothing to draw: neither boxes nor classes of pixels were found")
    return found.semantic


def _marks(example: Example, found: Found, score: float) -> tuple[list[Mark], list[Mark]]:
    """Of the boxes that were found, and of the objects that were not."""
    marks = marks_of(found, score)
    verdict = judge(example, surest(found, score))
    judged = [
        mark if right else mark._replace(line=DASHED, words=f"{mark.words}, wrong")
        for mark, right in zip(marks, verdict.right, strict=True)
    ]
    objects = [mark for mark, crowd in zip(_truth(example, found), example.crowd, strict=True) if not crowd]
    missed = [
        mark._replace(line=DOTTED, words=f"{mark.name} missed")
        for mark, seen in zip(objects, verdict.found, strict=True)
        if not seen
    ]
    return judged, missed


def _truth(example: Example, found: Found) -> list[Mark]:
    names, colours = [found.classes[label] for label in example.labels], class_colours(found.classes)
    return [
        Mark(tuple(box), name, f"{name}, crowd" if crowd else name, colours[name])
        for box, name, crowd in zip(example.boxes.tolist(), names, example.crowd, strict=True)
    ]


def _draw_boxes(axes: Axes, example: Example, found: Found, frames: Frames, score: float) -> None:
    judged, missed = _marks(example, found, score)
    for frame, marks in zip(frames, (_truth(example, found), [*judged, *missed]), strict=True):
        paint(axes, pixels(found.image), frame)
        paint_marks(axes, marks, frame, (frame[2] - frame[0]) / found.image.shape[2], DOTS, frame)


def _draw_areas(axes: Axes, example: Example, found: Found, frames: Frames, score: float) -> None:
    image, classes = pixels(found.image), found.classes
    both = example.semantic, _semantic(found)
    for frame, semantic in zip(frames, both, strict=True):
        paint_areas(axes, image, array(semantic), classes, frame, DOTS)
    left, top, right, bottom = frames[1]
    y, x = np.mgrid[: round(bottom - top), : round(right - left)]  # (h, w) each, in dots
    rows, columns = y * image.shape[0] // y.shape[0], x * image.shape[1] // x.shape[1]  # of the pixels below
    wrong = array(wrong_pixels(example, both[1]))[rows, columns]  # (h, w)
    across = (x + y) % sum(STRIPE)
    striped = np.zeros((*wrong.shape, 4))  # where nothing is painted, what was found shows through
    striped[wrong & (across < sum(STRIPE[:2]))] = to_rgba(PAPER)
    striped[wrong & (across < STRIPE[0])] = to_rgba(QUERY)
    paint(axes, striped, frames[1])


def _area_keys(scenes: Sequence[Scene]) -> list[Key]:
    """A patch for each class that is there or was found anywhere, in the order of the classes."""
    classes = scenes[0][1].classes
    seen = {
        name
        for example, found in scenes
        for semantic in (example.semantic, _semantic(found))
        for name in shares(semantic, classes)
    }
    return [
        *(Key(name, colour) for name, colour in class_colours(classes).items() if name in seen),
        Key("wrong pixels", QUERY),
    ]


def _write(axes: Axes, words: str, column: int, top: float, colour: str) -> None:
    """A title or a remark in the middle of a column."""
    place = GAP + column * (SIDE + GAP) + SIDE / 2, top + 0.7 * ROW
    axes.text(*place, words, ha="center", color=colour, fontsize=points(DOTS))
