"""Figures of a study: each variant's difference from the base with its interval, and accuracy against latency.

Paper: section 3 and Appendix B. Accuracy is of small networks, latency of the same change in the full-size one.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from efficientformer_edu.ablations.costs import FOLDED
from efficientformer_edu.ablations.outcome import MARGIN, Outcome, Result
from efficientformer_edu.plots.latency import FOOT, GRID, foot
from efficientformer_edu.plots.style import FAINT, INK, PARTS, QUERY, Colour, Drawing, drawing
from efficientformer_edu.utils.statistics import Estimate, Verdict

VERDICTS: Mapping[Verdict | None, Colour] = {
    "better": PARTS["embedding"],
    "worse": Colour("#F8D3BC", QUERY),
    "equivalent": PARTS["stem"],
    "inconclusive": PARTS["image"],
    "too few": PARTS["image"],
    None: PARTS["MB4D"],  # the base
}
ROW = 0.36  # inches
NEAR, FAR = 9, 150  # points from a mark to its label; labels further away than `NEAR` get a line
TURNS = (1, 15, 7, 9, 2, 14, 6, 10, 3, 13, 5, 11)  # sixteenths
CLOSE = 30  # dots: marks closer to each other than this get labels on different sides
PLACES = ((NEAR, 0.0), (NEAR, 0.5), *((far, turn / 16) for far in range(16, FAR, 12) for turn in TURNS))
"""Candidate label positions: distance in points, and angle from the right in turns."""
WIDEST = 6  # percentage points: the range drawn on a linear axis
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
            _row(axes, row, result, base)
        axes.set_yticks(range(len(rows)), [result.words for result in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="x", color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        _points(axes, "x", WIDEST, "top-1 accuracy, percentage points above the base")
        _foot(figure, outcome)
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
        points: list[_Point] = []
        for result in outcome.results:
            if result.name in timed:
                x, colour = timed[result.name], VERDICTS[result.verdict]
                y = _interval(result.difference, 100) if result.difference else (0.0, 0.0, 0.0)
                axes.plot((x.value, x.value), y[1:], color=colour.line, lw=1.4)
                axes.plot(_interval(x)[1:], (y[0], y[0]), color=colour.line, lw=1.4)
                front = 3 if result.difference else 4  # the base is drawn in front of all others
                axes.plot(x.value, y[0], "D", ms=8, mfc=colour.fill, mec=colour.line, mew=1.5, zorder=front)
                points.append(_Point(_interval(x), y, result.name))
        axes.grid(color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        axes.margins(0.12, 0.08)
        axes.set_xlabel(f"latency of EfficientFormer-L1 with the change, times that of the base ({form}, 224 pixels)")
        _points(axes, "y", 1, "percentage points above the base, small networks")
        foot(figure, [costs.measurement.conditions])
        figure.draw_without_rendering()  # the positions of the points are known only after this
        _name(axes, points)
    return figure


def _interval(estimate: Estimate, scale: float = 1) -> tuple[float, float, float]:
    """Value and ends of the interval; a single sample has none, so its ends are the value."""
    value = scale * estimate.value
    return (value, scale * estimate.low, scale * estimate.high) if estimate.samples > 1 else (value, value, value)


def _row(axes: Axes, row: int, result: Result, base: Result) -> None:
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
    axes.annotate(
        "\n".join(lines), (1, row), (8, 0), ("axes fraction", "data"), "offset points", va="center", fontsize=FOOT
    )


def _points(axes: Axes, direction: Literal["x", "y"], linear_limit: float, label: str) -> None:
    """Format an axis of percentage points, logarithmic beyond 1 if values exceed `linear_limit`.

    A few very large differences would otherwise compress the others. The axis label states the scale.
    """
    axis, limits = (axes.xaxis, axes.get_xlim()) if direction == "x" else (axes.yaxis, axes.get_ylim())
    far = max(map(abs, limits)) > linear_limit
    if far:
        (axes.set_xscale if direction == "x" else axes.set_yscale)("symlog", linthresh=1, linscale=1)
    ticks = [tick for tick in (TICKS if far else range(-WIDEST, WIDEST + 1)) if limits[0] <= tick <= limits[1]]
    axis.set_ticks(ticks, [f"{tick:+g}" if tick else "0" for tick in ticks])
    axis.set_ticks([], minor=True)
    axis.set_label_text(f"{label}\nlinear up to 1, logarithmic beyond" if far else label)


def _foot(figure: Drawing, outcome: Outcome) -> None:
    common, where = outcome.common, outcome.where
    line = f"{common['train']}; {common['test']}; {where['machine']}; {where['versions']}; {where['date']}"
    line = f"Text: verdict of the row alone; Holm: corrected for all rows, where that changes the verdict. {line}"
    figure.supxlabel(textwrap.fill(line, 135), x=0.02, ha="left", fontsize=FOOT, color=FAINT)


class _Point(NamedTuple):
    """A mark with its intervals, each as value, low and high, and its label."""

    x: tuple[float, float, float]
    y: tuple[float, float, float]
    name: str


def _name(axes: Axes, points: Sequence[_Point]) -> None:
    """Label each point at the nearest position where the label overlaps nothing.

    A label must not overlap other labels, marks, intervals, the lines of the base, lines that lead to a label, or the
    frame. Lines that lead to a label must not cross other labels or marks. If there is no such position, the one with
    the least overlap is used.
    """
    frame = axes.get_window_extent()
    base_x, base_y = axes.transData.transform((1, 0))
    marks, bars = list[Bbox](), [Bbox.from_extents(frame.x0, base_y - 1, frame.x1, base_y + 1)]
    bars.append(Bbox.from_extents(base_x - 1, frame.y0, base_x + 1, frame.y1))
    for point in points:
        (x, y), (left, bottom), (right, top) = axes.transData.transform(list(zip(point.x, point.y, strict=True)))
        marks.append(Bbox.from_extents(x - 7, y - 7, x + 7, y + 7))
        bars += [Bbox.from_extents(x - 2, bottom, x + 2, top), Bbox.from_extents(left, y - 2, right, y + 2)]
    names, lines = list[Bbox](), list[Sequence[tuple[float, float]]]()
    for point, mark in zip(points, marks, strict=True):
        best, least_covered = PLACES[0], math.inf
        others = [*names, *(other for other in marks if not other.overlaps(mark))]
        for far, turn in sorted(PLACES, key=_cost(mark, marks)):
            label = _label(axes, point, far, turn)
            box = Text.get_window_extent(label)  # without the line
            label.remove()
            inside = frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
            covered = 100 * (not inside) + 10 * box.count_overlaps([*names, *marks]) + 3 * box.count_overlaps(bars)
            covered += sum(box.contains(*spot) for line in lines for spot in line)
            if far > NEAR:
                covered += sum(other.contains(*spot) for other in others for spot in _line(mark, box))
            if covered < least_covered:
                best, least_covered = (far, turn), covered
            if not covered:
                break
        label = _label(axes, point, *best)
        names.append(Text.get_window_extent(label))
        if best[0] > NEAR:
            lines.append(_line(mark, names[-1]))


def _cost(mark: Bbox, marks: Sequence[Bbox]) -> Callable[[tuple[float, float]], float]:
    """The cost of a label position, which increases with the distance and towards nearby marks."""
    centres = np.array([((other.x0 + other.x1) / 2, (other.y0 + other.y1) / 2) for other in marks])
    centre = np.array([(mark.x0 + mark.x1) / 2, (mark.y0 + mark.y1) / 2])
    direction = (centre - centres)[np.abs(centre - centres).max(axis=1) < CLOSE].sum(axis=0)
    length = float(np.linalg.norm(direction))
    right, up = direction / length if length > 0 else (0.1, 0.0)

    def cost(position: tuple[float, float]) -> float:
        far, turn = position
        return far * (1.6 - right * math.cos(2 * math.pi * turn) - up * math.sin(2 * math.pi * turn))

    return cost


def _label(axes: Axes, point: _Point, far: float, turn: float) -> Annotation:
    """Draw the label of a point at a distance of `far` points and an angle of `turn` turns from the right."""
    dx, dy = far * math.cos(2 * math.pi * turn), far * math.sin(2 * math.pi * turn)
    label = axes.annotate(
        point.name,
        (point.x[0], point.y[0]),
        (dx, dy),
        textcoords="offset points",
        ha="left" if dx > 0 else "right",
        va="center",
        fontsize=8,
        arrowprops={"arrowstyle": "-", "color": FAINT, "lw": 0.6} if far > NEAR else None,
    )
    label.set_in_layout(False)
    label.get_window_extent()  # computes its position
    return label


def _line(mark: Bbox, box: Bbox) -> list[tuple[float, float]]:
    """Positions on the line from a mark to its label."""
    start, end = ((mark.x0 + mark.x1) / 2, (mark.y0 + mark.y1) / 2), ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
    return list(zip(np.linspace(start[0], end[0], 40), np.linspace(start[1], end[1], 40), strict=True))
