"""The commands `observe`, `bench` and `export`: files, output and errors. Nothing is timed here."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import refused, run
from strategies import SMALL
from torch import nn

from efficientformer_edu import latency
from efficientformer_edu.latency import Conditions, Measurement, Timing, engines, load, observations, peers
from efficientformer_edu.latency.observations import Observation, load_observation
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.paper.report.slimming import read_findings
from efficientformer_edu.weights import save

MIXERS = {"attention on maps": 2.0, "attention on tokens": 1.0, "reshapes alone": 3.0, "MLP on tokens": 4.0}
MEASURED = Measurement(
    Conditions("efficientformer-edu observe 2", machine="a laptop", threads=1),
    tuple(Timing(name, (seconds,) * 5) for name, seconds in MIXERS.items()),
)
OBSERVATION = Observation(2, {"a stage": MEASURED})


@pytest.fixture
def yaml(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.to_yaml(), encoding="utf-8")
    return str(path)


@pytest.fixture(autouse=True)
def synthetic(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """A timer that calls each function once and reports 10, 20, 30 ... ms; yields the arguments it received."""
    received: dict[str, object] = {}

    def measure(
        functions: Mapping[str, Callable[[], object]], conditions: Conditions, *, rounds: int, **options: object
    ) -> Measurement:
        received.update(options, rounds=rounds)
        for function in functions.values():
            assert isinstance(function(), torch.Tensor)
        timings = [Timing(name, (0.01 * position,) * rounds, 2.0) for position, name in enumerate(functions, 1)]
        return Measurement(conditions.complete(machine="a clock", threads=1, date="2026-01-01"), tuple(timings))

    monkeypatch.setattr(latency, "measure", measure)
    yield received


class OtherNetwork(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[2] != images.shape[3]:
            raise AssertionError("square images only")
        return images.mean((2, 3))


@pytest.fixture
def observe_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments of each call of `observe`; the result is always `OBSERVATION`."""
    calls: list[tuple[Any, ...]] = []

    def observe(*arguments: Any, **options: Any) -> Observation:
        calls.append((*arguments, options))
        for _ in range(2):
            warnings.warn("the machine is busy", stacklevel=1)
        return OBSERVATION

    monkeypatch.setattr(observations, "observe", observe)
    return calls


def test_observe_prints_times_claims_and_the_verdict(observe_calls: list[tuple[Any, ...]]) -> None:
    out, err = run("observe", "1")
    assert out == OBSERVATION.to("table")
    assert out.count("supported") == 4  # three claims and the observation
    assert err == "Warning: the machine is busy\n"
    assert observe_calls == [(1, 30, None, {"progress": True, "engines": None, "device": "cpu"})]


