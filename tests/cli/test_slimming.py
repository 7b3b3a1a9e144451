"""The command `slim`: output, files, resuming and errors. Networks and images are few."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import typer
from slimming_runs import LOOKUP, SEARCHED
from training_runs import images
from typer.testing import CliRunner

from efficientformer_edu.cli.slimming import read_targets, slim
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.data.datasets import Images
from efficientformer_edu.latency import lookup
from efficientformer_edu.latency import lookup as lookup_errors
from efficientformer_edu.latency.lookup import Errors, Prediction
from efficientformer_edu.latency.lookup_table import Lookup
from efficientformer_edu.latency.records import Conditions
from efficientformer_edu.slimming import protocol
from efficientformer_edu.slimming.front import load_slimming
from efficientformer_edu.slimming.protocol import SlimmingProtocol
from efficientformer_edu.slimming.records import Search
from efficientformer_edu.training import study
from efficientformer_edu.training.recipe import LAPTOP
from efficientformer_edu.training.study import load_records

pytestmark = pytest.mark.slow

app = typer.Typer()
app.command()(slim)

FEW = SlimmingProtocol("tests", "fashion-mnist-small", None, 2, LAPTOP.replace(epochs=1, batch=20, warmup_epochs=0))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, a tiny supernet, sixty images, one process, and a timer that counts MACs."""
    monkeypatch.chdir(tmp_path)

    def build(widths: Any, engine: str, *, base: EfficientFormerConfig, path: Path) -> Lookup:
        if engine != LOOKUP.engine:
            raise ImportError(f"{engine} needs onnxruntime: pip install onnxruntime")
        LOOKUP.save(path)
        return LOOKUP

    def prediction_errors(table: Lookup, configs: Iterable[EfficientFormerConfig]) -> Errors:
        predicted = [(config, table.predict(config)) for config in configs]
        return Errors(
            Conditions(machine="synthetic", threads=1),
            tuple(Prediction(candidate, t, t, t) for candidate, t in predicted),
        )

    def load_data(data: str, split: str, **_: Any) -> Images:
        return images(split, 120 if split == "train" else 40)

    monkeypatch.setattr(lookup, "build", build)
    monkeypatch.setattr(lookup_errors, "prediction_errors", prediction_errors)
    monkeypatch.setattr(protocol, "PROTOCOLS", {"fashion-mnist-small": FEW})
    monkeypatch.setattr(protocol, "SUPERNET", SEARCHED)
    monkeypatch.setattr(protocol, "SIZE", 64)
    monkeypatch.setattr(protocol, "load_data", load_data)
    monkeypatch.setattr(study, "cores", lambda: 1)
    protocol.load_slimming_images.cache_clear()
    return tmp_path


def run(*arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["--engine", "eager", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout, result.stderr


def test_it_slims_trains_times_and_reports(here: Path) -> None:
    out, err = run("--out", "one")
    assert "the largest network takes" in err and "80" not in err.partition("targets: ")[0]
    search = Search.load(here / "one" / "search.json")
    assert search.done and len(search.family) == 3
    assert out.count("\nstep ") == len(search.steps) and "left" in out
    closing = out[out.index("network") :]
    for target, config in search.family.items():
        assert f"{1e3 * target:.2f}" in closing and "slimming" in closing
        assert LOOKUP.predict(config) <= target
    assert {record.variant for record in load_records(here / "one" / "trained")} == {
        f"slimming-{1e3 * target:.4g}ms" for target in search.family
    }
    assert json.loads((here / "one" / "latency.json").read_text(encoding="utf-8"))["worst"] == 0
    assert out.rstrip().endswith("one.json")
    slimmed, packed = load_slimming(here / "one"), load_slimming(here / "one.json")
    assert packed == slimmed and len(packed.records) == len({network.config for network in packed.contenders})


def test_a_search_can_be_replayed_from_its_file(here: Path) -> None:
    run("--out", "one")
    out, _ = run("--replay", "one/search.json")
    search = Search.load(here / "one" / "search.json")
    assert out.startswith(search.table().to_text())
    assert all(str(config.embed_dims) in out for config in search.family.values())


def test_an_interrupted_slimming_resumes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("--out", "whole", "--baselines")
    calls: list[int] = []
    correct = protocol.Evaluator.correct

    def stopped(self: Any, supernet: Any) -> list[bool]:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return correct(self, supernet)

    with monkeypatch.context() as patch:
        patch.setattr(protocol.Evaluator, "correct", stopped)
        assert CliRunner().invoke(app, ["--engine", "eager", "--out", "two", "--baselines"]).exit_code != 0
    before = Search.load(here / "two" / "search.json").steps
    assert before
    out, _ = run("--out", "two", "--baselines", "--resume")
    assert f"\nstep {len(before)}:" not in f"\n{out}" and f"\nstep {len(before) + 1}:" in f"\n{out}"
    assert (here / "two" / "search.json").read_bytes() == (here / "whole" / "search.json").read_bytes()
    assert (here / "two" / "contenders.json").read_bytes() == (here / "whole" / "contenders.json").read_bytes()
    again, _ = run("--out", "two", "--baselines", "--resume")  # only timing and printing are left to do
    assert again[again.index("network") :] == out[out.index("network") :]


def test_invalid_options_are_reported_before_training(here: Path) -> None:
    with pytest.raises(ValueError, match="target 0.0001 ms is not possible: the smallest network"):
        run("--targets", "0.0001ms", "--out", "a")
    assert not (here / "a" / "supernet").exists()
    with pytest.raises(ImportError, match="onnxruntime needs onnxruntime: pip install"):
        run("--engine", "onnxruntime", "--out", "b")
    with pytest.raises(ValueError, match="'cifar'.*fashion-mnist-small, or a folder"):
        run("--data", "cifar")
    with pytest.raises(FileNotFoundError, match="c contains no slimming.*--resume"):
        run("--out", "c", "--resume")
    (here / "d").mkdir()
    (here / "d" / "other.txt").touch()
    with pytest.raises(FileExistsError, match="d is not empty.*--resume"):
        run("--out", "d")


def test_a_different_search_is_not_resumed(here: Path) -> None:
    run("--out", "one")
    with pytest.raises(ValueError, match="targets"):
        run("--out", "one", "--resume", "--targets", f"{1e3 * 0.9 * Search.load(here / 'one' / 'search.json').start}ms")
    with pytest.raises(ValueError, match="variant was 'supernet, uniform noise' and now is 'supernet, gumbel noise'"):
        run("--out", "one", "--resume", "--noise", "gumbel")


@pytest.mark.parametrize("text", ["", "15", "15ms,", "15ms,0ms", "-3ms", "fastms", "15 s"])
def test_targets_are_times(text: str) -> None:
    with pytest.raises(ValueError, match="--targets.*15ms,20ms,30ms"):
        read_targets(text)


def test_targets_are_read() -> None:
    assert read_targets("15ms, 20ms,7.5ms") == (0.015, 0.02, 0.0075)
