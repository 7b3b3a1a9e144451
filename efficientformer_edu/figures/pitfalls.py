"""The drawings of chapter 10: five crops of one photograph, and schedules of stochastic depth.

Each function takes values that were computed elsewhere, and returns a drawing. Rules: `weights.crops`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.patches import Rectangle

from efficientformer_edu.figures.blocks import LINES
from efficientformer_edu.figures.colours import FAINT, PAPER, QUERY
from efficientformer_edu.figures.style import Drawing, array, bare, drawing

Box = tuple[float, float, float, float]


def draw_crops(photo: Any, crops: Mapping[str, tuple[Box, Any]]) -> Drawing:
    """What each rule keeps of a photograph, and below it what the network then sees.

    Above, the part that is lost lies under a veil. Below, all pictures have the scale of their pixels, so that a larger
    input is drawn larger.

    Args:
        photo: (H, W, 3), uint8 or floats from 0 to 1.
        crops: for each rule, by its title, the box (left, top, right, bottom) that it keeps, in pixels of the
            photograph, and what the network sees, (h, w, 3).
    """
    whole = array(photo)
    height, width = whole.shape[:2]
    inputs = {title: array(seen) for title, (_, seen) in crops.items()}
    largest = max(max(seen.shape[:2]) for seen in inputs.values())
    with drawing(height=5.0) as figure:
        above, below = figure.subplots(2, len(crops), squeeze=False)
        for axes, (title, (box, _)) in zip(above, crops.items(), strict=True):
            left, top, right, bottom = box
            extent = (0, width, height, 0)
            axes.imshow(whole, extent=extent)
            axes.add_patch(Rectangle((0, 0), width, height, facecolor=PAPER, alpha=0.72))
            kept = axes.imshow(whole, extent=extent, zorder=2)  # above the veil, and cut out by the frame
            frame = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=QUERY, lw=2, zorder=3)
            axes.add_patch(frame)
            kept.set_clip_path(frame)
            axes.set_title(title)
            bare(axes)
        for axes, seen in zip(below, inputs.values(), strict=True):
            rows, columns = seen.shape[:2]
            middle = largest / 2
            axes.imshow(seen, extent=(middle - columns / 2, middle + columns / 2, middle + rows / 2, middle - rows / 2))
            axes.set(xlim=(0, largest), ylim=(largest, 0))
            axes.set_title(f"the network sees {rows}×{columns}", fontsize=9)
            bare(axes)
    return figure


def draw_schedules(schedules: Mapping[str, Sequence[float]]) -> Drawing:
    """The rate of stochastic depth of each block, and the line at 1 that no rate may reach.

    Args:
        schedules: for each schedule its label and the rates, first block first; at most three.
    """
    with drawing(height=2.9, width=7.0) as figure:
        axes = figure.subplots()
        for (label, rates), (tone, dash, mark) in zip(schedules.items(), LINES, strict=False):
            axes.plot(range(1, 1 + len(rates)), rates, color=tone, linestyle=dash, marker=mark, label=label)
        axes.axhline(1.0, color=FAINT, linewidth=1.0, linestyle=":")
        axes.annotate("1: nothing is left", (1, 1.0), (0, 4), textcoords="offset points", color=FAINT)
        axes.set(xlabel="block", ylabel="rate of stochastic depth", ylim=(-0.05, None))
        axes.set_xticks(range(1, 1 + max(map(len, schedules.values()))))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="center left")
    return figure
