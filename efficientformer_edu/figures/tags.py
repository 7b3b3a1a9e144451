"""Where words stand in a picture: tags beside boxes, which keep clear of each other, and names inside areas.

All lengths are in dots, or in whatever unit the boxes have. Comes: boxes and sizes. Goes: places.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties
from numpy.typing import NDArray

from efficientformer_edu.figures.style import DPI, STYLE

Box = tuple[float, float, float, float]  # left, top, right, bottom
Point = tuple[float, float]
PAD = 0.3  # of the height of the letters, on each side of a tag's words
RULER = RendererAgg(1, 1, DPI)  # as wide as letters are drawn: small ones are moved to whole dots


def points(dots: float) -> float:
    """The size of a font whose letters shall be so many dots high."""
    return dots * 72 / DPI


@cache
def words_width(words: str, dots: float) -> float:
    """How wide a line is in the style's font."""
    font = FontProperties(family=STYLE["font.family"], size=points(dots))
    return RULER.get_text_width_height_descent(words, font, ismath=False)[0]


def tag_size(words: str, dots: float) -> tuple[float, float]:
    """Width and height of a tag with these words."""
    return words_width(words, dots) + 2 * PAD * dots, (1 + 2 * PAD) * dots


def place_tags(boxes: Sequence[Box], sizes: Sequence[tuple[float, float]], bounds: Box) -> list[Box]:
    """A place for the tag of each box: inside the bounds, and clear of the earlier tags if there is such a place.

    Above the box comes first, then inside below its upper edge, below it, inside above its lower edge, each at the left
    and at the right; then whatever is nearest to the box. Where all is taken, the least covered place is.

    Args:
        boxes: of the objects, the most important first.
        sizes: widths and heights of their tags, which the bounds have room for.
        bounds: what no tag may leave.
    """
    placed: list[Box] = []
    for box, (width, height) in zip(boxes, sizes, strict=True):
        placed.append(_least_covered(_candidates(box, width, height, bounds), placed))
    return placed


def leader(tag: Box, box: Box) -> tuple[Point, Point] | None:
    """The shortest line from a tag to its box; None where they touch."""
    ends = []
    for low, high in ((0, 2), (1, 3)):  # along x, along y
        if tag[high] < box[low]:
            ends.append((tag[high], box[low]))
        elif box[high] < tag[low]:
            ends.append((tag[low], box[high]))
        else:
            middle = (max(tag[low], box[low]) + min(tag[high], box[high])) / 2
            ends.append((middle, middle))
    (x1, x2), (y1, y2) = ends
    return None if (x1, y1) == (x2, y2) else ((x1, y1), (x2, y2))


def room_for(area: NDArray[Any], size: tuple[float, float]) -> tuple[int, int] | None:
    """Where a rectangle of this width and height lies wholly in an area, as near its middle as can be.

    Args:
        area: (H, W), true where it is.
        size: of the rectangle.

    Returns:
        Column and row of its upper left corner, or None where it has no room.
    """
    width, height = (int(np.ceil(side)) for side in size)
    if height > area.shape[0] or width > area.shape[1]:
        return None
    sums = np.pad(area.cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))  # of everything above and to the left
    covered = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    places = np.argwhere(covered == height * width)  # (places, 2), row and column
    if not len(places):
        return None
    middle = np.argwhere(area).mean(0) + 0.5 - np.array([height, width]) / 2
    row, column = places[((places - middle) ** 2).sum(1).argmin()]
    return int(column), int(row)


def _candidates(box: Box, width: float, height: float, bounds: Box) -> Iterator[Box]:
    """Places for a tag, the best first; all lie in the bounds."""
    left, top, right, bottom = box
    for above, start in product((top - height, top, bottom, bottom - height), (left, right - width)):
        inside = min(max(start, bounds[0]), bounds[2] - width), min(max(above, bounds[1]), bounds[3] - height)
        yield *inside, inside[0] + width, inside[1] + height
    step = height / 2
    starts, aboves = np.arange(bounds[0], bounds[2] - width, step), np.arange(bounds[1], bounds[3] - height, step)
    places = [(x, y, x + width, y + height) for x, y in product(starts.tolist(), aboves.tolist())]
    yield from sorted(places, key=lambda tag: (_away(tag, box), abs(tag[0] - left)))


def _least_covered(candidates: Iterable[Box], placed: Sequence[Box]) -> Box:
    """The first candidate that is clear of what is placed, or else the one of which least is covered."""
    covered: list[tuple[float, Box]] = []
    for tag in candidates:
        covered.append((sum(_shared(tag, other) for other in placed), tag))
        if covered[-1][0] == 0:
            return tag
    return min(covered, key=lambda one: one[0])[1]


def _away(tag: Box, box: Box) -> float:
    """How far a tag is from its box; 0 where they touch."""
    line = leader(tag, box)
    return 0.0 if line is None else math.dist(*line)


def _shared(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
