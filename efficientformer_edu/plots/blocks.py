"""Figures of the building blocks: what they do to a feature map, and the bias that attention adds to its scores.

Paper: section 4.1 and Eq. 4 to 6. Released code: `attention_biases` and `attention_bias_idxs` of `Attention` in
`models/efficientformer.py`, and the same class in `segmentation/backbone.py`. The functions draw values that are
computed elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray
from PIL import Image

from efficientformer_edu._validation import invalid_value, non_negative_int, pair
from efficientformer_edu.dense.offset_tables import source_tokens
from efficientformer_edu.model import offset_index
from efficientformer_edu.plots import FAINT, INK, PAPER, PARTS
from efficientformer_edu.plots.style import SERIES, Drawing, array, bare, drawing, outline

Grid = tuple[int, int]
MAX_LABELS = 100  # larger grids have no text in their cells
COLUMNS = 4  # heads per row


def photo(size: int) -> NDArray[Any]:
    """A grey image, (size, size), from 0 to 1: the portrait of Grace Hopper that ships with matplotlib."""
    with Image.open(Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg") as image:
        side = min(image.size)
        square = image.convert("L").crop((0, 0, side, side))
        return array(square.resize((size, size), Image.Resampling.LANCZOS)) / 255


def draw_fields(fields: Mapping[str, Sequence[Any]]) -> Drawing:
    """The receptive fields of up to three neighbouring positions of a feature map.

    Args:
        fields: title of each panel to its masks, (height, width) each, true for the pixels in the receptive field.
    """
    colours = (PARTS["MB4D"].line, SERIES[0][0], PARTS["embedding"].line)
    with drawing(height=2.6, width=8.0) as figure:
        rows = [row for masks in fields.values() for mask in masks for row in array(mask).nonzero()[0]]
        for axes, (title, masks) in zip(figure.subplots(1, len(fields), squeeze=False)[0], fields.items(), strict=True):
            width = array(masks[0]).shape[1]
            for mask, colour in zip(masks, colours, strict=True):
                ys, xs = array(mask).nonzero()
                corner, size = (xs.min(), ys.min()), (xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min())
                axes.add_patch(Rectangle(corner, *size, facecolor=colour, alpha=0.28))
                axes.add_patch(Rectangle(corner, *size, facecolor="none", edgecolor=colour, linewidth=1.8))
            top, bottom = min(rows) - 4, max(rows) + 5  # with a margin of a few pixels
            axes.set(xlim=(0, width), ylim=(bottom, top), aspect="equal", title=title)
            axes.set_xticks(range(width + 1), minor=True)
            axes.set_yticks(range(top, bottom + 1), minor=True)
            axes.set_xticks(range(0, width + 1, 16))
            axes.set_yticks([y for y in range(top, bottom + 1) if y % 16 == 0])
            axes.grid(which="both", color="#DDDDDD", linewidth=0.4)
            axes.tick_params(which="both", length=0)
            axes.set(xlabel="column of the image", ylabel="row")
    return figure


def draw_tokens(height: int, width: int, channels: int) -> Drawing:
    """A small feature map and its tokens; each position keeps its colour."""
    positions = list(np.ndindex(height, width))
    tints = [hsv_to_rgb((x / width, 0.08 + 0.26 * y / max(height - 1, 1), 1.0)) for y, x in positions]
    with drawing(height=4.0, width=7.6) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        for c in reversed(range(channels)):  # the last channel is behind the others
            for i, (y, x) in enumerate(positions):
                corner = x + 0.32 * c, y - 0.32 * c
                left.add_patch(Rectangle(corner, 1, 1, facecolor=tints[i], edgecolor=INK))
                if c == 0:
                    left.text(x + 0.5, y + 0.5, str(i), ha="center", va="center")
        back = 0.32 * (channels - 1)
        left.set(xlim=(-0.1, width + back + 0.1), ylim=(height + 0.1, -back - 0.1), aspect="equal")
        left.set_title(f"a map ({channels}, {height}, {width}): channels, height, width")
        for i, (y, x) in enumerate(positions):
            for c in range(channels):
                right.add_patch(Rectangle((c, 0.62 * i), 1, 0.62, facecolor=tints[i], edgecolor=INK))
            right.text(-0.15, 0.62 * (i + 0.5), f"token {i}", ha="right", va="center")
            right.text(channels + 0.15, 0.62 * (i + 0.5), f"y = {y}, x = {x}", va="center", color=FAINT)
        for c in range(channels):
            right.text(c + 0.5, -0.12, f"c = {c}", ha="center", color=FAINT)
        right.set(xlim=(-1.6, channels + 2.1), ylim=(0.62 * height * width + 0.1, -0.6), aspect="equal")
        right.set_title(f"its tokens ({height * width}, {channels}): token, channel")
        bare(left)
        bare(right)
    return figure


def draw_maps(rows: Sequence[Mapping[str, Any]], limits: tuple[float, float], width: float = 8.0) -> Drawing:
    """Rows of grey images with a common scale.

    Args:
        rows: of each row, title to image, (height, width).
        limits: the values that are black and white.
        width: of the figure in inches.
    """
    columns = max(map(len, rows))
    with drawing(height=len(rows) * (width / columns + 0.25), width=width) as figure:
        for panels, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
            for axes, (title, values) in zip(panels, row.items(), strict=True):
                axes.imshow(array(values), cmap="gray", vmin=limits[0], vmax=limits[1])
                axes.set_title(title)
                bare(axes)
    return figure


def draw_depth(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Drawing:
    """How the signal and the gradient change from block to block.

    Args:
        curves: label of each network to two values per depth, starting from 0: the cosine similarity of the feature map
            with the input, and the norm of the gradient over its norm at the end.
    """
    with drawing(height=3.5, width=9.0) as figure:
        signal, gradient = figure.subplots(1, 2)
        for (label, values), (colour, style, marker) in zip(curves.items(), SERIES, strict=True):
            for axes, ys in zip((signal, gradient), values, strict=True):
                axes.plot(range(len(ys)), ys, color=colour, ls=style, marker=marker, markersize=4, label=label)
        signal.set(title="similarity to the input", ylabel="cosine with the input", ylim=(-0.1, 1.1))
        gradient.set(title="gradient of the loss", ylabel="norm, relative to the last block", yscale="log")
        gradient.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        gradient.yaxis.set_major_formatter("{x:g}")
        gradient.yaxis.set_minor_formatter(NullFormatter())
        gradient.legend()
        for axes in (signal, gradient):
            axes.set_xlabel("number of blocks")
            axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_head_layouts(heads: int, parts: Sequence[int]) -> Drawing:
    """Two orders in which a linear layer can store the queries, keys and values of all heads.

    Args:
        heads: number of heads.
        parts: channels of the query, the key and the value of a head.
    """
    fills = [PARTS[name] for name in ("MB4D", "embedding", "MB3D")]
    layouts = {
        "here: q, k, v of head 0, then of head 1, …": [(p, h) for h in range(heads) for p in range(3)],
        "elsewhere: all queries, all keys, all values": [(p, h) for p in range(3) for h in range(heads)],
    }
    with drawing(height=2.3, width=9.6) as figure:
        for axes, (title, order) in zip(figure.subplots(2, 1), layouts.items(), strict=True):
            start = 0
            for p, head in order:
                fill, line = fills[p]
                axes.add_patch(Rectangle((start, 0), parts[p], 1, facecolor=fill, edgecolor=line, linewidth=0.8))
                axes.text(start + parts[p] / 2, 0.5, f"{'qkv'[p]}\n{head}", ha="center", va="center", fontsize=8)
                start += parts[p]
            axes.set(xlim=(-2, start + 2), ylim=(-0.05, 1.05))
            axes.set_title(title, loc="left")
            bare(axes)
    return figure


# The attention bias b of Eq. 6: a table with one entry per offset (|Δy|, |Δx|) between two tokens.


def draw_offsets(grid: Grid = (7, 7), query: tuple[int, int] = (2, 3)) -> Drawing:
    """How a token, the query, looks up the bias of every key: by |Δy| and |Δx| only.

    The three panels have one colour per entry of the table: the tokens as the query sees them, the table, and the N×N
    matrix of all queries. The marked row of the matrix is the first panel in row-major order.

    Args:
        grid: height and width of the token grid.
        query: row and column of the query, from 0.

    Raises:
        ValueError: if the grid has no tokens, or the query is not on it.
    """
    height, width = pair("grid", grid)
    y, x = check_query(query, (height, width))
    index = array(offset_index((height, width)))  # (N, N)
    table = np.arange(height * width).reshape(height, width)
    with drawing(height=3.7) as figure:
        left, middle, right = figure.subplots(1, 3)
        for axes, entries in ((left, index[y * width + x].reshape(height, width)), (middle, table)):
            _draw_cells(axes, entries, (height, width))
        left.set(title=f"Each key as the query ({y}, {x}) sees it", xlabel="x", ylabel="y")
        outline(left, x - 0.5, y - 0.5, 1, 1, 3)
        middle.set(title="The table: one value per entry", xlabel="|Δx|", ylabel="|Δy|")
        right.imshow(index, cmap="viridis", vmin=0, vmax=height * width - 1)
        right.set(title=f"All {height * width} queries", xlabel="key", ylabel="query")
        outline(right, -0.5, y * width + x - 0.5, height * width, 1)
    return figure


def draw_bias_table(table: Any, grid: Grid) -> Drawing:
    """A learned table of offsets, one panel per head: positive entries attract attention, negative ones repel it.

    Args:
        table: array or tensor (heads, h·w), or (h·w,) for one head; the offsets in row-major order.
        grid: height and width h, w of the grid of the table.

    Raises:
        ValueError: if the table does not have h·w entries per head.
    """
    height, width = pair("grid", grid)
    heads = np.atleast_2d(array(table))
    if heads.ndim != 2 or heads.shape[1] != height * width:
        raise ValueError(f"table has shape {heads.shape}; allowed: (heads, {height * width}) for grid={grid}")
    columns = min(COLUMNS, len(heads))
    rows = -(-len(heads) // columns)
    with drawing(height=0.5 + 2.1 * rows, width=1.0 + 2.25 * columns) as figure:
        panels = figure.subplots(rows, columns, squeeze=False)
        for number, axes in enumerate(panels.flat):
            axes.set_visible(number < len(heads))
            if number < len(heads):
                image = axes.imshow(heads[number].reshape(height, width), **_diverging(heads))
                axes.set(title=f"head {number + 1}", xlabel="|Δx|", ylabel="|Δy|")
                _grid_ticks(axes, height, width)
        figure.colorbar(image, ax=panels, label="bias", shrink=0.8)
    return figure


def draw_biases(panels: Mapping[str, Any], marks: Mapping[str, tuple[int, int]]) -> Drawing:
    """Tables or maps of biases side by side, with a common colour scale.

    Args:
        panels: title of each panel to its values, (height, width).
        marks: title of a panel to row and column of the token to mark; panels without a mark are tables of offsets.
    """
    values = {title: array(panel) for title, panel in panels.items()}
    low, high = min(v.min() for v in values.values()), max(v.max() for v in values.values())
    with drawing(height=3.9, width=9.6) as figure:
        for axes, (title, biases) in zip(figure.subplots(1, len(panels)), values.items(), strict=True):
            image = axes.imshow(biases, cmap="viridis", vmin=low, vmax=high)
            axes.set_title(title)
            if title in marks:
                y, x = marks[title]
                outline(axes, x - 0.5, y - 0.5, 1, 1)
            bare(axes)
            axes.set(xlabel="x" if title in marks else "|Δx|", ylabel="y" if title in marks else "|Δy|")
        figure.colorbar(image, ax=figure.axes, label="bias b", shrink=0.7)
    return figure


def draw_resized_biases(
    biases: Mapping[str, Any], grid: Grid, query: tuple[int, int] = (3, 3), head: int = 0
) -> Drawing:
    """The biases of one head on a finer grid, as several methods make them; below, the row of one query.

    The mean of each row is subtracted, because softmax does not depend on it. All panels have the same colour scale.

    Args:
        biases: name of each method to a matrix (heads, N, N), as `model.offset_bias` and `dense.offset_tables` make it.
        grid: height and width h, w of the token grid; N = h·w.
        query: row and column of the query, from 0.
        head: index of the head, from 0.

    Raises:
        ValueError: if a matrix has the wrong shape, or the query or the head does not exist.
    """
    height, width = pair("grid", grid)
    y, x = check_query(query, (height, width))
    matrices = {}
    for name, bias in ((name, array(bias)) for name, bias in biases.items()):
        if bias.ndim != 3 or bias.shape[1:] != (height * width, height * width):
            raise ValueError(f"{name} has shape {bias.shape}; allowed: (heads, {height * width}, {height * width})")
        if non_negative_int("head", head) >= len(bias):
            raise invalid_value("head", head, f"0 to {len(bias) - 1}")
        matrices[name] = bias[head] - bias[head].mean(axis=1, keepdims=True)
    colours = _diverging(np.stack(list(matrices.values())))
    row = y * width + x
    with drawing(height=5.1, width=0.9 + 2.25 * len(matrices)) as figure:
        panels = figure.subplots(2, len(matrices), squeeze=False)
        for (above, below), (name, matrix) in zip(panels.T, matrices.items(), strict=True):
            image = above.imshow(matrix, **colours)
            above.set(title=name, xlabel="key", ylabel="query")
            outline(above, -0.5, row - 0.5, matrix.shape[1], 1, 0.8, INK)  # ink: orange is a colour of the biases
            below.imshow(matrix[row].reshape(height, width), **colours)
            below.set(title=f"the row of query {y},{x}", xlabel="x", ylabel="y")
            outline(below, x - 0.5, y - 0.5, 1, 1, 2.0, INK)
        for axes in panels[:, 1:].flat:
            axes.set_ylabel("")
        figure.colorbar(image, ax=panels, label="bias, less the mean of its row", shrink=0.6)
    return figure


def draw_token_matches(bias_grid: Grid, grid: Grid) -> Drawing:
    """Which token of the trained grid each token of a finer grid corresponds to: by position, and in a resized matrix.

    The three panels have one colour per token of the trained grid; the label is its row and column.

    Args:
        bias_grid: height and width of the grid of the table.
        grid: height and width of the finer grid.

    Raises:
        ValueError: if a grid has no tokens.
    """
    before, after = pair("bias_grid", bias_grid), pair("grid", grid)
    trained = np.arange(before[0] * before[1]).reshape(before)
    rows, columns = (np.arange(new) * old // new for old, new in zip(before, after, strict=True))
    resized = np.array([[y * before[1] + x for y, x in row] for row in source_tokens(before, after)])
    with drawing(height=3.7) as figure:
        for axes, tokens, title in zip(
            figure.subplots(1, 3),
            (trained, trained[np.ix_(rows, columns)], resized),
            (
                f"The {before[0]}×{before[1]} tokens trained on",
                f"{after[0]}×{after[1]} tokens: match by position",
                "Match in the resized matrix",
            ),
            strict=True,
        ):
            _draw_cells(axes, tokens, before)
            axes.set(title=title, xlabel="x", ylabel="y")
    return figure


def check_query(query: tuple[int, int], grid: Grid) -> tuple[int, int]:
    """Row and column of a query. Raises ValueError if it is not on the grid."""
    y, x = query
    if not (0 <= y < grid[0] and 0 <= x < grid[1]):
        raise invalid_value("query", query, f"a row from 0 to {grid[0] - 1} and a column from 0 to {grid[1] - 1}")
    return y, x


def _draw_cells(axes: Axes, entries: NDArray[Any], grid: Grid) -> None:
    """Cells of one colour per entry of a grid, labelled with the row and column of the entry if it fits."""
    count = grid[0] * grid[1]
    axes.imshow(entries, cmap="viridis", vmin=0, vmax=count - 1)
    _grid_ticks(axes, *entries.shape)
    if entries.size <= MAX_LABELS:
        for (y, x), entry in np.ndenumerate(entries):
            label = f"{entry // grid[1]},{entry % grid[1]}"
            colour = PAPER if entry < 0.45 * count else INK  # viridis starts dark
            axes.text(x, y, label, ha="center", va="center", fontsize=8, color=colour)


def _grid_ticks(axes: Axes, height: int, width: int) -> None:
    axes.set_xticks(range(0, width, 1 + width // 10))
    axes.set_yticks(range(0, height, 1 + height // 10))


def _diverging(values: NDArray[Any]) -> dict[str, Any]:
    """A colour map that is symmetric around 0."""
    largest = float(np.abs(values).max()) or 1.0
    return {"cmap": "PuOr_r", "vmin": -largest, "vmax": largest}
