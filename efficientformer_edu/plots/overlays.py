"""A network's predictions on images: boxes with labels, or areas in the colours of their classes.

`draw_overlay` draws the result of `dense.evaluation.predict_photo`; `scenes` compares predictions with annotations.

Class colours are six of Okabe and Ito's tones, which readers with any colour vision can distinguish, then the same
tones paler, then darker. The seventh, `QUERY`, marks mistakes. Colour is never the only cue: boxes and areas are
labelled.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from efficientformer_edu._validation import probability
from efficientformer_edu.data.examples import BACKGROUND, IGNORED
from efficientformer_edu.dense.detection.postprocess import Detections
from efficientformer_edu.dense.evaluation import DensePrediction
from efficientformer_edu.plots import FRAME_LINE, INK, PAPER
from efficientformer_edu.plots.style import DPI, Drawing, array, bare, drawing, ink_on

TONES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442")
SHADES = ((PAPER, 0.0), (PAPER, 0.5), (INK, 0.45))  # what is mixed into the tones, and its share
SCORE = 0.3  # boxes with a lower score are not drawn: there are many, and most of them are wrong
MIN_SIDE = 480  # images with a shorter longer side are enlarged by an integer factor
LETTER, LETTERS = 12.5, 40  # height of letters in dots, and how many heights fit into the side of a square image
PAD = 0.25  # around the text of a label, relative to the height of its letters
MAX_KEYS = 12  # classes in a legend
UNLABELLED = "no class"  # pixels that neither training nor evaluation uses
TINT, FADE = 0.6, 0.75  # share of the colour of a class in its areas, and of white in pixels without a class
FINEST = 512  # rows and columns in which areas are outlined and labelled
SOLID, DASHED, DOTTED = "-", (0, (4, 2.5)), (0, (1, 1.5))
REGIONS = (
    ("at the upper left", "at the top", "at the upper right"),
    ("on the left", "in the middle", "on the right"),
    ("at the lower left", "at the bottom", "at the lower right"),
)


class Mark(NamedTuple):
    """A box: corners in pixels of the image, class, label, colour as hexadecimal RGB, and line style."""

    box: tuple[float, float, float, float]  # left, top, right, bottom
    name: str
    label: str
    colour: str
    line: str | tuple[float, tuple[float, float]] = SOLID


def draw_overlay(prediction: DensePrediction, score: float = SCORE) -> Drawing:
    """An image with boxes and their scores, or with the class of each pixel and a legend.

    In a PNG, each pixel of the image is one dot, or a square of dots if its longer side is shorter than 480. Letters
    and lines grow with the image.

    Args:
        prediction: the image and the output of the network.
        score: boxes with a lower score are left out.

    Raises:
        ValueError: for a score outside 0 to 1.
    """
    image, marks = to_pixels(prediction.image), predicted_marks(prediction, probability("score", score))
    height, width = (math.ceil(MIN_SIDE / max(image.shape[:2])) * side for side in image.shape[:2])
    letter = max(LETTER, math.sqrt(width * height) / LETTERS)
    handles: list[Artist] = []
    if prediction.semantic is not None:
        shares = class_shares(prediction.semantic, prediction.classes)
        colours = class_colours(prediction.classes) | {UNLABELLED: PAPER}
        names = [name for name in shares if name != BACKGROUND]
        handles = [class_patch(f"{name} {shares[name]:.0%}", colours[name]) for name in names[:MAX_KEYS]]
        if len(names) > MAX_KEYS:
            handles.append(Line2D([], [], ls="none", label=f"and {len(names) - MAX_KEYS} more"))
    elif not marks:
        handles = [Line2D([], [], ls="none", label=_no_boxes(score))]
    margin, full_width = round(letter), max(width, math.ceil(30 * letter))  # wide enough for a label
    with canvas(full_width + 2 * margin, height + 2 * margin, handles, letter) as figure:
        axes = image_axes(figure, image, (margin + (full_width - width) // 2, margin, width, height))
        if prediction.semantic is not None:
            draw_areas(axes, image, array(prediction.semantic), prediction.classes, letter)
        draw_marks(axes, marks, letter, figure.bbox.padded(-margin))
    return figure


def overlay_alt_text(prediction: DensePrediction, score: float = SCORE) -> str:
    """A description of the figure for screen readers. Arguments and errors as for `draw_overlay`."""
    height, width = prediction.image.shape[1:]
    marks = predicted_marks(prediction, probability("score", score))
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


# Predictions


def confident_detections(prediction: DensePrediction, score: float) -> Detections:
    """The boxes with at least this score, by decreasing score; none for a segmentation network."""
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    boxes, scores, labels = prediction.detections or none
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= score]
    return Detections(boxes[order], scores[order], labels[order])


def class_shares(semantic: Any, classes: Sequence[str]) -> dict[str, float]:
    """Class to its share of the pixels, in decreasing order. `semantic` contains indices into `classes`."""
    labels, counts = np.unique(array(semantic), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    names = [UNLABELLED if label == IGNORED else classes[label] for label in labels[order]]
    return dict(zip(names, (counts[order] / counts.sum()).tolist(), strict=True))


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


def predicted_marks(prediction: DensePrediction, score: float) -> list[Mark]:
    """A mark for each box with at least this score, by decreasing score."""
    boxes, scores, labels = (values.tolist() for values in confident_detections(prediction, score))
    names, colours = [prediction.classes[label] for label in labels], class_colours(prediction.classes)
    return [
        Mark(tuple(box), name, f"{name} {confidence:.0%}", colours[name])
        for box, name, confidence in zip(boxes, names, scores, strict=True)
    ]


# Drawing in dots. `letter` is the height of letters; axes have one unit per pixel of their image.


@contextmanager
def canvas(width: int, height: int, handles: Sequence[Artist] = (), letter: float = LETTER) -> Iterator[Drawing]:
    """A figure of this size in dots, made higher for a legend at its bottom."""

    def add_legend(figure: Figure) -> float:
        """Add a legend with as many columns as fit; return its height."""
        look: Mapping[str, Any] = {"loc": "lower left", "fontsize": font_size(letter), "handlelength": 2.4}
        for columns in range(len(handles), 0, -1):
            legend = figure.legend(handles=handles, ncols=columns, **look)
            size = legend.get_window_extent()
            if size.width <= width or columns == 1:
                return math.ceil(size.height)
            legend.remove()
        return 0

    legend_height = add_legend(Figure(dpi=DPI))
    with drawing(height=(height + legend_height) / DPI, width=width / DPI) as figure:
        figure.set_layout_engine("none")
        add_legend(figure)
        yield figure


def image_axes(figure: Drawing, image: NDArray[Any], frame: tuple[int, int, int, int]) -> Axes:
    """Axes with an image (H, W, 3). The frame is left, top, width and height in dots, from the upper left corner."""
    left, top, width, height = frame
    x, y = figure.bbox.size
    axes = figure.add_axes((left / x, 1 - (top + height) / y, width / x, height / y))
    bare(axes)
    show_pixels(axes, image, image.shape)
    return axes


def to_pixels(image: Any) -> NDArray[np.uint8]:
    """An image of an `Example`, (3, H, W), to (H, W, 3)."""
    return np.ascontiguousarray(array(image).transpose(1, 2, 0))


def class_patch(label: str, colour: str) -> Patch:
    """The entry of a class in a legend."""
    return Patch(facecolor=colour, edgecolor=FRAME_LINE, linewidth=0.6, label=label)


def show_pixels(axes: Axes, pixels: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Draw pixels over the whole axes; where they fit exactly, each is a square of dots."""
    width, height = (round(side) for side in axes.bbox.size)
    exact = width % pixels.shape[1] == height % pixels.shape[0] == 0
    extent = (0, shape[1], shape[0], 0)
    axes.imshow(pixels, extent=extent, aspect="auto", interpolation="nearest" if exact else "auto")


