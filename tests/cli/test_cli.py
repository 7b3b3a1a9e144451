"""The command line: output, files and error messages."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from efficientformer_edu import weights
from efficientformer_edu.audit import COUNTERS, count, explain
from efficientformer_edu.audit.modules import audit_module
from efficientformer_edu.cli import Layout, app, main
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.plots.mermaid import architecture_mermaid

TINY = EfficientFormerConfig(
    depths=(1, 1, 1, 2), embed_dims=(4, 6, 8, 10), num_classes=7, num_heads=2, key_dim=3, attn_ratio=2.0
)


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The single line on stderr of a command that exits with code 2 and prints nothing else."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
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
    first = ("ablate", "audit", "bench", "convert", "diagram", "evaluate")
    for command in (*first, "export", "observe", "predict", "slim", "train"):
        assert command in run("--help")
        assert "--help" in run(command, "--help")


def records(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("name", PRESETS)
def test_audit_prints_the_stages(name: str) -> None:
    assert run("audit", name) == count(name).table("stage").to_text()


@pytest.mark.parametrize("by", ["op", "block", "stage", "kind"])
@pytest.mark.parametrize("form", ["trained", "folded"])
def test_audit_takes_form_size_and_rows(by: str, form: str) -> None:
    costs = count("l1", (384, 640), form)
    printed = run("audit", "l1", "--by", by, "--form", form, "--resolution", "384x640", "--format", "markdown")
    assert printed == costs.to_markdown(by) + "\n"


def test_audit_of_a_file(yaml: Path) -> None:
    assert run("audit", yaml) == count(TINY).table().to_text()


def test_audit_in_formats_for_programs() -> None:
    costs = count("l3")
    report = json.loads(run("audit", "l3", "--format", "json"))
    assert report == json.loads(costs.to_json()) and len(report["rows"]) == len(costs.rows)
    assert run("audit", "l3", "--by", "op", "--format", "csv") == costs.to_csv()
    stages = json.loads(run("audit", "l3", "--by", "stage", "--format", "json"))
    assert {row["stage"]: row["MACs"] for row in stages} == {
        name: sums.macs for name, sums in costs.by("stage").items()
    }
    assert sum(int(row["params"]) for row in records(run("audit", "l3", "--format", "csv"))) == costs.params


@pytest.mark.parametrize("names", [("--compare", "l1", "l3", "l7"), ("l1", "--compare", "l3", "l7")])
def test_audit_puts_networks_side_by_side(names: tuple[str, ...]) -> None:
    for row, (name, config) in zip(records(run("audit", *names, "--format", "csv")), PRESETS.items(), strict=True):
        sums = count(config).sums
        assert row["network"] == name
        assert [int(value) for value in list(row.values())[1:]] == [sums.params, sums.macs, *sums[3:]]


def test_audit_puts_parts_side_by_side(yaml: Path) -> None:
    costs = [count("l1", 64).by("block"), count(TINY, 64).by("block")]
    rows = records(run("audit", "l1", yaml, "--compare", "--by", "block", "--resolution", "64", "--format", "csv"))
    assert [row["block"] for row in rows] == list(dict.fromkeys([*costs[0], *costs[1]]))
    assert "stage 4, MB4D 3" in costs[0] and "stage 4, MB4D 3" not in costs[1]
    for row in rows:
        label, *numbers = row.values()
        assert numbers == [str(column[label].macs) if label in column else "" for column in costs]
    total = run("audit", "l1", yaml, "--compare", "--by", "block", "--resolution", "64").splitlines()[-1].split()
    assert total == ["total", f"{count('l1', 64).macs:,}", f"{count(TINY, 64).macs:,}"]


@pytest.mark.parametrize("counter", COUNTERS)
def test_audit_explains_a_counter(counter: str) -> None:
    expected = []
    for quantity, of in (("macs", "operations"), ("params", "parameters")):
        if quantity == "macs" or COUNTERS[counter].params is not None:
            expected += [
                [of, reason, str(n)] for reason, n in explain(counter, "l1", 96, quantity=quantity).table().rows
            ]
    printed = run("audit", "l1", "--explain", counter, "--resolution", "96", "--format", "csv")
    assert [list(row.values()) for row in records(printed)] == expected
    text = run("audit", "l1", "--explain", counter, "--resolution", "96")
    assert COUNTERS[counter].note in text and COUNTERS[counter].tool in text
    assert ("derived, not run" in text) == (not COUNTERS[counter].runs)


@pytest.mark.parametrize("form", ["trained", "folded"])
def test_audit_runs_the_counters(form: str, yaml: Path) -> None:
    printed = run("audit", yaml, "--counters", "--resolution", "64", "--form", form, "--format", "json")
    rows = json.loads(printed)
    own = [row for row in rows if row["code"] == "ours"]
    assert [name for name, _ in itertools.groupby(row["counter"] for row in own)] == list(COUNTERS)
    for row in rows:
        quantity = {"operations": "macs", "parameters": "params"}[row["of"]]
        derived = explain(row["counter"], TINY, 64, form, quantity, row["code"]).total
        assert row["by its rule"] == derived
        if row["code"] == "ours" and COUNTERS[row["counter"]].runs:
            assert (row["prints"], row["remainder"], row["how"]) == (derived, 0, "run")
        else:
            assert (row["prints"], row["remainder"], row["how"]) == (None, None, "derived, not run")
    assert {row["counter"] for row in rows if row["code"] != "ours"} == (
        {"ptflops", "thop"} if form == "trained" else set()
    )


def test_audit_shows_the_counts_of_other_implementations() -> None:
    text = run("audit", "l1", "--explain", "ptflops")
    efficientformer_edu, released, hugging_face = (
        explain("ptflops", "l1", code=code).total for code in ("ours", "released", "huggingface")
    )
    assert (released, hugging_face) == (1_314_627_984, 1_310_074_512) and efficientformer_edu != released
    assert (
        f"{efficientformer_edu:,} for our code, {released:,} for the released code, {hugging_face:,} for Hugging Face's"
        in text
    )
    both = explain("thop", "l1", code="released").total
    assert f", {both:,} for the released code and Hugging Face's: " in run("audit", "l1", "--explain", "thop")
    assert "for our code" not in run("audit", "l1", "--explain", "fvcore")


def test_audit_without_a_tool(yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("thop", "ptflops"):
        monkeypatch.setitem(sys.modules, name, None)
    text = run("audit", yaml, "--counters", "--resolution", "32")
    assert text.count("thop is missing: pip install 'efficientformer-edu[notebooks]'\n") == 2
    assert text.count("ptflops is missing: ") == 4  # both back ends
    assert "thop prints" in text
    rows = json.loads(run("audit", yaml, "--counters", "--resolution", "32", "--format", "json"))
    (missing, *_) = [row for row in rows if row["counter"] == "thop"]
    assert (missing["prints"], missing["remainder"]) == (None, None)
    assert missing["by its rule"] == explain("thop", TINY, 32).total


def test_audit_loads_no_torch_without_counters(yaml: Path) -> None:
    argument_lists = [
        ["l7"],
        ["--compare", "l1", "l3"],
        ["l1", "--explain", "thop"],
        ["l1", "--form", "folded", "--by", "op"],
    ]
    code = (
        "import sys\nfrom efficientformer_edu.cli import app\n"
        "for words in sys.argv[1:]:\n    app(['audit', *words.split()], standalone_mode=False)\n"
        "print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, *(" ".join(arguments) for arguments in argument_lists)]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1].split()
    assert "efficientformer_edu.audit.explain" in loaded
    assert not {"torch", "numpy", "matplotlib", "rich", "yaml"} & set(loaded)


MODULES = """
import threading
from torch import nn

