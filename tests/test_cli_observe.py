"""The command `observe`: what it prints and keeps, and how it refuses. Nothing is timed here."""

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
from efficientformer_edu.latency import Conditions, Interval, Measurement, Timing, engines, observations
from efficientformer_edu.latency.observations import Claim, Observation, load_observation

MEASURED = Measurement(
    Conditions("efficientformer-edu observe 1", machine="a laptop", threads=1), (Timing("a", (1.0,)),)
)
FOUND = Observation(
    1, (Claim("a takes longer", Interval(2.0, 1.9, 2.1), "above"),), {"a place": MEASURED}, why="Because."
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the command asks for; what it is given is `FOUND`."""
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
    assert result.stdout.count("holds here") == 2
    assert result.stderr == "Take care: the machine is busy\n"
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


def test_it_keeps_what_it_found(asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    out = tmp_path / "observation_1.json"
    assert run("1", "--out", out).stdout == FOUND.to("table")
    assert load_observation(out) == FOUND


def test_a_folder_that_does_not_exist_is_said_before_anything_is_timed(
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


def test_a_library_that_is_missing_is_said_in_one_line(
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
    words = result.stdout.splitlines()[-1].split()
    assert words[0] == "0" and not {"torch", "numpy"} & set(words)
