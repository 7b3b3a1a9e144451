"""The drawings of chapter 2: what the parts of a block do to a map, and to the signal through many blocks.

Paper: section 4.1. Each function takes values that were computed elsewhere, and returns a drawing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.colors import hsv_to_rgb
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray
from PIL import Image

from efficientformer_edu.figures.colours import FAINT, INK, PARTS, QUERY
from efficientformer_edu.figures.style import Drawing, array, bare, drawing

TONES = (PARTS["MB4D"].line, QUERY, PARTS["embedding"].line)  # blue, vermilion, green
LINES = ((TONES[1], "-", "s"), (TONES[2], "--", "^"), (TONES[0], "-", "o"))  # never told apart by colour alone


def photo(size: int) -> NDArray[Any]:
    """A grey photograph, (size, size), from 0 to 1: the portrait of Grace Hopper that comes with matplotlib."""
    with Image.open(Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg") as image:
        side = min(image.size)
        square = image.convert("L").crop((0, 0, side, side))
        return array(square.resize((size, size), Image.Resampling.LANCZOS)) / 255


def draw_fields(fields: Mapping[str, Sequence[Any]]) -> Drawing:
    """Which pixels each of a few neighbouring places of a map sees.

    Args:
        fields: for each panel its title and masks, (height, width) each, true where a place sees the pixel.
    """
    with drawing(height=2.6, width=8.0) as figure:
        rows = [row for masks in fields.values() for mask in masks for row in array(mask).nonzero()[0]]
        for axes, (title, masks) in zip(figure.subplots(1, len(fields), squeeze=False)[0], fields.items(), strict=True):
            width = array(masks[0]).shape[1]
            for mask, tone in zip(masks, TONES, strict=True):
                ys, xs = array(mask).nonzero()
                corner, size = (xs.min(), ys.min()), (xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min())
                axes.add_patch(Rectangle(corner, *size, facecolor=tone, alpha=0.28))
                axes.add_patch(Rectangle(corner, *size, facecolor="none", edgecolor=tone, linewidth=1.8))
            top, bottom = min(rows) - 4, max(rows) + 5  # with a few pixels around
            axes.set(xlim=(0, width), ylim=(bottom, top), aspect="equal", title=title)
            axes.set_xticks(range(width + 1), minor=True)
            axes.set_yticks(range(top, bottom + 1), minor=True)
            axes.set_xticks(range(0, width + 1, 16))
            axes.set_yticks([y for y in range(top, bottom + 1) if y % 16 == 0])
            axes.grid(which="both", color="#DDDDDD", linewidth=0.4)
            axes.tick_params(which="both", length=0)
            axes.set_axisbelow(True)
            axes.set(xlabel="column of the image", ylabel="row")
    return figure


def draw_tokens(height: int, width: int, channels: int) -> Drawing:
    """A small map and the tokens that it becomes; a place keeps its colour."""
    with drawing(height=4.0, width=7.6) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        for c in reversed(range(channels)):  # the last channel is drawn first, it lies at the back
            shift = 0.32 * c
            for i in range(height * width):
                y, x = divmod(i, width)
                box = Rectangle((x + shift, y - shift), 1, 1, facecolor=_tint(y, x, height, width), edgecolor=INK)
                left.add_patch(box)
                if c == 0:
                    left.text(x + 0.5, y + 0.5, str(i), ha="center", va="center")
        back = 0.32 * (channels - 1)
        left.set(xlim=(-0.1, width + back + 0.1), ylim=(height + 0.1, -back - 0.1), aspect="equal")
        left.set_title(f"a map ({channels}, {height}, {width}): channels, height, width")
        for i in range(height * width):
            y, x = divmod(i, width)
            for c in range(channels):
                box = Rectangle((c, 0.62 * i), 1, 0.62, facecolor=_tint(y, x, height, width), edgecolor=INK)
                right.add_patch(box)
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
    """Rows of grey maps on one scale, each with its title.

    Args:
        rows: for each row its maps, (height, width) each, by their titles.
        limits: the values that are drawn black and white.
        width: of the drawing in inches.
    """
    columns = max(map(len, rows))
    with drawing(height=len(rows) * (width / columns + 0.25), width=width) as figure:
        for line, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
            for axes, (title, values) in zip(line, row.items(), strict=True):
                axes.imshow(array(values), cmap="gray", vmin=limits[0], vmax=limits[1])
                axes.set_title(title)
                bare(axes)
    return figure


def draw_depth(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Drawing:
    """What is left of a map after each block, and the gradient that arrives back there.

    Args:
        curves: for each network its label, and two numbers for each depth from 0: the cosine between the map there
            and the map that came in; the length of the loss's gradient there over its length at the end.
    """
    with drawing(height=3.5, width=9.0) as figure:
        kept, gradient = figure.subplots(1, 2)
        for (label, values), (tone, dash, mark) in zip(curves.items(), LINES, strict=True):
            for axes, ys in zip((kept, gradient), values, strict=True):
                axes.plot(range(len(ys)), ys, color=tone, linestyle=dash, marker=mark, markersize=4, label=label)
        kept.set(title="how much of the input is left", ylabel="cosine with the input", ylim=(-0.1, 1.1))
        gradient.set(title="the gradient on its way back", ylabel="length, over that at the end", yscale="log")
        gradient.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        gradient.yaxis.set_major_formatter("{x:g}")
        gradient.yaxis.set_minor_formatter(NullFormatter())
        gradient.legend(frameon=False)
        for axes in (kept, gradient):
            axes.set_xlabel("after so many blocks")
            axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_head_layouts(heads: int, parts: Sequence[int]) -> Drawing:
    """Two orders in which one linear layer can hold the queries, keys and values of all heads.

    Args:
        heads: number of heads.
        parts: channels of one head's query, key and value.
    """
    fills = [PARTS[name] for name in ("MB4D", "embedding", "MB3D")]
    by_head = [(p, h) for h in range(heads) for p in range(3)]
    by_part = [(p, h) for p in range(3) for h in range(heads)]
    with drawing(height=2.3, width=9.6) as figure:
        for axes, order, title in zip(
            figure.subplots(2, 1),
            (by_head, by_part),
            ("here: q, k, v of head 0, then of head 1, …", "elsewhere: all queries, all keys, all values"),
            strict=True,
        ):
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


def draw_biases(panels: Mapping[str, Any], marks: Mapping[str, tuple[int, int]]) -> Drawing:
    """Tables or maps of biases side by side on one scale of colours.

    Args:
        panels: for each panel its title and values, (height, width).
        marks: row and column of the token to frame, by the panel's title; a panel without one is a table of offsets.
    """
    values = {title: array(panel) for title, panel in panels.items()}
    low, high = min(v.min() for v in values.values()), max(v.max() for v in values.values())
    with drawing(height=3.9, width=9.6) as figure:
        for axes, (title, shown) in zip(figure.subplots(1, len(panels)), values.items(), strict=True):
            picture = axes.imshow(shown, cmap="viridis", vmin=low, vmax=high)
            axes.set_title(title)
            if title in marks:
                y, x = marks[title]
                axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="none", edgecolor=QUERY, linewidth=2))
            bare(axes)
            axes.set(xlabel="x" if title in marks else "|Δx|", ylabel="y" if title in marks else "|Δy|")
        figure.colorbar(picture, ax=figure.axes, label="bias b", shrink=0.7)
    return figure


def _tint(y: int, x: int, height: int, width: int) -> tuple[float, ...]:
    """A pale colour for each place: the hue tells the column, the depth of the colour the row."""
    return tuple(hsv_to_rgb((x / width, 0.08 + 0.26 * y / max(height - 1, 1), 1.0)))
