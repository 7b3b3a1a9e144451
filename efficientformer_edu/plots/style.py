"""The palette: one colour per component of the network, the same in every figure. Standard library only.

The tones are based on Okabe and Ito's, which readers with any colour vision can distinguish. Each component has a pale
fill and a frame in the full tone; near-black text on it has a contrast of at least 9 to 1, on a light page and on a
dark one. Colour is never the only cue: every component is labelled, too.

The style of every figure, and how a figure is shown and saved.

A figure is a white card with round corners on a transparent background, so text and tints keep their contrast on a
light page and on a dark one, without a second version of the file. Text is at least 8 points at 100 dots per inch, in
the font that ships with matplotlib, so figures are identical on every machine. Figures are built without pyplot: none
stays open, and the reader's backend is not changed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import FancyBboxPatch, Rectangle
from numpy.typing import NDArray

from efficientformer_edu.utils.files import atomic_write


class Colour(NamedTuple):
    """Fill and frame of a component, as hexadecimal RGB."""

    fill: str
    line: str


INK = "#1A1A1A"  # text and arrows
FAINT = "#5F6368"  # remarks and shapes
FRAME_LINE = "#888888"  # visible on a light page and on a dark one
PAPER = "#FFFFFF"
GRID = "#E6E6E6"
QUERY = "#D55E00"  # what the reader should look at

PARTS = {
    "image": Colour("#EEEEEE", "#6E6E6E"),
    "stem": Colour("#FBF3B0", "#A08F00"),
    "embedding": Colour("#C5E8DC", "#009E73"),
    "MB4D": Colour("#CBE5F6", "#0072B2"),
    "MB3D": Colour("#F9DFA8", "#C47F00"),
    "head": Colour("#F0D3E2", "#B0508A"),
}
NECK = Colour("#DFDBF3", "#5546A6")  # only in networks for dense tasks
SERIES = (  # colour, line style and marker of up to three lines: colour is never the only difference
    (QUERY, "-", "s"),
    (PARTS["embedding"].line, "--", "^"),
    (PARTS["MB4D"].line, "-", "o"),
)


DPI = 100
WIDTH = 10.0  # inches; 1000 dots, the width of a notebook's column
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
    "xtick.color": INK,
    "ytick.color": INK,
    "image.interpolation": "nearest",
    "svg.hashsalt": "efficientformer-edu",  # makes the ids inside an SVG reproducible
}
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
    for spine in axes.spines.values():
        spine.set_visible(False)


def outline(
    axes: Axes, x: float, y: float, width: float, height: float, line_width: float = 2.0, colour: str = QUERY
) -> None:
    """Frame a rectangle with its corner at (x, y), in the units of the axes."""
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, lw=line_width, clip_on=False))


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
