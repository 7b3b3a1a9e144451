"""The style of every matplotlib figure, and how a figure is shown and saved.

A figure is a white card with round corners on a transparent background, so text keeps its contrast on a light page and
on a dark one. Text is at least 8 points at 100 dots per inch, in the font that ships with matplotlib, so figures are
identical on every machine. Figures are built without pyplot: none stays open, and the backend is not changed.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.path import Path as Line
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from efficientformer_edu.plots import FAINT, FRAME_LINE, GRID, INK, PAPER, PARTS, QUERY
from efficientformer_edu.utils.files import atomic_write

DPI = 100
WIDTH = 10.0  # inches; 1000 dots, the width of a notebook's column
SMALL_TEXT = 8.0  # points: the smallest text in a figure
SERIES = (  # colour, line style and marker of up to three lines: colour is never the only difference
    (QUERY, "-", "s"),
    (PARTS["embedding"].line, "--", "^"),
    (PARTS["MB4D"].line, "-", "o"),
)
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 10.0,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": FRAME_LINE,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "image.interpolation": "nearest",
    "svg.hashsalt": "efficientformer-edu",  # makes the ids inside an SVG reproducible
}
OFFSETS = [  # candidate positions of the name of a point, in points: from near to far, to the right first
    (round(radius * math.cos(eighths * math.pi / 8)), round(radius * math.sin(eighths * math.pi / 8)))
    for radius in range(10, 150, 12)
    for eighths in (0, 1, -1, 7, -7, 8, 2, -2, 6, -6, 3, -3, 5, -5, 4, -4)
]
FORMATS = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}  # metadata that would vary


class Drawing(Figure):
    """A figure that a notebook shows when it is the value of a cell, with or without pyplot."""

    def _repr_png_(self) -> bytes:
        return _rendered(self, ".png")


@contextmanager
def drawing(height: float, width: float = WIDTH) -> Iterator[Drawing]:
    """A new figure on its card, in inches. Inside the `with` block, everything that you draw has the style."""
    with mpl.rc_context(STYLE):
        figure = Drawing(figsize=(width, height), dpi=DPI, facecolor="none")
        figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
        edge = 0.02  # inches, so that the frame is not cut off
        card = FancyBboxPatch(
            (edge, edge),
            width - 2 * edge,
            height - 2 * edge,
            boxstyle="round,pad=0,rounding_size=0.1",
            transform=figure.dpi_scale_trans,
            facecolor=PAPER,
            edgecolor=FRAME_LINE,
            linewidth=0.8,
            zorder=-10,
        )
        card.set_in_layout(False)
        figure.add_artist(card)
        yield figure


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure atomically as SVG or PNG, according to the suffix. Equal figures give identical files.

    Raises:
        ValueError: for another suffix.
        OSError: if the folder does not exist or is not writable.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"{path.name!r} does not end in {' or '.join(FORMATS)}")
    with atomic_write(path) as partial:
        partial.write_bytes(_rendered(figure, path.suffix))


def array(values: Any) -> NDArray[Any]:
    """A numpy array from an array, a list or a tensor on any device, with or without gradient."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def bare(axes: Axes) -> None:
    """Hide ticks and frame of an image."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def light_grid(axes: Axes, axis: Literal["x", "y", "both"] = "both") -> None:
    """Hide the frame at the top and at the right, and draw a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=axis)


def rows_of_bars(axes: Axes, names: Sequence[str]) -> None:
    """Format an axis with one row per name, from the top down, and a light grid."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    light_grid(axes, "x")


def footer(figure: Figure, *lines: str) -> None:
    """Write lines of small text at the lower left, wrapped to the width of the figure."""
    width = round((figure.get_figwidth() - 0.4) * 14.5)  # characters per line
    text = "\n".join(textwrap.fill(line, width, subsequent_indent="    ") for line in lines)
    figure.supxlabel(text, x=0.02, ha="left", fontsize=SMALL_TEXT, color=FAINT)


def outline(
    axes: Axes, x: float, y: float, width: float, height: float, line_width: float = 2.0, colour: str = QUERY
) -> None:
    """Frame a rectangle with its corner at (x, y), in the units of the axes."""
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, lw=line_width, clip_on=False))


def label_points(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write a name next to each point (x, y, name), at the nearest position with the least overlap.

    Names avoid other names, points and lines. Call this last, because positions depend on the layout.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    frame, dots = axes.get_window_extent(), figure.dpi / 72  # per point
    obstacles = [line.get_window_extent() for line in axes.lines]
    centres = axes.transData.transform([(x, y) for x, y, _ in points])
    marks = [Bbox.from_extents(*(centre - 7), *(centre + 7)) for centre in centres]
    names, lines = list[Bbox](), list[Line]()
    for (x, y, name), centre, mark in zip(points, centres, marks, strict=True):
        text = axes.text(x, y, name, fontsize=SMALL_TEXT)
        width, height = (size + 3 for size in text.get_window_extent().size)
        text.remove()
        others = [other for other in marks if not other.overlaps(mark)]
        best, least_overlap = OFFSETS[0], math.inf
        for dx, dy in OFFSETS:
            left = centre[0] + dots * dx - width * (dx < 0) - width / 2 * (dx == 0)
            box = Bbox.from_bounds(left, centre[1] + dots * dy - height / 2, width, height)
            line = Line([centre, centre + dots * np.array([dx, dy])])
            overlap = 10 * box.count_overlaps([*names, *marks]) + 3 * box.count_overlaps(obstacles)
            overlap += 100 * (not (frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1))
            overlap += sum(line.intersects_bbox(other) for other in (*names, *others))
            overlap += sum(other.intersects_bbox(box) for other in lines)
            if overlap < least_overlap:
                best, best_box, best_line, least_overlap = (dx, dy), box, line, overlap
        names.append(best_box)
        lines.append(best_line)
        side = "center" if best[0] == 0 else "left" if best[0] > 0 else "right"
        line_to_point = {"arrowstyle": "-", "color": FAINT, "lw": 0.6, "shrinkB": 6} if math.hypot(*best) > 12 else None
        look: Any = {"ha": side, "va": "center", "fontsize": SMALL_TEXT, "arrowprops": line_to_point}
        axes.annotate(name, (x, y), best, textcoords="offset points", **look).set_in_layout(False)


def ink_on(colour: str) -> str:
    """Near-black or white, whichever has more contrast on the colour."""
    return max((INK, PAPER), key=lambda ink: contrast(ink, colour))


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours according to WCAG 2.2, from 1 to 21."""
    luminances = []
    for colour in (first, second):
        rgb = np.array(to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        luminances.append(float(linear @ (0.2126, 0.7152, 0.0722)))
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)


def _rendered(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=suffix[1:], dpi=DPI, metadata=FORMATS[suffix])
    return buffer.getvalue()