def test_observe_takes_options(
    observe_calls: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "observation_1.json"
    options = ("--rounds", "2", "--threads", "1", "--engine", "eager, onnxruntime", "--device", "cuda", "--out", out)
    assert run("observe", "4", *options, "--format", "markdown")[0] == OBSERVATION.to("markdown")
    assert observe_calls == [(4, 2, 1, {"progress": True, "engines": ["eager", "onnxruntime"], "device": "cuda"})]
    assert load_observation(out) == OBSERVATION
    monkeypatch.setattr(engines, "available", lambda: ["eager", "compile"])
    assert json.loads(run("observe", "4", "--engine", "all", "--format", "json")[0]) == json.loads(
        OBSERVATION.to("json")
    )
    assert observe_calls[-1][-1]["engines"] == ["eager", "compile"]


@pytest.mark.parametrize("number", ["1", "2", "3", pytest.param("4", marks=pytest.mark.slow)])
def test_observe_with_a_single_round_gives_no_verdict(
    number: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def once(functions: Any, conditions: Conditions, *, rounds: int, **_: Any) -> Measurement:
        return Measurement(conditions, tuple(Timing(name, (0.01,) * rounds) for name in functions))

    monkeypatch.setattr(observations, "measure", once)
    out = tmp_path / f"observation_{number}.json"
    engine = ("--engine", "eager,folded") if number == "4" else ()
    for format in ("table", "json"):
        shown = run("observe", number, "--rounds", "1", "--out", out, "--format", format, *engine)[0]
        assert "too few rounds" in shown and "supported" not in shown and "inf" not in shown.lower().split()
    assert read_findings(tmp_path) == ()
    assert {claim.verdict for claim in load_observation(out).claims} == {"too few"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("1", "--out", "nowhere/file.json"), "the folder does not exist"),
        (("1", "--engine", "onnxruntime"), "engines are for observation 4"),
        (("1", "--device", "mps"), "device='mps'"),
        (("1", "--device", "xpu"), "device='xpu'"),
        (("1", "--device", "cuda:99"), "device='cuda:99'"),
        (("4", "--engine", "openvino"), "pip install 'efficientformer-edu[engines]'"),
    ],
)
def test_observe_errors(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(observations, "measure", lambda *_, **__: pytest.fail("it was timed"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(engines, "is_installed", lambda _: False)
    assert message in refused(capsys, "observe", *arguments)


def test_observe_help_imports_no_torch() -> None:
    code = (
        "import sys\nfrom efficientformer_edu.cli import main\n"
        "try:\n    main(['observe', '--help'])\nexcept SystemExit as end:\n    print(end.code, *sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    modules = result.stdout.splitlines()[-1].split()
    assert modules[0] == "0" and not {"torch", "numpy"} & set(modules)


def test_bench_prints_times_and_ratios_to_eager(yaml: str, synthetic: dict[str, object]) -> None:
    out, err = run("bench", yaml, "--resolution", "64x96", "--batch", "2", "--rounds", "2", "--threads", "1")
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["subject", "ms"] and f"times {yaml} eager" in lines[0]
    assert [line.split()[1:3] for line in lines[2:4]] == [["eager", "10.000"], ["folded", "20.000"]]
    assert lines[3].split()[6] == "2"  # twice as long as eager
    assert re.fullmatch(r"Largest difference from eager: \d\.\de-\d\d of the largest logit\.", lines[-3])
    assert lines[-1].startswith("a clock; 1 thread; batch 2")
    assert err == ""
    assert synthetic == {"rounds": 2, "num_threads": 1, "device": "cpu", "progress": True}


def test_bench_keeps_every_sample(yaml: str, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    arguments = ("bench", yaml, "--engine", "channels-last", "--resolution", "64", "--rounds", "3")
    out, _ = run(*arguments, "--format", "json", "--out", str(path))
    kept = load(path)["bench"]
    assert [timing.name for timing in kept.timings] == [f"{yaml} eager", f"{yaml} channels-last"]
    assert (
        kept.conditions.command == f"efficientformer-edu bench {yaml} --engine channels-last --resolution 64 --rounds 3"
    )
    assert (kept.conditions.resolution, kept.conditions.batch) == ((64, 64), 1)
    assert json.loads(path.read_text(encoding="utf-8")).items() >= json.loads(out).items()
    assert json.loads(out)["differences"][f"{yaml} eager"] == 0


def test_bench_for_programs_holds_numbers_as_they_are(yaml: str) -> None:
    out, _ = run("bench", yaml, "--resolution", "64", "--rounds", "5", "--format", "csv")
    eager, folded = csv.DictReader(io.StringIO(out))
    assert (float(eager["ratio"]), float(folded["ratio low"]), float(folded["ms"])) == (1, 2, 20)
    assert 0 < float(folded["difference"]) < engines.TOLERANCE


@pytest.mark.parametrize("rounds", ["1", "4"])
def test_bench_with_too_few_rounds_has_no_intervals(yaml: str, rounds: str, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(SMALL.replace(depths=(1, 1, 1, 1)).to_yaml(), encoding="utf-8")
    arguments = ("bench", yaml, "--resolution", "64", "--rounds", rounds, "--against", str(other))
    for format in ("table", "markdown"):
        lines = run(*arguments, "--format", format)[0].splitlines()
        compared = [line for line in lines if " eager " in line and "subject" not in line]
        assert compared and all("too few" in line for line in compared)
        assert any("ratio of times" in line for line in compared)
    for row in csv.DictReader(io.StringIO(run(*arguments, "--format", "csv")[0])):
        assert float(row["ms"]) > 0 and float(row["ratio"]) > 0
        assert {row[column] for column in ("ms low", "ms high", "ratio low", "ratio high")} == {""}


def test_bench_against_another_network(yaml: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []
    monkeypatch.setattr(peers, "peer", lambda name: requests.append(name) or OtherNetwork())
    out, err = run("bench", yaml, "--resolution", "64", "--against", "timm:other", "--engine", "folded,channels-last")
    assert requests == ["other"]
    # eager 10 and 20 ms, folded 30 and 40, channels-last 50 and 60
    ratios = "eager 0.5 (0.5 to 0.5); folded 0.75 (0.75 to 0.75); channels-last 0.833 (0.833 to 0.833)."
    assert f"timm:other in the same engine, ratio of times: {ratios}" in out
    assert err == ""


def test_bench_against_an_own_network(yaml: str, tmp_path: Path) -> None:
    other, kept = tmp_path / "other.yaml", tmp_path / "bench.json"
    other.write_text(SMALL.replace(depths=(1, 1, 1, 1)).to_yaml(), encoding="utf-8")
    options = ("--resolution", "64", "--rounds", "5", "--against", str(other), "--against", str(other))
    out, err = run("bench", yaml, *options, "--out", str(kept))
    record = load(kept)["bench"]
    names = [f"{name} {engine}" for engine in ("eager", "folded") for name in (yaml, other)]
    assert [timing.name for timing in record.timings] == names  # named twice, but timed once
    assert record.conditions.command.endswith(f"--resolution 64 --rounds 5 --against {other}")
    assert f"{other} in the same engine, ratio of times: eager 0.5 (0.5 to 0.5); folded 0.75 (0.75 to 0.75)." in out
    assert err == ""


@pytest.mark.slow
@pytest.mark.skipif("onnxruntime-folded" not in engines.available(), reason="ONNX Runtime is not installed")
def test_bench_of_an_own_engine_skips_external_networks(
    yaml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "peer", lambda _: OtherNetwork())
    kept = tmp_path / "bench.json"
    _, err = run(
        "bench", yaml, "--resolution", "64", "--against", "timm:other", "--engine", "onnxruntime-folded",
        "--out", str(kept),
    )  # fmt: skip
    assert err.startswith("Warning: left out: timm:other onnxruntime-folded") and err.count("\n") == 1
    names = [timing.name for timing in load(kept)["bench"].timings]
    assert names == [f"{yaml} eager", "timm:other eager", f"{yaml} onnxruntime-folded"]


def test_bench_of_all_skips_missing_and_failing_engines(yaml: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(engines.Engine):
        def build(self, *_: object) -> engines.Run:
            raise ValueError("it fails")

    monkeypatch.setattr(engines, "is_installed", lambda _: False)
    monkeypatch.setattr(engines, "has_compiler", lambda: True)
    monkeypatch.setattr(engines, "ENGINES", {**engines.ENGINES, "compile": Broken()})
    out, err = run("bench", yaml, "--resolution", "64", "--engine", "all", "--format", "csv")
    assert [row["subject"].split()[1] for row in csv.DictReader(io.StringIO(out))] == [
        "eager",
        "folded",
        "channels-last",
    ]
    assert "compile: it fails" in err
    missing = [line for line in err.splitlines() if "pip install 'efficientformer-edu[engines]'" in line]
    assert [line.split()[3] for line in missing] == [
        "onnxruntime",
        "onnxruntime-folded",
        "openvino",
        "openvino-folded",
    ]


def test_bench_errors(
    capsys: pytest.CaptureFixture[str], yaml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ("bench", yaml, "--resolution", "64x96")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert "'tensorrt' is unknown; allowed: eager," in refused(capsys, *small, "--engine", "eager,tensorrt")
    assert "mobilenetv2_140" in refused(capsys, *small, "--against", "mobilenetv2_140")
    for same in (yaml, "timm:"):
        assert refused(capsys, *small, "--against", same).startswith("--against")
    grey = tmp_path / "grey.yaml"
    grey.write_text(SMALL.replace(in_channels=1).to_yaml(), encoding="utf-8")
    line = refused(capsys, *small, "--against", str(grey))
    assert line == f"{yaml} takes images with 3 channels, but {grey} with 1"
    line = refused(capsys, "bench", str(grey), "--resolution", "64x96", "--against", "timm:other")
    assert line == f"{grey} takes images with 1 channels, but timm:other with 3"
    assert "the folder does not exist" in refused(capsys, *small, "--out", str(tmp_path / "nowhere" / "x.json"))
    for device in ("xpu", "mps", "cuda:99"):
        assert f"device='{device}'" in refused(capsys, *small, "--device", device)
    assert "threads=1000 is not possible" in refused(capsys, *small, "--threads", "1000")
    monkeypatch.setattr(peers, "peer", lambda _: OtherNetwork())
    line = refused(capsys, *small, "--against", "timm:other")
    assert line == "timm:other cannot run on such images in eager: square images only"
    monkeypatch.setattr(engines, "is_installed", lambda _: False)
    line = refused(capsys, *small, "--engine", "openvino")
    assert line == "openvino needs onnx and onnxscript and openvino: pip install 'efficientformer-edu[engines]'"

    def missing(_: str) -> nn.Module:
        raise ImportError("timm is missing")

    monkeypatch.setattr(peers, "peer", missing)
    assert refused(capsys, *small, "--against", "timm:other") == "timm is missing"


@pytest.mark.parametrize("format", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_export_prints_its_files_and_the_difference_from_torch(yaml: str, tmp_path: Path, format: str) -> None:
    torch.manual_seed(1)
    weights, network = tmp_path / "small.safetensors", EfficientFormer(SMALL)
    save(network, weights)
    out = tmp_path / ("small.onnx" if format == "onnx" else "small.xml")
    printed, err = run(
        "export", yaml, "--format", format, "--out", str(out), "--folded", "--resolution", "64x96",
        "--weights", str(weights),
    )  # fmt: skip
    wrote, compared = printed.splitlines()
    files = [out] if format == "onnx" else [out, out.with_suffix(".bin")]
    size = sum(file.stat().st_size for file in files) / 1e6
    assert wrote == f"{' and '.join(map(str, files))}: folded form, 64×96, {size:.1f} MB"
    runtime = {"onnx": "onnxruntime", "openvino": "openvino"}[format]
    assert (match := re.fullmatch(rf"largest difference from torch in {runtime}: (\S+) of the largest logit", compared))
    assert float(match[1]) < engines.TOLERANCE
    assert err == ""
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = network.eval()(images)
        logits = (engines.run_onnx if format == "onnx" else engines.run_openvino)(out, images, 1)()
    torch.testing.assert_close(logits, expected, rtol=0, atol=engines.TOLERANCE * float(expected.abs().max()))


@pytest.mark.slow
def test_export_without_a_runtime_or_weights_warns(yaml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    out, err = run("export", yaml, "--out", str(tmp_path / "small.onnx"), "--resolution", "32")
    assert out.splitlines()[1] == (
        "not compared with torch: onnxruntime is missing: pip install 'efficientformer-edu[engines]'"
    )
    assert err == "Warning: the weights are random; load trained ones with --weights FILE.\n"


def test_export_errors(
    capsys: pytest.CaptureFixture[str], yaml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "ends in .xml" in refused(capsys, "export", yaml, "--format", "openvino", "--out", "small.onnx")
    nowhere = str(tmp_path / "nowhere" / "small.onnx")
    assert "the folder does not exist" in refused(capsys, "export", yaml, "--out", nowhere)
    path = str(tmp_path / "small.onnx")
    assert "32 pixels" in refused(capsys, "export", yaml, "--resolution", "16", "--out", path)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    line = refused(capsys, "export", yaml, "--out", path)
    assert line == "onnxscript is missing: pip install 'efficientformer-edu[engines]'"
    assert not Path(path).exists()
