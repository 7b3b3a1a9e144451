"""One style for every drawing, and how a drawing is shown and saved.

A drawing is a white card with round corners on a transparent ground: its text and tints keep their contrast on a light
page and on a dark one, without a second version of each file. Text is at least 8 points high at 100 dots an inch and
set in the font that comes with matplotlib, so that a drawing is the same everywhere. Drawings are built without pyplot:
nothing stays open, and no backend is chosen for the reader.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import FancyBboxPatch
from numpy.typing import NDArray

from efficientformer_edu.figures.colours import FRAME_LINE, INK, PAPER
from efficientformer_edu.files import whole

DPI = 100
WIDTH = 10.0  # inches; 1000 dots, a notebook's column
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
    "svg.hashsalt": "efficientformer-edu",  # else the names inside an SVG change from run to run
}
FORMATS = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}  # with the metadata that would vary


class Drawing(Figure):
    """A figure that a notebook shows when it is the value of a cell, whether or not pyplot is in use."""

    def _repr_png_(self) -> bytes:
        return _rendered(self, ".png")


@contextmanager
def drawing(height: float, width: float = WIDTH) -> Iterator[Drawing]:
    """A new drawing of so many inches, on its card; what is drawn inside the `with` block has the style."""
    with mpl.rc_context(STYLE):
        figure = Drawing(figsize=(width, height), dpi=DPI, facecolor="none")
        figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
        edge = 0.02  # inches, so that the frame is not cut
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
    """Write a drawing as SVG or PNG, by the path's ending; the file is whole or not there, and the same at each run.

    Raises:
        ValueError: for another ending.
        OSError: if the folder does not exist or cannot be written.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"{path.name!r} does not end in {' or '.join(FORMATS)}")
    with whole(path) as partial:
        partial.write_bytes(_rendered(figure, path.suffix))


def array(values: Any) -> NDArray[Any]:
    """A numpy array from an array, a list or a tensor, on whatever device and with or without gradient."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def bare(axes: Axes) -> None:
    """Leave out ticks and frame: the picture is the content."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _rendered(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=suffix[1:], dpi=DPI, metadata=FORMATS[suffix])
    return buffer.getvalue()
