"""The command `ablate`: output, files, resuming and errors. The runs are tiny."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from ablation_records import COSTS, stored
from ablation_runs import QUICK
from typer.testing import CliRunner

from efficientformer_edu.ablations import costs
from efficientformer_edu.ablations import study as protocol
from efficientformer_edu.ablations.costs import Costs
from efficientformer_edu.ablations.variants import VARIANTS, variant_table
from efficientformer_edu.cli.ablations import ablate
from efficientformer_edu.data.datasets import FASHION_MNIST_SMALL, load_data
from efficientformer_edu.training import study
from efficientformer_edu.training.study import Record, load_records

pytestmark = pytest.mark.slow

app = typer.Typer()
app.command()(ablate)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, a tiny protocol in one process, and a machine that appears to have the full data set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(protocol, "load_data", lambda name, split, **_: load_data(FASHION_MNIST_SMALL, split))
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr(protocol, "PROTOCOLS", {"laptop": QUICK})
    monkeypatch.setattr(study, "cores", lambda: 1)
    yield tmp_path


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The rows that were timed, one list per timing."""
    calls: list[list[str]] = []

    def measure(variants: Any, *, progress: bool) -> Costs:
        calls.append(list(variants))
        return Costs(COSTS.measurement, dict.fromkeys(variants, 12), dict.fromkeys(variants, 34))

    monkeypatch.setattr(costs, "measure_costs", measure)
    return calls


def run(*arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout, result.stderr


def test_it_trains_times_and_reports(here: Path, timed: list[list[str]]) -> None:
    out, err = run("--rows", "relu,no-norm", "--seeds", "2")
    lines = out.splitlines()
    assert err.splitlines()[:2] == ["3 rows, 2 seeds; laptop: tests", "6 runs to train"]
    assert lines[0].startswith("1 of 6: base, seed 0, top-1 ") and lines[0].endswith(" min left")
    assert [line.split(",")[0] for line in lines[:6]] == [
        f"{number} of 6: {name}" for number, name in enumerate(("base",) * 2 + ("no-norm",) * 2 + ("relu",) * 2, 1)
    ]
    assert "0 min left" in lines[5]
    assert timed == [["base", "no-norm", "relu"]]
    (row,) = (line for line in lines[6:] if line.startswith("relu"))
    assert "too few" in row and "12" in row and "0.889" in row  # two seeds are too few for a verdict
    assert "Not run: patches; efficientformer-edu ablate --rows patches --resume" in lines
    assert "runs/ablations;" in lines[-1] and lines[-1].endswith("runs/ablations.json")
    assert len(load_records(here / "runs/ablations")) == 6
    assert load_records(here / "runs/ablations.json") == load_records(here / "runs/ablations")
    assert json.loads((here / "runs/ablations.json").read_text(encoding="utf-8"))["findings"] == []


def test_it_resumes(here: Path, timed: list[list[str]]) -> None:
    run("--rows", "relu", "--seeds", "1")
    with pytest.raises(FileExistsError, match="add --resume"):
        run("--rows", "relu", "--seeds", "1")
    out, err = run("--rows", "relu", "--seeds", "1", "--resume")
    assert err.splitlines()[1] == "0 runs to train" and " of " not in out.splitlines()[0]
    assert timed == [["base", "relu"]]  # rows that have been timed are not timed again
    out, _ = run("--rows", "no-bias", "--seeds", "1", "--resume")
    assert out.startswith("1 of 1: no-bias, seed 0, top-1 ")
    assert timed[1:] == [["base", "relu", "no-bias"]]  # but all rows together if there is a new row


def test_seeds_that_are_added_later_are_marked(here: Path, timed: list[list[str]]) -> None:
    run("--rows", "relu", "--seeds", "1")
    out, _ = run("--rows", "relu", "--seeds", "2", "--resume")
    assert any(line.startswith("relu ") for line in out.splitlines())
    table = json.loads((here / "runs/ablations.json").read_text(encoding="utf-8"))["table"]
    assert {(row["seeds"], row["added"]) for row in table if row["top-1"] is not None} == {(2, 1)}


def test_an_interrupted_run_is_reported(here: Path, timed: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    stored(here / "study", {"relu": (-0.01,)})
    (record,) = (run_record for run_record in load_records(here / "study") if run_record.variant == "relu")

    def broke_off(*_: object, **__: object) -> Iterator[Record]:
        yield Record(**{**vars(record), "stopped": "step 7: the loss is nan"})

    monkeypatch.setattr(study.Study, "run", broke_off)
    monkeypatch.setattr(study.Study, "_check", lambda *_: None)
    out, _ = run("--rows", "relu,patches", "--seeds", "1", "--out", str(here / "study"), "--resume")
    assert out.startswith("1 of 1: relu, seed 0, step 7: the loss is nan; 0 min left")
    assert f"Not run: patches; efficientformer-edu ablate --out {here / 'study'} --rows patches --resume" in out


def test_the_list_trains_nothing(here: Path) -> None:
    out, err = run("--list")
    assert out == variant_table().to_text() and err == ""
    assert all(name in out for name in VARIANTS)
    assert not list((here / "runs").iterdir())


def test_errors(here: Path) -> None:
    with pytest.raises(ValueError, match="'gelu'.*base, patches"):
        run("--rows", "relu,gelu")
    with pytest.raises(ValueError, match="'gpu'"):
        run("--protocol", "gpu")
    with pytest.raises(FileNotFoundError, match="runs/ablations.*--resume"):
        run("--resume")
    for arguments in (["--seeds", "0"], ["--format", "json"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2 and result.stderr.startswith("Usage:")
    assert not list((here / "runs").iterdir())


def test_to_import_it_loads_no_torch() -> None:
    code = "import sys\nimport efficientformer_edu.cli.ablations\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"torch", "numpy"} & set(result.stdout.split())
