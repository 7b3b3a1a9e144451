"""Figures of a slimming show the weights, steps, targets and accuracies passed to them, without overlaps."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from slimming_runs import TINY

from efficientformer_edu.latency.lookup import Prediction
from efficientformer_edu.plots.slimming import (
    CANDIDATES,
    KINDS,
    METHOD_LOOKS,
    SAMPLES,
    draw_front,
    draw_mixtures,
    draw_noise,
    draw_search,
    sample_weights,
)
from efficientformer_edu.plots.style import Drawing
from efficientformer_edu.slimming.baselines import METHODS, Contender, Method
from efficientformer_edu.slimming.front import Front, ParetoPoint
from efficientformer_edu.slimming.records import Search, Step, Trial
from efficientformer_edu.slimming.subnet import Action
from efficientformer_edu.slimming.supernet import NOISES

MIXTURES = [
    [{"MB4D": 0.75, "I": 0.25}],
    [{"MB4D": 0.5, "I": 0.5}, {"MB4D": 0.93, "I": 0.07}],
    [{"MB4D": 0.2, "MB3D": 0.7, "I": 0.1}],
    [{"MB4D": 0.05, "MB3D": 0.9, "I": 0.05}],
]
TAKEN = (
    (Action("MB3D", 2, 0), 0.71),
    (Action("depth", 1, 0), 0.74),
    (Action("MB3D", 2, 1), 0.73),
    (Action("width", 3), 0.76),
    (Action("depth", 2, 0), 0.75),
)


def searched(start: float = 0.0098, targets: tuple[float, ...] = (0.0079, 0.0049)) -> Search:
    """A search with one possible action per step, each saving a millisecond."""
    steps = tuple(Step(accuracy, (Trial(action, 0.001, 0.01),)) for action, accuracy in TAKEN)
    return Search(TINY, ((1.0,), (1.0, 2.0), (1.0, 2.0), (1.0, 2.0)), targets, start, {}, steps)


def boxes(axes: Axes) -> list[Bbox]:
    """Bounding boxes of all texts in and around some axes."""
    legend, axis = axes.get_legend(), (axes.xaxis, axes.yaxis)
    inside = [
        tick.label1 if tick.label1.get_visible() else tick.label2
        for side in axis
        for tick in side.get_major_ticks()
        if sorted(side.get_view_interval())[0] <= tick.get_loc() <= sorted(side.get_view_interval())[1]
    ]
    written = [
        *axes.texts,
        *(legend.get_texts() if legend else []),
        *inside,
        *(side.label for side in axis),
        axes.title,
    ]
    return [Text.get_window_extent(text) for text in written if text.get_visible() and text.get_text()]


def nothing_overlaps(figure: Drawing) -> None:
    figure.draw_without_rendering()
    written = [box for axes in figure.axes for panel in (axes, *axes.child_axes) for box in boxes(panel)]
    card = figure.bbox
    for box in written:
        assert card.x0 < box.x0 and box.x1 < card.x1 and card.y0 < box.y0 and box.y1 < card.y1
    assert not any(box.overlaps(other) for box, other in combinations(written, 2))


def test_bars_of_metapaths_have_the_height_of_their_weights() -> None:
    figure = draw_mixtures(MIXTURES)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1.1", "2.1", "2.2", "3.1", "4.1"]
    weights = [(name, weight) for stage in MIXTURES for path in stage for name, weight in path.items()]
    bars = list(axes.patches)
    assert [bar.get_height() for bar in bars] == pytest.approx([weight for _, weight in weights])
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [CANDIDATES[name].fill.lower() for name, _ in weights]
    tops = [bar.get_y() + bar.get_height() for bar, (name, _) in zip(bars, weights, strict=True) if name == "I"]
    assert tops == pytest.approx([1] * 5)
    nothing_overlaps(figure)


def test_every_candidate_is_named() -> None:
    (axes,) = draw_mixtures(MIXTURES).axes
    legend = axes.get_legend()
    assert legend and [text.get_text() for text in legend.get_texts()] == list(CANDIDATES)
    labels = {text.get_text() for text in axes.texts}
    assert labels == {
        "MB4D\n0.75",
        "I\n0.25",
        "MB4D\n0.50",
        "I\n0.50",
        "MB4D\n0.93",
        "MB4D\n0.20",
        "MB3D\n0.70",
        "MB3D\n0.90",
    }


@pytest.mark.parametrize("noise", NOISES)
def test_the_weights_of_the_first_candidate_are_those_of_the_mixture(noise: str) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    some, again = (sample_weights([0.4, 0.0], noise, 0.01) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before) and some == again and len(some) == SAMPLES
    # At a low temperature, the first candidate gets all or nothing: all whenever its α + ε is larger.
    often = {"uniform": 1 - 0.6**2 / 2, "gumbel": 1 / (1 + math.exp(-0.4))}[noise]
    assert np.mean(np.array(some) > 0.5) == pytest.approx(often, abs=0.03)


def test_a_column_per_temperature_and_a_row_per_noise() -> None:
    figure = draw_noise([1.0, 0.0], [1.0, 0.1])
    assert [axes.get_title() for axes in figure.axes] == [
        f"{noise} noise, τ = {tau}" for noise in NOISES for tau in ("1", "0.1")
    ]
    for axes in figure.axes:
        assert sum(bar.get_height() for bar in axes.patches) == SAMPLES
    nothing_overlaps(figure)


def test_a_search_has_a_marker_per_step_and_a_line_per_target() -> None:
    search = searched()
    figure = draw_search(search)
    upper, middle, lower = figure.axes
    marks = {line.get_label(): line.get_xydata().tolist() for line in upper.lines if line.get_marker() != "None"}
    for kind, (_, _, legend_label) in KINDS.items():
        expected = [
            [1e3 * search.seconds[i], 100 * step.accuracy]
            for i, step in enumerate(search.steps)
            if step.taken.action.kind == kind
        ]
        assert np.array(marks[legend_label]) == pytest.approx(np.array(expected))
    for axes in (upper, middle, lower):
        dotted = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
        assert dotted == pytest.approx([7.9, 4.9])
        first, last = axes.get_xlim()
        assert first > last  # the search goes to the right
    (above,) = upper.child_axes
    assert [label.get_text() for label in above.get_xticklabels()] == ["target 7.9 ms", "target 4.9 ms"]
    nothing_overlaps(figure)


def test_the_lower_axes_show_the_remaining_blocks_and_channels() -> None:
    search = searched()
    _, middle, lower = draw_search(search).axes
    tops = {line.get_label(): list(line.get_ydata()) for line in middle.lines}
    assert tops["MB4D"] == [3, 4, 3, 4, 4, 3, 3]  # the last one is plotted a little further
    assert tops["MB3D"] == [7, 7, 6, 6, 6, 5, 5]
    widths = {line.get_label(): list(line.get_ydata()) for line in lower.lines}
    assert widths["stage 4"] == [48, 48, 48, 48, 32, 32, 32]
    assert widths["stage 1"] == [32] * 7
    assert {text.get_text() for text in middle.texts} == {"MB4D", "MB3D"}


def test_a_kind_of_action_that_was_never_taken_is_not_in_the_legend() -> None:
    search = searched()
    without = Search(TINY, search.importances, search.targets, search.start, {}, search.steps[:3])
    legend = draw_search(without).axes[0].get_legend()
    assert legend and [text.get_text() for text in legend.get_texts()] == [KINDS[kind][2] for kind in ("depth", "MB3D")]


ACCURACY = {"slimming": 0.82, "uniform": 0.80, "random": 0.815, "no-mb3d": 0.79}


def point(method: Method, target: float, timed: bool = True, seeds: int = 3) -> ParetoPoint:
    middle = ACCURACY[method] + 4 * (target - 0.005)
    config = TINY.replace(depths=(1, 1, 1, 1))
    prediction = Prediction(config, target, 1.04 * target, 1.02 * target) if timed else None
    top1 = {seed: middle + 0.004 * (seed - 1) for seed in range(seeds)}
    return ParetoPoint(Contender(method, target, target, config), prediction, top1)


def front(**how: int) -> Front:
    targets = (0.008, 0.0065, 0.005)
    return Front(tuple(point(method, target, **how) for target in targets for method in METHODS), (224, 224))


def test_every_method_has_its_means_over_measured_times() -> None:
    compared = front()
    figure = draw_front(compared)
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    for method, label in METHODS.items():
        line = lines[label]
        assert list(line.get_xdata()) == pytest.approx([1.04 * 5, 1.04 * 6.5, 1.04 * 8])
        means = [100 * point.accuracy.value for point in reversed(compared.by_method(method)) if point.accuracy]
        assert list(line.get_ydata()) == pytest.approx(means)
        assert (
            to_hex(line.get_color()) == to_hex(METHOD_LOOKS[method][1]) and line.get_marker() == METHOD_LOOKS[method][0]
        )
    whiskers = [line for line in axes.lines if line.get_marker() == "_"]
    ends = [tuple(line.get_ydata()) for line in whiskers]
    expected = [(100 * point.accuracy.low, 100 * point.accuracy.high) for point in compared.points if point.accuracy]
    assert sorted(ends) == [pytest.approx(pair) for pair in sorted(expected)]
    nothing_overlaps(figure)


def test_the_legend_covers_no_mark() -> None:
    figure = draw_front(front())
    figure.draw_without_rendering()
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend
    box = legend.get_window_extent()
    assert not any(box.contains(*point) for line in axes.lines for point in axes.transData.transform(line.get_xydata()))


def test_a_single_seed_has_no_whisker() -> None:
    (axes,) = draw_front(front(seeds=1)).axes
    assert not [line for line in axes.lines if line.get_marker() == "_"]


def test_a_way_without_times_is_left_out() -> None:
    half = Front((point("slimming", 0.008), point("uniform", 0.008, timed=False)), (224, 224))
    (axes,) = draw_front(half).axes
    legend = axes.get_legend()
    assert legend and [text.get_text() for text in legend.get_texts()] == [METHODS["slimming"]]


def test_empty_input_is_rejected() -> None:
    with pytest.raises(ValueError, match="no steps to draw"):
        draw_search(Search(TINY, ((1.0,), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0)), (0.01,), 0.009))
    with pytest.raises(ValueError, match="no network was both trained and timed"):
        draw_front(Front((point("slimming", 0.008, timed=False),), (224, 224)))
