"""Biases between tokens on a finer grid, as different ways make them, and where resizing the matrix goes wrong.

Takes matrices (heads, N, N) as `model.offset_bias` and `dense.offset_tables` make them. Released code: `Attention` in
`segmentation/backbone.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from efficientformer_edu.config_values import natural, pair, wrong
from efficientformer_edu.dense.offset_tables import taken_for
from efficientformer_edu.figures.colours import INK, PAPER
from efficientformer_edu.figures.style import Drawing, array, drawing

Grid = tuple[int, int]


def draw_biases(biases: Mapping[str, Any], grid: Grid, query: tuple[int, int] = (3, 3), head: int = 0) -> Drawing:
    """One head's bias between each two tokens in several ways, and below each way what one query sees of it.

    Softmax does not see the mean of a row, so it is taken off. All pictures share their colours.

    Args:
        biases: matrices (heads, N, N) under the names of the ways.
        grid: height and width h, w of the grid that the tokens lie on; N = h·w.
        query: row and column of the query, from 0.
        head: number of the head, from 0.

    Raises:
        ValueError: if a matrix has another size, or the query or the head is not there.
    """
    height, width = pair("grid", grid)
    if not (0 <= query[0] < height and 0 <= query[1] < width):
        raise wrong("query", query, f"a row from 0 to {height - 1} and a column from 0 to {width - 1}")
    matrices = {name: _centred(name, array(bias), height * width, head) for name, bias in biases.items()}
    largest = max(float(np.abs(matrix).max()) for matrix in matrices.values()) or 1.0
    colours: Any = {"cmap": "PuOr_r", "vmin": -largest, "vmax": largest}
    row = query[0] * width + query[1]
    with drawing(height=5.1, width=0.9 + 2.25 * len(matrices)) as figure:
        panels = figure.subplots(2, len(matrices), squeeze=False)
        for (above, below), (name, matrix) in zip(panels.T, matrices.items(), strict=True):
            image = above.imshow(matrix, **colours)
            above.set(title=name, xlabel="key", ylabel="query")
            above.add_patch(_frame(-0.5, row - 0.5, matrix.shape[1], 1, 0.8))
            below.imshow(matrix[row].reshape(height, width), **colours)
            below.set(title=f"the row of query {query[0]},{query[1]}", xlabel="x", ylabel="y")
            below.add_patch(_frame(query[1] - 0.5, query[0] - 0.5, 1, 1, 2.0))
        for axes in panels[:, 1:].flat:
            axes.set_ylabel("")
        figure.colorbar(image, ax=panels, label="bias, less the mean of its row", shrink=0.6)
    return figure


def draw_taken_for(bias_grid: Grid, grid: Grid) -> Drawing:
    """For which token of the trained grid each token of a finer one stands, by its place and in the resized matrix.

    Three pictures share their colours, one for each token of the trained grid; its row and column are written on it.

    Args:
        bias_grid: height and width of the grid that the table is for.
        grid: height and width of the finer grid.

    Raises:
        ValueError: if a grid has no tokens.
    """
    before, now = pair("bias_grid", bias_grid), pair("grid", grid)
    own = [[(y, x) for x in range(before[1])] for y in range(before[0])]
    by_place = [[(y * before[0] // now[0], x * before[1] // now[1]) for x in range(now[1])] for y in range(now[0])]
    with drawing(height=3.7) as figure:
        left, middle, right = figure.subplots(1, 3)
        _draw_tokens(left, own, before, f"The {before[0]}×{before[1]} tokens trained on")
        _draw_tokens(middle, by_place, before, f"{now[0]}×{now[1]} tokens: which of them lies there")
        _draw_tokens(right, taken_for(before, now), before, "The same in the resized matrix")
    return figure


def _centred(name: str, bias: NDArray[Any], count: int, head: int) -> NDArray[Any]:
    if bias.ndim != 3 or bias.shape[1:] != (count, count):
        raise ValueError(f"{name} has shape {bias.shape}; allowed: (heads, {count}, {count})")
    if natural("head", head) >= len(bias):
        raise wrong("head", head, f"0 to {len(bias) - 1}")
    return np.asarray(bias[head] - bias[head].mean(axis=1, keepdims=True))


def _draw_tokens(axes: Axes, tokens: list[list[tuple[int, int]]], grid: Grid, title: str) -> None:
    numbers = np.array([[y * grid[1] + x for y, x in row] for row in tokens])
    axes.imshow(numbers, cmap="viridis", vmin=0, vmax=grid[0] * grid[1] - 1)
    axes.set(title=title, xlabel="x", ylabel="y", xticks=range(numbers.shape[1]), yticks=range(numbers.shape[0]))
    for (y, x), number in np.ndenumerate(numbers):
        colour = PAPER if number < 0.45 * grid[0] * grid[1] else INK  # viridis starts dark
        row, column = tokens[y][x]
        axes.text(x, y, f"{row},{column}", ha="center", va="center", fontsize=8, color=colour)


def _frame(x: float, y: float, width: float, height: float, line: float) -> Rectangle:
    """In ink: orange, with which other drawings mark a query, is a colour of the biases."""
    return Rectangle((x, y), width, height, fill=False, edgecolor=INK, lw=line, clip_on=False)
