"""Figures of a study show the differences, intervals and times of its records."""

from __future__ import annotations

from pathlib import Path

import pytest
from ablation_records import COSTS, stored
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from efficientformer_edu.ablations.costs import EAGER, Costs
from efficientformer_edu.ablations.outcome import COSTS as COSTS_FILE
from efficientformer_edu.ablations.outcome import Outcome, load_outcome
from efficientformer_edu.ablations.variants import VARIANTS
from efficientformer_edu.latency import Conditions, Measurement, Timing
from efficientformer_edu.plots.ablations import VERDICTS, draw_accuracy_costs, draw_differences

SHIFTS = {
    "relu": (-0.02, -0.03, -0.02, -0.01, -0.02),
    "group-norm": (0.01, 0.02, 0.01, 0.02, 0.01),
    "hard": (0.01, -0.02, 0.03, 0.0, -0.01),
}


@pytest.fixture
def outcome(tmp_path: Path) -> Outcome:
    stored(tmp_path / "few", SHIFTS)
    COSTS.save(tmp_path / "few" / COSTS_FILE)
    return load_outcome(tmp_path / "few")


def test_every_row_has_its_pairs_its_mean_and_its_interval(outcome: Outcome) -> None:
    (axes,) = draw_differences(outcome).axes
    names = [result.name for result in outcome.results[1:]]
    assert [label.get_text() for label in axes.get_yticklabels()] == [outcome[name].description for name in names]
    for position, name in enumerate(names):
        difference = outcome[name].difference
        assert difference is not None
        row_lines = [line for line in axes.lines if list(line.get_ydata()) == [position] * len(line.get_ydata())]
        interval, pairs, mean = (
            next(line for line in row_lines if line.get_marker() == marker) for marker in ("None", "o", "D")
        )
        assert list(interval.get_xdata()) == pytest.approx([100 * difference.low, 100 * difference.high])
        assert sorted(pairs.get_xdata()) == pytest.approx(sorted(100 * shift for shift in SHIFTS[name]))
        assert list(mean.get_xdata()) == pytest.approx([100 * difference.value])
        assert to_hex(mean.get_markeredgecolor()) == VERDICTS[outcome[name].verdict].line.lower()
    assert [text.get_text() for text in axes.texts] == [
        "better\nreported better: supported",
        "worse\nreported worse: supported",
        "inconclusive\nreported better: inconclusive",
    ]


def test_a_verdict_changed_by_the_correction_is_shown_next_to_the_raw_verdict(tmp_path: Path) -> None:
    stored(tmp_path / "many", {"patches": (-0.03, -0.03, -0.01, -0.02, -0.002), **SHIFTS})
    outcome = load_outcome(tmp_path / "many")
    figure = draw_differences(outcome)
    (axes,) = figure.axes
    assert axes.texts[0].get_text() == f"worse (Holm: {outcome['patches'].holm_verdict})"
    assert "Holm" in figure.get_supxlabel()


def test_accuracy_is_plotted_against_the_paired_ratio_of_times(outcome: Outcome) -> None:
    """The machine of these records changes its speed between rounds; the ratios are not affected."""

    def points(form: str) -> list[tuple[float, float]]:
        (axes,) = draw_accuracy_costs(outcome, form).axes
        return [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "D"]

    assert points("folded") == [pytest.approx((1, 0.0)), pytest.approx((8 / 9, -2.0))]  # group norm cannot be folded
    assert points(EAGER) == [pytest.approx((1, 0.0)), pytest.approx((4 / 3, 1.4)), pytest.approx((8 / 9, -2.0))]
    (axes,) = draw_accuracy_costs(outcome).axes
    assert {text.get_text() for text in axes.texts if text.get_text()} == {"base", "relu"}


@pytest.fixture
def crowded(tmp_path: Path) -> Outcome:
    """A study of all rows, most with nearly the same cost and small differences; one has a very wide interval."""
    names = list(VARIANTS)[1:]
    shifts = {name: [(index % 5 - 2 + seed % 3 - 1) / 500 for seed in range(5)] for index, name in enumerate(names)}
    shifts["no-norm"] = [-0.6, -0.03, -0.04, -0.03, -0.04]
    stored(tmp_path / "many", shifts)
    times = [Timing(f"{name} folded", (1 + index % 7 / 100,)) for index, name in enumerate(VARIANTS)]
    counts = dict.fromkeys(VARIANTS, 12)
    Costs(Measurement(Conditions("a test"), tuple(times)), counts, counts).save(tmp_path / "many" / COSTS_FILE)
    return load_outcome(tmp_path / "many")


