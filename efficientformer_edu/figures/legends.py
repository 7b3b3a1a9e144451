"""A legend below a picture: patches of colour or pieces of line with their words, in rows as wide as there is room.

All lengths are in dots. Comes: entries and the room. Goes: how high the legend is, and the legend itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from efficientformer_edu.figures.colours import FRAME_LINE, INK
from efficientformer_edu.figures.photographs import Line
from efficientformer_edu.figures.tags import points, words_width

ROW = 1.8  # of the height of the letters
PATCH = 1.1  # width and height of a patch
STROKE = 2.6  # length of a piece of line
GAP = 0.5  # between a patch and its words
APART = 1.6  # between two entries


class Key(NamedTuple):
    """One entry: its words, and the colour that they explain, as a patch or as a kind of line; or neither."""

    words: str
    colour: str | None = None
    line: Line | None = None


def key_width(key: Key, dots: float) -> float:
    """How wide an entry is, in letters of this height."""
    return _before(key) * dots + words_width(key.words, dots)


def legend_height(keys: Sequence[Key], room: float, dots: float) -> float:
    """How high a legend is in so much room."""
    return len(_rows(keys, room, dots)) * ROW * dots + (0.4 * dots if keys else 0)


def paint_legend(axes: Axes, keys: Sequence[Key], corner: tuple[float, float], room: float, dots: float) -> None:
    """Draw a legend.

    Args:
        axes: of a canvas.
        keys: its entries.
        corner: its left and upper edge.
        room: its width.
        dots: height of the letters.
    """
    for number, row in enumerate(_rows(keys, room, dots)):
        x, middle = corner[0], corner[1] + 0.4 * dots + (number + 0.5) * ROW * dots
        for key in row:
            if key.colour is not None and key.line is None:
                upper = middle - PATCH * dots / 2
                look: Any = {"facecolor": key.colour, "edgecolor": FRAME_LINE, "linewidth": 0.6}
                axes.add_patch(Rectangle((x, upper), PATCH * dots, PATCH * dots, **look))
            elif key.colour is not None:
                ends = [x, x + STROKE * dots]
                look = {"color": key.colour, "linestyle": key.line, "linewidth": points(dots) / 6}
                axes.add_line(Line2D(ends, [middle, middle], **look))
            axes.text(x + _before(key) * dots, middle + 0.36 * dots, key.words, color=INK, fontsize=points(dots))
            x += key_width(key, dots) + APART * dots


def _before(key: Key) -> float:
    """What stands before the words, in heights of the letters."""
    if key.colour is None:
        return 0.0
    return (PATCH if key.line is None else STROKE) + GAP


def _rows(keys: Sequence[Key], room: float, dots: float) -> list[list[Key]]:
    rows: list[list[Key]] = []
    left = 0.0
    for key in keys:
        width = key_width(key, dots)
        if not rows or width > left:
            rows.append([])
            left = room
        rows[-1].append(key)
        left -= width + APART * dots
    return rows
