"""The few shapes that drawings are made of: box, circle, arrow, text, cuboid, picture.

Lengths are in the units of the axes; `canvas` makes 10 of them one inch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon

from efficientformer_edu.figures.colours import FAINT, FRAME_LINE, INK, PAPER, PARTS, Colour
from efficientformer_edu.figures.style import Drawing, bare

UNITS = 10  # in an inch
SMALL = 8.0  # points, the smallest text
PLAIN = Colour(PAPER, FRAME_LINE)


def canvas(figure: Drawing) -> Axes:
    """Axes that fill the whole drawing, with 10 units an inch and (0, 0) at the bottom left."""
    width, height = figure.get_size_inches()
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), facecolor="none")
    axes.set_xlim(0, width * UNITS)
    axes.set_ylim(0, height * UNITS)
    bare(axes)
    return axes


def text(axes: Axes, x: float, y: float, words: str, size: float = SMALL, **look: Any) -> None:
    """Words centred at a point, unless `look` says otherwise."""
    axes.text(x, y, words, **dict[str, Any](fontsize=size, ha="center", va="center", color=INK) | look)


def box(
    axes: Axes, x: float, y: float, width: float, height: float, colour: Colour, words: str = "", **look: Any
) -> None:
    """A rectangle with round corners, its bottom left corner at (x, y), and words in its middle."""
    style = "round,pad=0,rounding_size=0.5"
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=colour.fill, edgecolor=colour.line, lw=1.0)
    )
    if words:
        text(axes, x + width / 2, y + height / 2, words, **look)


def circle(axes: Axes, x: float, y: float, radius: float, words: str) -> None:
    """A small round operation around (x, y)."""
    axes.add_patch(Circle((x, y), radius, facecolor=PAPER, edgecolor=INK, lw=1.0, zorder=3))
    text(axes, x, y, words, zorder=4)


def line(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """A line through points."""
    xs, ys = zip(*points, strict=True)
    axes.plot(xs, ys, color=INK, lw=1.0, solid_capstyle="round", snap=False, zorder=2)


def arrow(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """A line through points with a head at its end."""
    line(axes, points[:-1])
    look: dict[str, Any] = {
        "arrowstyle": "-|>",
        "mutation_scale": 7,
        "color": INK,
        "lw": 1.0,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    axes.add_patch(FancyArrowPatch(points[-2], points[-1], zorder=2, **look))


def panel(axes: Axes, x: float, y: float, width: float, height: float, title: str, remark: str = "") -> None:
    """A framed part of the drawing with its title at the top left and a remark at the top right."""
    box(axes, x, y, width, height, PLAIN)
    text(axes, x + 1.0, y + height - 1.6, title, size=9.0, ha="left", weight="bold")
    text(axes, x + width - 1.0, y + height - 1.6, remark, ha="right", color=FAINT)


def cuboid(axes: Axes, x: float, y: float, size: tuple[float, float, float], colour: Colour) -> None:
    """A map as a solid: its channels to the right, its height up, its width into the page."""
    length, height, width = size
    dx = dy = 0.35 * width
    front = [(x, y), (x + length, y), (x + length, y + height), (x, y + height)]
    top = [front[3], front[2], (x + length + dx, y + height + dy), (x + dx, y + height + dy)]
    side = [front[1], front[2], (x + length + dx, y + height + dy), (x + length + dx, y + dy)]
    for corners, fill in ((front, colour.fill), (top, PAPER), (side, to_rgba(colour.line, 0.5))):
        axes.add_patch(Polygon(corners, facecolor=fill, edgecolor=colour.line, lw=0.8, joinstyle="round"))


def picture(axes: Axes, x: float, y: float, width: float, height: float) -> None:
    """A photograph, in short: sky, sun and two hills."""
    sky = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.4", facecolor="#DCEBF5", edgecolor=FAINT, lw=1.0
    )
    axes.add_patch(sky)
    scenery = [
        Circle((x + 0.72 * width, y + 0.72 * height), 0.11 * min(width, height), facecolor="#F0C419"),
        Polygon(_hill(x, y, width, height, (0.0, 0.3), (0.35, 0.68), (0.8, 0.1)), facecolor="#8FBF9F"),
        Polygon(_hill(x, y, width, height, (0.25, 0.0), (0.7, 0.45), (1.0, 0.22)), facecolor=PARTS["embedding"].line),
    ]
    for item in scenery:
        axes.add_patch(item)
        item.set_clip_path(sky)


def _hill(x: float, y: float, width: float, height: float, *tops: tuple[float, float]) -> list[tuple[float, float]]:
    corners = [(tops[0][0], 0.0), *tops, (tops[-1][0], 0.0)]
    return [(x + u * width, y + v * height) for u, v in corners]