def test_intervals_of_accuracy_and_latency_are_plotted(tmp_path: Path) -> None:
    stored(tmp_path, {"relu": SHIFTS["relu"]})
    seconds = {"base folded": (0.04, 0.05, 0.04, 0.05, 0.04), "relu folded": (0.041, 0.045, 0.042, 0.04, 0.043)}
    timings = tuple(Timing(name, samples) for name, samples in seconds.items())
    counts = dict.fromkeys(("base", "relu"), 12)
    Costs(Measurement(Conditions("a test"), timings), counts, counts).save(tmp_path / COSTS_FILE)
    outcome = load_outcome(tmp_path)
    (axes,) = draw_accuracy_costs(outcome).axes
    segments = [[list(line.get_xdata()), list(line.get_ydata())] for line in axes.lines]
    difference, costs = outcome["relu"].difference, outcome.costs
    assert difference is not None and costs is not None
    ratio = costs.ratio("relu", "folded")
    assert ratio is not None and ratio.low < ratio.value < ratio.high
    assert [pytest.approx([ratio.low, ratio.high]), pytest.approx([100 * difference.value] * 2)] in segments
    assert [pytest.approx([ratio.value] * 2), pytest.approx([100 * difference.low, 100 * difference.high])] in segments


def boxes(axes: Axes) -> list[Bbox]:
    """Bounding boxes of the texts in the axes, without the lines that connect to them."""
    return [Text.get_window_extent(text) for text in axes.texts if text.get_text()]


def spans(axes: Axes) -> list[Bbox]:
    """Bounding boxes of intervals, pairs and means: all lines in the axes except the one at 0."""
    endpoints = [axes.transData.transform(line.get_xydata()) for line in axes.lines[1:]]
    return [Bbox([points.min(axis=0), points.max(axis=0)]).padded(1) for points in endpoints]


def test_names_do_not_overlap_other_names_or_intervals(crowded: Outcome) -> None:
    figure = draw_accuracy_costs(crowded)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    name_boxes = boxes(axes)
    assert len(name_boxes) == len(VARIANTS)
    frame = axes.get_window_extent()
    for index, box in enumerate(name_boxes):
        assert frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
        assert not any(box.overlaps(other) for other in (*name_boxes[index + 1 :], *spans(axes)))


def test_verdicts_are_next_to_the_axes_inside_the_figure(crowded: Outcome) -> None:
    figure = draw_differences(crowded)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    card = figure.bbox
    verdicts, names = boxes(axes), [label.get_window_extent() for label in axes.get_yticklabels()]
    assert len(verdicts) == len(names) == len(VARIANTS) - 1
    for box in (*verdicts, *names):
        assert card.x0 < box.x0 and box.x1 < card.x1 and card.y0 < box.y0 and box.y1 < card.y1
        assert not any(box.overlaps(other) for other in spans(axes))
    assert not any(box.overlaps(other) for index, box in enumerate(verdicts) for other in verdicts[index + 1 :])


def test_logarithmic_axes_are_labelled(outcome: Outcome, crowded: Outcome) -> None:
    for figure, scale in ((draw_differences(outcome), "linear"), (draw_differences(crowded), "symlog")):
        (axes,) = figure.axes
        assert axes.get_xscale() == scale
        assert ("logarithmic" in axes.get_xlabel()) == (scale == "symlog")
    (axes,) = draw_accuracy_costs(outcome).axes
    assert axes.get_yscale() == "symlog" and "logarithmic" in axes.get_ylabel()


def test_empty_input_is_rejected(tmp_path: Path) -> None:
    stored(tmp_path, {})
    with pytest.raises(ValueError, match="no variant to compare with the base"):
        draw_differences(load_outcome(tmp_path))
    with pytest.raises(ValueError, match="no latency was measured in the form 'folded'"):
        draw_accuracy_costs(load_outcome(tmp_path))
