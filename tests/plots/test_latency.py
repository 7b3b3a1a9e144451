"""Bars, whiskers and labels of the figures match the records."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import combinations

import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.container import BarContainer
from matplotlib.text import Annotation, Text

from efficientformer_edu.latency import Conditions, Measurement
from efficientformer_edu.latency.observations import Claim, Observation
from efficientformer_edu.latency.peers import PEERS
from efficientformer_edu.latency.profile import CLASSES, SPATIAL, Profile
from efficientformer_edu.latency.records import Timing
from efficientformer_edu.paper import table1
from efficientformer_edu.plots import INK
from efficientformer_edu.plots.latency import (
    COLOURS,
    VERDICTS,
    draw_accuracy_latency,
    draw_claims,
    draw_measurement,
    draw_observation,
    draw_profiles,
    draw_waterfall,
)
from efficientformer_edu.plots.style import Drawing
from efficientformer_edu.utils.statistics import Estimate

ON = Conditions(machine="A processor, 2 cores", threads=2, versions={"torch": "2.13"}, date="2026-11-21")


def measured(millis: dict[str, float]) -> Measurement:
    """Nine rounds with the given median."""
    factors = (0.9, 0.95, 0.97, 0.99, 1.0, 1.02, 1.05, 1.1, 1.3)
    timings = (Timing(name, tuple(1e-3 * ms * factor for factor in factors)) for name, ms in millis.items())
    return Measurement(ON, tuple(timings))


def bars(axes: Axes) -> list[tuple[float, float]]:
    """Left and right end of each bar, rounded."""
    patches = [bar for bars in axes.containers if isinstance(bars, BarContainer) for bar in bars]
    return [(round(bar.get_x(), 6), round(bar.get_x() + bar.get_width(), 6)) for bar in patches]


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def foot(figure: Drawing) -> str:
    return " ".join(figure.get_supxlabel().split())


def test_a_bar_and_a_whisker_per_subject() -> None:
    measurement = measured({"eager": 8.0, "folded": 4.0})
    figure = draw_measurement(measurement, "eager", {"folded": 1_300_000_000})
    (axes,) = figure.axes
    assert bars(axes) == [(0, 8), (0, 4)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["eager", "folded"]
    assert texts(axes) == ["8 ms", "4 ms · 0.50 times eager · 1,300 M MACs"]
    for line, timing in zip(axes.lines, measurement.timings, strict=True):
        assert tuple(line.get_xdata()) == tuple(1e3 * end for end in timing.estimate[1:3])
    assert axes.yaxis_inverted()
    assert foot(figure) == str(ON)
    with pytest.raises(KeyError, match="'compiled' was not timed"):
        draw_measurement(measurement, "compiled")


def test_a_label_stays_inside_its_axes() -> None:
    macs = {"a subject": 10**11}
    (axes,) = (figure := draw_measurement(measured({"quick": 0.1, "a subject": 8.0}), "quick", macs)).axes
    figure.draw_without_rendering()
    assert all(text.get_window_extent().x1 < axes.get_window_extent().x1 for text in axes.texts)


def test_a_claim_is_coloured_and_labelled_by_its_verdict() -> None:
    claims = (
        Claim("a takes longer than b", Estimate(1.4, 1.3, 1.5, 9), "above"),
        Claim("c takes at most a tenth more than d", Estimate(1.2, 1.15, 1.3, 9), "below", 1.1),
        Claim("e takes longer than f", Estimate(1.02, 0.9, 1.2, 9), "above"),
    )
    figure = draw_claims("Claims", claims, [ON])
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [claim.text for claim in claims]
    assert texts(axes) == [
        "supported\n1.40 (1.30 to 1.50)",
        "contradicted\n1.20 (1.15 to 1.30)",
        "inconclusive\n1.02 (0.90 to 1.20)",
    ]
    for row, claim in enumerate(claims):
        bound, interval, median = axes.lines[3 * row : 3 * row + 3]
        assert set(bound.get_xdata()) == {claim.bound}
        assert tuple(interval.get_xdata()) == (claim.ratio.low, claim.ratio.high)
        assert tuple(median.get_xdata()) == (claim.ratio.value,)
        assert interval.get_color() == VERDICTS[claim.verdict].line
    sides = [patch.get_datalim(axes.transData) for patch in axes.collections if isinstance(patch, PolyCollection)]
    left, right = axes.get_xlim()
    assert [side.x0 for side in sides] == pytest.approx([1.0, left, 1.0])
    assert [side.x1 for side in sides] == pytest.approx([right, 1.1, right])
    assert foot(figure) == str(ON)


@pytest.mark.parametrize("rounds", [1, 4])
def test_too_few_rounds_have_a_label_and_no_interval(rounds: int) -> None:
    ratio = Estimate(1.4, -math.inf, math.inf, rounds) if rounds == 1 else Estimate(1.4, 1.3, 1.5, rounds)
    (axes,) = (figure := draw_claims("Claims", [Claim("a takes longer", ratio, "above")], [ON])).axes
    assert texts(axes) == ["too few rounds\n1.40"]
    assert [len(set(line.get_xdata())) for line in axes.lines] == [1, 1]  # the bound and the median
    figure.draw_without_rendering()
    few = measured({"eager": 8.0, "folded": 4.0})
    few = replace(few, timings=tuple(replace(timing, seconds=timing.seconds[:rounds]) for timing in few.timings))
    (axes,) = (figure := draw_measurement(few, "eager")).axes
    assert not axes.lines and all("too few rounds" in label for label in texts(axes))
    figure.draw_without_rendering()


def test_the_context_of_an_observation_is_shown_below_its_claims() -> None:
    records = {f"inside L1, {name}": measured({"ReLU": 1, "GELU": 2, "HardSwish": 3}) for name in ("a", "b")}
    observation = Observation(4, records)
    (axes,) = (figure := draw_observation(observation)).axes
    assert axes.get_title(loc="left") == f"Observation 4: {observation.verdict_text}"
    labels = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]
    assert labels == [claim.text for claim in (*observation.claims, *observation.context)]
    assert len(observation.context) == 6 and foot(figure) == str(ON)


def test_claims_of_another_kind_have_their_own_title() -> None:
    claims = [Claim(text, Estimate(1.4, 1.3, 1.5, 9), "below", 1.1) for text in ("eager", "folded")]
    figure = draw_claims("As quick as the other", claims, [ON, ON])
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "As quick as the other"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["eager", "folded"]
    assert foot(figure) == str(ON)
    with pytest.raises(ValueError, match="at least one"):
        draw_claims("nothing", [], [ON])


def test_a_waterfall_falls_from_the_first_to_the_last() -> None:
    figure = draw_waterfall(measured({"as trained": 10.0, "norms folded": 7.0, "slower": 8.0, "channels last": 5.0}))
    (axes,) = figure.axes
    assert bars(axes) == [(0, 10), (7, 10), (7, 8), (5, 8), (0, 5)]
    assert texts(axes) == ["10 ms", "−3 ms", "+1 ms", "−3 ms", "5 ms, 0.50 of the first"]
    assert axes.get_yticklabels()[-1].get_text() == "in the end"
    assert foot(figure) == str(ON)


def made_up(name: str, total: float, **parts: float) -> Profile:
    return Profile(name, total, {**dict.fromkeys(CLASSES, 0.0), **parts}, 9, ON)


def test_a_profile_s_parts_lie_end_to_end_and_the_clock_is_marked() -> None:
    profiles = [made_up("one", 100.0, MLP=60.0, norm=1.0, reshape=36.0), made_up("two", 20.0, attention=21.0)]
    figure = draw_profiles(profiles)
    (axes,) = figure.axes
    segments = bars(axes)
    assert len(segments) == 2 * len(CLASSES)
    assert [end for end in segments if end[0] < end[1]] == [(0, 60), (60, 96), (96, 97), (0, 21)]
    marks = [line for line in axes.lines if line.get_color() == INK]
    assert [set(line.get_xdata()) for line in marks] == [{100.0}, {20.0}]
    labels = texts(axes)
    assert {"MLP\n60.0", "reshape\n36.0", "attention\n21.0"} <= set(labels)
    assert "norm\n1.0" not in labels and "1.0" not in labels  # they do not fit
    assert {"100 ms timed\n97 profiled, 0.97", "20 ms timed\n21 profiled, 1.05"} <= set(labels)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(CLASSES)
    assert SPATIAL == "spatial convolution and pooling"
    assert foot(figure) == str(ON)
    with pytest.raises(ValueError, match="no profiles to draw"):
        draw_profiles([])


def test_a_part_s_label_stays_inside_it() -> None:
    parts = {kind: float(3 + 4 * index) for index, kind in enumerate(CLASSES)}
    for scale in (0.5, 1, 20):
        figure = draw_profiles([made_up("net", 1.0, **{kind: scale * ms for kind, ms in parts.items()})])
        (axes,) = figure.axes
        figure.draw_without_rendering()
        patches = [bar for container in axes.containers for bar in container]
        labels = [text for text in axes.texts if not isinstance(text, Annotation)]
        assert sum(bool(label.get_text()) for label in labels) >= 4
        for bar, label in zip(patches, labels, strict=True):
            if label.get_text():
                inside, text = bar.get_window_extent(), label.get_window_extent()
                assert inside.x0 <= text.x0 and text.x1 <= inside.x1


def test_every_class_has_its_own_colour() -> None:
    assert tuple(COLOURS) == CLASSES
    assert len(set(COLOURS.values())) == len(CLASSES)


def test_accuracies_and_the_phone_s_latencies_are_those_of_table_1() -> None:
    table = table1()
    figure = draw_accuracy_latency(measured({"l1": 40.0, "timm:mobilenetv2_140": 20.0, "ResNet50": 80.0}))
    here, reported = figure.axes
    rows = ("EfficientFormer-L1", "MobileNetV2×1.4", "ResNet50")
    for axes, millis in ((here, [40.0, 20.0, 80.0]), (reported, [table[row, "npu"].value for row in rows])):
        points = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.lines]
        assert points == [pytest.approx((ms, table[row, "top1"].value)) for ms, row in zip(millis, rows, strict=True)]
        assert [text.get_text() for text in axes.texts] == list(rows)
    assert "Reported" in reported.get_title() and "Measured" in here.get_title()
    assert foot(figure) == str(ON)
    with pytest.raises(ValueError, match=re.escape("unknown row of Table 1, ImageNet-1K: 'l9'")):
        draw_accuracy_latency(measured({"l9": 1.0}))


def test_names_of_points_do_not_overlap() -> None:
    crowd = {name: 50.0 + index for index, name in enumerate((*PEERS, "l3", "l7"))}
    figure = draw_accuracy_latency(measured(crowd))
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [Text.get_window_extent(text) for text in axes.texts]
        assert len(boxes) == len(crowd)
        assert not any(first.overlaps(other) for first, other in combinations(boxes, 2))
        for line in axes.lines:
            dot = axes.transData.transform(line.get_xydata()[0])
            assert not any(box.contains(*dot) for box in boxes)


def test_the_legend_of_a_profile_has_the_colours_of_its_bars() -> None:
    milliseconds = {kind: float(number) for number, kind in enumerate(CLASSES, start=1)}
    figure = draw_profiles([Profile("net", 36.0, milliseconds, 5, Conditions())])
    (bars,) = ([bar for bars in figure.axes[0].containers if isinstance(bars, BarContainer) for bar in bars],)
    colours = {round(bar.get_width()): (bar.get_facecolor(), bar.get_edgecolor()) for bar in bars}
    (legend,) = figure.legends
    for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True):
        assert (patch.get_facecolor(), patch.get_edgecolor()) == colours[round(milliseconds[text.get_text()])]
