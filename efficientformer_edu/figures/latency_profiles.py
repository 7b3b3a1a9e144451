"""Fig. 1 and Fig. 2 of the paper, rebuilt with this machine's latencies.

Accuracies are reported, not measured here: they come from `paper.table1`. So do the NPU's latencies, which stand in a
panel of their own and are compared with nothing measured.
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
LETTER = 0.078  # inches that a letter of a bar's label takes, with some air
SIDES = ((8, 0, "left"), (-8, 0, "right"), (0, 11, "center"), (0, -11, "center"))
CORNERS = ((8, 8, "left"), (8, -8, "left"), (-8, 8, "right"), (-8, -8, "right"))
AROUND = tuple((dx * far, dy * far, ha) for far in range(1, 7) for dx, dy, ha in (*SIDES, *CORNERS))
TICKS = [digit * 10**power for power in range(-1, 5) for digit in (1, 2, 5)]
NEAR = 11  # points: from further away a line leads to the point


def draw_profiles(profiles: Sequence[Profile]) -> Drawing:
    """A stacked bar for each network, its parts by the profiler, and a mark at the total by the clock.

    A part bears its name and milliseconds where they fit; the legend names all, in the order of the bars.

    Raises:
        ValueError: without profiles.
    """
    if not profiles:
        raise ValueError("no profiles to draw; wanted: at least one")
    with drawing(height=1.9 + 0.55 * len(profiles)) as figure:
        axes = figure.subplots()
        longest = max(max(one.profiled_ms, one.total_ms) for one in profiles)
        inches = 6.2 / (1.28 * longest)  # of one millisecond, about
        for row, one in enumerate(profiles):
            left = 0.0
            for kind in CLASSES:
                ms, colour = one.parts[kind], COLOURS[kind]
                axes.barh(row, ms, left=left, height=0.7, color=colour.fill, edgecolor=colour.line, lw=0.8)
                label = next((text for text in (f"{kind}\n{ms:.1f}", f"{ms:.1f}") if _fits(text, ms * inches)), "")
                axes.text(left + ms / 2, row, label, ha="center", va="center", fontsize=8)
                left += ms
            axes.plot((one.total_ms,) * 2, (row - 0.44, row + 0.44), color=INK, lw=2.2)
            said = f"{one.total_ms:.3g} ms timed\n{left:.3g} profiled, {one.ratio:.2f}"
            end = (max(left, one.total_ms), row)
            axes.annotate(said, end, (7, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(range(len(profiles)), [one.name for one in profiles])
        axes.set(ylim=(len(profiles) - 0.4, -0.6), xlim=(0, 1.28 * longest))
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_xlabel("ms for one call; black mark: timed without the profiler")
        handles = [Patch(facecolor=COLOURS[kind].fill, edgecolor=COLOURS[kind].line) for kind in CLASSES]
        figure.legend(handles, CLASSES, loc="outside upper center", ncols=len(CLASSES) // 2, frameon=False)
        foot(figure, [one.conditions for one in profiles])
    return figure


def draw_accuracy_latency(points: Measurement) -> Drawing:
    """Reported accuracy against the latency that was measured here, and beside it against the reported one of an NPU.

    Args:
        points: networks that were timed side by side, named as rows of Table 1, as presets or as timm names them
            (`latency.peers.PEERS`), with or without `timm:` before the name.

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
        for axes, title, unit, found in (
            (panels[0], "Measured on this machine", "ms for one call", here),
            (panels[1], "Reported: iPhone 12, all compute units", "ms, reported", reported),
        ):
            axes.set_title(title)
            axes.set_xlabel(unit)
            axes.grid(color=GRID, lw=0.6)
            axes.margins(0.22, 0.15)
            for ms, top1_value, label in found:
                ours = label.startswith("EfficientFormer")
                look = COLOURS["attention" if ours else "MLP"]
                axes.plot(ms, top1_value, "D" if ours else "o", ms=8, mfc=look.fill, mec=look.line, mew=1.5)
            axes.set_xscale("log")  # else the slowest would push all others into a corner
            low, high = min(ms for ms, *_ in found) / 1.3, max(ms for ms, *_ in found) * 1.9  # room for a name
            axes.set_xlim(low, high)
            axes.set_xticks([tick for tick in TICKS if low <= tick <= high], minor=False)
            axes.set_xticks([], minor=True)
            axes.xaxis.set_major_formatter("{x:g}")
        panels[0].set_ylabel("top-1 accuracy in %, reported")
        foot(figure, [points.conditions])
        figure.draw_without_rendering()  # only now is it known where a point lies
        for axes, found in zip(panels, (here, reported), strict=True):
            label_points(axes, found)
    return figure


def _fits(text: str, inches: float) -> bool:
    return max(map(len, text.split("\n"))) * LETTER < inches


def label_points(axes: Axes, points: Sequence[tuple[float, float, str]]) -> list[Annotation]:
    """Name each point at the first place around it where the name covers no other name, no point and no frame.

    Nor does a line that leads to a name cross another name.
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
            label.get_window_extent()  # finds its place
            box = Text.get_window_extent(label)  # without the line
            inside = frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
            others = [Text.get_window_extent(other) for other in labels]
            line = np.linspace(axes.transData.transform((x, y)), ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2), 30)
            taken = any(box.overlaps(other) for other in others)
            covers = any(box.padded(6).contains(*dot) for dot in dots)
            covers |= any(box.contains(*place) for one in lines for place in one)
            spots = [Bbox.from_extents(*(dot - 5), *(dot + 5)) for dot in dots if not np.allclose(dot, line[0])]
            crosses = far and any(other.contains(*place) for other in (*others, *spots) for place in line)
            if (inside and not (taken or covers or crosses)) or (dx, dy, ha) == AROUND[-1]:
                labels.append(label)
                lines += [line] * far
                break
            label.remove()
    return labels
