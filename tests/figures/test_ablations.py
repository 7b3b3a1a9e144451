"""Pictures of a study show the differences, intervals and times of its records."""

from __future__ import annotations

from pathlib import Path

import pytest
from ablation_records import COSTS, stored
from matplotlib.colors import to_hex

from efficientformer_edu.ablations.costs import EAGER
from efficientformer_edu.ablations.outcome import COSTS as COSTS_FILE
from efficientformer_edu.ablations.outcome import Outcome, load_outcome
from efficientformer_edu.figures.ablations import VERDICTS, draw_accuracy_costs, draw_differences

SHIFTS = {
    "relu": (-0.02, -0.03, -0.02, -0.01, -0.02),
    "group-norm": (0.01, 0.02, 0.01, 0.02, 0.01),
    "hard": (0.01, -0.02, 0.03, 0.0, -0.01),
}


@pytest.fixture
def outcome(tmp_path: Path) -> Outcome:
    stored(tmp_path, SHIFTS)
    COSTS.save(tmp_path / COSTS_FILE)
    return load_outcome(tmp_path)


def test_each_row_has_its_pairs_its_mean_and_its_interval(outcome: Outcome) -> None:
    (axes,) = draw_differences(outcome).axes
    names = [result.name for result in outcome.results[1:]]
    assert [label.get_text() for label in axes.get_yticklabels()] == [outcome[name].words for name in names]
    for place, name in enumerate(names):
        difference = outcome[name].difference
        assert difference is not None
        drawn = [line for line in axes.lines if list(line.get_ydata()) == [place] * len(line.get_ydata())]
        interval, pairs, mean = (
            next(line for line in drawn if line.get_marker() == marker) for marker in ("None", "o", "D")
        )
        assert list(interval.get_xdata()) == pytest.approx([100 * difference.low, 100 * difference.high])
        assert sorted(pairs.get_xdata()) == pytest.approx(sorted(100 * shift for shift in SHIFTS[name]))
        assert list(mean.get_xdata()) == pytest.approx([100 * difference.mean])
        assert to_hex(mean.get_markeredgecolor()) == VERDICTS[difference.verdict].line.lower()
    said = [text.get_text() for text in axes.texts]
    assert said == [
        "better\nreported better: agrees",
        "worse\nreported worse: agrees",
        "cannot tell\nreported better: cannot tell",
    ]


def test_accuracy_stands_against_time(outcome: Outcome) -> None:
    def points(form: str) -> list[tuple[float, float]]:
        (axes,) = draw_accuracy_costs(outcome, form).axes
        return [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "D"]

    assert points("folded") == [pytest.approx((45.0, 0.0)), pytest.approx((40.0, -2.0))]  # group norm does not fold
    eager = points(EAGER)
    assert eager == [pytest.approx((90.0, 0.0)), pytest.approx((120.0, 1.4)), pytest.approx((80.0, -2.0))]
    (axes,) = draw_accuracy_costs(outcome).axes
    assert {text.get_text() for text in axes.texts if text.get_text()} == {"base", "relu"}


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    stored(tmp_path, {})
    with pytest.raises(ValueError, match="no variant to draw beside the base"):
        draw_differences(load_outcome(tmp_path))
    with pytest.raises(ValueError, match="no latency was measured in the form 'folded'"):
        draw_accuracy_costs(load_outcome(tmp_path))
