"""Measurements in their stored form and as text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from efficientformer_edu.latency import Conditions, Measurement, Timing, load, save
from efficientformer_edu.latency.records import to_dict
from efficientformer_edu.utils.records import from_dict
from efficientformer_edu.utils.statistics import MIN_SAMPLES

CONDITIONS = Conditions("efficientformer-edu bench l1", 1, (224, 224), machine="a laptop, 2 cores", threads=1)
MEASURED = Measurement(
    CONDITIONS.complete(versions={"python": "3.11.7", "torch": "2.13.0"}, date="2026-11-21", memory_kept=True),
    (
        Timing("eager", (0.050, 0.052, 0.051, 0.050, 0.052), 12.4),
        Timing("folded", (0.025, 0.026, 0.0255, 0.025, 0.026), 0.0, calls=2),
    ),
)


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    save({"l1": MEASURED}, tmp_path / "bench.json", remark="kept beside")
    assert load(tmp_path / "bench.json") == {"l1": MEASURED}
    assert '"remark": "kept beside"' in (tmp_path / "bench.json").read_text(encoding="utf-8")
    assert from_dict(Measurement, to_dict(MEASURED)) == MEASURED


def test_seconds_are_stored_to_the_nanosecond() -> None:
    timing = replace(MEASURED.timings[0], seconds=(1 / 3,))
    assert to_dict(replace(MEASURED, timings=(timing,)))["timings"][0]["seconds"] == [0.333333333]


def test_a_table_for_people() -> None:
    assert MEASURED.table().to_text().splitlines() == [
        "subject                         ms       times eager  page faults",
        "-------  -------------------------  ----------------  -----------",
        "eager    51.000 (50.000 to 52.000)                 1           12",
        "folded   25.500 (25.000 to 26.000)  0.5 (0.5 to 0.5)            0",
    ]
    assert MEASURED.table(against="folded").columns[2] == "times folded"
    folded = json.loads(MEASURED.table().to_json())[1]
    assert list(folded.values()) == ["folded", *map(pytest.approx, (25.5, 25, 26, 0.5, 0.5, 0.5)), 0]
    assert "1 thread; batch 1; python 3.11.7, torch 2.13.0; 2026-11-21" in str(MEASURED.conditions)
    assert str(MEASURED["eager"]) == "51.0 ms (50.0 to 52.0)"


@pytest.mark.parametrize("rounds", [1, 2, MIN_SAMPLES - 1])
def test_too_few_rounds_have_no_interval(rounds: int) -> None:
    few = replace(
        MEASURED, timings=tuple(replace(timing, seconds=timing.seconds[:rounds]) for timing in MEASURED.timings)
    )
    for shown in (
        few.table().to_text(),
        few._repr_markdown_(),
        *map(str, few.timings),
        str(few.ratio("eager", "folded")),
    ):
        assert "too few rounds" in shown and " to " not in shown.partition("1 thread")[0] and "inf" not in shown


def test_ratios_are_pairwise() -> None:
    assert MEASURED.ratio("eager", "folded") == pytest.approx((2, 2, 2, 5))


def test_an_unknown_subject_is_named() -> None:
    with pytest.raises(KeyError, match="'compiled'.*eager, folded"):
        MEASURED["compiled"]


@pytest.mark.parametrize("text", ["", "{}", '{"measurements": {"a": {"conditions": {}}}}', '{"measurements": 3}'])
def test_a_file_without_measurements_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="other.json"):
        load(tmp_path / "other.json")


def test_nothing_is_left_half_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        save({"l1": MEASURED}, tmp_path / "absent" / "bench.json")
    assert list(tmp_path.iterdir()) == []
