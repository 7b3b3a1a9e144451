"""Where words stand in a picture: tags beside boxes, which keep clear of each other, and names inside areas.

All lengths are in dots, or in whatever unit the boxes have. Comes: boxes and sizes. Goes: places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from efficientformer_edu.figures.style import DPI, STYLE

Box = tuple[float, float, float, float]  # left, top, right, bottom
PAD = 0.3  # of the height of the letters, on each side of a tag's words


def points(dots: float) -> float:
    """The size of a font whose letters shall be so many dots high."""
    return dots * 72 / DPI


@cache
def words_width(words: str, dots: float) -> float:
    """How wide a line is in the style's font."""
    path = TextPath((0, 0), words, size=points(dots), prop=FontProperties(family=STYLE["font.family"]))
    return float(path.get_extents().x1) * DPI / 72


def tag_size(words: str, dots: float) -> tuple[float, float]:
    """Width and height of a tag with these words."""
    return words_width(words, dots) + 2 * PAD * dots, (1 + 2 * PAD) * dots


def place_tags(boxes: Sequence[Box], sizes: Sequence[tuple[float, float]], bounds: Box) -> list[Box]:
    """A place for the tag of each box: inside the bounds, and clear of the earlier tags if there is such a place.

    Above the box comes first, then inside below its upper edge, below it, inside above its lower edge, each at the left
    and at the right; then any place along its left edge. Where all are taken, the least covered is.

    Args:
        boxes: of the objects, the most important first.
        sizes: widths and heights of their tags, which the bounds have room for.
        bounds: what no tag may leave.
    """
    placed: list[Box] = []
    for box, (width, height) in zip(boxes, sizes, strict=True):
        tried = [_inside(tag, bounds) for tag in _candidates(box, width, height, bounds)]
        placed.append(min(tried, key=lambda tag: sum(_shared(tag, other) for other in placed)))  # the first of equals
    return placed


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
    left, top, right, bottom = box
    for above in (top - height, top, bottom, bottom - height):
        for start in (left, right - width):
            yield start, above, start + width, above + height
    for above in np.arange(bounds[1], bounds[3] - height, height / 4):
        yield left, float(above), left + width, float(above) + height


def _inside(tag: Box, bounds: Box) -> Box:
    """The tag, moved into the bounds by the shortest way."""
    left = min(max(tag[0], bounds[0]), bounds[2] - (tag[2] - tag[0]))
    top = min(max(tag[1], bounds[1]), bounds[3] - (tag[3] - tag[1]))
    return left, top, left + tag[2] - tag[0], top + tag[3] - tag[1]


def _shared(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
