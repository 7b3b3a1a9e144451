"""Fig. 1 and Fig. 2 of the paper, reproduced with latencies of this machine.

Accuracies are reported values from `paper.table1`. The NPU latencies are also reported values; they have a separate
panel and are not compared with measurements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from efficientformer_edu.figures.colours import FAINT, INK, PARTS, QUERY, Colour
from efficientformer_edu.figures.latency_times import GRID, foot
from efficientformer_edu.figures.style import Drawing, drawing
from efficientformer_edu.latency.operators import CLASSES, SPATIAL
from efficientformer_edu.latency.peers import PEERS
from efficientformer_edu.latency.profile import Profile
from efficientformer_edu.latency.records import Measurement
from efficientformer_edu.paper import table1

COLOURS: Mapping[str, Colour] = {
    "patch embedding": PARTS["stem"],
    "attention": PARTS["MB3D"],
    "MLP": PARTS["MB4D"],
    "reshape": Colour("#F8D3BC", QUERY),
    "activation": PARTS["head"],
    "norm": PARTS["embedding"],
    SPATIAL: Colour("#DDD6F0", "#6A51A3"),
    "other": PARTS["image"],
}
LETTER = 0.078  # inches per letter of a bar label, with some space
SIDES = ((8, 0, "left"), (-8, 0, "right"), (0, 11, "center"), (0, -11, "center"))
CORNERS = ((8, 8, "left"), (8, -8, "left"), (-8, 8, "right"), (-8, -8, "right"))
AROUND = tuple((dx * far, dy * far, ha) for far in range(1, 7) for dx, dy, ha in (*SIDES, *CORNERS))
TICKS = [digit * 10**power for power in range(-1, 5) for digit in (1, 2, 5)]
NEAR = 11  # points: labels further away are connected to the point by a line


def draw_profiles(profiles: Sequence[Profile]) -> Drawing:
    """A stacked bar per network with its profiled parts, and a mark at the total timed without the profiler.

    Parts are labelled with name and milliseconds if the label fits; the legend lists all, in the order of the bars.

    Raises:
        ValueError: without profiles.
    """
    if not profiles:
        raise ValueError("no profiles to draw; wanted: at least one")
    with drawing(height=1.9 + 0.55 * len(profiles)) as figure:
        axes = figure.subplots()
        longest = max(max(profile.profiled_ms, profile.total_ms) for profile in profiles)
        inches = 6.2 / (1.28 * longest)  # per millisecond, approximately
        for row, profile in enumerate(profiles):
            left = 0.0
            for kind in CLASSES:
                ms, colour = profile.parts[kind], COLOURS[kind]
                axes.barh(row, ms, left=left, height=0.7, color=colour.fill, edgecolor=colour.line, lw=0.8)
                label = next((text for text in (f"{kind}\n{ms:.1f}", f"{ms:.1f}") if _fits(text, ms * inches)), "")
                axes.text(left + ms / 2, row, label, ha="center", va="center", fontsize=8)
                left += ms
            axes.plot((profile.total_ms,) * 2, (row - 0.44, row + 0.44), color=INK, lw=2.2)
            totals = f"{profile.total_ms:.3g} ms timed\n{left:.3g} profiled, {profile.ratio:.2f}"
            end = (max(left, profile.total_ms), row)
            axes.annotate(totals, end, (7, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(range(len(profiles)), [profile.name for profile in profiles])
        axes.set(ylim=(len(profiles) - 0.4, -0.6), xlim=(0, 1.28 * longest))
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_xlabel("ms for one call; black mark: timed without the profiler")
        handles = [Patch(facecolor=COLOURS[kind].fill, edgecolor=COLOURS[kind].line) for kind in CLASSES]
        figure.legend(handles, CLASSES, loc="outside upper center", ncols=len(CLASSES) // 2, frameon=False)
        foot(figure, [profile.conditions for profile in profiles])
    return figure


def draw_accuracy_latency(points: Measurement) -> Drawing:
    """Reported accuracy against the latency measured here and, in a second panel, against the reported NPU latency.

    Args:
        points: networks that were timed together, named like rows of Table 1, presets or timm models
            (`latency.peers.PEERS`), with or without the prefix `timm:`.

    Raises:
        ValueError: for a network that Table 1 does not have.
    """
    table = table1()
    here, reported = [], []
    for timing in points.timings:
        name = timing.name.removeprefix("timm:")
        top1 = table[PEERS.get(name, name), "top1"]
        label = next(row.name for row in table.rows if top1 in row.cells)
        here.append((timing.milliseconds, top1.value, label))
        npu = table.cell(label, "npu")
        if npu is not None:
            reported.append((npu.value, top1.value, label))
    with drawing(height=4.4) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, title, unit, series in (
            (panels[0], "Measured on this machine", "ms for one call", here),
            (panels[1], "Reported: iPhone 12, all compute units", "ms, reported", reported),
        ):
            axes.set_title(title)
            axes.set_xlabel(unit)
            axes.grid(color=GRID, lw=0.6)
            axes.margins(0.22, 0.15)
            for ms, top1_value, label in series:
                highlighted = label.startswith("EfficientFormer")
                colour = COLOURS["attention" if highlighted else "MLP"]
                axes.plot(ms, top1_value, "D" if highlighted else "o", ms=8, mfc=colour.fill, mec=colour.line, mew=1.5)
            axes.set_xscale("log")  # else the slowest network would compress all others into a corner
            low, high = min(ms for ms, *_ in series) / 1.3, max(ms for ms, *_ in series) * 1.9  # space for a label
            axes.set_xlim(low, high)
            axes.set_xticks([tick for tick in TICKS if low <= tick <= high], minor=False)
            axes.set_xticks([], minor=True)
            axes.xaxis.set_major_formatter("{x:g}")
        panels[0].set_ylabel("top-1 accuracy in %, reported")
        foot(figure, [points.conditions])
        figure.draw_without_rendering()  # determines the positions of the points
        for axes, series in zip(panels, (here, reported), strict=True):
            label_points(axes, series)
    return figure


def _fits(text: str, inches: float) -> bool:
    return max(map(len, text.split("\n"))) * LETTER < inches


def label_points(axes: Axes, points: Sequence[tuple[float, float, str]]) -> list[Annotation]:
    """Label each point at the first position around it where the label overlaps no other label, point or axis.

    Lines that lead to a label do not cross other labels.
    """
    frame = axes.get_window_extent()
    dots = [axes.transData.transform((x, y)) for x, y, _ in points]
    labels: list[Annotation] = []
    lines: list[NDArray[np.float64]] = []
    for x, y, name in points:
        for dx, dy, ha in AROUND:
            far = max(abs(dx), abs(dy)) > NEAR
            label = axes.annotate(
                name,
                (x, y),
                (dx, dy),
                textcoords="offset points",
                ha=ha,
                va="center",
                fontsize=8,
                arrowprops={"arrowstyle": "-", "color": FAINT, "lw": 0.6} if far else None,
            )
            label.set_in_layout(False)
            label.get_window_extent()  # computes its position
            box = Text.get_window_extent(label)  # without the line
            inside = frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
            others = [Text.get_window_extent(other) for other in labels]
            line = np.linspace(axes.transData.transform((x, y)), ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2), 30)
            taken = any(box.overlaps(other) for other in others)
            covers = any(box.padded(6).contains(*dot) for dot in dots)
            covers |= any(box.contains(*spot) for other in lines for spot in other)
            spots = [Bbox.from_extents(*(dot - 5), *(dot + 5)) for dot in dots if not np.allclose(dot, line[0])]
            crosses = far and any(other.contains(*spot) for other in (*others, *spots) for spot in line)
            if (inside and not (taken or covers or crosses)) or (dx, dy, ha) == AROUND[-1]:
                labels.append(label)
                lines += [line] * far
                break
            label.remove()
    return labels
