"""Figures of measurements: subjects next to each other, claims with their verdicts, and a waterfall of steps.

Paper: section 3 and the columns "Latency" of Table 1. Every figure has a footer with the conditions of the measurement.
Figures of profiles and accuracies are in `latency_profiles`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise

from matplotlib.axes import Axes

from efficientformer_edu.figures.colours import FAINT, INK, PARTS, QUERY, Colour
from efficientformer_edu.figures.style import WIDTH, Drawing, drawing
from efficientformer_edu.latency.claims import Claim, Observation
from efficientformer_edu.latency.records import TOO_FEW, Conditions, Measurement
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
