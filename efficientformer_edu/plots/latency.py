"""Figures of what the subpackage `latency` returns: measurements, claims, profiles, and accuracy against latency.

Paper: section 3, Fig. 1 and Fig. 2, and the columns "Latency" of Table 1. Every figure has a footer with the conditions
of the measurement. Accuracies and NPU latencies are reported values from `paper.table1`; the NPU has a panel of its own
and is not compared with measurements.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from efficientformer_edu.latency.observations import Claim, Observation
from efficientformer_edu.latency.peers import PEERS
from efficientformer_edu.latency.profile import CLASSES, SPATIAL, Profile
from efficientformer_edu.latency.records import TOO_FEW, Conditions, Measurement
from efficientformer_edu.paper import table1
from efficientformer_edu.plots import FAINT, GRID, INK, PARTS, WARNING, Colour
from efficientformer_edu.plots.style import SMALL_TEXT, Drawing, drawing, footer, label_points, rows_of_bars
from efficientformer_edu.utils.statistics import MIN_SAMPLES, Agreement, Estimate

ROW = 0.42  # inches per bar
VERDICTS: Mapping[Agreement, Colour] = {
    "supported": PARTS["embedding"],
    "contradicted": WARNING,
    "inconclusive": PARTS["image"],
    "too few": PARTS["image"],
}
COLOURS: Mapping[str, Colour] = {
    "patch embedding": PARTS["stem"],
    "attention": PARTS["MB3D"],
    "MLP": PARTS["MB4D"],
    "reshape": WARNING,
    "activation": PARTS["head"],
    "norm": PARTS["embedding"],
    SPATIAL: Colour("#DDD6F0", "#6A51A3"),
    "other": PARTS["image"],
}
LETTER = 0.078  # inches per letter in a bar of a profile, with some space
RATIOS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
TICKS = [digit * 10**power for power in range(-1, 5) for digit in (1, 2, 5)]


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
        rows_of_bars(axes, [timing.name for timing in timings])
        for row, timing in enumerate(timings):
            colour = PARTS["MB3D"] if timing.name == against else PARTS["MB4D"]
            low, high = (1e3 * seconds for seconds in _interval(timing.estimate))
            labels = [f"{timing.milliseconds:.3g} ms"]
            if timing.estimate.samples >= MIN_SAMPLES:
                axes.plot((low, high), (row, row), color=INK, lw=1.2, marker="|", ms=7)
            else:
                labels.append(TOO_FEW)
            if against is not None and timing.name != against:
                labels.append(f"{measurement.ratio(timing.name, against).value:.2f} times {against}")
            if macs and timing.name in macs:
                labels.append(f"{macs[timing.name] / 1e6:,.0f} M MACs")
            _bar(axes, row, 0.0, timing.milliseconds, colour, " · ".join(labels), label_at=high)
        axes.set_xlim(0, 1.9 * max(1e3 * _interval(timing.estimate)[1] for timing in timings))  # space for the labels
        axes.set_xlabel("ms for one call; bar: median, whisker: 95 % interval")
        _conditions(figure, [measurement.conditions])
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
        raise ValueError("no claims to draw; expected at least one")
    with drawing(height=1.5 + 0.62 * len(claims)) as figure:
        axes = figure.subplots()
        rows_of_bars(axes, [textwrap.fill(claim.text, 46) for claim in claims])
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
            axes.annotate(label, (1, row), (8, 0), ("axes fraction", "data"), "offset points", va="center")
        ticks = [ratio for ratio in RATIOS if left <= ratio <= right]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("times as long; grey: the side that the paper claims, line: the bound")
        axes.set_title(title, loc="left", fontweight="bold")
        _conditions(figure, conditions)
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
        rows_of_bars(axes, [*(timing.name for timing in timings), "in the end"])
        _bar(axes, 0, 0.0, millis[0], PARTS["MB4D"], f"{millis[0]:.3g} ms")
        for row, (before, after) in enumerate(pairwise(millis), start=1):
            faster = after <= before
            label = f"{'−' if faster else '+'}{abs(after - before):.2g} ms"
            colour = VERDICTS["supported" if faster else "contradicted"]
            _bar(axes, row, min(before, after), abs(before - after), colour, label)
            axes.plot((before, before), (row - 1.3, row + 0.3), color=FAINT, lw=0.8, ls=":")
        share = f"{millis[-1]:.3g} ms, {millis[-1] / millis[0]:.2f} of the first"
        _bar(axes, len(timings), 0.0, millis[-1], PARTS["MB4D"], share)
        axes.set_xlim(0, 1.35 * max(millis))
        axes.set_xlabel("ms for one call, medians")
        _conditions(figure, [steps.conditions])
    return figure


def draw_profiles(profiles: Sequence[Profile]) -> Drawing:
    """A stacked bar per network with its profiled parts, and a mark at the total timed without the profiler.

    Parts are labelled with name and milliseconds if the label fits; the legend lists all, in the order of the bars.

    Raises:
        ValueError: without profiles.
    """
    if not profiles:
        raise ValueError("no profiles to draw; expected at least one")
    with drawing(height=1.9 + 0.55 * len(profiles)) as figure:
        axes = figure.subplots()
        rows_of_bars(axes, [profile.name for profile in profiles])
        axes.grid(False)
        longest = max(max(profile.profiled_ms, profile.total_ms) for profile in profiles)
        inches = 6.2 / (1.28 * longest)  # per millisecond, approximately
        for row, profile in enumerate(profiles):
            left = 0.0
            for kind in CLASSES:
                ms, colour = profile.parts[kind], COLOURS[kind]
                axes.barh(row, ms, left=left, height=0.7, color=colour.fill, edgecolor=colour.line, lw=0.8)
                label = next((text for text in (f"{kind}\n{ms:.1f}", f"{ms:.1f}") if _fits(text, ms * inches)), "")
                axes.text(left + ms / 2, row, label, ha="center", va="center", fontsize=SMALL_TEXT)
                left += ms
            axes.plot((profile.total_ms,) * 2, (row - 0.44, row + 0.44), color=INK, lw=2.2)
            totals = f"{profile.total_ms:.3g} ms timed\n{left:.3g} profiled, {profile.ratio:.2f}"
            end = (max(left, profile.total_ms), row)
            axes.annotate(totals, end, (7, 0), textcoords="offset points", va="center", fontsize=SMALL_TEXT)
        axes.set_xlim(0, 1.28 * longest)
        axes.set_xlabel("ms for one call; black mark: timed without the profiler")
        handles = [Patch(facecolor=COLOURS[kind].fill, edgecolor=COLOURS[kind].line) for kind in CLASSES]
        figure.legend(handles, CLASSES, loc="outside upper center", ncols=len(CLASSES) // 2)
        _conditions(figure, [profile.conditions for profile in profiles])
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
        _draw_points(panels[0], here, "Measured on this machine", "ms for one call")
        _draw_points(panels[1], reported, "Reported: iPhone 12, all compute units", "ms, reported")
        panels[0].set_ylabel("top-1 accuracy in %, reported")
        _conditions(figure, [points.conditions])
        label_points(panels[0], here)
        label_points(panels[1], reported)
    return figure


def _draw_points(axes: Axes, points: Sequence[tuple[float, float, str]], title: str, unit: str) -> None:
    for ms, top1, label in points:
        highlighted = label.startswith("EfficientFormer")
        colour = PARTS["MB3D" if highlighted else "MB4D"]
        axes.plot(ms, top1, "D" if highlighted else "o", ms=8, mfc=colour.fill, mec=colour.line, mew=1.5)
    axes.set(title=title, xlabel=unit)
    axes.grid()
    axes.margins(0.22, 0.15)
    axes.set_xscale("log")  # else the slowest network would compress all others into a corner
    low, high = min(ms for ms, *_ in points) / 1.3, max(ms for ms, *_ in points) * 1.9  # space for a label
    axes.set_xlim(low, high)
    axes.set_xticks([tick for tick in TICKS if low <= tick <= high])
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter("{x:g}")


def _conditions(figure: Drawing, conditions: Sequence[Conditions]) -> None:
    """Write the distinct conditions of the measurements in the footer of a figure."""
    footer(figure, *dict.fromkeys(map(str, conditions)))


def _interval(estimate: Estimate) -> tuple[float, float]:
    """The ends of the interval; the value twice if there are too few rounds for an interval."""
    return (estimate.low, estimate.high) if estimate.samples >= MIN_SAMPLES else (estimate.value, estimate.value)


def _bar(
    axes: Axes, row: int, left: float, width: float, colour: Colour, label: str, label_at: float | None = None
) -> None:
    axes.barh(row, width, left=left, height=0.6, color=colour.fill, edgecolor=colour.line)
    end = left + width if label_at is None else label_at
    axes.annotate(label, (end, row), (7, 0), textcoords="offset points", va="center")


def _fits(text: str, inches: float) -> bool:
    return max(map(len, text.split("\n"))) * LETTER < inches
