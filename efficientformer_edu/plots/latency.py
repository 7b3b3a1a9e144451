"""Figures of measurements: subjects next to each other, claims with their verdicts, and a waterfall of steps.

Paper: section 3 and the columns "Latency" of Table 1. Every figure has a footer with the conditions of the measurement.
Figures of profiles and accuracies are in `latency_profiles`.

Fig. 1 and Fig. 2 of the paper, reproduced with latencies of this machine.

Accuracies are reported values from `paper.table1`. The NPU latencies are also reported values; they have a separate
panel and are not compared with measurements.

Figures of everything that the subpackage `latency` returns.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from efficientformer_edu.latency.claims import Claim, Observation
from efficientformer_edu.latency.operators import CLASSES, SPATIAL
from efficientformer_edu.latency.peers import PEERS
from efficientformer_edu.latency.profile import Profile
from efficientformer_edu.latency.records import TOO_FEW, Conditions, Measurement
from efficientformer_edu.paper import table1
from efficientformer_edu.plots.style import FAINT, INK, PARTS, QUERY, WIDTH, Colour, Drawing, drawing
from efficientformer_edu.utils.statistics import MIN_SAMPLES, Agreement, Estimate

ROW = 0.42  # inches per bar
FOOT = 8.0  # points: the smallest text in a figure
GRID = "#E6E6E6"
VERDICTS: Mapping[Agreement, Colour] = {
    "supported": PARTS["embedding"],
    "contradicted": Colour("#F8D3BC", QUERY),
    "inconclusive": PARTS["image"],
    "too few": PARTS["image"],
}


def draw_measurement(
    measurement: Measurement, against: str | None = None, macs: Mapping[str, int] | None = None
) -> Drawing:
    """A bar per subject with its median in milliseconds, and a whisker for the 95 % confidence interval.

    With too few rounds the whisker is omitted, and the label states the reason.

    Args:
        measurement: the measurement.
        against: a subject; the labels then show the ratio of each latency to that of this subject, paired by round.
        macs: multiply-accumulates of the subjects, if they should be shown.

    Raises:
        KeyError: if `against` was not timed.
    """
    timings = measurement.timings
    with drawing(height=1.3 + ROW * len(timings), width=8.5) as figure:
        axes = figure.subplots()
        _rows(axes, [timing.name for timing in timings])
        for row, timing in enumerate(timings):
            colour = PARTS["MB3D"] if timing.name == against else PARTS["MB4D"]
            low, high = (1e3 * seconds for seconds in _interval(timing.estimate))
            axes.barh(row, timing.milliseconds, height=0.6, color=colour.fill, edgecolor=colour.line)
            labels = [f"{timing.milliseconds:.3g} ms"]
            if timing.estimate.samples >= MIN_SAMPLES:
                axes.plot((low, high), (row, row), color=INK, lw=1.2, marker="|", ms=7)
            else:
                labels.append(TOO_FEW)
            if against is not None and timing.name != against:
                labels.append(f"{measurement.ratio(timing.name, against).value:.2f} times {against}")
            if macs and timing.name in macs:
                labels.append(f"{macs[timing.name] / 1e6:,.0f} M MACs")
            axes.annotate(" · ".join(labels), (high, row), (7, 0), textcoords="offset points", va="center")
        axes.set_xlim(0, 1.9 * max(1e3 * _interval(timing.estimate)[1] for timing in timings))  # space for the labels
        axes.set_xlabel("ms for one call; bar: median, whisker: 95 % interval")
        foot(figure, [measurement.conditions])
    return figure


def draw_observation(observation: Observation) -> Drawing:
    """The claims of an observation and their context, with its verdict as the title, drawn by `draw_claims`."""
    title = f"Observation {observation.number}: {observation.verdict_text}"
    conditions = [record.conditions for record in observation.records.values()]
    return draw_claims(title, (*observation.claims, *observation.context), conditions)


def draw_claims(title: str, claims: Sequence[Claim], conditions: Sequence[Conditions]) -> Drawing:
    """The ratio of each claim with its interval, the claimed side of the bound, and the verdict.

    The axis is logarithmic, so that ratios of 2 and ½ have the same distance from 1. The claimed side is shaded.

    Args:
        title: the title of the figure.
        claims: one per row.
        conditions: conditions of the measurements, for the footer.

    Raises:
        ValueError: without claims.
    """
    if not claims:
        raise ValueError("no claims to draw; wanted: at least one")
    with drawing(height=1.5 + 0.62 * len(claims)) as figure:
        axes = figure.subplots()
        _rows(axes, [textwrap.fill(claim.text, 46) for claim in claims])
        ends = [end for claim in claims for end in (*_interval(claim.ratio), claim.bound, 1.0)]
        left, right = min(ends) / 1.25, max(ends) * 1.25
        axes.set_xscale("log")
        axes.set_xlim(left, right)
        for row, claim in enumerate(claims):
            colour = VERDICTS[claim.verdict]
            side = (claim.bound, right) if claim.side == "above" else (left, claim.bound)
            axes.fill_betweenx((row - 0.4, row + 0.4), *side, color=GRID, lw=0, zorder=0)
            axes.plot((claim.bound,) * 2, (row - 0.4, row + 0.4), color=INK, lw=1.2)
            median, (low, high) = claim.ratio.value, _interval(claim.ratio)
            label = f"{claim.verdict_text}\n{median:.2f}"
            if claim.verdict != "too few":
                axes.plot((low, high), (row, row), color=colour.line, lw=5, solid_capstyle="butt")
                label += f" ({low:.2f} to {high:.2f})"
            axes.plot(median, row, "D", ms=7, mfc=colour.fill, mec=colour.line, mew=1.5)
            axes.annotate(label, (1, row), (8, 0), ("axes fraction", "data"), "offset points", va="center", color=INK)
        ticks = [t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if left <= t <= right]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("times as long; grey: the side that the paper claims, line: the bound")
        axes.set_title(title, loc="left", fontweight="bold")
        foot(figure, conditions)
    return figure


def draw_waterfall(steps: Measurement) -> Drawing:
    """The speedup of each step in a sequence: the first latency, the difference of each step, and the last latency.

    Args:
        steps: the subjects in the order of the steps; each includes all previous steps.
    """
    timings = steps.timings
    millis = [timing.milliseconds for timing in timings]
    with drawing(height=1.3 + ROW * (len(timings) + 1), width=8.5) as figure:
        axes = figure.subplots()
        _rows(axes, [*(timing.name for timing in timings), "in the end"])
        _step(axes, 0, 0.0, millis[0], PARTS["MB4D"], f"{millis[0]:.3g} ms")
        for row, (before, after) in enumerate(pairwise(millis), start=1):
            faster = after <= before
            colour = VERDICTS["supported" if faster else "contradicted"]
            label = f"{'−' if faster else '+'}{abs(after - before):.2g} ms"
            _step(axes, row, min(before, after), abs(before - after), colour, label)
            axes.plot((before, before), (row - 1.3, row + 0.3), color=FAINT, lw=0.8, ls=":")
        share = f"{millis[-1]:.3g} ms, {millis[-1] / millis[0]:.2f} of the first"
        _step(axes, len(timings), 0.0, millis[-1], PARTS["MB4D"], share)
        axes.set_xlim(0, 1.35 * max(millis))
        axes.set_xlabel("ms for one call, medians")
        foot(figure, [steps.conditions])
    return figure


def foot(figure: Drawing, conditions: Sequence[Conditions]) -> None:
    """Write the distinct conditions of the measurements in the footer of a figure."""
    width = round((figure.get_figwidth() - 0.4) * WIDTH * 1.45)  # letters of this size per line
    lines = dict.fromkeys(str(entry) for entry in conditions)
    text = "\n".join(textwrap.fill(line, width, subsequent_indent="    ") for line in lines)
    figure.supxlabel(text, x=0.02, ha="left", fontsize=FOOT, color=FAINT)


def _interval(estimate: Estimate) -> tuple[float, float]:
    """The ends of the interval; with too few rounds there is no interval, and both ends are the value."""
    return (estimate.low, estimate.high) if estimate.samples >= MIN_SAMPLES else (estimate.value, estimate.value)


def _step(axes: Axes, row: int, left: float, width: float, colour: Colour, label: str) -> None:
    axes.barh(row, width, left=left, height=0.6, color=colour.fill, edgecolor=colour.line)
    axes.annotate(label, (left + width, row), (6, 0), textcoords="offset points", va="center")


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Format an axis with one row per name, from the top down, and a light grid."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color=GRID, lw=0.6)
    axes.set_axisbelow(True)


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


__all__ = [
    "draw_accuracy_latency",
    "draw_claims",
    "draw_measurement",
    "draw_observation",
    "draw_profiles",
    "draw_waterfall",
]
