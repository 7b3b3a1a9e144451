"""The commands `export` and `bench`: files, output and errors."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from commands import run
from strategies import SMALL
from torch import nn

from efficientformer_edu import latency
from efficientformer_edu.cli import main
from efficientformer_edu.latency import Conditions, Measurement, Timing, engines, load, peers
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.weights import save

pytestmark = pytest.mark.slow


@pytest.fixture
def yaml(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.to_yaml(), encoding="utf-8")
    return str(path)


@pytest.fixture(autouse=True)
def synthetic(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """A timer that calls each subject once and reports 10, 20, 30 ... ms; yields the arguments it received."""
    received: dict[str, object] = {}

    def measure(
        subjects: Mapping[str, Callable[[], object]], conditions: Conditions, *, rounds: int, **options: object
    ) -> Measurement:
        received.update(options, rounds=rounds)
        for subject in subjects.values():
            assert isinstance(subject(), torch.Tensor)
        timings = [Timing(name, (0.01 * position,) * rounds, 2.0) for position, name in enumerate(subjects, 1)]
        return Measurement(conditions.complete(machine="a clock", threads=1, date="2026-01-01"), tuple(timings))

    monkeypatch.setattr(latency, "measure", measure)
    yield received


class Rival(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[2] != images.shape[3]:
            raise AssertionError("square images only")
        return images.mean((2, 3))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line.removeprefix("efficientformer-edu: ")


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
    assert json.loads(out) == json.loads(path.read_text(encoding="utf-8"))
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
        assert compared and all("too few rounds" in line for line in compared)
        assert any("ratio of times" in line for line in compared)
    for row in csv.DictReader(io.StringIO(run(*arguments, "--format", "csv")[0])):
        assert float(row["ms"]) > 0 and float(row["ratio"]) > 0
        assert {row[column] for column in ("ms low", "ms high", "ratio low", "ratio high")} == {""}


def test_bench_against_another_network(yaml: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []
    monkeypatch.setattr(peers, "peer", lambda name: requests.append(name) or Rival())
    out, err = run("bench", yaml, "--resolution", "64", "--against", "timm:rival", "--engine", "folded,channels-last")
    assert requests == ["rival"]
    # eager 10 and 20 ms, folded 30 and 40, channels-last 50 and 60
    ratios = "eager 0.5 (0.5 to 0.5); folded 0.75 (0.75 to 0.75); channels-last 0.833 (0.833 to 0.833)."
    assert f"timm:rival in the same engine, ratio of times: {ratios}" in out
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


@pytest.mark.skipif("onnxruntime-folded" not in engines.available(), reason="ONNX Runtime is not installed")
def test_bench_of_an_own_engine_skips_external_networks(
    yaml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "peer", lambda _: Rival())
    kept = tmp_path / "bench.json"
    _, err = run(
        "bench", yaml, "--resolution", "64", "--against", "timm:rival", "--engine", "onnxruntime-folded",
        "--out", str(kept),
    )  # fmt: skip
    assert err == "Warning: onnxruntime-folded runs ours alone: not timm:rival\n"
    names = [timing.name for timing in load(kept)["bench"].timings]
    assert names == [f"{yaml} eager", "timm:rival eager", f"{yaml} onnxruntime-folded"]


def test_bench_of_all_skips_missing_and_failing_engines(yaml: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> engines.Run:
        raise ValueError("it fails")

    monkeypatch.setattr(engines, "_installed", lambda _: False)
    monkeypatch.setattr(engines, "_compiler", lambda: True)
    broken = engines.Engine("", fails)
    monkeypatch.setattr(engines, "ENGINES", {**engines.ENGINES, "compile": broken})
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
    assert "'tensorrt' is unknown; there are eager," in refused(capsys, *small, "--engine", "eager,tensorrt")
    assert "mobilenetv2_140" in refused(capsys, *small, "--against", "mobilenetv2_140")
    for same in (yaml, "timm:"):
        assert refused(capsys, *small, "--against", same).startswith("--against takes another network")
    grey = tmp_path / "grey.yaml"
    grey.write_text(SMALL.replace(in_channels=1).to_yaml(), encoding="utf-8")
    line = refused(capsys, *small, "--against", str(grey))
    assert line == f"{yaml} takes images of 3 channels, {grey} of 1: leave it out"
    line = refused(capsys, "bench", str(grey), "--resolution", "64x96", "--against", "timm:rival")
    assert line == f"{grey} takes images of 1 channels, timm:rival of 3: leave it out"
    assert "the folder does not exist" in refused(capsys, *small, "--out", str(tmp_path / "nowhere" / "x.json"))
    for device in ("xpu", "mps", "cuda:99"):
        assert f"device='{device}'" in refused(capsys, *small, "--device", device)
    assert "threads=1000 is not possible" in refused(capsys, *small, "--threads", "1000")
    monkeypatch.setattr(peers, "peer", lambda _: Rival())
    line = refused(capsys, *small, "--against", "timm:rival")
    assert line == "timm:rival cannot run on such images in eager: square images only"
    monkeypatch.setattr(engines, "_installed", lambda _: False)
    line = refused(capsys, *small, "--engine", "openvino")
    assert line == "openvino needs onnx and onnxscript and openvino: pip install 'efficientformer-edu[engines]'"

    def missing(_: str) -> nn.Module:
        raise ImportError("timm is missing")

    monkeypatch.setattr(peers, "peer", missing)
    assert refused(capsys, *small, "--against", "timm:rival") == "timm is missing"


@pytest.mark.parametrize("format", ["onnx", "openvino"])
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
