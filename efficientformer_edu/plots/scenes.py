"""Annotations and predictions next to each other: one row per scene, with the truth on the left.

Scenes are examples with the output of `dense.evaluation`. Metrics over many examples are in `dense.metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from torch import Tensor

from efficientformer_edu._validation import probability
from efficientformer_edu.data.examples import IGNORED, Example
from efficientformer_edu.dense.detection.boxes import MIN_UNION, box_area, box_iou, intersection_area
from efficientformer_edu.dense.detection.postprocess import Detections
from efficientformer_edu.dense.evaluation import DensePrediction
from efficientformer_edu.plots import FAINT, INK, PAPER, QUERY
from efficientformer_edu.plots.mermaid import shape_text
from efficientformer_edu.plots.overlays import (
    DASHED,
    DOTTED,
    LETTER,
    SCORE,
    SOLID,
    Mark,
    canvas,
    class_colours,
    class_patch,
    class_shares,
    confident_detections,
    count_names,
    draw_areas,
    draw_marks,
    font_size,
    image_axes,
    line_width,
    predicted_marks,
    show_pixels,
    to_pixels,
)
from efficientformer_edu.plots.style import Drawing, array

MIN_IOU = 0.5  # to detect an object; also the share of a box inside a crowd from which it does not count as wrong
SIDE = 300  # dots of the longer side of an image
TRUTH_SIDE, COLUMNS = 192, 3  # the same where only the truth is shown, and images per row
GAP, ROW = 16, 22  # dots around images, and the height of a title or a remark
STRIPES = ((QUERY, 3), (PAPER, 4))  # of wrong pixels: colour, and where it ends within a period
STRIPE_PERIOD = 12  # dots

Scene = tuple[Example, DensePrediction]


class Matches(NamedTuple):
    """Which boxes are correct, and which objects were detected.

    Attributes:
        correct: for each box.
        detected: for each object that is not a crowd.
    """

    correct: list[bool]
    detected: list[bool]

    def __str__(self) -> str:
        return f"{sum(self.detected)} of {len(self.detected)} detected, {self.correct.count(False)} wrong"


def match_detections(example: Example, detections: Detections) -> Matches:
    """Match boxes with objects, as in COCO's evaluation at an IoU of 0.5.

    Boxes are matched in order, most confident first. A box is correct if its IoU with an unmatched object of its class
    is at least 0.5; it is matched with the object of highest IoU. A box that lies at least half inside a crowd of its
    class does not count as wrong.
    """
    boxes, _, labels = detections
    same_class = labels[:, None] == example.labels  # (boxes, objects)
    ious = box_iou(boxes, example.boxes) * (same_class & ~example.crowd)  # (boxes, objects)
    in_crowd = torch.zeros(len(boxes), dtype=torch.bool)
    for crowd, same in zip(example.boxes[example.crowd], same_class[:, example.crowd].T, strict=True):
        in_crowd |= same & (intersection_area(boxes, crowd) / box_area(boxes).clamp(min=MIN_UNION) >= MIN_IOU)
    matched, correct = torch.zeros_like(example.crowd), []
    for overlaps, ignored in zip(ious, in_crowd.tolist(), strict=True):
        candidates = (overlaps >= MIN_IOU) & ~matched
        if candidates.any():
            matched[(overlaps * candidates).argmax()] = True
        correct.append(bool(candidates.any()) or ignored)
    return Matches(correct, matched[~example.crowd].tolist())


def wrong_pixels(example: Example, semantic: Tensor) -> Bool[Tensor, "H W"]:
    """A mask of the pixels with a wrong class, without pixels that have no class."""
    return (semantic != example.semantic) & (example.semantic != IGNORED)


def draw_scenes(scenes: Sequence[Scene], score: float = SCORE) -> Drawing:
    """Truth and prediction next to each other, one row per scene.

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
    handles: list[Artist]
    if with_boxes:
        styles = {"correct": SOLID, "wrong": DASHED, "missed": DOTTED}
        handles = [Line2D([], [], color=INK, ls=ls, lw=line_width(LETTER), label=name) for name, ls in styles.items()]
    else:
        classes = scenes[0][1].classes
        maps = [semantic for example, prediction in scenes for semantic in (example.semantic, prediction.semantic)]
        present = {name for semantic in maps for name in class_shares(semantic, classes)}
        handles = [class_patch(name, colour) for name, colour in class_colours(classes).items() if name in present]
        handles.append(class_patch("wrong pixels", QUERY))
    sizes = [prediction.image.shape[1:] for _, prediction in scenes]
    heights = [max(1, round(SIDE / max(size) * size[0])) for size in sizes]
    top = GAP + ROW
    with canvas(2 * SIDE + 3 * GAP, top + sum(heights) + len(scenes) * (ROW + GAP), handles) as figure:
        for scene, size, height in zip(scenes, sizes, heights, strict=True):
            image, width = to_pixels(scene[1].image), max(1, round(SIDE / max(size) * size[1]))
            lefts = [GAP + column * (SIDE + GAP) + (SIDE - width) // 2 for column in (0, 1)]
            truth, predicted = (image_axes(figure, image, (left, top, width, height)) for left in lefts)
            (_draw_boxes if with_boxes else _draw_classes)(truth, predicted, scene, score)
            if scene is scenes[0]:
                truth.set_title("truth", fontsize=font_size(LETTER))
                predicted.set_title("prediction", fontsize=font_size(LETTER))
            predicted.set_xlabel(_remark(scene, score), fontsize=font_size(LETTER), color=FAINT)
            top += height + ROW + GAP
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
    (size,) = sizes
    height, width = (round(TRUTH_SIDE / max(size) * side) for side in size)
    rows = -(-len(examples) // COLUMNS)
    with canvas(COLUMNS * (width + GAP) + GAP, rows * (height + GAP) + GAP) as figure:
        for number, example in enumerate(examples):
            row, column = divmod(number, COLUMNS)
            corner = (GAP + column * (width + GAP), GAP + row * (height + GAP))
            axes = image_axes(figure, to_pixels(example.image), (*corner, width, height))
            draw_marks(axes, _true_marks(example, classes), LETTER, axes.bbox)
    return figure


def scenes_alt_text(scenes: Sequence[Scene], score: float = SCORE) -> str:
    """A description of the figure for screen readers. Arguments and errors as for `draw_scenes`."""
    with_boxes = _check(scenes, score)
    text = [f"Truth and prediction side by side, scenes: {len(scenes)}"]
    for number, (example, prediction) in enumerate(scenes, start=1):
        if with_boxes:
            boxes, missed = _scene_marks(example, prediction, score)
            wrong = count_names(mark.name for mark in boxes if mark.line == DASHED)
            objects = count_names(prediction.classes[label] for label in example.labels)
            facts = [objects or "no object", _remark((example, prediction), score)]
            facts += [f"missed: {count_names(mark.name for mark in missed)}"] * bool(missed)
            facts += [f"wrong: {wrong}"] * bool(wrong)
        else:
            shares = class_shares(example.semantic, prediction.classes)
            facts = [", ".join(f"{name} {share:.0%}" for name, share in shares.items())]
            facts.append(_remark((example, prediction), score))
        text.append(f"{number}: {'; '.join(facts)}")
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
        if prediction.detections is None and prediction.semantic is None:
            raise ValueError("a prediction to draw has neither boxes nor classes of pixels")
    return kinds.pop()


def _remark(scene: Scene, score: float) -> str:
    example, prediction = scene
    if prediction.semantic is None:
        return str(match_detections(example, confident_detections(prediction, score)))
    labelled = int((example.semantic != IGNORED).sum())
    share = int(wrong_pixels(example, prediction.semantic).sum()) / max(labelled, 1)
    return f"{share:.1%} of the pixels wrong"


def _draw_boxes(truth: Axes, predicted: Axes, scene: Scene, score: float) -> None:
    example, prediction = scene
    boxes, missed = _scene_marks(example, prediction, score)
    for axes, marks in ((truth, _true_marks(example, prediction.classes)), (predicted, [*boxes, *missed])):
        spare = (SIDE - axes.bbox.width) / 2
        bounds = Bbox.from_extents(axes.bbox.x0 - spare, axes.bbox.y0, axes.bbox.x1 + spare, axes.bbox.y1)
        draw_marks(axes, marks, LETTER, bounds)


def _draw_classes(truth: Axes, predicted: Axes, scene: Scene, score: float) -> None:
    example, prediction = scene
    assert prediction.semantic is not None  # see `_check`
    image = to_pixels(prediction.image)
    for axes, labels in ((truth, example.semantic), (predicted, prediction.semantic)):
        draw_areas(axes, image, array(labels), prediction.classes, LETTER)
    y, x = np.indices((round(predicted.bbox.height), round(predicted.bbox.width)))  # (h, w) each, in dots
    rows, columns = y * image.shape[0] // y.shape[0], x * image.shape[1] // x.shape[1]  # of the pixel at a dot
    wrong = array(wrong_pixels(example, prediction.semantic))[rows, columns]  # (h, w)
    stripes = np.zeros((*wrong.shape, 4))  # transparent
    for colour, end in reversed(STRIPES):
        stripes[wrong & ((x + y) % STRIPE_PERIOD < end)] = to_rgba(colour)
    show_pixels(predicted, stripes, image.shape)


def _scene_marks(example: Example, prediction: DensePrediction, score: float) -> tuple[list[Mark], list[Mark]]:
    """The predicted boxes, and the objects that were missed."""
    matches = match_detections(example, confident_detections(prediction, score))
    boxes = [
        mark if correct else mark._replace(line=DASHED, label=f"{mark.label}, wrong")
        for mark, correct in zip(predicted_marks(prediction, score), matches.correct, strict=True)
    ]
    truth = zip(_true_marks(example, prediction.classes), example.crowd, strict=True)
    objects = [mark for mark, crowd in truth if not crowd]
    missed = [
        mark._replace(line=DOTTED, label=f"{mark.name} missed")
        for mark, detected in zip(objects, matches.detected, strict=True)
        if not detected
    ]
    return boxes, missed


def _true_marks(example: Example, classes: Sequence[str]) -> list[Mark]:
    names, colours = [classes[label] for label in example.labels], class_colours(classes)
    return [
        Mark(tuple(box), name, f"{name}, crowd" if crowd else name, colours[name])
        for box, name, crowd in zip(example.boxes.tolist(), names, example.crowd, strict=True)
    ]