class Gray(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))

def rows():
    return nn.Linear(48, 2)

made = Gray()
number = 3

class Wide(nn.Linear):
    pass

def refuses():
    raise RuntimeError("not\\ntoday")

def flat():
    return nn.Linear(7, 2)

def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28 * 1, 16), nn.ReLU(), nn.Linear(16, 10))

class Locked(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(2, 4, 3), nn.Dropout(0.5), nn.BatchNorm2d(4))
        self.lock = threading.Lock()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the current folder."""
    name = f"networks_of_{tmp_path.name}"  # unique per test, because imports are cached
    (tmp_path / f"{name}.py").write_text(MODULES, encoding="utf-8")
    (tmp_path / f"{name}_broken.py").write_text("import no_such_package", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_audit_of_a_user_module(own: str) -> None:
    conv, norm = 30 * 46 * 4 * 9, 2 * 30 * 46 * 4
    for name in ("Gray", "made"):
        text = run("audit", f"{own}:{name}", "--resolution", "32x48")
        assert text.startswith(f"Gray on 1×1×32×48: 48 parameters, {conv:,} MACs by FlopCounterMode / 2\n")
        assert f"fvcore adds {norm:,} for batch_norm" in text
        report = json.loads(run("audit", f"{own}:{name}", "--resolution", "32x48", "--format", "json"))
        assert (report["macs"], report["fvcore"]) == (conv, {"conv": conv, "batch_norm": norm})
    (row,) = records(run("audit", f"{own}:rows", "--resolution", "32x48", "--format", "csv"))
    assert row["fvcore"] == row["FlopCounterMode / 2"] == str(3 * 32 * 48 * 2)  # not a convolution: three channels
    expected = audit_module(torch.nn.Identity(), torch.zeros(1, 3, 224, 224))
    assert run("audit", "torch.nn:Identity", "--format", "markdown") == expected.to_markdown().rstrip() + "\n"


def test_audit_of_a_multilayer_perceptron_on_small_images(own: str) -> None:
    arguments = ["audit", f"{own}:mlp", "--resolution", "28", "--channels", "1"]
    expected = 28 * 28 * 16 + 16 * 10
    result = json.loads(run(*arguments, "--format", "json"))
    assert (result["images"], result["macs"], result["params"]) == ([1, 1, 28, 28], expected, expected + 16 + 10)
    assert f"{expected:,}" in run(*arguments, "--summary")


@pytest.mark.parametrize(("resolution", "shape"), [("3", [3, 3]), ("3x31", [3, 31])])
def test_audit_of_a_module_has_no_smallest_image(own: str, resolution: str, shape: list[int]) -> None:
    result = json.loads(run("audit", f"{own}:Gray", "--resolution", resolution, "--format", "json"))
    assert result["images"] == [1, 1, *shape]


def test_audit_of_a_module_that_cannot_be_copied(own: str) -> None:
    arguments = ["audit", f"{own}:Locked", "--resolution", "8"]
    result = json.loads(run(*arguments, "--format", "json"))
    assert (result["macs"], result["images"]) == (6 * 6 * 4 * 2 * 9, [1, 2, 8, 8])
    assert "Total params: " in run(*arguments, "--summary")


def test_channels_of_a_module() -> None:
    result = json.loads(run("audit", "torch.nn:Identity", "--channels", "5", "--resolution", "7", "--format", "json"))
    assert result["images"] == [1, 5, 7, 7]


def test_the_torchinfo_summary_starts_with_its_error(own: str) -> None:
    for arguments, hidden in (
        (["l1", "--resolution", "64"], 8_257_536),
        ([f"{own}:rows", "--resolution", "32x48"], None),
    ):
        fault, _, *lines = run("audit", *arguments, "--summary").splitlines()
        assert fault.startswith("torchinfo 1.8.0 counts each linear layer for one token of an image: here that hides ")
        assert hidden is None or f" {hidden:,} MACs" in fault
        assert any(line.startswith("Total params: ") for line in lines)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("audit no_such_module:Net", "'no_such_module' cannot be imported (ModuleNotFoundError"),
        ("audit {own}_broken:Net", "No module named 'no_such_package'); allowed: package.module:Name"),
        ("audit {own}:Net", "has no 'Net'; allowed: the name of a torch module"),
        ("audit {own}:", "has no ''"),
        ("audit {own}:number", "is of type int; allowed: a torch.nn.Module"),
        ("audit {own}:Wide", "missing 2 required positional arguments"),
        ("audit {own}:refuses", "fails (RuntimeError: not today); allowed: a class or function"),
        ("audit {own}:flat", "Linear cannot take images of shape (1, 3, 224, 224): RuntimeError"),
        ("audit {own}:Gray --form folded", "is counted alone, without --form"),
        ("audit {own}:Gray --by op", "is counted alone, without --by"),
        ("audit {own}:Gray --counters", "is counted alone, without --counters"),
        ("audit {own}:Gray --compare", "is counted alone, without --compare"),
        ("audit {own}:Gray --explain fvcore", "is counted alone, without --explain"),
        ("audit l1 {own}:Gray", "is counted alone, without other networks"),
        ("audit tiny.yaml --channels 3", "--channels"),
        ("audit {own}:mlp --resolution 28", "(1, 3, 28, 28)"),  # it does not state the number of channels of an image
        ("audit l1 --summary --format csv", "leave out --format"),
        ("audit l2", "Unknown model 'l2'"),
        ("audit l1 l3", "takes one network, not 2; --compare"),
        ("audit --compare l1", "--compare takes two networks or more"),
        ("audit --compare l1 l1", "--compare takes two networks or more"),
        ("audit l1 --explain fvcor", "Unknown counter 'fvcor'. Did you mean 'fvcore'?"),
        ("audit l1 --explain ''", "Available: fvcore, flop_counter"),
        ("audit l1 --explain fvcore --counters", "--counters and --explain cannot be combined"),
        ("audit l1 --by op --counters", "leave out --by"),
        ("audit l1 --by op --explain fvcore", "leave out --by"),
        ("audit l1 --resolution 224x31", "at least 32 pixels"),
        ("audit l1 --resolution 0", "such as 224, or 384x640"),
        ("audit nothing.yaml", "nothing.yaml: No such file"),
        ("diagram l2", ".yaml"),
        ("diagram nothing.yaml", "nothing.yaml: No such file"),
        ("diagram l1 --resolution 31", "resolution=31"),
        *((f"diagram l1 --resolution '{size}'", "such as 224, or 384x640") for size in ("224p", "1x2x3", "", "x")),
        ("diagram l1 --format svg", "ends in .svg, not nothing"),
        ("diagram l1 --format svg --out l1.png", "ends in .svg, not l1.png"),
        ("diagram l1 --out no/l1.mmd", "the folder does not exist"),
        ("convert photo.png l1.png --layout timm", "neither a safetensors nor a torch file"),
        ("predict nothing.png", "nothing.png: No such file"),
        ("predict photo.png --weights nothing.pth", "nothing.pth: No such file"),
    ],
)
def test_invalid_input_gives_a_single_line_and_writes_nothing(
    command: str, message: str, own: str, photo: Path, yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(Path().iterdir())
    assert message in refused(capsys, *shlex.split(command.format(own=own)))
    assert {path for path in Path().iterdir() if path.name != "__pycache__"} == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depths: [1, 2\n", "not a YAML file: expected ',' or ']', but got '<stream end>' in line 2"),
        ("\0", "not a YAML file: unacceptable character #x0000"),
        ("", "it holds NoneType, not a mapping of fields to values; expected lines such as depths: [3, 2, 6, 4]"),
        ("l1", "it holds str, not a mapping of fields to values"),
        ("depth: [3, 2, 6, 4]", "Unknown field 'depth'. Did you mean 'depths'?"),
        ("depths: 3", "depths=3 is not possible; allowed: four values, one for each stage"),
        ("model: l1", "model.architecture.backbone.name is missing: no 'architecture' in 'l1'; NetsPresso's"),
    ],
)
def test_a_file_that_is_no_configuration(
    text: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    assert f"wrong.yaml: {message}" in refused(capsys, "audit", path)


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
    output = subprocess.run(command, env=windows, check=True, capture_output=True).stdout
    assert output.decode("utf-8").splitlines() == architecture_mermaid("l1").splitlines()


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
    assert result.exit_code == 0
    assert "does not name its classes" in result.stderr
    scores = weights.inference_model(model, photo)["pred_scores"]
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["score", "label", "class"]
    best = sorted(range(7), key=lambda label: -scores[label])[:3]
    assert [line.split() for line in lines] == [[f"{scores[label]:.2%}", str(label)] for label in best]


def test_raw_or_averaged_weights(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, both, alone = EfficientFormer(TINY), tmp_path / "both.pth", tmp_path / "alone.pth"
    state = model.state_dict()
    average = {name: value + 1 if value.is_floating_point() else value for name, value in state.items()}
    torch.save({"model": state, "model_ema": average}, both)
    torch.save(state, alone)
    for option, expected in (("--no-use-ema", state), ("--use-ema", average)):
        run("convert", both, tmp_path / "one.pth", "--layout", "native", option)
        assert all(torch.equal(value, expected[name]) for name, value in weights.load(tmp_path / "one.pth").items())
        shown = run("predict", photo, "--weights", both, option)
        assert shown == run("predict", photo, "--weights", tmp_path / "one.pth")
    assert "--use-ema" in refused(capsys, "predict", str(photo), "--weights", str(alone), "--use-ema")
    for option in ("--use-ema", "--no-use-ema"):
        assert "--use-ema cannot be used" in refused(capsys, "predict", str(photo), option)
    with pytest.warns(UserWarning, match="--no-use-ema"):
        weights.load(both)


def test_predict_without_weights_warns(photo: Path) -> None:
    result = CliRunner().invoke(app, ["predict", str(photo)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "random weights, so its prediction is meaningless" in result.stderr
    assert "--weights FILE" in result.stderr
    names = weights.class_names()
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()[1:]]
    assert len(lines) == 5
    assert all(names[int(label)] == name for _, label, name in lines)


LAYERS = "efficientformer_edu.plots.mermaid.architecture_mermaid"


def fails(error: Exception) -> Callable[..., str]:
    """A function that raises an error, as external code does."""

    def function(*_: object) -> str:
        raise error

    return function


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, list[str]]:
    """Exit code and stderr lines of a command that fails."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--debug", "diagram", "l2"],
        ["diagram", "l2", "--debug"],
        ["audit", "--debug", "l2"],
        ["export", "l2", "--debug"],
    ],
)
def test_debug_shows_the_traceback(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if "export" in arguments:
        arguments = [*arguments, "--out", "l2.onnx"]
    code, lines = failure(capsys, *arguments)
    assert code == 2
    assert lines[0].startswith("Traceback") and any("in get_config" in line for line in lines)
    assert lines[-1].startswith("efficientformer-edu: ") and "'l2'" in lines[-1]
    code, (line,) = failure(capsys, *(argument for argument in arguments if argument != "--debug"))
    assert (code, line) == (2, lines[-1])


@pytest.mark.parametrize(("value", "traced"), [("1", True), ("0", False), ("", False)])
def test_the_environment_can_ask_for_the_traceback(
    value: str, traced: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFICIENTFORMER_EDU_DEBUG", value)
    code, lines = failure(capsys, "diagram", "l2")
    assert (code, lines[0].startswith("Traceback")) == (2, traced)


@pytest.mark.parametrize(
    ("error", "code", "named"),
    [
        (ValueError("two\nshapes"), 1, ["unexpected ValueError", "two shapes", "--debug"]),
        (UnicodeDecodeError("utf-8", b"a", 0, 1, "no text"), 1, ["unexpected UnicodeDecodeError", "--debug"]),
        (ImportError("no name", name="efficientformer_edu.audit"), 1, ["unexpected ImportError", "--debug"]),
        (ImportError("yours is missing: pip install yours"), 2, ["yours is missing: pip install yours"]),
        (OSError(28, "No space left", "l1.mmd"), 2, ["l1.mmd: No space left"]),
    ],
)
def test_an_internal_error_is_not_reported_as_wrong_input(
    error: Exception,
    code: int,
    named: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LAYERS, fails(error))
    ended, (line,) = failure(capsys, "diagram", "l1")
    assert ended == code and all(part in line for part in named)
    ended, lines = failure(capsys, "diagram", "l1", "--debug")
    assert ended == code and lines[0].startswith("Traceback") and lines[-1] == line


def test_a_bug_in_this_package_is_not_reported_as_wrong_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["efficientformer_edu.cli.audit"]  # `cli.audit` itself is the command
    monkeypatch.setattr(module, "read_resolution", lambda text: (1, 2, 3))  # one number too many
    code, (line,) = failure(capsys, "audit", "torch.nn:Identity")
    assert code == 1 and "unexpected ValueError" in line


def test_a_missing_package_error_names_the_install_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LAYERS, fails(ModuleNotFoundError("No module named 'timm.models'", name="timm.models")))
    line = refused(capsys, "diagram", "l1")
    assert line == "efficientformer-edu: timm is missing: pip install 'efficientformer-edu[peers]'"


def test_a_missing_package_is_reported_by_a_real_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith(("matplotlib.", "efficientformer_edu.plots."))]:
        monkeypatch.delitem(sys.modules, name)
    line = refused(capsys, "diagram", "l1", "--format", "svg", "--out", tmp_path / "l1.svg")
    assert "pip install matplotlib" in line


@pytest.mark.parametrize(
    "command",
    [
        *("draw", "diagram", "audit", "audit l1 --by layer", "audit l1 --form fused", "audit l1 --format xml"),
        *("diagram l1 --format gif", "convert a b", "predict a --top 0"),
    ],
)
def test_wrong_usage_ends_with_2_and_shows_the_usage(command: str) -> None:
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage:")
    assert result.stdout == ""
