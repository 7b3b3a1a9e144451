"""Correct boxes, missed objects and wrong pixels of an example, as marked in figures of scenes.

Input: an example and its predictions. Output: a verdict for each box, object or pixel. Metrics over many examples are
in `dense.metrics`.

Annotations and predictions next to each other: one row per scene, with the truth on the left.

Scenes are examples with the output of `dense.predict`. `verdicts` defines which predictions are correct.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from torch import Tensor

from efficientformer_edu._validation import probability
from efficientformer_edu.data.examples import IGNORED, Example
from efficientformer_edu.dense.detection.boxes import LEAST_UNION, area, iou, shared_area
from efficientformer_edu.dense.detection.postprocess import Detections
from efficientformer_edu.dense.predict import Found
from efficientformer_edu.plots.mermaid import shape_text
from efficientformer_edu.plots.overlays import (
    DASHED,
    DOTTED,
    SCORE,
    SOLID,
    Box,
    Keys,
    Mark,
    canvas,
    class_colours,
    class_key,
    class_shares,
    confident_detections,
    count_names,
    draw_areas,
    draw_image,
    draw_legend,
    draw_marks,
    font_size,
    legend_height,
    score_marks,
    to_pixels,
)
from efficientformer_edu.plots.style import FAINT, INK, PAPER, QUERY, Drawing, array

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


SIDE = 300  # dots of the longer side of an image
TRUTH_SIDE, COLUMNS = 192, 3  # the same where only the truth is shown, and images per row
GAP = 16  # dots around images
LETTER = 12.5  # height of letters in dots
ROW = 22  # height of a title or a remark in dots
STRIPES = ((QUERY, 3), (PAPER, 4))  # of wrong pixels: colour, and where it ends within 12 dots
STRIPE_PERIOD = 12

Scene = tuple[Example, Found]


def draw_scenes(scenes: Sequence[Scene], score: float = SCORE) -> Drawing:
    """Truth and prediction next to each other.

    For a detector, wrong boxes are dashed, and missed objects are dotted. For a segmentation network, wrong pixels are
    striped.

    Args:
        scenes: examples with the predictions of one network.
        score: boxes with a lower score are left out.

    Raises:
        ValueError: without scenes, for a score outside 0 to 1, for a mixture of boxes and classes of pixels or neither,
            and if an example and its prediction have different sizes.
    """
    with_boxes = _check(scenes, score)
    keys = _line_keys() if with_boxes else _area_keys(scenes)
    sizes = [prediction.image.shape[1:] for _, prediction in scenes]
    heights = [max(1, round(SIDE / max(size) * size[0])) for size in sizes]
    tops = np.cumsum([GAP + ROW, *(height + ROW + GAP for height in heights)]).tolist()
    max_width = 2 * SIDE + GAP
    with canvas(max_width + 2 * GAP, tops[-1] + legend_height(keys, max_width, LETTER)) as (figure, axes):
        for column, title in enumerate(("truth", "prediction")):
            _write(axes, title, column, GAP, INK)
        for scene, size, height, top in zip(scenes, sizes, heights, tops, strict=False):
            width = max(1, round(SIDE / max(size) * size[1]))
            lefts = [GAP + column * (SIDE + GAP) + (SIDE - width) // 2 for column in (0, 1)]
            truth, prediction = ((left, top, left + width, top + height) for left in lefts)
            (_draw_boxes if with_boxes else _draw_classes)(axes, scene, truth, prediction, score)
            _write(axes, _remark(scene, score), 1, top + height, FAINT)
        draw_legend(axes, keys, (GAP, tops[-1] - GAP), max_width, LETTER)
    return figure


def draw_truth(examples: Sequence[Example], classes: Sequence[str]) -> Drawing:
    """Examples with the boxes of their objects, three per row.

    Args:
        examples: of the same size.
        classes: names of the objects.

    Raises:
        ValueError: without examples, or for different sizes.
    """
    sizes = {tuple(example.image.shape[1:]) for example in examples}
    if len(sizes) != 1:
        raise ValueError(f"{len(examples)} examples of {len(sizes)} sizes; expected at least one, all of one size")
    ((height, width),) = sizes
    zoom = TRUTH_SIDE / max(height, width)
    across, down = round(zoom * width), round(zoom * height)
    rows = -(-len(examples) // COLUMNS)
    with canvas(COLUMNS * (across + GAP) + GAP, rows * (down + GAP) + GAP) as (figure, axes):
        for number, example in enumerate(examples):
            row, column = divmod(number, COLUMNS)
            left, top = GAP + column * (across + GAP), GAP + row * (down + GAP)
            frame: Box = (left, top, left + across, top + down)
            draw_image(axes, to_pixels(example.image), frame)
            draw_marks(axes, _truth(example, classes), frame, zoom, LETTER, frame)
    return figure


def scenes_alt_text(scenes: Sequence[Scene], score: float = SCORE) -> str:
    """A description of the figure for screen readers. Arguments and errors as for `draw_scenes`."""
    with_boxes = _check(scenes, score)
    text = [f"Truth and prediction side by side, scenes: {len(scenes)}"]
    for number, (example, prediction) in enumerate(scenes, start=1):
        if with_boxes:
            boxes, missed = _marks(example, prediction, score)
            wrong = count_names(mark.name for mark in boxes if mark.line == DASHED)
            objects = count_names(prediction.classes[label] for label in example.labels)
            parts = [objects or "no object", _remark((example, prediction), score)]
            parts += [f"missed: {count_names(mark.name for mark in missed)}"] * bool(missed)
            parts += [f"wrong: {wrong}"] * bool(wrong)
        else:
            shares = class_shares(example.semantic, prediction.classes)
            parts = [", ".join(f"{name} {share:.0%}" for name, share in shares.items())]
            parts.append(_remark((example, prediction), score))
        text.append(f"{number}: {'; '.join(parts)}")
    return ". ".join(text) + "."


def _check(scenes: Sequence[Scene], score: float) -> bool:
    """Check the arguments; True if the predictions are boxes."""
    probability("score", score)
    kinds = {prediction.detections is not None for _, prediction in scenes}
    if len(kinds) != 1:
        raise ValueError(f"{len(scenes)} scenes to draw; expected at least one, all with boxes or all without")
    for example, prediction in scenes:
        if example.image.shape != prediction.image.shape:
            sizes = [shape_text(tuple(image.shape[1:])) for image in (example.image, prediction.image)]
            raise ValueError(f"an example has {sizes[0]} pixels and its prediction {sizes[1]}")
    return kinds.pop()


def _remark(scene: Scene, score: float) -> str:
    example, prediction = scene
    if prediction.detections is not None:
        return str(judge(example, confident_detections(prediction, score)))
    return wrong_words(example, _semantic(prediction))


def _semantic(prediction: Found) -> Tensor:
    """The class of each pixel. Raises ValueError if there is none."""
    if prediction.semantic is None:
        raise ValueError("a prediction to draw has neither boxes nor classes of pixels")
    return prediction.semantic


def _marks(example: Example, prediction: Found, score: float) -> tuple[list[Mark], list[Mark]]:
    """The predicted boxes, and the objects that were missed."""
    verdict = judge(example, confident_detections(prediction, score))
    boxes = [
        mark if right else mark._replace(line=DASHED, label=f"{mark.label}, wrong")
        for mark, right in zip(score_marks(prediction, score), verdict.right, strict=True)
    ]
    truth = zip(_truth(example, prediction.classes), example.crowd, strict=True)
    objects = [mark for mark, crowd in truth if not crowd]
    missed = [
        mark._replace(line=DOTTED, label=f"{mark.name} missed")
        for mark, detected in zip(objects, verdict.found, strict=True)
        if not detected
    ]
    return boxes, missed


def _truth(example: Example, classes: Sequence[str]) -> list[Mark]:
    names, colours = [classes[label] for label in example.labels], class_colours(classes)
    return [
        Mark(tuple(box), name, f"{name}, crowd" if crowd else name, colours[name])
        for box, name, crowd in zip(example.boxes.tolist(), names, example.crowd, strict=True)
    ]


def _draw_boxes(axes: Axes, scene: Scene, left: Box, right: Box, score: float) -> None:
    example, prediction = scene
    boxes, missed = _marks(example, prediction, score)
    for column, (frame, marks) in enumerate(((left, _truth(example, prediction.classes)), (right, [*boxes, *missed]))):
        draw_image(axes, to_pixels(prediction.image), frame)
        start = GAP + column * (SIDE + GAP)
        zoom = (frame[2] - frame[0]) / prediction.image.shape[2]
        draw_marks(axes, marks, frame, zoom, LETTER, (start, frame[1], start + SIDE, frame[3]))


def _draw_classes(axes: Axes, scene: Scene, left: Box, right: Box, score: float) -> None:
    example, prediction = scene
    image, semantic = to_pixels(prediction.image), _semantic(prediction)
    for frame, labels in ((left, example.semantic), (right, semantic)):
        draw_areas(axes, image, array(labels), prediction.classes, frame, LETTER)
    y, x = np.indices((round(right[3] - right[1]), round(right[2] - right[0])))  # (h, w) each, in dots
    rows, columns = y * image.shape[0] // y.shape[0], x * image.shape[1] // x.shape[1]  # of the pixel at a dot
    wrong = array(wrong_pixels(example, semantic))[rows, columns]  # (h, w)
    stripes = np.zeros((*wrong.shape, 4))  # transparent
    for colour, end in reversed(STRIPES):
        stripes[wrong & ((x + y) % STRIPE_PERIOD < end)] = to_rgba(colour)
    draw_image(axes, stripes, right)


def _line_keys() -> Keys:
    styles = {"right": SOLID, "wrong": DASHED, "missed": DOTTED}
    return {label: Line2D([], [], color=INK, ls=style, lw=font_size(LETTER) / 6) for label, style in styles.items()}


def _area_keys(scenes: Sequence[Scene]) -> Keys:
    """A patch for each class that is annotated or predicted anywhere, in the order of the classes."""
    classes = scenes[0][1].classes
    present = {
        name
        for example, prediction in scenes
        for semantic in (example.semantic, _semantic(prediction))
        for name in class_shares(semantic, classes)
    }
    keys = {name: class_key(colour) for name, colour in class_colours(classes).items() if name in present}
    return {**keys, "wrong pixels": class_key(QUERY)}


def _write(axes: Axes, text: str, column: int, top: float, colour: str) -> None:
    """A title or a remark, centred in a column."""
    x = GAP + column * (SIDE + GAP) + SIDE / 2
    axes.text(x, top + 0.7 * ROW, text, ha="center", color=colour, fontsize=font_size(LETTER))
