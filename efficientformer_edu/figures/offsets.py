"""The attention bias b of Eq. 6: which entry of the table of offsets each pair of tokens uses, and a learned table.

Released code: `attention_biases` and `attention_bias_idxs` of `Attention` in `models/efficientformer.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from efficientformer_edu.config_values import pair, wrong
from efficientformer_edu.figures.colours import INK, PAPER, QUERY
from efficientformer_edu.figures.style import Drawing, array, drawing
from efficientformer_edu.model import offset_index

Grid = tuple[int, int]
MOST_TEXTS = 100  # cells that still have room for text
COLUMNS = 4  # heads side by side


def draw_offsets(grid: Grid = (7, 7), query: tuple[int, int] = (2, 3)) -> Drawing:
    """How one token, the query, finds the bias of every other: by |Δy| and |Δx| alone.

    Three pictures share their colours, one for each entry of the table: the tokens as the query sees them, the table,
    and the N×N matrix of all queries, whose marked row is the first picture read line by line.

    Args:
        grid: height and width of the token grid.
        query: row and column of the query, from 0.

    Raises:
        ValueError: if the grid has no tokens, or the query is not on it.
    """
    height, width = pair("grid", grid)
    y, x = _on_grid("query", query, (height, width))
    index = array(offset_index((height, width)))  # (N, N)
    seen = index[y * width + x].reshape(height, width)
    table = np.arange(height * width).reshape(height, width)
    with drawing(height=3.7) as figure:
        left, middle, right = figure.subplots(1, 3)
        for axes, entries in ((left, seen), (middle, table)):
            _draw_cells(axes, entries, [[_offset(entry, width) for entry in row] for row in entries], height * width)
        left.set(title=f"Each key as the query ({y}, {x}) sees it", xlabel="x", ylabel="y")
        _mark(left, x, y)
        middle.set(title="The table: one number an entry", xlabel="|Δx|", ylabel="|Δy|")
        right.imshow(index, cmap="viridis", vmin=0, vmax=height * width - 1)
        right.set(title=f"All {height * width} queries", xlabel="key", ylabel="query")
        right.add_patch(
            Rectangle((-0.5, y * width + x - 0.5), height * width, 1, fill=False, edgecolor=QUERY, lw=2, clip_on=False)
        )
    return figure


def draw_bias_table(table: Any, grid: Grid) -> Drawing:
    """A learned table of offsets, a picture for each head: positive entries draw attention, negative ones repel it.

    Args:
        table: array or tensor (heads, h·w), or (h·w,) for one head; the offsets in row-major order.
        grid: height and width h, w of the grid that the table is for.

    Raises:
        ValueError: if the table does not have h·w entries for each head.
    """
    height, width = pair("grid", grid)
    heads = np.atleast_2d(array(table))
    if heads.ndim != 2 or heads.shape[1] != height * width:
        raise ValueError(f"table has shape {heads.shape}; allowed: (heads, {height * width}) for grid={grid}")
    columns = min(COLUMNS, len(heads))
    rows = -(-len(heads) // columns)
    largest = float(np.abs(heads).max()) or 1.0
    with drawing(height=0.5 + 2.1 * rows, width=1.0 + 2.25 * columns) as figure:
        panels = figure.subplots(rows, columns, squeeze=False)
        for number, axes in enumerate(panels.flat):
            axes.set_visible(number < len(heads))
            if number < len(heads):
                entries = heads[number].reshape(height, width)
                image = axes.imshow(entries, cmap="PuOr_r", vmin=-largest, vmax=largest)
                axes.set(title=f"head {number + 1}", xlabel="|Δx|", ylabel="|Δy|")
                _whole_ticks(axes, height, width)
        figure.colorbar(image, ax=panels, label="bias", shrink=0.8)
    return figure


def _draw_cells(axes: Axes, entries: NDArray[Any], words: list[list[str]], count: int) -> None:
    height, width = entries.shape
    axes.imshow(entries, cmap="viridis", vmin=0, vmax=count - 1)
    _whole_ticks(axes, height, width)
    if count > MOST_TEXTS:
        return
    for (y, x), entry in np.ndenumerate(entries):
        colour = PAPER if entry < 0.45 * count else INK  # viridis starts dark
        axes.text(x, y, words[y][x], ha="center", va="center", fontsize=8, color=colour)


def _whole_ticks(axes: Axes, height: int, width: int) -> None:
    axes.set_xticks(range(0, width, 1 + width // 10))
    axes.set_yticks(range(0, height, 1 + height // 10))


def _mark(axes: Axes, x: int, y: int) -> None:
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=QUERY, lw=3))


def _offset(entry: int, width: int) -> str:
    return f"{entry // width},{entry % width}"


def _on_grid(name: str, token: tuple[int, int], grid: Grid) -> tuple[int, int]:
    y, x = token
    if not (0 <= y < grid[0] and 0 <= x < grid[1]):
        raise wrong(name, token, f"a row from 0 to {grid[0] - 1} and a column from 0 to {grid[1] - 1}")
    return y, x
