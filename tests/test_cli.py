"""The command line: what it prints and writes, and how it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from efficientformer_edu import weights
from efficientformer_edu.cli import Layout, app, main
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.figures.mermaid import architecture_mermaid
from efficientformer_edu.model import EfficientFormer

TINY = EfficientFormerConfig(
    depths=(1, 1, 1, 2), embed_dims=(4, 6, 8, 10), num_classes=7, num_heads=2, key_dim=3, attn_ratio=2.0
)


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line on stderr of a command that ends with exit code 2 and prints nothing else."""
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("efficientformer-edu: ")
    return line


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)).save(path)
    return path


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.to_yaml(), encoding="utf-8")
    return path


def test_help_loads_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys\nfrom efficientformer_edu.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    print(end.code, *sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.startswith("Usage:")
    code_and_modules = result.stdout.splitlines()[-1].split()
    assert code_and_modules[0] == "0"
    assert not {"torch", "numpy", "matplotlib", "rich", "yaml"} & set(code_and_modules)


def test_help_names_every_command() -> None:
    for command in ("diagram", "convert", "predict"):
        assert command in run("--help")
        assert "--help" in run(command, "--help")


@pytest.mark.parametrize("name", PRESETS)
def test_diagram_prints_mermaid(name: str) -> None:
    assert run("diagram", name) == architecture_mermaid(name)


@pytest.mark.parametrize("text", ["384x640", "384X640", "384×640"])
def test_diagram_takes_a_size(text: str) -> None:
    assert run("diagram", "l1", "--resolution", text) == architecture_mermaid("l1", (384, 640))


def test_diagram_of_a_file(yaml: Path, tmp_path: Path) -> None:
    assert run("diagram", yaml, "--out", tmp_path / "tiny.mmd") == ""
    assert (tmp_path / "tiny.mmd").read_text(encoding="utf-8") == architecture_mermaid(TINY)


def test_a_pipe_gets_the_same_text_on_every_system() -> None:
    command = [sys.executable, "-m", "efficientformer_edu.cli", "diagram", "l1"]
    windows = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    said = subprocess.run(command, env=windows, check=True, capture_output=True).stdout
    assert said.decode("utf-8").splitlines() == architecture_mermaid("l1").splitlines()


@pytest.mark.parametrize(("format", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_diagram_writes_pictures(format: str, start: bytes, yaml: Path, tmp_path: Path) -> None:
    out = tmp_path / f"tiny.{format}"
    assert run("diagram", yaml, "--format", format, "--out", out) == ""
    assert out.read_bytes().startswith(start)


@pytest.mark.parametrize("layout", get_args(Layout))
def test_convert_and_back(layout: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = EfficientFormer(TINY.replace(distillation=False))
    source, there, back = tmp_path / "a.safetensors", tmp_path / "b.pth", tmp_path / "c.safetensors"
    weights.save(model, source, layout="native")
    assert run("convert", source, there, "--layout", layout) == f"{there}: {layout} layout\n"
    run("convert", there, back, "--layout", "native")
    state = weights.load(back)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_layouts_are_those_of_the_weights() -> None:
    assert set(get_args(Layout)) == set(weights.LAYOUTS)


def test_predict_with_weights(photo: Path, yaml: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = EfficientFormer(TINY)
    weights.save(model, tmp_path / "tiny.safetensors", layout="timm")
    result = CliRunner().invoke(
        app,
        ["predict", str(photo), "--model", str(yaml), "--weights", str(tmp_path / "tiny.safetensors"), "--top", "3"],
    )
    assert (result.exit_code, result.stderr) == (0, "")
    scores = weights.inference_model(model, photo)["pred_scores"]
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["score", "label", "class"]
    best = sorted(range(7), key=lambda label: -scores[label])[:3]
    assert [line.split() for line in lines] == [[f"{scores[label]:.2%}", str(label)] for label in best]


def test_predict_without_weights_says_that_it_means_nothing(photo: Path) -> None:
    result = CliRunner().invoke(app, ["predict", str(photo)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "random weights, so its prediction means nothing" in result.stderr
    assert "--weights FILE" in result.stderr
    assert "--weights FILE" in result.stderr
    names = weights.class_names()
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()[1:]]
    assert len(lines) == 5
    assert all(names[int(label)] == name for _, label, name in lines)


def test_wrong_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], photo: Path, tmp_path: Path
) -> None:
    line = refused(capsys, "diagram", "l2")
    assert "'l2' is unknown" in line
    assert ".yaml" in line
    assert "nothing.yaml: No such file" in refused(capsys, "diagram", "nothing.yaml")
    assert "resolution=31" in refused(capsys, "diagram", "l1", "--resolution", "31")
    for size in ("224p", "1x2x3", "", "x"):
        assert "such as 224, or 384x640" in refused(capsys, "diagram", "l1", "--resolution", size)
    assert "ends in .svg, not nothing" in refused(capsys, "diagram", "l1", "--format", "svg")
    out = tmp_path / "l1.png"
    assert "ends in .svg, not l1.png" in refused(capsys, "diagram", "l1", "--format", "svg", "--out", out)
    nowhere = tmp_path / "no" / "l1.mmd"
    assert "the folder does not exist" in refused(capsys, "diagram", "l1", "--out", nowhere)
    assert "neither a safetensors nor a torch file" in refused(capsys, "convert", photo, out, "--layout", "timm")
    assert "nothing.png: No such file" in refused(capsys, "predict", "nothing.png")
    assert "nothing.pth: No such file" in refused(capsys, "predict", photo, "--weights", "nothing.pth")
    assert not out.exists()


def test_a_broken_configuration_file_names_its_field(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("depths: [1, 2, 3]\n", encoding="utf-8")
    assert "depths=[1, 2, 3]" in refused(capsys, "diagram", path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["draw"],
        ["diagram"],
        ["diagram", "l1", "--format", "gif"],
        ["convert", "a", "b"],
        ["predict", "a", "--top", "0"],
    ],
)
def test_wrong_usage_ends_with_2_and_shows_the_usage(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage:")
    assert result.stdout == ""
