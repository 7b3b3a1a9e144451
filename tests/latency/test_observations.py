"""Claims and verdicts on times that are known, and the files that hold them. Nothing is timed here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from efficientformer_edu import paper, report
from efficientformer_edu.latency import (
    Conditions,
    Interval,
    Measurement,
    Timing,
    observations,
    session,
    subjects,
    subjects_norms,
)
from efficientformer_edu.latency.observations import Claim, Observation, load_observation, observe
from efficientformer_edu.latency.subjects import Subject

FOUND = {"machine": "a laptop, 2 cores", "threads": 2, "versions": {"torch": "2.13.0"}, "date": "2026-11-21"}
BUILT = {  # their weights do not matter here: each is built once
    (module, name): cache(getattr(module, name))
    for module, names in (
        (subjects, ("embeddings_to_a_quarter", "embeddings_to_a_sixteenth", "mixers")),
        (subjects_norms, ("norms", "networks_and_norms", "activations", "networks_and_activations")),
    )
    for name in names
}


class Clock:
    """Stands in for `measure`: it runs nothing, and says that each subject took what the test wants."""

    def __init__(self, seconds: Callable[[str], float], noise: float = 0.0) -> None:
        self.seconds, self.noise = seconds, noise
        self.options: dict[str, Any] = {}

    def __call__(
        self, subjects: Mapping[str, Callable[[], Any]], conditions: Conditions, *, rounds: int, **options: Any
    ) -> Measurement:
        self.options = options | {"inference": torch.is_inference_mode_enabled()}
        random, timings = np.random.default_rng(0), []
        for name in subjects:
            spread = np.exp(self.noise * random.standard_normal(rounds))
            timings.append(Timing(name, tuple(round(self.seconds(name) * float(one), 9) for one in spread)))
        return Measurement(conditions.complete(**FOUND), tuple(timings))


@pytest.fixture(autouse=True)
def build_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for (module, name), made in BUILT.items():
        monkeypatch.setattr(module, name, made)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Clock]:
    def install(seconds: Callable[[str], float], noise: float = 0.0) -> Clock:
        made = Clock(seconds, noise)
        monkeypatch.setattr(session, "measure", made)
        return made

    return install


def claim(low: float, high: float, side: Any = "above", bound: float = 1.0) -> Claim:
    return Claim("one takes longer", Interval((low + high) / 2, low, high), side, bound)


HOLDS, FAILS, OPEN = claim(2.0, 2.2), claim(0.5, 0.6), claim(0.9, 1.1)
RECORD = {"a place": Measurement(Conditions("efficientformer-edu observe 1", **FOUND), (Timing("one", (0.25, 0.5)),))}


def test_a_claim_is_judged_by_its_whole_interval() -> None:
    assert [one.verdict for one in (HOLDS, FAILS, OPEN)] == ["holds here", "does not hold here", "cannot tell"]
    assert claim(0.5, 0.6, "below").verdict == "holds here"
    assert claim(0.5, 0.6, "above", 0.4).verdict == "holds here"
    assert str(HOLDS) == "one takes longer: 2.1 (2 to 2.2), claimed above 1; holds here"


@pytest.mark.parametrize(
    ("claims", "verdict"),
    [
        ((HOLDS, HOLDS), "holds here"),
        ((HOLDS, OPEN), "cannot tell"),
        ((HOLDS, FAILS), "does not hold here"),
        ((OPEN, FAILS), "does not hold here"),
    ],
)
def test_an_observation_holds_if_all_its_claims_do(claims: tuple[Claim, ...], verdict: str) -> None:
    observation = Observation(1, claims, RECORD)
    assert observation.verdict == verdict
    assert [row[-1] for row in observation.table().rows] == [*(one.verdict for one in claims), verdict]


def test_an_observation_without_claims_or_records_says_nothing() -> None:
    for claims, records in (((), RECORD), ((HOLDS,), {})):
        with pytest.raises(ValueError, match="wanted: at least one of each"):
            Observation(1, claims, records)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_what_is_saved_comes_back(number: int, tmp_path: Path) -> None:
    observation = Observation(number, (HOLDS, FAILS), RECORD, {"a place": {"one": 12}}, "Because.")
    path = tmp_path / f"observation_{number}.json"
    observation.save(path)
    assert load_observation(path) == observation
    assert path.read_text(encoding="utf-8") == observation.to_json() + "\n"


@pytest.mark.parametrize(
    "text", ["no JSON", "[]", "{}", '{"observation": {"claims": [{"verdict": 1}]}}', '{"observation": 3}']
)
def test_another_file_is_refused_by_its_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="^other.json holds no observation: "):
        load_observation(tmp_path / "other.json")


@pytest.mark.parametrize(("one", "status"), [(HOLDS, "same trend"), (FAILS, "disagrees")])
def test_the_report_takes_the_verdict(one: Claim, status: str, tmp_path: Path) -> None:
    Observation(2, (one,), RECORD, why="Because.").save(tmp_path / "observation_2.json")
    rows = report.findings.answered(report.rows(), report.findings.read_findings(tmp_path))
    row = next(row for row in rows if row.name == "§3: observation 2")
    assert (row.status, row.kind, row.command) == (status, "measured", "efficientformer-edu observe 1")
    assert row.ours == f"{int(one is HOLDS)} of 1 claims hold{'s' * (one is HOLDS)}. {one}"
    assert row.why == "Because. Measured on a laptop, 2 cores, 2 threads; torch 2.13.0; 2026-11-21."


def test_what_cannot_be_told_is_no_finding(tmp_path: Path) -> None:
    Observation(2, (OPEN,), RECORD).save(tmp_path / "observation_2.json")
    assert report.findings.read_findings(tmp_path) == ()


def test_formats(tmp_path: Path) -> None:
    observation = Observation(1, (HOLDS,), RECORD, {"a place": {"one": 1234}}, "Because.")
    text, markdown = observation.to("table"), observation.to("markdown")
    assert "a place\n\nsubject   MACs" in text and "**a place**\n\n| subject | MACs |" in markdown
    for shown in (text, markdown):
        for part in ("1,234", "375.000", "2.1 (2 to 2.2)", "above 1", "holds here", "Because.", "2 threads"):
            assert part in shown
    assert observation.record_table("a place").rows[0][:2] == ("one", 1234)
    assert json.loads(observation.to("json"))["observation"]["claims"][0]["words"] == "one takes longer"
    assert observation.to("csv").splitlines()[1] == "one takes longer,2.1 (2 to 2.2),above 1,holds here"
    with pytest.raises(ValueError, match="format='html' is not possible"):
        observation.to("html")  # type: ignore[arg-type]


def phone(name: str) -> float:
    """Seconds as the paper sees them: large kernels, reshapes and norms cost; attention does not."""
    seconds = {
        "16×16/16 patches": 2.0,
        "7×7/4 patches": 2.0,
        "attention on maps": 4.0,
        "reshapes alone": 3.0,
        "MLP on tokens": 2.0,
        "Conv-BN, folded": 0.5,
        "DeiT-S": 1.15,
        "HardSwish": 1.5,
    }
    return seconds.get(name, 1.0)


def desktop(name: str) -> float:
    """Seconds of a machine on which nothing of it is so."""
    seconds = {
        "16×16/16 patches": 0.05,
        "7×7/4 patches": 0.05,
        "attention on maps": 0.9,
        "reshapes alone": 0.1,
        "MLP on tokens": 0.5,
        "Conv-BN, folded": 2.0,
        "DeiT-S": 1.02,
        "HardSwish": 5.0,
    }
    return seconds.get(name, 1.0)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_each_observation_can_hold_fail_and_be_open(number: int, clock: Callable[..., Clock]) -> None:
    clock(phone)
    held = observe(number, rounds=8)
    assert held.verdict == "holds here" and {one.verdict for one in held.claims} == {"holds here"}
    clock(desktop)
    failed = observe(number, rounds=8)
    assert failed.verdict == "does not hold here"
    # The share of LN has two ends, of which one always holds.
    assert sum(one.verdict == "holds here" for one in failed.claims) == (number == 3)
    clock(phone, noise=2.0)
    assert "cannot tell" in {one.verdict for one in observe(number, rounds=8).claims}
    assert [one.words for one in held.claims] == [one.words for one in failed.claims]
    assert held.why == session.WHY[number]


def test_mac_for_mac_asks_for_less(clock: Callable[..., Clock]) -> None:
    clock(lambda name: 0.7 if name.endswith("patches") else 1.0)
    verdicts = [one.verdict for one in observe(1, rounds=2).claims]
    assert verdicts == ["does not hold here"] * 2 + ["holds here"] * 2
    bounds = [one.bound for one in observe(1, rounds=2).claims]
    assert bounds == pytest.approx([1, 1, 57_802_752 / 406_425_600, 22_127_616 / 40_642_560])


def test_the_share_of_layer_norm_is_the_paper_s(clock: Callable[..., Clock]) -> None:
    share = paper.observations()[2].share
    assert share is not None
    for part, verdicts in ((5, "does not hold here"), (15, "holds here"), (25, "holds here")):
        clock(lambda name, part=part: 100.0 if name == "DeiT-S" else 100.0 - part)  # type: ignore[misc]
        least, most = observe(3, rounds=2).claims[-2:]
        assert least.verdict == verdicts
        assert most.verdict == ("does not hold here" if part > share.high else "holds here")


def test_the_phone_s_factor_is_that_of_levit() -> None:
    assert observations.phone_factor() == pytest.approx(44.5 / 11.9)


def timed(**seconds: float) -> Measurement:
    return Measurement(Conditions(), tuple(Timing(name, (value,) * 4) for name, value in seconds.items()))


def test_the_order_changes_from_one_engine_to_another() -> None:
    records = {
        "a": timed(relu=1.0, gelu=2.0, silu=3.0),
        "b": timed(relu=1.0, gelu=1.9, silu=3.0),
        "c": timed(relu=1.0, gelu=4.0, silu=2.0),
    }
    here, there = observations.exchanged(records)
    assert {here.words, there.words} == {
        "alone in b, gelu is quicker than silu",
        "alone in c, gelu is slower than silu",
    }
    assert (here.interval.median, there.interval.median) == pytest.approx((1.9 / 3, 2.0))
    assert here.verdict == there.verdict == "holds here"


def test_the_same_order_in_each_engine_is_no_change() -> None:
    records = {"a": timed(relu=1.0, gelu=2.0), "b": timed(relu=1.5, gelu=4.0)}
    assert "does not hold here" in {one.verdict for one in observations.exchanged(records)}
    assert observations.exchanged({"a": records["a"]}) == []


def test_a_change_that_was_chance_does_not_hold() -> None:
    first = {"relu": (1.0, 1.0, 1.0, 1.0), "gelu": (2.0, 2.0, 2.0, 2.0)}
    second = {"relu": (2.0, 2.0, 1.0, 1.0), "gelu": (1.0, 1.0, 2.0, 2.0)}  # the order of its first half does not last
    records = {
        engine: Measurement(Conditions(), tuple(Timing(name, seconds) for name, seconds in some.items()))
        for engine, some in (("a", first), ("b", second))
    }
    assert [one.verdict for one in observations.exchanged(records)] == ["holds here", "does not hold here"]


def test_engines_are_given_networks_and_lone_activations(
    clock: Callable[..., Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def prepare(name: str, network: Any, images: torch.Tensor, num_threads: int | None) -> Callable[[], torch.Tensor]:
        assert not torch.is_inference_mode_enabled()  # which no exporter expects
        asked.append((name, type(network).__name__, num_threads))
        return lambda: images

    monkeypatch.setattr(session, "prepare", prepare)
    clock(phone)
    given = ("eager", "onnxruntime", "onnxruntime-folded", "eager")
    found = observe(4, rounds=2, num_threads=1, engines=given)
    assert list(found.records) == [
        "alone, eager",
        "alone, onnxruntime",
        "inside L1, eager",
        "inside L1, onnxruntime",
        "inside L1, onnxruntime-folded",
    ]
    assert asked.count(("onnxruntime", "EfficientFormer", 1)) == asked.count(
        ("onnxruntime-folded", "EfficientFormer", 1)
    )
    assert len(asked) == 15 and ("onnxruntime", "GELU", 1) in asked
    assert found.records["alone, eager"].conditions.command == (
        "efficientformer-edu observe 4 --rounds 2 --threads 1 --engine eager,onnxruntime,onnxruntime-folded"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"number": 5}, "there is no observation 5"),
        ({"number": 1, "engines": ["onnxruntime"]}, "engines are for observation 4"),
        ({"number": 4, "engines": ["eager", "onyx"]}, "engine 'onyx' is unknown; there are eager, folded"),
        ({"number": 4, "engines": ["eager", "onnxruntime"], "rounds": 1}, "wanted: at least 2"),
    ],
)
def test_what_is_not_possible_is_said_before_anything_is_timed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        observe(**arguments)


def test_how_the_subjects_are_timed(clock: Callable[..., Clock]) -> None:
    made = clock(phone)
    found = observe(1, rounds=2, num_threads=1, progress=True)
    wanted = {"num_threads": 1, "progress": True, "device": "cpu", "inference": True}
    assert made.options == wanted
    for record in found.records.values():
        assert record.conditions.command == "efficientformer-edu observe 1 --rounds 2 --threads 1"
        assert record.conditions.resolution == (224, 224)
        assert {len(timing.seconds) for timing in record.timings} == {2}
    assert observe(2, rounds=2).records["448 channels, 7×7"].conditions.resolution == (0, 0)


@pytest.mark.filterwarnings("ignore:the machine is busy", "ignore:.*the interval is wide")
def test_the_clock_itself_times_subjects() -> None:
    subject = Subject(torch.nn.ReLU(), torch.zeros(1))
    found = session.Session(1, 2, 1, False, "cpu").time({"one": subject}, (0, 0))
    assert found["one"].milliseconds > 0 and found.conditions.threads == 1