def draw_marks(axes: Axes, marks: Sequence[Mark], letter: float, bounds: Bbox) -> None:
    """Draw boxes with their labels; the first is the most important and on top.

    A label is above its box, inside its upper edge, below it, or inside its lower edge; otherwise at the nearest
    position in `bounds`, in dots, where it overlaps no other label.
    """
    labels: list[Bbox] = []
    stroke, pad = line_width(letter), PAD * letter
    border = [withStroke(linewidth=2.2 * stroke, foreground=PAPER, dashes={"dash_offset": 0, "dash_list": None})]
    for number, mark in enumerate(marks):
        order = 3 - number / len(marks)
        left, top, right, bottom = mark.box
        look: dict[str, Any] = {"edgecolor": mark.colour, "ls": mark.line, "lw": stroke, "capstyle": "butt"}
        sides = (right - left, bottom - top)
        axes.add_patch(Rectangle((left, top), *sides, fill=False, zorder=order, path_effects=border, **look))
        text = axes.text(
            left,
            top,
            mark.label,
            va="bottom",
            color=ink_on(mark.colour),
            fontsize=font_size(letter),
            zorder=order + 1,
            bbox={"boxstyle": f"square,pad={PAD}", "fc": mark.colour, "ec": PAPER, "lw": 0.5},
        )
        size = text.get_window_extent().padded(pad).size
        box = Bbox(axes.transData.transform([(left, bottom), (right, top)]))
        positions = label_positions(box, size, bounds)
        first = next(positions)
        free = (position for position in chain([first], positions) if not position.count_overlaps(labels))
        labels.append(next(free, first))
        x, y = axes.transData.inverted().transform((labels[-1].x0 + pad, labels[-1].y0 + pad))
        text.set_position((x, y))


