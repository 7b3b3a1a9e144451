"""The command `observe`: output, files and errors. Nothing is timed here."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from efficientformer_edu.cli import app, main
from efficientformer_edu.latency import Conditions, Measurement, Timing, engines, observations, timer
from efficientformer_edu.latency.observations import Observation, load_observation
from efficientformer_edu.paper.report.slimming import read_findings

SECONDS = {"attention on maps": 2.0, "attention on tokens": 1.0, "reshapes alone": 3.0, "MLP on tokens": 4.0}


def observed(rounds: int = 5) -> Observation:
    conditions = Conditions("efficientformer-edu observe 2", machine="a laptop", threads=1)
    timings = tuple(Timing(name, (seconds,) * rounds) for name, seconds in SECONDS.items())
    return Observation(2, {"a stage": Measurement(conditions, timings)})


FOUND = observed()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments of each call of the observation; the result is always `FOUND`."""
    calls: list[tuple[Any, ...]] = []

    def observe(*arguments: Any, **options: Any) -> Observation:
        calls.append((*arguments, options))
        for _ in range(2):
            warnings.warn("the machine is busy", stacklevel=1)
        return FOUND

    monkeypatch.setattr(observations, "observe", observe)
    return calls


def run(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(app, ["observe", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result


def test_it_prints_times_claims_and_the_verdict(asked: list[tuple[Any, ...]]) -> None:
    result = run("1")
    assert result.stdout == FOUND.to("table")
    assert result.stdout.count("supported") == 4  # three claims and the observation
    assert result.stderr == "Warning: the machine is busy\n"
    assert asked == [(1, 30, None, {"progress": True, "engines": None, "device": "cpu"})]


def test_options_are_passed_on(asked: list[tuple[Any, ...]]) -> None:
    run("4", "--rounds", "2", "--threads", "1", "--engine", "eager, onnxruntime", "--device", "cuda")
    assert asked == [(4, 2, 1, {"progress": True, "engines": ["eager", "onnxruntime"], "device": "cuda"})]


def test_all_engines_are_those_that_are_installed(asked: list[tuple[Any, ...]], monkeypatch: Any) -> None:
    monkeypatch.setattr(engines, "available", lambda: ["eager", "compile"])
    run("4", "--engine", "all")
    assert asked[0][-1]["engines"] == ["eager", "compile"]


def test_formats(asked: list[tuple[Any, ...]]) -> None:
    assert run("1", "--format", "markdown").stdout == FOUND.to("markdown")
    assert json.loads(run("1", "--format", "json").stdout) == json.loads(FOUND.to_json())


def test_results_are_saved(asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    out = tmp_path / "observation_1.json"
    assert run("1", "--out", out).stdout == FOUND.to("table")
    assert load_observation(out) == FOUND


@pytest.mark.parametrize("number", ["1", "2", "3", "4"])
def test_a_single_round_gives_no_verdict(number: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def once(subjects: Any, conditions: Conditions, *, rounds: int, **_: Any) -> Measurement:
        return Measurement(conditions, tuple(Timing(name, (0.01,) * rounds) for name in subjects))

    monkeypatch.setattr(observations, "measure", once)
    out = tmp_path / f"observation_{number}.json"
    engine = ("--engine", "eager,folded") if number == "4" else ()
    for format in ("table", "markdown", "json"):
        shown = run(number, "--rounds", "1", "--out", out, "--format", format, *engine).stdout
        assert "too few rounds" in shown and "supported" not in shown and "inf" not in shown.lower().split()
    assert read_findings(tmp_path) == ()
    assert {claim.verdict for claim in load_observation(out).claims} == {"too few"}


def test_an_unsupported_device_is_a_single_line_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(observations, "measure", lambda *_, **__: pytest.fail("it was timed"))
    monkeypatch.setattr(timer.torch.backends.mps, "is_available", lambda: False)
    for device in ("mps", "xpu", "cuda:99"):
        with pytest.raises(SystemExit) as ended:
            main(["observe", "1", "--device", device])
        (line,) = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2 and f"device='{device}'" in line


def test_a_missing_folder_is_reported_before_timing(
    asked: list[tuple[Any, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["observe", "1", "--out", str(tmp_path / "nowhere" / "file.json")])
    assert ended.value.code == 2 and asked == []
    assert "the folder does not exist" in capsys.readouterr().err


def test_engines_are_for_the_fourth(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["observe", "1", "--engine", "onnxruntime"])
    assert ended.value.code == 2
    assert "engines are for observation 4" in capsys.readouterr().err


def test_a_missing_library_is_a_single_line_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def observe(*_: Any, **__: Any) -> Observation:
        raise ImportError("openvino is missing: pip install openvino")

    monkeypatch.setattr(observations, "observe", observe)
    with pytest.raises(SystemExit) as ended:
        main(["observe", "4", "--engine", "openvino"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "efficientformer-edu: openvino is missing: pip install openvino\n"


@pytest.mark.parametrize("number", ["0", "5"])
def test_there_are_four(number: str) -> None:
    assert CliRunner().invoke(app, ["observe", number]).exit_code == 2


def test_help_loads_no_torch() -> None:
    code = (
        "import sys\nfrom efficientformer_edu.cli import main\n"
        "try:\n    main(['observe', '--help'])\nexcept SystemExit as end:\n    print(end.code, *sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    modules = result.stdout.splitlines()[-1].split()
    assert modules[0] == "0" and not {"torch", "numpy"} & set(modules)
