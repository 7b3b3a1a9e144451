"""Claims and verdicts for known times, and the files that store them. Nothing is timed here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from efficientformer_edu import paper
from efficientformer_edu.latency import Conditions, Measurement, Timing, observations, workloads
from efficientformer_edu.latency.observations import MARGIN, Claim, Observation, load_observation, observe, phone_factor
from efficientformer_edu.paper.report import rows as report_rows
from efficientformer_edu.paper.report.slimming import answered, read_findings
from efficientformer_edu.utils.records import stored
from efficientformer_edu.utils.statistics import MIN_SAMPLES, Estimate

MACHINE = {"machine": "a laptop, 2 cores", "threads": 2, "versions": {"torch": "2.13.0"}, "date": "2026-11-21"}
WORKLOADS = (
    *("stride4_stems", "stride16_stems", "token_mixers", "norm_layers", "networks_with_norms", "activations"),
    "networks_with_activations",
)
BUILDERS = {name: cache(getattr(workloads, name)) for name in WORKLOADS}  # every network is built once
ENGINES = ("eager", "folded")
STEADY, NOISY = (1.0,) * 6, (0.6, 1.7, 0.8, 1.2, 0.9, 1.1)


class Clock:
    """Replaces `measure`: nothing runs, and every workload takes the time that the test sets."""

    def __init__(self, seconds: Callable[[str], float], noise: float = 0.0) -> None:
        self.seconds, self.noise = seconds, noise
        self.options: dict[str, Any] = {}

    def __call__(
        self, functions: Mapping[str, Callable[[], Any]], conditions: Conditions, *, rounds: int, **options: Any
    ) -> Measurement:
        self.options = options | {"inference": torch.is_inference_mode_enabled()}
        random, timings = np.random.default_rng(0), []
        for name in functions:
            spread = np.exp(self.noise * random.standard_normal(rounds))
            timings.append(Timing(name, tuple(round(self.seconds(name) * float(factor), 9) for factor in spread)))
        return Measurement(conditions.complete(**MACHINE), tuple(timings))


@pytest.fixture(autouse=True)
def build_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, builder in BUILDERS.items():
        monkeypatch.setattr(workloads, name, builder)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Clock]:
    def install(seconds: Callable[[str], float], noise: float = 0.0) -> Clock:
        clock = Clock(seconds, noise)
        monkeypatch.setattr(observations, "measure", clock)
        return clock

    return install


def measured(rounds: int | None = None, **seconds: tuple[float, ...]) -> Measurement:
    """Samples by workload, with underscores for spaces; only the first `rounds` of them."""
    conditions = Conditions("efficientformer-edu observe 2", **MACHINE)
    timings = (Timing(name.replace("_", " "), samples[:rounds]) for name, samples in seconds.items())
    return Measurement(conditions, tuple(timings))


def mixers(maps: float, reshapes: float, mlp: float, noise: tuple[float, ...] = STEADY, rounds: int = 6) -> Observation:
    """Observation 2 from seconds relative to attention on tokens; the noise is that of the MLP."""
    record = measured(
        rounds,
        attention_on_maps=tuple(maps * factor for factor in STEADY),
        attention_on_tokens=STEADY,
        reshapes_alone=tuple(reshapes * factor for factor in STEADY),
        MLP_on_tokens=tuple(mlp * factor for factor in noise),
    )
    return Observation(2, {"a stage": record})


SUPPORTED, CONTRADICTED, OPEN = mixers(2, 3, 4), mixers(2, 0.5, 4), mixers(2, 3, 1, NOISY)


@pytest.mark.parametrize(
    ("low", "high", "side", "bound", "rounds", "verdict"),
    [
        (2.0, 2.2, "above", 1.0, 30, "supported"),
        (0.5, 0.6, "above", 1.0, 30, "contradicted"),
        (0.9, 1.1, "above", 1.0, 30, "inconclusive"),
        (0.5, 0.6, "below", 1.0, 30, "supported"),
        (0.5, 0.6, "above", 0.4, 30, "supported"),
        (2.0, 2.0, "above", 1.0, MIN_SAMPLES - 1, "too few"),
        (2.0, 2.0, "above", 1.0, 1, "too few"),
    ],
)
def test_the_verdict_of_a_claim(low: float, high: float, side: Any, bound: float, rounds: int, verdict: str) -> None:
    claim = Claim("text", Estimate((low + high) / 2, low, high, rounds), side, bound)
    assert claim.verdict == verdict
    assert claim.verdict_text == ("too few rounds" if verdict == "too few" else verdict)
    assert str(claim).endswith(f"; {claim.verdict_text}")


@pytest.mark.parametrize(
    ("observation", "verdict"),
    [
        (SUPPORTED, "supported"),
        (CONTRADICTED, "contradicted"),
        (OPEN, "inconclusive"),
        (mixers(2, 0.5, 1, NOISY), "contradicted"),
        (mixers(2, 3, 4, rounds=MIN_SAMPLES - 1), "too few"),
        (mixers(2, 0.5, 4, rounds=1), "too few"),
    ],
)
def test_an_observation_is_supported_if_all_its_claims_are(observation: Observation, verdict: str) -> None:
    assert observation.verdict == verdict
    shown = [row[-1] for row in observation.table().rows]
    assert shown == [*(claim.verdict_text for claim in observation.claims), observation.verdict_text]
    assert "too few" not in shown and "inf" not in observation.to("table").split()


def test_an_observation_needs_a_number_of_the_paper_and_records() -> None:
    with pytest.raises(ValueError, match="observation 5"):
        Observation(5, SUPPORTED.records)
    with pytest.raises(ValueError, match="at least one record"):
        Observation(1, {})


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_an_observation_is_the_same_after_a_round_trip(
    number: int, tmp_path: Path, clock: Callable[..., Clock]
) -> None:
    clock(phone, noise=0.1)
    observation = observe(number, rounds=10, engines=ENGINES if number == 4 else None)
    path = tmp_path / "observation.json"
    observation.save(path)
    assert load_observation(path) == observation
    assert json.loads(path.read_text(encoding="utf-8")).items() >= json.loads(observation.to("json")).items()


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_stored_claims_and_findings_are_those_of_this_code(number: int) -> None:
    path = stored(f"observation_{number}.json")
    assert json.loads(path.read_text(encoding="utf-8")).items() >= json.loads(load_observation(path).to("json")).items()


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        "[]",
        "{}",
        '{"observation": {"number": 1, "macs": {}}, "measurements": {}}',
        '{"observation": {"number": 7, "macs": {}}, "measurements": {"a": {}}}',
        SUPPORTED.to("json").replace('"number": 2', '"number": 1'),  # its records do not fit its number
    ],
)
def test_a_file_without_an_observation_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="other.json"):
        load_observation(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("observation", "status", "supported"),
    [(SUPPORTED, "same trend", 3), (CONTRADICTED, "disagrees", 2), (OPEN, "inconclusive", 2)],
)
def test_the_report_shows_the_verdict(observation: Observation, status: str, supported: int, tmp_path: Path) -> None:
    observation.save(tmp_path / "observation_2.json")
    rows = answered(report_rows(), read_findings(tmp_path))
    row = next(row for row in rows if row.name == "§3: observation 2")
    assert (row.status, row.kind, row.command) == (status, "measured", "efficientformer-edu observe 2")
    assert row.result.startswith(f"{supported} of 3 ") and str(observation.claims[0]) in row.result
    assert row.why.startswith(observation.note)
    assert all(part in row.why for part in ("a laptop, 2 cores", "2 threads", "torch 2.13.0", "2026-11-21"))


@pytest.mark.parametrize("rounds", [1, 2, MIN_SAMPLES - 1])
def test_too_few_rounds_are_no_finding(rounds: int, tmp_path: Path) -> None:
    path = tmp_path / "observation_2.json"
    mixers(2, 3, 4, rounds=rounds).save(path)
    assert read_findings(tmp_path) == ()
    data = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)  # infinity is not valid JSON
    for claim in data["observation"]["claims"]:
        assert claim["verdict"] == "too few rounds"
        assert (claim["low"], claim["high"], claim["rounds"]) == (None, None, rounds)
    assert load_observation(path).verdict == "too few"


def test_formats() -> None:
    text, markdown = SUPPORTED.to("table"), SUPPORTED.to("markdown")
    assert "a stage\n\nsubject" in text and "**a stage**\n\n| subject" in markdown
    for shown in (text, markdown):
        for part in ("1000.000", "2 (2 to 2)", "above", "supported", SUPPORTED.note, "2 threads"):
            assert part in shown
    data = json.loads(SUPPORTED.to("json"))["observation"]
    assert [claim["text"] for claim in data["claims"]] == [claim.text for claim in SUPPORTED.claims]
    first = SUPPORTED.to("csv").splitlines()[1].rsplit(",", 6)
    assert [float(number) for number in first[1:4]] == pytest.approx([2, 2, 2])
    assert (first[4], float(first[5]), first[6]) == ("above", 1, "supported")
    with pytest.raises(ValueError, match="format='html'"):
        SUPPORTED.to("html")  # type: ignore[arg-type]


def test_tables_show_macs_if_they_are_known(clock: Callable[..., Clock]) -> None:
    clock(phone)
    observation = observe(1, rounds=2)
    for name, record in observation.records.items():
        for timing, row in zip(record.timings, observation.record_table(name).rows, strict=True):
            estimate = timing.estimate.scaled(1e3)
            assert row[:3] == (timing.name, observation.macs[name][timing.name], estimate)


def phone(name: str) -> float:
    """Seconds as the paper reports them: large kernels, reshapes and norms are expensive; attention is not."""
    patches = {"16×16/16 patches": 2.0, "7×7/4 patches": 2.0}
    mixers = {"attention on maps": 4.0, "reshapes alone": 3.0, "MLP on tokens": 2.0}
    return (patches | mixers | {"Conv-BN, folded": 0.5, "DeiT-S": 1.15, "HardSwish": 1.5}).get(name, 1.0)


def desktop(name: str) -> float:
    """Seconds of a machine that contradicts all of it."""
    patches = {"16×16/16 patches": 0.05, "7×7/4 patches": 0.05}
    mixers = {"attention on maps": 0.9, "reshapes alone": 0.1, "MLP on tokens": 0.5}
    return (patches | mixers | {"Conv-BN, folded": 2.0, "DeiT-S": 1.02, "HardSwish": 5.0}).get(name, 1.0)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_observations_can_be_supported_contradicted_and_inconclusive(number: int, clock: Callable[..., Clock]) -> None:
    clock(phone)
    observation = observe(number, rounds=8)
    assert observation.verdict == "supported" and {claim.verdict for claim in observation.claims} == {"supported"}
    assert observe(number, rounds=MIN_SAMPLES - 1).verdict == "too few"
    clock(desktop)
    other = observe(number, rounds=8)
    assert other.verdict == "contradicted"
    # The share of LN has two bounds, one of which is always met.
    assert sum(claim.verdict == "supported" for claim in other.claims) == (number == 3)
    assert [claim.text for claim in observation.claims] == [claim.text for claim in other.claims]
    clock(phone, noise=2.0)
    assert "inconclusive" in {claim.verdict for claim in observe(number, rounds=8).claims}


def test_mac_for_mac_is_a_weaker_claim(clock: Callable[..., Clock]) -> None:
    clock(lambda name: 0.7 if name.endswith("patches") else 1.0)
    claims = observe(1, rounds=5).claims
    assert [claim.verdict for claim in claims] == ["contradicted"] * 2 + ["supported"] * 2
    bounds = [1, 1, 57_802_752 / 406_425_600, 22_127_616 / 40_642_560]
    assert [claim.bound for claim in claims] == pytest.approx(bounds)


@pytest.mark.parametrize(("percent", "verdict"), [(5, "contradicted"), (15, "supported"), (25, "supported")])
def test_the_share_of_layer_norm_is_the_paper_s(percent: int, verdict: str, clock: Callable[..., Clock]) -> None:
    share = paper.observations()[2].share
    assert share is not None
    clock(lambda name: 100.0 if name == "DeiT-S" else 100.0 - percent)
    least, most = observe(3, rounds=5).claims[-2:]
    assert least.verdict == verdict
    assert most.verdict == ("contradicted" if percent > share.high else "supported")


def activations(
    inside: Mapping[str, tuple[float, float, float]],
    rounds: int = 10,
    alone: Mapping[str, tuple[float, ...]] | None = None,
    second: Mapping[str, tuple[float, ...]] | None = None,
) -> Observation:
    """Observation 4 from seconds of ReLU, GELU and HardSwish by engine, `second` in the second half of the rounds."""

    def record(first: tuple[float, ...], later: tuple[float, ...]) -> Measurement:
        middle = rounds // 2
        samples = [(x,) * middle + (y,) * (rounds - middle) for x, y in zip(first, later, strict=True)]
        return measured(**dict(zip(("ReLU", "GELU", "HardSwish"), samples, strict=False)))

    second, alone = second or {}, alone or {}
    records = {f"alone, {engine}": record(times, second.get(engine, times)) for engine, times in alone.items()}
    records |= {f"inside L1, {engine}": record(times, second.get(engine, times)) for engine, times in inside.items()}
    return Observation(4, records)


PHONE = (1.0, 1.02, 3.0)  # ReLU, GELU, HardSwish


def test_the_phone_s_factor_is_that_of_levit_and_context_only() -> None:
    assert phone_factor() == pytest.approx(44.5 / 11.9)
    observation = activations({"a": (1.0, 2.0, 3.0), "b": (1.0, 2.0, 3.0)})
    assert f"{phone_factor():.2f}" in observation.note and "Table 1" in observation.note
    assert {claim.bound for claim in (*observation.claims, *observation.context)} == {1.0, 1 + MARGIN}


@pytest.mark.parametrize(
    ("inside", "second", "verdict"),
    [
        ({"a": PHONE, "b": (1.0, 1.02, 1.0)}, None, "supported"),  # the effect has the opposite sign
        ({"a": PHONE, "b": (1.0, 1.02, 2.0)}, None, "supported"),  # the same sign and a different size
        ({"a": PHONE, "b": PHONE}, None, "contradicted"),
        ({"a": PHONE, "b": (2.0, 2.04, 6.0)}, None, "contradicted"),  # slower in all, with the same ratios
        ({"a": PHONE, "b": (1.0, 1.02, 3.1)}, None, "contradicted"),  # less than the difference between two sessions
        ({"a": PHONE}, None, "inconclusive"),  # a single engine cannot show it
        ({"a": PHONE, "b": (1.0, 1.02, 1.0)}, {"a": PHONE, "b": PHONE}, "contradicted"),  # chance in the first half
    ],
)
def test_the_time_of_activations_depends_on_the_engine(inside: Any, second: Any, verdict: str) -> None:
    observation = activations(inside, second=second)
    assert observation.verdict == verdict
    assert len(observation.claims) == (len(inside) > 1)


def test_the_largest_change_between_engines_is_tested() -> None:
    (claim,) = activations({"a": (1.0, 1.2, 1.2), "b": (1.0, 1.0, 1.0), "c": (1.0, 2.0, 1.5)}).claims
    assert claim.text == "inside L1, GELU instead of ReLU costs more in c than in b"
    assert (claim.ratio.value, claim.side, claim.bound) == (2.0, "above", 1 + MARGIN)


def test_every_engine_is_compared_with_the_order_of_the_phone() -> None:
    observation = activations({"a": PHONE, "b": (1.0, 2.0, 1.5), "c": (2.0, 2.0, 1.0)})
    # HardSwish against GELU, HardSwish against ReLU, GELU against ReLU, in every engine
    assert [claim.verdict for claim in observation.context] == [
        *("supported", "supported", "supported"),
        *("contradicted", "supported", "supported"),
        *("contradicted", "contradicted", "inconclusive"),
    ]
    ratios = [claim.ratio.value for claim in observation.context]
    assert ratios == pytest.approx([3 / 1.02, 3, 1.02, 0.75, 1.5, 2, 0.5, 0.5, 1])
    assert [claim.text[: len("L1 in a")] for claim in observation.context] == [f"L1 in {name}" for name in "aaabbbccc"]
    assert observation.verdict == "supported"  # the phone's order is context
    assert "5 of 9" in observation.summary


@pytest.mark.parametrize(("rounds", "verdict"), [(10, "supported"), (9, "supported"), (8, "too few"), (1, "too few")])
def test_the_half_of_the_rounds_that_decides_needs_five(rounds: int, verdict: str) -> None:
    exchanged = {"a": (1.0, 2.0, 3.0), "b": (3.0, 2.0, 1.0)}
    observation = activations(exchanged, rounds, alone=exchanged)
    assert {claim.ratio.samples for claim in observation.claims} == {rounds - rounds // 2}
    assert len(observation.claims) == 3 and {claim.verdict for claim in observation.claims} == {verdict}
    assert observation.verdict == verdict
    assert bool(observation.findings) == (verdict == "supported")


def test_the_order_changes_between_engines() -> None:
    alone = {"a": (1.0, 2.0, 3.0), "b": (1.0, 1.9, 3.0), "c": (1.0, 4.0, 2.0)}
    here, there = activations({"a": PHONE}, alone=alone).claims
    assert {here.text, there.text} == {
        "alone in b, GELU is faster than HardSwish",
        "alone in c, GELU is slower than HardSwish",
    }
    assert (here.ratio.value, there.ratio.value) == pytest.approx((1.9 / 3, 2.0))
    assert here.verdict == there.verdict == "supported"
    same_order = {"a": (1.0, 2.0, 3.0), "b": (1.5, 4.0, 5.0)}
    assert activations({"a": PHONE}, alone=same_order).claims == ()


def test_a_change_of_order_that_was_chance_is_contradicted() -> None:
    alone, second = {"a": (1.0, 2.0), "b": (2.0, 1.0)}, {"a": (1.0, 2.0), "b": (1.0, 2.0)}  # ReLU and GELU
    verdicts = [claim.verdict for claim in activations({}, alone=alone, second=second).claims]
    assert verdicts == ["supported", "contradicted"]  # in the second half ReLU is faster in both


def test_engines_run_networks_and_single_activations(
    clock: Callable[..., Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def prepare(name: str, network: Any, images: torch.Tensor, num_threads: int | None) -> Callable[[], torch.Tensor]:
        assert not torch.is_inference_mode_enabled()  # which no exporter expects
        calls.append((name, type(network).__name__, num_threads))
        return lambda: images

    monkeypatch.setattr(observations, "prepare", prepare)
    clock(phone)
    observation = observe(4, rounds=2, num_threads=1, engines=("eager", "onnxruntime", "onnxruntime-folded", "eager"))
    assert list(observation.records) == [
        *("alone, eager", "alone, onnxruntime"),
        *("inside L1, eager", "inside L1, onnxruntime", "inside L1, onnxruntime-folded"),
    ]
    networks = [calls.count((engine, "EfficientFormer", 1)) for engine in ("onnxruntime", "onnxruntime-folded")]
    assert networks == [5, 5] and len(calls) == 15 and ("onnxruntime", "GELU", 1) in calls
    assert observation.records["alone, eager"].conditions.command == (
        "efficientformer-edu observe 4 --rounds 2 --threads 1 --engine eager,onnxruntime,onnxruntime-folded"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"number": 5}, "observation 5"),
        ({"number": 1, "engines": ["onnxruntime"]}, "engines are for observation 4"),
        ({"number": 4, "engines": ["eager", "onyx"]}, "engine 'onyx'.*eager, folded"),
        ({"number": 1, "device": "tpu"}, "device='tpu'"),
        ({"number": 4, "device": "xpu:0"}, "device='xpu:0'"),
    ],
)
def test_impossible_arguments_are_errors_before_anything_is_timed(
    arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observations, "measure", lambda *_, **__: pytest.fail("it was timed"))
    with pytest.raises(ValueError, match=message):
        observe(**arguments)


def test_options_of_the_timer(clock: Callable[..., Clock]) -> None:
    timer = clock(phone)
    observation = observe(1, rounds=2, num_threads=1, progress=True)
    assert timer.options == {"num_threads": 1, "progress": True, "device": "cpu", "inference": True}
    for record in observation.records.values():
        assert record.conditions.command == "efficientformer-edu observe 1 --rounds 2 --threads 1"
        assert record.conditions.resolution == (224, 224)
        assert {len(timing.seconds) for timing in record.timings} == {2}
    assert observe(2, rounds=2).records["448 channels, 7×7"].conditions.resolution == (0, 0)


@pytest.mark.filterwarnings("ignore:the machine is busy")
def test_observe_runs_the_workloads(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    network = torch.nn.ReLU()
    network.register_forward_hook(lambda *_: ran.append("it ran"))
    workload = workloads.Workload(network, torch.zeros(1))
    monkeypatch.setattr(observations, "_groups", lambda *_: [("a record", {"ReLU": workload}, (0, 0), "eager")])
    record = observe(3, rounds=2, num_threads=1).records["a record"]
    assert ran and record["ReLU"].milliseconds > 0 and record.conditions.threads == 1
