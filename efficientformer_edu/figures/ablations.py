"""Drawings of a study: each variant's difference from the base with its interval, and accuracy against latency.

Paper: section 3 and Appendix B. Accuracy is of small networks, latency of the same change in the full-size one.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Literal

from matplotlib.axes import Axes

from efficientformer_edu.ablations.costs import FOLDED
from efficientformer_edu.ablations.outcome import Outcome, Result
from efficientformer_edu.ablations.statistics import ALIKE, Verdict
from efficientformer_edu.figures.colours import FAINT, INK, PARTS, QUERY, Colour
from efficientformer_edu.figures.latency_profiles import label_points
from efficientformer_edu.figures.latency_times import FOOT, GRID, foot
from efficientformer_edu.figures.style import Drawing, drawing

VERDICTS: Mapping[Verdict | None, Colour] = {
    "better": PARTS["embedding"],
    "worse": Colour("#F8D3BC", QUERY),
    "cannot tell": PARTS["image"],
    None: PARTS["MB4D"],  # the base
}
ROW = 0.36  # inches
TICKS = (-50, -20, -10, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10)  # percentage points


def draw_differences(outcome: Outcome) -> Drawing:
    """A row for each variant: its pairs as dots, their mean as a diamond, the interval as a bar; 0 is the base.

    The grey band is what counts as alike. Beside each row stand the verdict and, where something is reported, whether
    the trend is the same.

    Raises:
        ValueError: if no variant was compared with the base.
    """
    base = outcome.results[0]
    rows = [result for result in outcome.results if result.difference]
    if not rows:
        raise ValueError("no variant to draw beside the base; run one, with a seed of the base")
    with drawing(height=1.6 + ROW * len(rows)) as figure:
        axes = figure.subplots()
        axes.axvspan(-100 * ALIKE, 100 * ALIKE, color=GRID, lw=0, zorder=0)
        axes.axvline(0, color=INK, lw=1)
        for place, result in enumerate(rows):
            _row(axes, place, result, base)
        axes.set_yticks(range(len(rows)), [result.words for result in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="x", color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        _points(axes, "x")
        axes.set_xlabel("top-1 accuracy, percentage points above the base; linear up to 1, logarithmic beyond")
        _foot(figure, outcome)
    return figure


def draw_accuracy_costs(outcome: Outcome, form: str = FOLDED) -> Drawing:
    """Each variant's difference from the base, with its interval, against its latency in the full-size network.

    Args:
        outcome: with costs.
        form: `costs.FOLDED`, without what does not fold, or `costs.EAGER`.

    Raises:
        ValueError: if the costs were not measured, or not in this form.
    """
    timed = {
        result.name: ms
        for result in outcome.results
        if outcome.costs and (ms := outcome.costs.milliseconds(result.name, form))
    }
    if outcome.costs is None or not timed:
        raise ValueError(f"no latency was measured in the form {form!r}; wanted: costs of the rows that were run")
    with drawing(height=5.0) as figure:
        axes = figure.subplots()
        axes.axhline(0, color=INK, lw=0.8)
        points = []
        for result in outcome.results:
            if result.name in timed:
                x, mean = timed[result.name], 0.0
                colour = VERDICTS[result.verdict]
                if result.difference:
                    mean, low, high = (100 * value for value in result.difference[:3])
                    axes.plot((x, x), (low, high), color=colour.line, lw=1.4)
                axes.plot(x, mean, "D", ms=8, mfc=colour.fill, mec=colour.line, mew=1.5)
                points.append((x, mean, result.name))
        axes.grid(color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        axes.margins(0.15, 0.12)
        _points(axes, "y")
        axes.set_xlabel(f"ms for one image of 224 pixels: EfficientFormer-L1 with the change, {form}")
        axes.set_ylabel("percentage points above the base, small networks")
        foot(figure, [outcome.costs.measurement.conditions])
        figure.draw_without_rendering()  # only now is it known where a point lies
        label_points(axes, points)
    return figure


def _row(axes: Axes, place: int, result: Result, base: Result) -> None:
    assert result.difference is not None  # `draw_differences` has left out those without
    mean, low, high = (100 * value for value in result.difference[:3])
    colour = VERDICTS[result.verdict]
    pairs = [100 * (top1 - base.top1[seed]) for seed, top1 in result.top1.items() if seed in base.top1]
    if result.difference.pairs > 1:
        axes.plot((low, high), (place, place), color=colour.line, lw=5, solid_capstyle="butt", alpha=0.55)
    axes.plot(pairs, [place] * len(pairs), "o", ms=3.5, color=INK, alpha=0.6)
    axes.plot(mean, place, "D", ms=7, mfc=colour.fill, mec=colour.line, mew=1.5)
    said = [str(result.verdict)]
    if result.said:
        said.append(f"reported {result.said.trend}: {result.agreement}")
    axes.annotate(
        "\n".join(said), (1, place), (8, 0), ("axes fraction", "data"), "offset points", va="center", fontsize=FOOT
    )


def _points(axes: Axes, direction: Literal["x", "y"]) -> None:
    """An axis of percentage points, linear up to 1 and logarithmic beyond: most differences are small, a few large."""
    axis, limits = (axes.xaxis, axes.get_xlim()) if direction == "x" else (axes.yaxis, axes.get_ylim())
    (axes.set_xscale if direction == "x" else axes.set_yscale)("symlog", linthresh=1, linscale=1)
    ticks = [tick for tick in TICKS if limits[0] <= tick <= limits[1]]
    axis.set_ticks(ticks, [f"{tick:+g}" if tick else "0" for tick in ticks])
    axis.set_ticks([], minor=True)


def _foot(figure: Drawing, outcome: Outcome) -> None:
    common, where = outcome.common, outcome.where
    line = f"{common['train']}; {common['test']}; {where['machine']}; {where['versions']}; {where['date']}"
    figure.supxlabel(textwrap.fill(line, 135), x=0.02, ha="left", fontsize=FOOT, color=FAINT)
