"""A photograph on a canvas whose unit is the dot, and on it boxes with their tags, or areas with their names.

`overlays` and `scenes` are made of these. Comes: pixels, boxes and classes of pixels. Goes: nothing; it is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from efficientformer_edu.dense.examples import BACKGROUND, IGNORED
from efficientformer_edu.figures.class_colours import class_colours, ink_on
from efficientformer_edu.figures.colours import INK, PAPER
from efficientformer_edu.figures.style import DPI, Drawing, drawing
from efficientformer_edu.figures.tags import PAD, Box, leader, place_tags, points, room_for, tag_size, words_width

TINT = 0.6  # part of the class's colour in an area; the rest is the photograph in grey
UNJUDGED = "no class"  # pixels that are neither learned from nor judged
VEIL = 0.75  # part of white where a pixel has no class
FINEST = 512  # rows and columns in which areas are outlined and named
SOLID, DASHED, DOTTED = "-", (0, (4, 2.5)), (0, (1, 1.5))
Line = str | tuple[float, tuple[float, float]]


class Mark(NamedTuple):
    """A box with its tag: corners in pixels, class, the tag's words, colour as hexadecimal RGB, and kind of line."""

    box: Box
    name: str
    words: str
    colour: str
    line: Line = SOLID


@contextmanager
def canvas(width: float, height: float) -> Iterator[tuple[Drawing, Axes]]:
    """A drawing of so many dots, and axes over all of it whose unit is the dot, from the upper left corner."""
    with drawing(height=height / DPI, width=width / DPI) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        yield figure, axes


def pixels(image: Any) -> NDArray[np.uint8]:
    """(3, H, W) as `Example.image` has it, to (H, W, 3)."""
    return np.ascontiguousarray(np.asarray(image).transpose(1, 2, 0))


def paint(axes: Axes, picture: NDArray[Any], frame: Box) -> None:
    """A picture (H, W, 3) that fills a frame: where it fits, each pixel is a square of dots."""
    left, top, right, bottom = frame
    limits, fits = axes.axis(), (right - left) % picture.shape[1] == (bottom - top) % picture.shape[0] == 0
    look: Any = {"aspect": "auto", "interpolation": "nearest" if fits else "auto"}
    axes.imshow(picture, extent=(left, right, bottom, top), **look)
    axes.axis(limits)


def paint_marks(axes: Axes, marks: Sequence[Mark], frame: Box, zoom: float, dots: float, bounds: Box) -> None:
    """Boxes with their tags; the first is the most important and comes to lie on top.

    A line leads from a tag to its box where there was no room beside it.

    Args:
        axes: of a canvas.
        marks: what is drawn.
        frame: where the photograph is.
        zoom: dots of a pixel of the photograph.
        dots: height of the letters.
        bounds: what no tag leaves.
    """
    boxes: list[Box] = []
    for x1, y1, x2, y2 in (mark.box for mark in marks):
        left, top = frame[0] + zoom * x1, frame[1] + zoom * y1
        boxes.append((left, top, left + zoom * (x2 - x1), top + zoom * (y2 - y1)))
    tags = place_tags(boxes, [tag_size(mark.words, dots) for mark in marks], bounds)
    width = points(dots) / 6
    for order, (mark, box, tag) in enumerate(zip(marks, boxes, tags, strict=True)):
        over, line = 3 - order / len(marks), leader(tag, box)
        for colour, style, wide in ((PAPER, SOLID, 2.2 * width), (mark.colour, mark.line, width)):
            edge: dict[str, Any] = {"edgecolor": colour, "linestyle": style, "linewidth": wide, "capstyle": "butt"}
            axes.add_patch(Rectangle(box[:2], box[2] - box[0], box[3] - box[1], fill=False, zorder=over, **edge))
            if line is not None:
                axes.plot(*zip(*line, strict=True), color=colour, linewidth=wide, zorder=4)
        paint_tag(axes, mark, tag, dots, 4 + over)


def paint_tag(axes: Axes, mark: Mark, tag: Box, dots: float, over: float) -> None:
    """The words of a mark on its colour."""
    size = tag[2] - tag[0], tag[3] - tag[1]
    axes.add_patch(Rectangle(tag[:2], *size, facecolor=mark.colour, edgecolor=PAPER, linewidth=0.5, zorder=over))
    baseline = tag[1] + size[1] - (PAD + 0.14) * dots
    ink = ink_on(mark.colour)
    axes.text(tag[0] + PAD * dots, baseline, mark.words, color=ink, fontsize=points(dots), zorder=over)


def tinted(image: NDArray[np.uint8], semantic: NDArray[Any], classes: Sequence[str]) -> NDArray[np.uint8]:
    """The photograph (H, W, 3), grey under its class's colour; the background as it is, what has no class under a veil.

    Grey, so that the colours are those of the legend whatever colour the photograph has there.
    """
    colours = class_colours(classes)
    under = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)  # (H, W, 3)
    tones, parts = np.zeros((256, 3)), np.zeros((256, 1))
    for label, name in enumerate(classes):
        if name != BACKGROUND:
            tones[label], parts[label] = 255 * np.array(to_rgb(colours[name])), TINT
    tones[IGNORED], parts[IGNORED] = 255, VEIL
    plain = (parts[semantic] == 0)[..., 0]
    under[plain] = image[plain]
    return (parts[semantic] * tones[semantic] + (1 - parts[semantic]) * under).round().astype(np.uint8)


def paint_areas(
    axes: Axes, image: NDArray[np.uint8], semantic: NDArray[Any], classes: Sequence[str], frame: Box, dots: float
) -> None:
    """The photograph in the colours of its classes, a line around each area, and its name where it has room.

    Args:
        axes: of a canvas.
        image: (H, W, 3).
        semantic: (H, W), places in `classes`, or `IGNORED`.
        classes: what a pixel can show.
        frame: where the photograph is.
        dots: height of the letters.
    """
    paint(axes, tinted(image, semantic, classes), frame)
    left, top, right, bottom = frame
    coarse = semantic[:: 1 + semantic.shape[0] // FINEST, :: 1 + semantic.shape[1] // FINEST]
    height, width = coarse.shape
    down, across = (bottom - top) / height, (right - left) / width  # dots of a place
    xs = (left + across * (np.arange(width + 2) - 0.5)).clip(left, right)  # centres, and one more on each side
    ys = (top + down * (np.arange(height + 2) - 0.5)).clip(top, bottom)
    limits = axes.axis()
    for label in np.unique(coarse):
        name, area = UNJUDGED if label == IGNORED else classes[label], coarse == label
        if name == BACKGROUND:  # the lines around all others are around it, too
            continue
        around = np.pad(area, 1, mode="edge")
        axes.contour(xs, ys, around, levels=[0.5], colors=PAPER, linewidths=points(dots) / 12)
        place = room_for(area, ((words_width(name, dots) + dots) / across, 1.5 * dots / down))
        if place is not None:
            x, y = left + across * place[0] + 0.5 * dots, top + down * place[1] + 1.1 * dots
            halo = [withStroke(linewidth=points(dots) / 4, foreground=PAPER)]
            axes.text(x, y, name, color=INK, fontsize=points(dots), path_effects=halo, zorder=3)
    axes.axis(limits)
