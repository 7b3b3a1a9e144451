"""What the four maps of a backbone for dense tasks hold: each as a picture of its two main components.

A place of a map is a vector of many numbers. Principal components are the directions in which these vectors differ
most: the first sets how light a place is drawn, the second whether it is blue or orange, which readers with any colour
vision tell apart. Places that look alike hold much the same.

Comes: an image and the maps of it. Goes: a drawing, and the same in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from efficientformer_edu.figures.class_colours import TONES
from efficientformer_edu.figures.colours import FAINT, INK, PAPER
from efficientformer_edu.figures.style import Drawing, array, bare, drawing
from efficientformer_edu.weights.images import MEAN, STD

TAILS = (2, 98)  # percent of the places between which a component runs from end to end
REACH = 0.8  # of the way to black and to white that the first component goes


class Components(NamedTuple):
    """The two main components of a map: (2, h, w), each from 0 to 1, and the part of the variance that they hold."""

    values: NDArray[np.float64]
    part: float


def draw_maps(image: Any, maps: Sequence[Any]) -> Drawing:
    """The image on the left; beside it its four maps, the finest first, each with its grid, channels and stride.

    Each map has components of its own, turned so that places that are bright in the image tend to be light and orange.

    Args:
        image: (3, H, W), normalised, as `View` makes it.
        maps: (C, h, w) each, or (1, C, h, w) as `DenseBackbone` gives them for one image.

    Raises:
        ValueError: for other shapes, or if the maps are not four.
    """
    photo, found = _photo(image), _maps(maps)
    with drawing(height=4.5, width=7.6) as figure:
        grid = figure.add_gridspec(2, 4)
        panels = [figure.add_subplot(grid[:, :2]), *(figure.add_subplot(grid[n // 2, 2 + n % 2]) for n in range(4))]
        height, width = photo.shape[:2]
        panels[0].imshow(photo, interpolation="auto")
        panels[0].set_title(f"image, {height}×{width} pixels")
        for axes, each in zip(panels[1:], found, strict=True):
            axes.imshow(_coloured(main_components(each, photo)), extent=(0, width, height, 0))
            axes.set_title(f"stride {_stride(each, photo)}: {_grid(each)} places\n{len(each)} channels", fontsize=9)
        for axes in panels:
            bare(axes)
        figure.supxlabel("light or dark: first principal component; orange or blue: second", fontsize=9, color=FAINT)
    return figure


def maps_alt_text(image: Any, maps: Sequence[Any]) -> str:
    """What the drawing shows, for readers who do not see it. Arguments and errors as for `draw_maps`."""
    photo, found = _photo(image), _maps(maps)
    said = [
        f"at stride {_stride(each, photo)} {_grid(each)} places of {len(each)} channels, "
        f"{main_components(each, photo).part:.0%} of whose variance the picture holds"
        for each in found
    ]
    height, width = photo.shape[:2]
    return f"An image of {height}×{width} pixels, and beside it its maps: {'; '.join(said)}."


def main_components(features: NDArray[Any], photo: NDArray[Any]) -> Components:
    """The two main components of a map.

    Args:
        features: the map, (C, h, w).
        photo: the image, (H, W, 3), by whose brightness the sign of each component is chosen.
    """
    channels, height, width = features.shape
    vectors = features.reshape(channels, -1).astype(np.float64)  # (C, h·w)
    vectors -= vectors.mean(axis=1, keepdims=True)
    sizes, directions = np.linalg.eigh(vectors @ vectors.T)  # the smallest first
    scores = (directions[:, :-3:-1].T @ vectors).reshape(2, height, width)
    rows, columns = (np.arange(n) * side // n for n, side in ((height, photo.shape[0]), (width, photo.shape[1])))
    light = np.add.reduceat(np.add.reduceat(photo.mean(axis=2), rows, axis=0), columns, axis=1)  # (h, w)
    scores *= np.where(((light - light.mean()) * scores).sum(axis=(1, 2)) < 0, -1, 1)[:, None, None]
    least, most = np.percentile(scores, TAILS, axis=(1, 2), keepdims=True)
    spread = np.where(most > least, most - least, 1)
    whole = sizes.sum()
    return Components(((scores - least) / spread).clip(0, 1), float(sizes[-2:].sum() / whole) if whole > 0 else 1.0)


def _coloured(found: Components) -> NDArray[np.float64]:
    """(2, h, w) to colours (h, w, 3)."""
    first, second = found.values[..., None]  # (h, w, 1) each
    blue, orange, black, white = (np.array(to_rgb(colour)) for colour in (*TONES[:2], INK, PAPER))
    tone = (1 - second) * blue + second * orange
    towards = np.where(first < 0.5, black, white)
    way = REACH * np.abs(2 * first - 1)
    return (1 - way) * tone + way * towards


def _photo(image: Any) -> NDArray[np.float64]:
    pixels = array(image)
    if pixels.ndim != 3 or len(pixels) != 3:
        raise ValueError(f"image has the shape {pixels.shape}; wanted: (3, H, W)")
    return (pixels.transpose(1, 2, 0) * np.array(STD) + np.array(MEAN)).clip(0, 1)


def _maps(maps: Sequence[Any]) -> list[NDArray[Any]]:
    arrays = [array(each) for each in maps]
    arrays = [each[0] if each.ndim == 4 and len(each) == 1 else each for each in arrays]
    if len(arrays) != 4 or any(each.ndim != 3 or len(each) < 2 for each in arrays):
        shapes = ", ".join(str(each.shape) for each in arrays) or "none"
        raise ValueError(f"maps have the shapes {shapes}; wanted: four of (C, h, w), C at least 2")
    return arrays


def _grid(features: NDArray[Any]) -> str:
    return "×".join(map(str, features.shape[1:]))


def _stride(features: NDArray[Any], photo: NDArray[Any]) -> int:
    return round(photo.shape[0] / features.shape[1])