def label_positions(box: Bbox, size: tuple[float, float], bounds: Bbox) -> Iterator[Bbox]:
    """Where the label of a box can be: at its edges, then anywhere in `bounds` by distance from the first position."""
    width, height = size

    def inside(x: float, y: float) -> Bbox:
        x, y = max(min(x, bounds.x1 - width), bounds.x0), max(min(y, bounds.y1 - height), bounds.y0)
        return Bbox.from_bounds(x, y, width, height)

    for y in (box.y1, box.y1 - height, box.y0 - height, box.y0):
        for x in (box.x0, box.x1 - width):
            yield inside(x, y)
    grid = np.mgrid[bounds.x0 : bounds.x1 - width : height / 2, bounds.y0 : bounds.y1 - height : height / 2]
    for x, y in sorted(grid.reshape(2, -1).T.tolist(), key=lambda corner: math.dist(corner, (box.x0, box.y1))):
        yield inside(x, y)


def draw_areas(
    axes: Axes, image: NDArray[np.uint8], semantic: NDArray[Any], classes: Sequence[str], letter: float
) -> None:
    """Draw an image (H, W, 3) in the colours of its classes (H, W), with outlines, and labels where they fit."""
    show_pixels(axes, tinted(image, semantic, classes), image.shape)
    coarse = semantic[:: 1 + semantic.shape[0] // FINEST, :: 1 + semantic.shape[1] // FINEST]
    down, across = image.shape[0] / coarse.shape[0], image.shape[1] / coarse.shape[1]  # pixels per cell
    for label in np.unique(coarse):
        name, area = UNLABELLED if label == IGNORED else classes[label], coarse == label
        if name == BACKGROUND:
            continue
        if min(area.shape) > 1:
            extent = (0, image.shape[1], 0, image.shape[0])
            axes.contour(
                area, levels=[0.5], origin="lower", extent=extent, colors=PAPER, linewidths=line_width(letter) / 2
            )
        halo = [withStroke(linewidth=1.5 * line_width(letter), foreground=PAPER)]
        centred: Any = {"ha": "center", "va": "center", "path_effects": halo, "zorder": 3}
        text = axes.text(0, 0, name, fontsize=font_size(letter), **centred)
        text_box = text.get_window_extent().padded(letter / 2)
        pixels = image.shape[1] / axes.bbox.width, image.shape[0] / axes.bbox.height  # per dot
        width, height = text_box.width * pixels[0], text_box.height * pixels[1]
        position = free_position(area, math.ceil(width / across), math.ceil(height / down))
        if position is None:
            text.remove()
        else:
            text.set_position((across * position[0] + width / 2, down * position[1] + height / 2))


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


def font_size(letter: float) -> float:
    """The font size in points for letters of this height in dots."""
    return letter * 72 / DPI


def line_width(letter: float) -> float:
    """The width of lines in points that goes with letters of this height."""
    return font_size(letter) / 6


def count_names(names: Iterable[str]) -> str:
    """Each name once, with its count if that is more than 1: 2 × disc, star."""
    return ", ".join(f"{count} × {name}" if count > 1 else name for name, count in Counter(names).items())


def _no_boxes(score: float) -> str:
    return f"no object with a score of {score:.0%} or more"
