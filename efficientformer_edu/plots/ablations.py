"""Figures of a study: each variant's difference from the base with its interval, and accuracy against latency.

Paper: section 3 and Appendix B. Accuracy is of small networks, latency of the same change in the full-size one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from matplotlib.axes import Axes

from efficientformer_edu.ablations.costs import FOLDED
from efficientformer_edu.ablations.outcome import MARGIN, Outcome, Result
from efficientformer_edu.plots import GRID, INK, PARTS, WARNING, Colour
from efficientformer_edu.plots.style import SMALL_TEXT, Drawing, drawing, footer, label_points, rows_of_bars
from efficientformer_edu.utils.statistics import Estimate, Verdict

VERDICTS: Mapping[Verdict | None, Colour] = {
    "better": PARTS["embedding"],
    "worse": WARNING,
    "equivalent": PARTS["stem"],
    "inconclusive": PARTS["image"],
    "too few": PARTS["image"],
    None: PARTS["MB4D"],  # the base
}
ROW = 0.36  # inches
LINEAR = 6  # percentage points: the range drawn on a linear axis
TICKS = (-50, -20, -10, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10)  # percentage points


def draw_differences(outcome: Outcome) -> Drawing:
    """A row for each variant: its pairs as dots, their mean as a diamond, the 95 % interval as a bar; 0 is the base.

    The grey band contains differences that count as equivalent. The text next to each row gives its verdict, the
    verdict after Holm's correction where that differs, and the agreement with a reported trend.

    Raises:
        ValueError: if no variant was compared with the base.
    """
    base = outcome.results[0]
    rows = [result for result in outcome.results if result.difference]
    if not rows:
        raise ValueError("no variant to compare with the base; run one with a seed of the base")
    with drawing(height=1.6 + ROW * len(rows)) as figure:
        axes = figure.subplots()
        axes.axvspan(-100 * MARGIN, 100 * MARGIN, color=GRID, lw=0, zorder=0)
        axes.axvline(0, color=INK, lw=1)
        for row, result in enumerate(rows):
            _draw_row(axes, row, result, base)
        rows_of_bars(axes, [result.description for result in rows])
        _percentage_points(axes, "x", LINEAR, "top-1 accuracy, percentage points above the base")
        study = (outcome.common[name] for name in ("train", "test"))
        conditions = (outcome.where[name] for name in ("machine", "versions", "date"))
        note = "Text: verdict of the row alone; Holm: corrected for all rows, where that changes the verdict."
        footer(figure, f"{note} {'; '.join((*study, *conditions))}")
    return figure


def draw_accuracy_costs(outcome: Outcome, form: str = FOLDED) -> Drawing:
    """Each variant's accuracy difference to the base against its latency, both with 95 % intervals.

    The latency is the ratio to the base in the full-size network, paired by round: the medians of separate samples
    are not comparable where the machine changes its speed between rounds.

    Args:
        outcome: a study with costs.
        form: `costs.FOLDED`, without the variants that cannot be folded, or `costs.EAGER`.

    Raises:
        ValueError: if the costs were not measured, or not in this form.
    """
    costs = outcome.costs
    timed = {result.name: ratio for result in outcome.results if costs and (ratio := costs.ratio(result.name, form))}
    if costs is None or not timed:
        raise ValueError(f"no latency was measured in the form {form!r}; measure the costs of these rows first")
    with drawing(height=5.6) as figure:
        axes = figure.subplots()
        axes.axhline(0, color=INK, lw=0.8)
        axes.axvline(1, color=INK, lw=0.8)
        points = []
        for result in outcome.results:
            if result.name in timed:
                colour = VERDICTS[result.verdict]
                x, left, right = _interval(timed[result.name])
                y, low, high = _interval(result.difference, 100) if result.difference else (0.0, 0.0, 0.0)
                axes.plot((x, x), (low, high), color=colour.line, lw=1.4)
                axes.plot((left, right), (y, y), color=colour.line, lw=1.4)
                front = 3 if result.difference else 4  # the base is drawn in front of all others
                axes.plot(x, y, "D", ms=8, mfc=colour.fill, mec=colour.line, mew=1.5, zorder=front)
                points.append((x, y, result.name))
        axes.grid()
        axes.margins(0.12, 0.08)
        axes.set_xlabel(f"latency of EfficientFormer-L1 with the change, times that of the base ({form}, 224 pixels)")
        _percentage_points(axes, "y", 1, "percentage points above the base, small networks")
        footer(figure, str(costs.measurement.conditions))
        label_points(axes, points)
    return figure


def _interval(estimate: Estimate, scale: float = 1) -> tuple[float, float, float]:
    """Value and ends of the interval; a single sample has none, so its ends are the value."""
    value = scale * estimate.value
    return (value, scale * estimate.low, scale * estimate.high) if estimate.samples > 1 else (value, value, value)


def _draw_row(axes: Axes, row: int, result: Result, base: Result) -> None:
    assert result.difference is not None  # `draw_differences` leaves out rows without one
    mean, low, high = _interval(result.difference, 100)
    colour = VERDICTS[result.verdict]
    pairs = [100 * (top1 - base.top1[seed]) for seed, top1 in result.top1.items() if seed in base.top1]
    if result.difference.samples > 1:
        axes.plot((low, high), (row, row), color=colour.line, lw=5, solid_capstyle="butt", alpha=0.55)
    axes.plot(pairs, [row] * len(pairs), "o", ms=3.5, color=INK, alpha=0.6)
    axes.plot(mean, row, "D", ms=7, mfc=colour.fill, mec=colour.line, mew=1.5)
    lines = [str(result.verdict)]
    if result.holm_verdict != result.verdict:
        lines[0] += f" (Holm: {result.holm_verdict})"
    if result.reported:
        lines.append(f"reported {result.reported.trend}: {result.agreement}")
    start = ("axes fraction", "data")
    axes.annotate("\n".join(lines), (1, row), (8, 0), start, "offset points", va="center", fontsize=SMALL_TEXT)


def _percentage_points(axes: Axes, direction: Literal["x", "y"], linear_limit: float, label: str) -> None:
    """Format an axis of percentage points, logarithmic beyond 1 if values exceed `linear_limit`.

    A few very large differences would otherwise compress the others.
    """
    axis, limits = (axes.xaxis, axes.get_xlim()) if direction == "x" else (axes.yaxis, axes.get_ylim())
    logarithmic = max(map(abs, limits)) > linear_limit
    if logarithmic:
        (axes.set_xscale if direction == "x" else axes.set_yscale)("symlog", linthresh=1, linscale=1)
        label += "\nlinear up to 1, logarithmic beyond"
    candidates = TICKS if logarithmic else range(-LINEAR, LINEAR + 1)
    ticks = [tick for tick in candidates if limits[0] <= tick <= limits[1]]
    axis.set_ticks(ticks, [f"{tick:+g}" if tick else "0" for tick in ticks])
    axis.set_ticks([], minor=True)
    axis.set_label_text(label)
