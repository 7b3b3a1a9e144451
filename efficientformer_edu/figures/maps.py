"""What a network makes of one photograph: the maps of its stages, and where its attention goes.

Takes what `EfficientFormer.features` and `EfficientFormer.attention_maps` return, as tensors or arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from efficientformer_edu.config_values import pair, wrong
from efficientformer_edu.figures.colours import QUERY
from efficientformer_edu.figures.parts import shape_text
from efficientformer_edu.figures.style import Drawing, array, bare, drawing

HEADS_IN_A_ROW = 4


def draw_feature_maps(image: Any, maps: Sequence[Any], channels: int = 2) -> Drawing:
    """The photograph and, for each stage, the mean of its map over the channels and the channels that vary most.

    Each picture has its own range of colours, from its smallest value to its largest.

    Args:
        image: (H, W, 3), uint8 or floats from 0 to 1, as the network saw it.
        maps: one map a stage, (C, h, w), or (1, C, h, w) as `features` returns for one image.
        channels: how many single channels are shown below the mean.

    Raises:
        ValueError: if an array has another shape.
    """
    photo = _photo(image)
    arrays = [_one("maps", each, 3) for each in maps]
    with drawing(height=0.5 + 1.75 * (1 + channels), width=2.0 * (1 + len(arrays))) as figure:
        panels = figure.subplots(1 + channels, 1 + len(arrays), squeeze=False)
        for axes in panels.flat:
            bare(axes)
        panels[0, 0].imshow(photo)
        panels[0, 0].set_title(f"image\n{shape_text(photo.shape[:2])}")
        for stage, (each, column) in enumerate(zip(arrays, panels[:, 1:].T, strict=True), start=1):
            spread = each.std(axis=(1, 2))
            column[0].imshow(each.mean(axis=0), cmap="viridis")
            column[0].set_title(f"stage {stage}, mean of\n{shape_text(each.shape)}")
            for axes, channel in zip(column[1:], np.argsort(-spread, kind="stable")[:channels], strict=True):
                axes.imshow(each[channel], cmap="viridis")
                axes.set_title(f"channel {channel}", fontsize=9)
    return figure


def draw_attention(image: Any, attention: Any, grid: tuple[int, int], query: tuple[int, int]) -> Drawing:
    """Where one token looks: the photograph with the query marked, and each head's attention laid over it.

    Args:
        image: (H, W, 3), uint8 or floats from 0 to 1, as the network saw it.
        attention: probabilities of one block, (heads, N, N), or (1, heads, N, N) as `attention_maps` returns.
        grid: height and width h, w of the token grid; N = h·w.
        query: row and column of the query, from 0.

    Raises:
        ValueError: if an array has another shape, or the query is not on the grid.
    """
    photo, probabilities = _photo(image), _one("attention", attention, 3)
    (height, width), (y, x) = pair("grid", grid), query
    heads, tokens = probabilities.shape[0], height * width
    if probabilities.shape[1:] != (tokens, tokens):
        raise ValueError(
            f"attention has shape {probabilities.shape}; allowed: (heads, {tokens}, {tokens}), grid={grid}"
        )
    if not (0 <= y < height and 0 <= x < width):
        raise wrong("query", query, f"a row from 0 to {height - 1} and a column from 0 to {width - 1}")
    seen = probabilities[:, y * width + x].reshape(heads, height, width)
    columns = min(HEADS_IN_A_ROW, heads)
    rows = -(-heads // columns)
    with drawing(height=0.4 + 1.9 * rows, width=1.9 * (columns + 1) + 0.5) as figure:
        panels = figure.subplots(rows, 1 + columns, squeeze=False)
        for axes in panels.flat:
            bare(axes)
        shown = [(panels[0, 0], None, "the query"), *zip(panels[:, 1:].flat, seen, _names(heads), strict=False)]
        for axes in set(panels.flat) - {each[0] for each in shown}:
            axes.set_visible(False)
        for axes, weights, title in shown:
            grey = np.broadcast_to(photo.mean(axis=2, keepdims=True), photo.shape).astype(photo.dtype)
            _draw_photo(axes, photo if weights is None else grey, grid, query, title)
            if weights is not None:
                drawn = axes.imshow(
                    weights, cmap="viridis", vmin=0, vmax=seen.max(), alpha=0.65, extent=(0, width, height, 0)
                )
        figure.colorbar(drawn, ax=panels, label="attention", shrink=0.8)
    return figure


def _draw_photo(axes: Axes, photo: NDArray[Any], grid: tuple[int, int], query: tuple[int, int], title: str) -> None:
    """The photograph in the units of tokens, and a frame around the query."""
    axes.imshow(photo, extent=(0, grid[1], grid[0], 0), aspect=photo.shape[0] / photo.shape[1] * grid[1] / grid[0])
    axes.add_patch(Rectangle((query[1], query[0]), 1, 1, fill=False, edgecolor=QUERY, lw=2))
    axes.set_title(title)


def _names(heads: int) -> list[str]:
    return [f"head {head}" for head in range(1, heads + 1)]


def _photo(image: Any) -> NDArray[Any]:
    photo = array(image)
    if photo.ndim != 3 or photo.shape[2] != 3:
        raise ValueError(f"image has shape {photo.shape}; allowed: (H, W, 3)")
    return photo


def _one(name: str, values: Any, dimensions: int) -> NDArray[Any]:
    """The array of one image, without the batch."""
    found = array(values)
    if found.ndim == dimensions + 1 and found.shape[0] == 1:
        found = found[0]
    if found.ndim != dimensions:
        raise ValueError(
            f"{name} has an array of shape {found.shape}; allowed: {dimensions} dimensions, or a batch of 1"
        )
    return found
