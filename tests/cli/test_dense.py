"""The commands `train`, `evaluate` and `predict` for detection and segmentation: output, files and errors."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import refused, refused_at_once, run
from dense_folders import annotation, coco_content, put, write_coco, write_masks
from dense_networks import SMALL
from PIL import Image
from typer.testing import CliRunner

from efficientformer_edu.cli import app
from efficientformer_edu.data import datasets as named
from efficientformer_edu.data.datasets import load_examples
from efficientformer_edu.dense import to_yaml
from efficientformer_edu.dense.files import from_dict, load_dense
from efficientformer_edu.dense.network import SMALL_BACKBONE, default_config
from efficientformer_edu.dense.recipe import SHAPES
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training import checkpoints
from efficientformer_edu.weights import save

pytestmark = pytest.mark.slow

QUICK = ("--size", "64", "--epochs", "1", "--batch", "4")
SEGMENT, DETECT = ("--task", "segmentation"), ("--task", "detection")
LOGGED = {
    "segmentation": r" +1 +\d\.\d\de-\d\d +\d+\.\d{4} +0\.\d{4} +\d+\.\d\d% +\d+\.\d",
    "detection": r" +1 +\d\.\d\de-\d\d +\d+\.\d{4} +[01]\.\d{4} +[01]\.\d{4} +\d+\.\d",
}
COLUMNS = {"segmentation": ["mIoU", "pixels"], "detection": ["AP", "AP50"]}
RESULT = {
    "segmentation": r"mIoU 0\.\d{4}, pixel accuracy \d+\.\d\d% on 3 images",
    "detection": r"AP [01]\.\d{4}, AP50 [01]\.\d{4}, AP75 [01]\.\d{4} on 3 images",
}
FINE = "photo.png"


def read_run(folder: str | Path) -> dict[str, Any]:
    return json.loads((Path(folder) / checkpoints.RUN).read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(named, "SCENES", {"train": 8, "test": 3})
    (tmp_path / "tiny.yaml").write_text(SMALL.to_yaml(), encoding="utf-8")
    put(tmp_path / FINE, np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str, str]]:
    """For each task, the folder of a run of one epoch, and the output of the command."""
    runs = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(named, "SCENES", {"train": 8, "test": 3})
        for task in ("segmentation", "detection"):
            folder = tmp_path_factory.mktemp(task)
            (folder / "tiny.yaml").write_text(SMALL.to_yaml(), encoding="utf-8")
            options = ("--task", task, *QUICK, "--out", folder / "run", "--seed", "3")
            runs[task] = folder / "run", *run("train", folder / "tiny.yaml", *options)
    return runs


Runs = Mapping[str, tuple[Path, str, str]]


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_train_prints_its_settings_and_files(task: str, trained: Runs) -> None:
    folder, out, err = trained[task]
    head, epoch, result, evaluated_by, last = out.splitlines()
    assert head.split() == ["epoch", "lr", "train", "loss", *COLUMNS[task], "seconds"]
    assert re.fullmatch(LOGGED[task], epoch)
    assert len(head) == len(epoch)
    descriptions = [load_examples("shapes", split, size=64).description for split in ("train", "test")]
    assert re.fullmatch(RESULT[task], result)
    assert evaluated_by == f"evaluated on: {descriptions[1]}"
    assert last == f"Weights, log and everything else: {folder}"
    assert err.splitlines() == descriptions
    files = {path.name for path in folder.iterdir()}
    assert files == {checkpoints.CHECKPOINT, checkpoints.LOG, checkpoints.RUN, checkpoints.WEIGHTS}
    stored = read_run(folder)
    assert stored["recipe"] == {**stored["recipe"], "epochs": 1, "batch": 4, "learning_rate": SHAPES.learning_rate}
    assert (stored["task"], stored["size"], stored["seed"], stored["init_from"]) == (task, 64, 3, "")
    assert from_dict(stored["config"]) == default_config(SMALL, task, 6 if task == "segmentation" else 5)


def test_the_small_network_learns_scenes_of_their_own_size_in_a_folder_of_its_name() -> None:
    out, _ = run("train", "small", *SEGMENT, "--epochs", "1", "--batch", "4", "--head", "all_mlp_decoder")
    assert out.splitlines()[-1] == f"Weights, log and everything else: {Path('runs/small')}"
    stored = read_run("runs/small")
    assert from_dict(stored["config"]) == default_config(SMALL_BACKBONE, "segmentation", 6, "all_mlp_decoder")
    assert stored["size"] == 96
    assert stored["train"] == "drawn shapes, 8 training scenes of 96×96 pixels"


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_evaluate_agrees_with_the_run(task: str, trained: Runs) -> None:
    folder, output, _ = trained[task]
    out, err = run("evaluate", folder / checkpoints.WEIGHTS)
    *_, result, _, _ = output.splitlines()
    assert out.splitlines()[-1] == f"{result}; 64×64 pixels"
    assert err.strip() == load_examples("shapes", "test", size=64).description
    text, _ = run("evaluate", folder / checkpoints.WEIGHTS, "--format", "csv", "--batch", "1", "--size", "64")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["class"] for row in rows] == list(load_dense(folder / checkpoints.WEIGHTS).classes)
    measure = "IoU" if task == "segmentation" else "AP"
    values = [float(row[measure]) for row in rows if row[measure]]
    assert sum(values) / len(values) == pytest.approx(float(result.split()[1].rstrip(",")), abs=2e-4)
    entries = json.loads(run("evaluate", folder / checkpoints.WEIGHTS, "--format", "json")[0])
    assert [entry[measure] for entry in entries] == [float(row[measure]) if row[measure] else None for row in rows]
    out, _ = run("evaluate", folder / checkpoints.WEIGHTS, "--size", "96")
    assert out.splitlines()[-1].endswith("; 96×96 pixels")


def test_predict_prints_the_classes_of_pixels_and_draws_them(trained: Runs, here: Path) -> None:
    weights = trained["segmentation"][0] / checkpoints.WEIGHTS
    out, _ = run("predict", FINE, "--weights", weights, "--out", "overlay.png")
    head, *rows, last = out.splitlines()
    assert head.split() == ["pixels", "class"]
    assert last == "Drawn: overlay.png"
    parts = [float(row.split("%")[0]) for row in rows]
    assert sum(parts) == pytest.approx(100, abs=0.05)
    assert {row.split()[1] for row in rows} <= set(load_dense(weights).classes)
    with Image.open(here / "overlay.png") as picture:
        assert min(picture.size) > 40
    out, _ = run("predict", FINE, "--weights", weights)
    assert out.splitlines() == [head, *rows]


def test_predict_prints_boxes_and_draws_them(trained: Runs, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = trained["detection"][0] / checkpoints.WEIGHTS
    saved = load_dense(weights)
    with torch.no_grad():  # confident about everything, so that there is something to print
        for name, value in saved.network.named_parameters():
            if "_preds" in name and name.endswith("bias"):
                value.fill_(1.0)
    from efficientformer_edu.dense.files import save_dense

    save_dense(saved.network.state_dict(), saved.network.config, 64, saved.classes, here / "sure.safetensors")
    out, _ = run("predict", FINE, "--weights", "sure.safetensors", "--out", "overlay.svg")
    head, *rows, last = out.splitlines()
    assert head.split() == ["score", "class", "left", "top", "right", "bottom"]
    assert last == "Drawn: overlay.svg, boxes with a score of 30% or more"
    assert 1 <= len(rows) <= 100
    for row in rows:
        assert len(row) == len(head)
        score, name, left, top, right, bottom = row.split()
        assert float(score.rstrip("%")) > 5 and name in saved.classes
        assert 0 <= int(left) <= int(right) <= 60 and 0 <= int(top) <= int(bottom) <= 40
    assert "<svg" in (here / "overlay.svg").read_text(encoding="utf-8")


def test_a_resumed_run_gives_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("train", "tiny.yaml", *DETECT, "--size", "64", "--epochs", "2", "--batch", "8", "--out")
    store = checkpoints.save_checkpoint

    def full_disk(folder: Path, state: Mapping[str, Any]) -> None:
        if state["epoch"] == 2:
            raise OSError(28, "No space left on device", "checkpoint.pt")
        store(folder, state)

    run(*arguments, "unbroken")
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save_checkpoint", full_disk)
        assert refused(capsys, *arguments, "stopped") == "checkpoint.pt: No space left on device"
    assert "add --resume" in refused(capsys, *arguments, "stopped")
    assert "seed was 0 and now is 1" in refused(capsys, *arguments, "stopped", "--resume", "--seed", "1")
    out, _ = run(*arguments, "stopped", "--resume")
    _, epoch, *_ = out.splitlines()  # the first epoch is not trained again
    assert epoch.startswith("    2 ")
    first, second = (load_dense(Path(name) / checkpoints.WEIGHTS).network for name in ("unbroken", "stopped"))
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert "no run to resume" in refused(capsys, "train", "tiny.yaml", *DETECT, *QUICK, "--resume")


def test_a_complete_netspresso_network(capsys: pytest.CaptureFixture[str]) -> None:
    """A file of NetsPresso, with its training options, which are not used."""
    netspresso = SMALL.replace(bias_grid=(7, 7), layer_scale_init=1e-5)
    config = default_config(netspresso, "detection", 80, "anchor_decoupled_head")
    losses = "  losses: [{criterion: retinanet_loss}]\n"
    Path("retina.yaml").write_text(to_yaml(config) + losses, encoding="utf-8")
    _, err = run("train", "retina.yaml", *DETECT, *QUICK)
    assert err.startswith("Warning: ") and "losses" in err.splitlines()[0]
    loaded = load_dense(Path("runs/retina") / checkpoints.WEIGHTS).network.config
    assert (loaded.names, loaded.num_classes) == (("fpn", "anchor_decoupled_head"), 5)
    message = "retina.yaml is a complete network for detection; use --task detection without --head"
    assert refused_at_once(capsys, "train", "retina.yaml", *SEGMENT, *QUICK) == message
    assert refused_at_once(capsys, "train", "retina.yaml", *DETECT, *QUICK, "--head", "semantic_fpn") == message


def test_a_classifiers_backbone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(EfficientFormer(SMALL.replace(num_classes=7)), "classifier.safetensors", layout="timm")
    run("train", "tiny.yaml", *SEGMENT, *QUICK, "--init-from", "classifier.safetensors", "--out", "run")
    assert read_run("run")["init_from"] == "classifier.safetensors"

    def line(file: str) -> str:
        return refused_at_once(capsys, "train", "tiny.yaml", *SEGMENT, *QUICK, "--init-from", file)

    assert line("nothing.pth") == "nothing.pth: No such file or directory"
    (here / "words.pth").write_text("no weights at all", encoding="utf-8")
    assert "words.pth: this is neither a safetensors nor a torch file" in line("words.pth")
    save(EfficientFormer(SMALL.replace(embed_dims=(16, 32, 48, 80))), "other.pth", layout="official")
    assert "other.pth: " in line("other.pth") and "80" in line("other.pth")

    # The backbone of a network trained for another task.
    run("train", "tiny.yaml", *DETECT, *QUICK, "--init-from", "run/weights.safetensors", "--out", "second")
    assert read_run("second")["init_from"] == "weights.safetensors"
    run("train", "small", *SEGMENT, *QUICK, "--out", "third")
    options = ("--init-from", "third/weights.safetensors", "--out", "fourth")
    message = refused(capsys, "train", "tiny.yaml", *SEGMENT, *QUICK, *options)
    assert message.startswith("weights.safetensors: ") and "do not fit" in message


def test_images_in_coco_layout(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = annotation(image=5, bbox=[0, 0, 0, 5])
    write_coco(here / "pets", coco_content(annotation(), annotation(image=5, category=90), broken))
    write_coco(here / "pets", coco_content(annotation()), "val2017")
    options = ("--data", "pets", "--size", "64", "--epochs", "1", "--batch", "2")
    _, err = run("train", "tiny.yaml", *DETECT, *options)
    (warning,) = [line for line in err.splitlines() if line.startswith("Warning: ")]
    assert re.search(r"instances_train2017.json: 1 of 5 entries left out; .*annotations\[2\]: its bbox", warning)
    weights = Path("runs/tiny") / checkpoints.WEIGHTS
    assert load_dense(weights).classes == load_examples("pets", "test").classes
    out, _ = run("evaluate", weights, "--data", "pets", "--format", "csv")
    assert out.splitlines()[0] == "class,AP"
    assert "instances_train2017.json" in refused_at_once(capsys, "train", "tiny.yaml", *DETECT, *options, "--strict")
    message = refused_at_once(capsys, "evaluate", weights)
    assert message.startswith("runs/tiny/weights.safetensors has 2 classes, cat, dog; the data have 5, disc")


@pytest.mark.parametrize(("task", "missing"), [("detection", "pycocotools.mask"), ("segmentation", "torchmetrics")])
def test_a_missing_extra_is_reported_before_reading(
    task: str, missing: str, trained: Runs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*arguments: object, **options: object) -> None:
        raise AssertionError("images were read")

    weights = trained[task][0] / checkpoints.WEIGHTS
    for module in [name for name in sys.modules if name.startswith(missing)]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(named, "load_examples", read)
    for command_line in (("train", "tiny.yaml", "--task", task), ("evaluate", weights)):
        message = refused_at_once(capsys, *command_line)
        assert missing.partition(".")[0] in message and "pip install" in message and "[dense]" in message


def test_images_with_masks_have_nothing_to_detect(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_masks(here / "rooms")
    options = ("--data", "rooms", "--size", "64", "--epochs", "1", "--batch", "2")
    run("train", "tiny.yaml", *SEGMENT, *options)
    assert len(load_dense(Path("runs/tiny") / checkpoints.WEIGHTS).classes) == 3
    message = refused_at_once(capsys, "train", "tiny.yaml", *DETECT, *options, "--out", "other")
    assert "no objects" in message and "rooms" in message
    assert "train for segmentation" in message


def test_options_that_mean_nothing_for_a_task(here: Path, trained: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    def line(*arguments: str | Path) -> str:
        return refused_at_once(capsys, *arguments)

    for task in (SEGMENT, DETECT):
        for option in (("--teacher", "none"), ("--data-dir", "."), ("--download",)):
            message = line("train", "tiny.yaml", *task, *option)
            assert option[0] in message and " ".join(task) in message
    message = line("train", "tiny.yaml", "--head", "semantic_fpn")
    assert "--head" in message and "--task classification" in message
    weights = trained["detection"][0] / checkpoints.WEIGHTS
    for option in (("--rule", "timm"), ("--out", "matrix.png"), ("--data-dir", "."), ("--download",)):
        message = line("evaluate", weights, *option)
        assert option[0] in message and weights.name in message
    message = line("predict", FINE, "--weights", weights, "--model", "l1")
    assert "--model" in message and weights.name in message
    save(EfficientFormer(SMALL), "classifier.safetensors")
    for more in ((), ("--weights", "classifier.safetensors")):
        message = line("predict", FINE, "--out", "overlay.png", *more)
        assert message == "--out draws what a detector or a segmentation found; give its file with --weights"


def test_unknown_or_missing_input_gives_a_single_line_error(
    here: Path, trained: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(*arguments: str | Path) -> str:
        return refused_at_once(capsys, *arguments)

    def train(*arguments: str) -> str:
        return line("train", "tiny.yaml", *arguments)

    weights = trained["detection"][0] / checkpoints.WEIGHTS
    assert "Unknown model 'l2'" in line("train", "l2", *DETECT)
    assert "nothing.yaml: No such file" in line("train", "nothing.yaml", *DETECT)
    heads = "allowed: anchor_decoupled_head, anchor_free_decoupled_head for detection"
    assert train(*DETECT, "--head", "all_mlp_decoder") == f"head='all_mlp_decoder' is not possible; {heads}"
    assert train(*SEGMENT, "--head", "unet").startswith("head='unet' is not possible; allowed: all_mlp_decoder, ")
    assert train(*DETECT, "--recipe", "laptop") == "recipe='laptop' is not possible; allowed: shapes, ade20k, coco"
    assert train(*DETECT, "--data", "nowhere").startswith("nowhere ")
    (here / "empty").mkdir()
    assert train(*DETECT, "--data", "empty").startswith("empty ")
    assert train(*DETECT, "--batch", "9").startswith("8 images do not fill a batch of 9")
    (here / "coarse.yaml").write_text(SMALL.replace(downsamples=(True,) * 4).to_yaml(), encoding="utf-8")
    assert "downsamples=" in line("train", "coarse.yaml", *DETECT)
    assert line("evaluate", weights, "--data", "nowhere").startswith("nowhere ")
    message = line("predict", FINE, "--weights", weights, "--out", "overlay.gif")
    assert "--out overlay.gif" in message and ".svg" in message and ".png" in message
    assert line("predict", "nobody.jpg", "--weights", weights) == "nobody.jpg: No such file or directory"
    assert line("predict", FINE, "--weights", "nothing.safetensors") == "nothing.safetensors: No such file or directory"
    (here / "words.jpg").write_text("no photograph", encoding="utf-8")
    assert "words.jpg" in line("predict", "words.jpg", "--weights", weights)
    (here / "short.safetensors").write_bytes(weights.read_bytes()[:-1])
    for command in (("evaluate", "short.safetensors"), ("predict", FINE, "--weights", "short.safetensors")):
        assert "short.safetensors: the safetensors file is damaged" in line(*command)


def test_grey_backbones_with_colour_images(here: Path) -> None:
    (here / "grey.yaml").write_text(SMALL.replace(in_channels=1).to_yaml(), encoding="utf-8")
    run("train", "grey.yaml", *SEGMENT, *QUICK)
    assert load_dense("runs/grey/weights.safetensors").network.config.backbone.in_channels == 3


def test_a_non_finite_loss_gives_a_single_line_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "wild.yaml").write_text(SMALL.replace(layer_scale_init=1e38).to_yaml(), encoding="utf-8")
    message = refused(capsys, "train", "wild.yaml", *SEGMENT, *QUICK)
    assert message.startswith("step 0: the loss is ")


@pytest.mark.parametrize("arguments", [["train", "tiny.yaml", "--task", "pose"], ["predict", FINE, "--top", "0"]])
def test_wrong_usage_ends_with_2_and_shows_the_usage(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage:")
