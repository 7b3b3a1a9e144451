"""A network's predictions on an image: boxes with labels, or areas in the colours of their classes.

`draw_overlay` draws the result of `dense.predict.predict_photo`; `scenes` compares predictions with annotations. The
axes have one unit per dot, from the upper left corner, and each pixel of the image is one dot or a square of dots.

Class colours are six of Okabe and Ito's tones, which readers with any colour vision can distinguish, then the same
tones paler, then darker. The seventh, `QUERY`, marks mistakes. Colour is never the only cue: boxes and areas are
labelled.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from efficientformer_edu._validation import probability
from efficientformer_edu.data.examples import BACKGROUND, IGNORED
from efficientformer_edu.dense.detection.postprocess import Detections
from efficientformer_edu.dense.predict import Found
from efficientformer_edu.plots.style import DPI, FRAME_LINE, INK, PAPER, STYLE, Drawing, array, drawing, ink_on

TONES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442")
SHADES = ((PAPER, 0.0), (PAPER, 0.5), (INK, 0.45))  # what is mixed into the tones, and its share
SCORE = 0.3  # boxes with a lower score are not drawn: there are many, and most of them are wrong
MIN_SIDE = 480  # images with a shorter longer side are enlarged by an integer factor
MIN_LETTER, LETTERS = 12.0, 40  # height of letters in dots, and how many heights fit into the side of a square image
PAD = 0.25  # around the text of a label, relative to the height of its letters
MAX_KEYS = 12  # classes in a legend
UNLABELLED = "no class"  # pixels that neither training nor evaluation uses
TINT, FADE = 0.6, 0.75  # share of the colour of a class in its areas, and of white in pixels without a class
FINEST = 512  # rows and columns in which areas are outlined and labelled
RULER = RendererAgg(1, 1, DPI)  # for the exact width of rendered text, which depends on hinting
SOLID, DASHED, DOTTED = "-", (0, (4, 2.5)), (0, (1, 1.5))
REGIONS = (
    ("at the upper left", "at the top", "at the upper right"),
    ("on the left", "in the middle", "on the right"),
    ("at the lower left", "at the bottom", "at the lower right"),
)
Box = tuple[float, float, float, float]  # left, top, right, bottom
Keys = Mapping[str, Artist | None]  # of a legend: label to line, patch or neither


class Mark(NamedTuple):
    """A box: corners in pixels of the image, class, label, colour as hexadecimal RGB, and line style."""

    box: Box
    name: str
    label: str
    colour: str
    line: str | tuple[float, tuple[float, float]] = SOLID


def draw_overlay(prediction: Found, score: float = SCORE) -> Drawing:
    """An image with boxes and their scores, or with the class of each pixel and a legend.

    In a PNG, each pixel of the image is one dot, or a square of dots if its longer side is shorter than 480. Letters
    and lines grow with the image.

    Args:
        prediction: the image and the output of the network.
        score: boxes with a lower score are left out.

    Raises:
        ValueError: for a score outside 0 to 1.
    """
    image, marks = to_pixels(prediction.image), score_marks(prediction, probability("score", score))
    height, width = image.shape[:2]
    zoom = math.ceil(MIN_SIDE / max(height, width))
    letter = max(MIN_LETTER, zoom * math.sqrt(width * height) / LETTERS)
    keys: Keys = {}
    if prediction.semantic is not None:
        keys = _class_keys(class_shares(prediction.semantic, prediction.classes), prediction.classes)
    elif prediction.detections is not None and not marks:
        keys = {_no_boxes(score): None}
    labels = [text_width(mark.label, letter) + 2 * PAD * letter for mark in marks]
    margin, max_width = round(letter), math.ceil(max([zoom * width, legend_width(keys, letter), *labels]))
    total_height = zoom * height + legend_height(keys, max_width, letter) + 2 * margin
    with canvas(max_width + 2 * margin, total_height) as (figure, axes):
        left = margin + (max_width - zoom * width) // 2
        frame: Box = (left, margin, left + zoom * width, margin + zoom * height)
        if prediction.semantic is None:
            draw_image(axes, image, frame)
        else:
            draw_areas(axes, image, array(prediction.semantic), prediction.classes, frame, letter)
        draw_marks(axes, marks, frame, zoom, letter, (margin, margin, margin + max_width, frame[3]))
        draw_legend(axes, keys, (margin, frame[3]), max_width, letter)
    return figure


def overlay_alt_text(prediction: Found, score: float = SCORE) -> str:
    """A description of the figure for screen readers. Arguments and errors as for `draw_overlay`."""
    height, width = prediction.image.shape[1:]
    marks = score_marks(prediction, probability("score", score))
    text = [f"An image of {width}×{height} pixels"]
    if marks:
        left, top, right, bottom = marks[0].box
        row, column = int(1.5 * (top + bottom) / height), int(1.5 * (left + right) / width)
        text.append(f"boxes around {count_names(mark.name for mark in marks)}")
        text.append(f"the most confident is {marks[0].label}, {REGIONS[min(row, 2)][min(column, 2)]}")
    elif prediction.detections is not None:
        text.append(_no_boxes(score))
    if prediction.semantic is not None:
        shares = class_shares(prediction.semantic, prediction.classes)
        text.append("its pixels show " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()))
    return "; ".join(text) + "."


def confident_detections(prediction: Found, score: float) -> Detections:
    """The boxes with at least this score, by decreasing score; none for a segmentation network."""
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    boxes, scores, labels = prediction.detections or none
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= score]
    return Detections(boxes[order], scores[order], labels[order])


def score_marks(prediction: Found, score: float) -> list[Mark]:
    """A mark for each box with at least this score, by decreasing score."""
    boxes, scores, labels = (values.tolist() for values in confident_detections(prediction, score))
    names, colours = [prediction.classes[label] for label in labels], class_colours(prediction.classes)
    return [
        Mark(tuple(box), name, f"{name} {confidence:.0%}", colours[name])
        for box, name, confidence in zip(boxes, names, scores, strict=True)
    ]


def class_shares(semantic: Any, classes: Sequence[str]) -> dict[str, float]:
    """Class to its share of the pixels, in decreasing order. `semantic` contains indices into `classes`."""
    labels, counts = np.unique(array(semantic), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    names = [UNLABELLED if label == IGNORED else classes[label] for label in labels[order]]
    return dict(zip(names, (counts[order] / counts.sum()).tolist(), strict=True))


def count_names(names: Iterable[str]) -> str:
    """Each name once, with its count if that is more than 1: 2 × disc, star."""
    return ", ".join(f"{count} × {name}" if count > 1 else name for name, count in Counter(names).items())


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """Class to colour, as hexadecimal RGB; the background has no colour.

    An object has the same colour whether `classes` are those of boxes or those of pixels, which may start with the
    background.
    """
    colours = {}
    for number, name in enumerate(name for name in classes if name != BACKGROUND):
        other, share = SHADES[number // len(TONES) % len(SHADES)]
        tone = np.array(to_rgb(TONES[number % len(TONES)]))
        red, green, blue = (1 - share) * tone + share * np.array(to_rgb(other))
        colours[name] = to_hex((red, green, blue)).upper()
    return colours


# What `scenes` uses as well. `letter` is the height of letters in dots, `frame` the position of the image.


@contextmanager
def canvas(width: float, height: float) -> Iterator[tuple[Drawing, Axes]]:
    """A figure of this size in dots, and axes that cover it."""
    with drawing(height=math.ceil(height) / DPI, width=math.ceil(width) / DPI) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, math.ceil(width)), ylim=(math.ceil(height), 0))
        axes.set_axis_off()
        yield figure, axes


def font_size(letter: float) -> float:
    """The font size in points for letters of this height in dots."""
    return letter * 72 / DPI


@cache
def text_width(text: str, letter: float) -> float:
    """The width of a line of text in dots."""
    font = FontProperties(family=STYLE["font.family"], size=font_size(letter))
    return RULER.get_text_width_height_descent(text, font, ismath=False)[0]


def to_pixels(image: Any) -> NDArray[np.uint8]:
    """An image of an `Example`, (3, H, W), to (H, W, 3)."""
    return np.ascontiguousarray(array(image).transpose(1, 2, 0))


def draw_image(axes: Axes, image: NDArray[Any], frame: Box) -> None:
    """Draw an image (H, W, 3 or 4) into a frame. If it fits exactly, each pixel is a square of dots."""
    left, top, right, bottom = frame
    limits, fits = axes.axis(), (right - left) % image.shape[1] == (bottom - top) % image.shape[0] == 0
    look: Any = {"aspect": "auto", "interpolation": "nearest" if fits else "auto"}
    axes.imshow(image, extent=(left, right, bottom, top), **look)
    axes.axis(limits)


def draw_marks(axes: Axes, marks: Sequence[Mark], frame: Box, zoom: float, letter: float, bounds: Box) -> None:
    """Draw boxes with their labels; the first is the most important and on top.

    Args:
        axes: of a canvas.
        marks: the boxes.
        frame: the position of the image.
        zoom: dots per pixel of the image.
        letter: height of letters.
        bounds: what contains all labels.
    """
    labels: list[Bbox] = []
    line_width = font_size(letter) / 6
    solid = {"dash_offset": 0, "dash_list": None}
    border = [withStroke(linewidth=2.2 * line_width, foreground=PAPER, dashes=solid)]
    for number, mark in enumerate(marks):
        left, top, right, bottom = (frame[i % 2] + zoom * side for i, side in enumerate(mark.box))
        look: dict[str, Any] = {"edgecolor": mark.colour, "ls": mark.line, "lw": line_width, "capstyle": "butt"}
        order = 3 - number / len(marks)
        box = Rectangle((left, top), right - left, bottom - top, fill=False, zorder=order, path_effects=border, **look)
        axes.add_patch(box)
        width, height = text_width(mark.label, letter) + 2 * PAD * letter, (1.17 + 2 * PAD) * letter
        label = _label_position((left, top, right, bottom), width, height, bounds, labels)
        labels.append(label)
        axes.text(
            label.x0 + PAD * letter,
            label.y0 + PAD * letter,
            mark.label,
            va="top",
            color=ink_on(mark.colour),
            fontsize=font_size(letter),
            zorder=order + 1,
            bbox={"boxstyle": f"square,pad={PAD}", "fc": mark.colour, "ec": PAPER, "lw": 0.5},
        )


def draw_areas(
    axes: Axes, image: NDArray[np.uint8], semantic: NDArray[Any], classes: Sequence[str], frame: Box, letter: float
) -> None:
    """Draw an image in the colours of its classes, with outlines, and labels where they fit.

    Args:
        axes: of a canvas.
        image: (H, W, 3).
        semantic: (H, W), indices into `classes`, or `IGNORED`.
        classes: names of the classes of pixels.
        frame: the position of the image.
        letter: height of letters.
    """
    draw_image(axes, tinted(image, semantic, classes), frame)
    left, top, right, bottom = frame
    coarse = semantic[:: 1 + semantic.shape[0] // FINEST, :: 1 + semantic.shape[1] // FINEST]
    down, across = (bottom - top) / coarse.shape[0], (right - left) / coarse.shape[1]  # dots per cell
    limits = axes.axis()
    for label in np.unique(coarse):
        name, area = UNLABELLED if label == IGNORED else classes[label], coarse == label
        if name == BACKGROUND:
            continue
        if min(area.shape) > 1:
            look: Any = {"colors": PAPER, "linewidths": font_size(letter) / 12}
            axes.contour(area, levels=[0.5], origin="lower", extent=(left, right, top, bottom), **look)
        width, height = text_width(name, letter) + letter, 1.5 * letter
        position = free_position(area, math.ceil(width / across), math.ceil(height / down))
        if position is not None:
            x, y = left + across * position[0] + width / 2, top + down * position[1] + height / 2
            halo = [withStroke(linewidth=font_size(letter) / 4, foreground=PAPER)]
            centred: Any = {"ha": "center", "va": "center", "path_effects": halo, "zorder": 3}
            axes.text(x, y, name, color=INK, fontsize=font_size(letter), **centred)
    axes.axis(limits)


def tinted(image: NDArray[np.uint8], semantic: NDArray[Any], classes: Sequence[str]) -> NDArray[np.uint8]:
    """An image (H, W, 3) in the colours of its classes: background unchanged, pixels without a class almost white.

    The image under a colour is grey, so that the colours are those of the legend.
    """
    colours = class_colours(classes)
    base = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)  # (H, W, 3)
    tones, shares = np.zeros((256, 3)), np.zeros((256, 1))
    for label, name in enumerate(classes):
        if name != BACKGROUND:
            tones[label], shares[label] = 255 * np.array(to_rgb(colours[name])), TINT
    tones[IGNORED], shares[IGNORED] = 255, FADE
    unchanged = (shares[semantic] == 0)[..., 0]
    base[unchanged] = image[unchanged]
    return (shares[semantic] * tones[semantic] + (1 - shares[semantic]) * base).round().astype(np.uint8)


def free_position(area: NDArray[Any], width: int, height: int) -> tuple[int, int] | None:
    """Column and row of a rectangle that lies completely in an area, as close to its centre as possible, or None."""
    if height > area.shape[0] or width > area.shape[1]:
        return None
    sums = np.pad(area.cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))  # summed-area table
    covered = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    free = np.argwhere(covered == height * width)  # (positions, 2), row and column
    if not len(free):
        return None
    centre = np.argwhere(area).mean(0) + 0.5 - np.array([height, width]) / 2
    row, column = free[((free - centre) ** 2).sum(1).argmin()]
    return int(column), int(row)


def legend_width(keys: Keys, letter: float) -> float:
    """Dots from the left end of the widest entry of a legend to the next entry."""
    return max((text_width(label, letter) + 4.6 * letter for label in keys), default=0.0)


def legend_height(keys: Keys, max_width: float, letter: float) -> float:
    """The height in dots of a legend that is at most `max_width` dots wide."""
    columns = max(1, int(max_width // max(legend_width(keys, letter), 1)))
    return math.ceil(len(keys) / columns) * 1.7 * letter + (0.6 * letter if keys else 0)


def draw_legend(axes: Axes, keys: Keys, corner: tuple[float, float], max_width: float, letter: float) -> None:
    """Draw a legend, row by row, with its upper left corner at a point."""
    if not keys:
        return
    columns = min(len(keys), max(1, int(max_width // legend_width(keys, letter))))
    labels = [label for column in range(columns) for label in list(keys)[column::columns]]
    axes.legend(
        [keys[label] or Line2D([], [], ls="none") for label in labels],
        labels,
        ncols=columns,
        loc="upper left",
        bbox_to_anchor=(corner[0], corner[1] + 0.4 * letter),
        bbox_transform=axes.transData,
        fontsize=font_size(letter),
        frameon=False,
        borderpad=0.2,
        borderaxespad=0,
        labelspacing=0.5,
        columnspacing=1.5,
        handletextpad=0.5 if any(keys.values()) else 0,
        handlelength=2.4 if any(keys.values()) else 0,
        handleheight=1.0,
    )


def class_key(colour: str) -> Patch:
    """The patch of a class in a legend."""
    return Patch(facecolor=colour, edgecolor=FRAME_LINE, linewidth=0.6)


def _class_keys(shares: Mapping[str, float], classes: Sequence[str]) -> Keys:
    """A legend entry per class except the background, which has no colour."""
    colours = class_colours(classes) | {UNLABELLED: PAPER}
    names = [name for name in shares if name != BACKGROUND]
    keys: dict[str, Artist | None] = {
        f"{name} {shares[name]:.0%}": class_key(colours[name]) for name in names[:MAX_KEYS]
    }
    if len(names) > MAX_KEYS:
        keys[f"and {len(names) - MAX_KEYS} more"] = None
    return keys


def _no_boxes(score: float) -> str:
    return f"no object with a score of {score:.0%} or more"


def _label_position(box: Box, width: float, height: float, bounds: Box, labels: Sequence[Bbox]) -> Bbox:
    """The first position at a box that overlaps no other label, or the one that overlaps the fewest.

    In this order: above the box, inside its upper edge, below it, inside its lower edge, and further away, each at the
    left and at the right; then next to another label.
    """
    left, top, right, bottom = box
    tops = [top - height, top, bottom, bottom - height, *np.arange(top + height, bottom - height, height)]
    tops += [top - 2 * height, bottom + height, top - 3 * height, bottom + 2 * height]
    lefts = sorted((label.x1 for label in labels), key=lambda x: abs(x - left))
    corners = [*((x, y) for y in tops for x in (left, right - width)), *product(lefts, tops)]
    positions = [
        Bbox.from_bounds(
            max(min(x, bounds[2] - width), bounds[0]), max(min(y, bounds[3] - height), bounds[1]), width, height
        )
        for x, y in corners
    ]
    return min(positions, key=lambda position: position.count_overlaps(labels))
