"""The commands `train` and `evaluate`: output, files and errors."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import refused, refused_at_once, run
from PIL import Image
from training_runs import CONFIG
from typer.testing import CliRunner

from efficientformer_edu.cli import app
from efficientformer_edu.data.datasets import load_data
from efficientformer_edu.data.fashion_mnist import CLASSES
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training import checkpoints, small
from efficientformer_edu.training.distillation import StoredLogits
from efficientformer_edu.training.recipe import LAPTOP
from efficientformer_edu.weights import class_names, from_weights, save

pytestmark = pytest.mark.slow

QUICK = ("--epochs", "1", "--batch", "1000")
PHOTOGRAPHS = ("--size", "32", "--epochs", "1", "--batch", "4")
LOGGED = re.compile(r" +1 +\d\.\d\de-\d\d +\d\.\d{4} +\d+\.\d{4} +\d+\.\d\d% +\d+\.\d\d% +\d+\.\d")


def records(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(CONFIG.to_yaml(), encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The folder of a run of one epoch, and the output of the command."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(CONFIG.to_yaml(), encoding="utf-8")
    return folder / "run", *run("train", folder / "tiny.yaml", *QUICK, "--out", folder / "run", "--seed", "3")


@pytest.fixture
def pets(here: Path) -> Path:
    """Images of two classes: six each for training and two each for testing, plus one broken file."""
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for name in ("cat", "dog"):
            (here / "pets" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (40, 50, 3), np.uint8)
                Image.fromarray(pixels).save(here / "pets" / split / name / f"{number}.png")
    broken = here / "pets/train/cat/broken.png"
    broken.write_bytes((here / "pets/train/cat/0.png").read_bytes()[:200])
    return here / "pets"


def test_train_prints_its_settings_and_files(trained: tuple[Path, str, str]) -> None:
    folder, out, err = trained
    head, epoch, result, evaluated_by, last = out.splitlines()
    assert head.split()[:4] == ["epoch", "lr", "train", "loss"]
    assert LOGGED.fullmatch(epoch)
    assert re.fullmatch(r"top-1 \d+\.\d\d%, top-5 \d+\.\d\d% of 1,000 images", result)
    assert evaluated_by == f"evaluated on: {load_data('fashion-mnist-small', 'test').description}"
    assert last == f"Weights, log and everything else: {folder}"
    assert err.splitlines() == [load_data("fashion-mnist-small", split).description for split in ("train", "test")]
    assert {path.name for path in folder.iterdir()} == {
        checkpoints.CHECKPOINT,
        checkpoints.LOG,
        checkpoints.RUN,
        checkpoints.WEIGHTS,
    }
    run_record = json.loads((folder / checkpoints.RUN).read_text(encoding="utf-8"))
    assert (run_record["recipe"]["epochs"], run_record["recipe"]["batch"], run_record["seed"], run_record["size"]) == (
        1,
        1000,
        3,
        32,
    )
    assert run_record["result"]["top1"] == pytest.approx(
        float(result.split("%")[0].removeprefix("top-1 ")) / 100, abs=1e-4
    )
    assert run_record["result"]["top1"] > 0.15  # ten classes: after three steps, accuracy is above chance


def test_the_small_network_goes_into_a_folder_of_its_name(pets: Path) -> None:
    out, _ = run("train", "small", "--data", pets, *PHOTOGRAPHS)
    assert out.splitlines()[-1] == f"Weights, log and everything else: {Path('runs/small')}"
    config = json.loads(Path("runs/small/run.json").read_text(encoding="utf-8"))["config"]
    assert config == small.SMALL.replace(num_classes=2, in_channels=3).to_dict()


def test_a_resumed_run_gives_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("train", "tiny.yaml", "--epochs", "2", "--batch", "1500", "--out")
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
    out, _ = run(*arguments, "stopped", "--resume")
    _, epoch, *_ = out.splitlines()  # the first epoch is not trained again
    assert epoch.startswith("    2 ")
    folders = Path("unbroken"), Path("stopped")
    first, second = (from_weights(folder / checkpoints.WEIGHTS).state_dict() for folder in folders)
    assert all(torch.equal(first[name], second[name]) for name in first)
    first, second = ([row["top1"] for row in records((folder / checkpoints.LOG).read_text())] for folder in folders)
    assert first == second and len(first) == 2


def test_resume_errors(trained: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    folder, *_ = trained
    begun = ("train", "tiny.yaml", "--batch", "1000", "--seed", "3", "--out", folder)
    assert "add --resume" in refused(capsys, *begun, "--epochs", "1")
    other = refused(capsys, *begun, "--epochs", "1", "--resume", "--learning-rate", "0.1")
    assert f"recipe.learning_rate was {LAPTOP.learning_rate!r} and now is 0.1" in other and "--init-from" in other
    assert other.count(" was ") == 1  # no entry is the same
    assert "no run to resume" in refused(capsys, "train", "tiny.yaml", *QUICK, "--resume")
    out, _ = run(*begun, "--epochs", "1", "--resume")  # the run is complete: nothing is trained
    assert len(out.splitlines()) == 4


def test_a_finished_run_continues_with_more_epochs(pets: Path) -> None:
    options = ("train", "tiny.yaml", "--data", pets, "--size", "32", "--batch", "4", "--out", "run")
    run(*options, "--epochs", "1")
    out, _ = run(*options, "--epochs", "2", "--resume")
    note, _, epoch, *_ = out.splitlines()
    assert "2 epochs instead of 1" in note
    assert epoch.startswith("    2 ")
    stored = json.loads(Path("run/run.json").read_text(encoding="utf-8"))
    assert (stored["recipe"]["epochs"], stored["extended"]) == (2, [{"after_epoch": 1, "epochs": 1}])


def test_fine_tuning_keeps_the_head_of_the_same_classes_and_replaces_others(
    pets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def head(folder: str) -> torch.Tensor:
        return from_weights(Path(folder) / checkpoints.WEIGHTS).head.weight

    options = ("train", "tiny.yaml", "--data", pets, *PHOTOGRAPHS, "--out")
    tuned = ("--init-from", "first/weights.safetensors")
    run(*options, "first")
    assert refused_at_once(capsys, "train", "tiny.yaml", "--init-from", "no.pth") == "no.pth: No such file or directory"
    out, _ = run(*options, "same", *tuned)
    assert "is kept" in out
    stored = json.loads(Path("same/run.json").read_text(encoding="utf-8"))
    assert (stored["init_from"], stored["classes"]) == ("weights.safetensors", ["cat", "dog"])
    for split in ("train", "val"):
        (pets / split / "dog").rename(pets / split / "bird")
    out, _ = run(*options, "other", *tuned)
    assert "other classes than the data" in out
    assert not torch.equal(head("first"), head("other"))


def test_class_names_of_the_data_are_those_that_predict_prints_and_evaluate_compares(
    pets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = Path("run") / checkpoints.WEIGHTS
    run("train", "tiny.yaml", "--data", pets, *PHOTOGRAPHS, "--out", "run")
    out, err = run("predict", pets / "val/cat/0.png", "--weights", weights)
    assert {line.split()[-1] for line in out.splitlines()[1:]} == {"cat", "dog"} and err == ""
    _, err = run("evaluate", weights, "--data", pets, "--size", "32")
    assert "does not name" not in err
    for target in ("copy.safetensors", "copy.pth"):  # a torch file in this layout cannot store names
        _, err = run("convert", weights, target, "--layout", "native")
        out, note = run("predict", pets / "val/cat/0.png", "--weights", target)
        assert ("class names are not stored" in err) == ("does not name its classes" in note) == (target == "copy.pth")
        assert ("dog" in out) == (target != "copy.pth")
    (pets / "names.txt").write_text("tabby\nhound\n", encoding="utf-8")
    out, err = run("predict", pets / "val/cat/0.png", "--weights", "copy.pth", "--classes", pets / "names.txt")
    assert {line.split()[-1] for line in out.splitlines()[1:]} == {"tabby", "hound"} and err == ""
    message = refused(capsys, "predict", pets / "val/cat/0.png", "--weights", "copy.pth", "--classes", "imagenet")
    assert "1000 names" in message and "2 classes" in message
    _, err = run("evaluate", "copy.pth", "--data", pets, "--size", "32")
    assert "copy.pth does not name its classes" in err
    for split in ("train", "val"):
        (pets / split / "dog").rename(pets / split / "bird")
    message = refused_at_once(capsys, "evaluate", weights, "--data", pets, "--size", "32")
    assert "class 0 is 'cat'" in message and "'bird' in the data" in message


def test_a_thousand_classes_are_not_imagenets_for_that(pets: Path) -> None:
    network = EfficientFormer(CONFIG.replace(num_classes=1000, in_channels=3))
    save(network, "thousand.safetensors", layout="native")
    out, err = run("predict", pets / "val/cat/0.png", "--weights", "thousand.safetensors")
    assert all(len(line.split()) == 2 for line in out.splitlines()[1:])
    assert "does not name its classes" in err
    out, err = run("predict", pets / "val/cat/0.png", "--weights", "thousand.safetensors", "--classes", "imagenet")
    _, label, name = out.splitlines()[1].split(maxsplit=2)
    assert class_names()[int(label)] == name and err == ""


def test_unknown_or_missing_input_gives_a_single_line_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def line(*arguments: str | Path) -> str:
        return refused_at_once(capsys, "train", *arguments)

    assert "Unknown model 'l2'" in line("l2")
    assert "nothing.yaml: No such file" in line("nothing.yaml")
    message = line("tiny.yaml", "--recipe", "swift")
    assert "recipe='swift'" in message and "paper, code, laptop" in message
    assert "epochs=3" in line("tiny.yaml", "--recipe", "code", "--epochs", "3", "--teacher", "none")
    assert "nowhere" in line("tiny.yaml", "--data", "nowhere")
    assert "data_dir" in line("tiny.yaml", "--data-dir", here)


def test_a_missing_tracker_is_reported_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it were not installed
    message = refused_at_once(capsys, "train", "tiny.yaml", *QUICK, "--tracker", "tensorboard")
    assert "tensorboard is missing: pip install" in message


def test_too_few_images_for_a_batch(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "train", "tiny.yaml", "--data", pets, *PHOTOGRAPHS, "--batch", "13")
    assert "12 images" in message and "batch of 13" in message


def test_a_recipe_that_distils_needs_a_teacher(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused_at_once(capsys, "train", "tiny.yaml", "--recipe", "paper", "--batch", "1000")
    assert all(part in message for part in ("--teacher FILE", "timm:NAME", "logits:FILE", "--teacher none"))
    Path("one.yaml").write_text(CONFIG.replace(distillation=False).to_yaml(), encoding="utf-8")
    save(EfficientFormer(CONFIG), "teacher.safetensors", layout="native")
    message = refused_at_once(capsys, "train", "one.yaml", *QUICK, "--teacher", "teacher.safetensors")
    assert "one head cannot learn from a teacher" in message


def test_without_a_teacher_the_papers_recipe_learns_from_labels(pets: Path) -> None:
    options = ("--data", pets, "--size", "32", "--recipe", "paper", "--epochs", "6", "--batch", "12", "--out", "run")
    run("train", "tiny.yaml", *options, "--teacher", "none")
    recipe = json.loads(Path("run/run.json").read_text(encoding="utf-8"))["recipe"]
    assert (recipe["distillation"], recipe["repeated_aug"]) == (None, 3)
    assert Path("run/average.safetensors").exists()


def test_teachers() -> None:
    save(EfficientFormer(CONFIG), "teacher.safetensors", layout="native")
    run("train", "tiny.yaml", *QUICK, "--teacher", "teacher.safetensors", "--out", "network")
    run_record = json.loads(Path("network/run.json").read_text(encoding="utf-8"))
    assert (run_record["teacher"], run_record["recipe"]["distillation"]) == ("teacher.safetensors", "hard")

    images = load_data("fashion-mnist-small", "train")
    StoredLogits(torch.eye(10)[images.labels]).save("all.safetensors")
    run("train", "tiny.yaml", *QUICK, "--teacher", "logits:all.safetensors", "--out", "stored")
    assert json.loads(Path("stored/run.json").read_text(encoding="utf-8"))["teacher"] == "logits:all.safetensors"


def test_teachers_that_do_not_fit(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def line(teacher: str) -> str:
        return refused_at_once(capsys, "train", "tiny.yaml", *QUICK, "--teacher", teacher)

    assert "nobody.pth: No such file" in line("nobody.pth")
    (here / "words.pth").write_text("no weights at all", encoding="utf-8")
    assert "words.pth: this is neither a safetensors nor a torch file" in line("words.pth")
    save(EfficientFormer(CONFIG.replace(num_classes=7)), "seven.safetensors", layout="native")
    message = line("seven.safetensors")
    has, need = (f"num_classes={classes}, in_channels=1" for classes in (7, 10))
    assert message == f"seven.safetensors has {has}; these data need {need}"
    save(EfficientFormer(CONFIG.replace(in_channels=3)), "colour.safetensors", layout="native")
    assert "has num_classes=10, in_channels=3" in line("colour.safetensors")
    StoredLogits(torch.zeros(5, 10)).save("few.safetensors")
    assert "few.safetensors: logits have the shape (5, 10); expected (4000, 10)" in line("logits:few.safetensors")
    assert "nowhere" in line("logits:nowhere.safetensors")
    assert "holds" in line("logits:seven.safetensors")
    assert "timm" in line("timm:no_such_network")  # timm has no model of that name, or is not installed


def test_a_non_finite_loss_gives_a_single_line_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "wild.yaml").write_text(CONFIG.replace(layer_scale_init=1e38).to_yaml(), encoding="utf-8")
    message = refused(capsys, "train", "wild.yaml", *QUICK)
    assert message.startswith("step 0: the loss is ")


def test_images_and_a_broken_file(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run("train", "tiny.yaml", "--data", pets, *PHOTOGRAPHS)
    warning, *lines = err.splitlines()
    assert re.match("Warning: pets: 1 of 13 images left out; .*broken.png: ", warning)
    assert lines == ["pets, 12 training images of 2 classes, 1 left out", "pets, 4 test images of 2 classes"]
    assert "evaluated on: pets, 4 test images of 2 classes" in out
    network = from_weights("runs/tiny/weights.safetensors")
    assert (network.config.num_classes, network.config.in_channels) == (2, 3)
    message = refused_at_once(capsys, "train", "tiny.yaml", "--data", pets, *PHOTOGRAPHS, "--strict")
    assert "broken.png" in message


def test_folders_that_are_not_split_or_mixed_up(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def line(data: Path) -> str:
        return refused_at_once(capsys, "train", "tiny.yaml", "--data", data, *PHOTOGRAPHS)

    expected = "has no folder train"
    assert expected in line(pets / "train")
    (pets / "val/bird").mkdir()
    shutil.copy(pets / "val/cat/0.png", pets / "val/bird/0.png")
    assert "no class of this name" in line(pets)
    shutil.rmtree(pets / "val")
    assert "has train, but no val or test" in line(pets)


def test_labels_that_belong_to_other_images(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x01" + bytes(60_000))
    message = refused_at_once(capsys, "train", "tiny.yaml", "--data", "fashion-mnist", "--data-dir", here)
    assert re.search(r"train-images-idx3-ubyte .*labels.*images", message)


def test_evaluate_agrees_with_the_run(trained: tuple[Path, str, str], here: Path) -> None:
    folder, output, _ = trained
    weights = folder / checkpoints.WEIGHTS
    out, err = run("evaluate", weights, "--batch", "1000", "--out", "matrix.png")
    *_, result, _, _ = output.splitlines()
    assert out.splitlines()[-1] == f"{result}; 32×32 pixels, crop rule official"
    assert err.strip() == load_data("fashion-mnist-small", "test").description
    assert (here / "matrix.png").read_bytes().startswith(b"\x89PNG")
    rows = records(run("evaluate", weights, "--format", "csv")[0])
    assert [row["class"] for row in rows] == list(CLASSES)
    assert {row["images"] for row in rows} == {"100"}
    as_json = json.loads(run("evaluate", weights, "--format", "json")[0])
    assert [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in as_json] == rows
    assert {type(row["top-1"]) for row in as_json} == {float}
    top1 = json.loads((folder / checkpoints.RUN).read_text(encoding="utf-8"))["result"]["top1"]
    assert sum(float(row["top-1"]) for row in rows) / 10 == pytest.approx(top1)


def test_evaluate_images_with_a_crop_rule(pets: Path) -> None:
    save(EfficientFormer(CONFIG.replace(num_classes=2, in_channels=3)), "pets.safetensors", layout="native")
    out, _ = run("evaluate", "pets.safetensors", "--data", pets, "--rule", "timm", "--size", "64")
    assert out.splitlines()[-1].endswith("of 4 images; 64×64 pixels, crop rule timm")
    out, _ = run("evaluate", "pets.safetensors", "--data", pets)
    assert out.splitlines()[-1].endswith("224×224 pixels, crop rule official")
    output, err = run("evaluate", "pets.safetensors", "--data", pets / "train", "--size", "32")
    assert "of 12 images" in output and "1 of 13 images left out" in err


def test_evaluate_errors(pets: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def line(*arguments: str | Path) -> str:
        return refused_at_once(capsys, "evaluate", *arguments)

    save(EfficientFormer(CONFIG.replace(num_classes=7)), "seven.safetensors", layout="native")
    assert ".png or .svg" in line("seven.safetensors", "--out", "matrix.pdf")
    assert "nothing.pth: No such file" in line("nothing.pth")
    (here / "page.pth").write_text("<html>", encoding="utf-8")
    assert "page.pth: this is neither" in line("page.pth")
    assert "7 classes, but the data have 10" in line("seven.safetensors")
    assert "nowhere" in line("seven.safetensors", "--data", "nowhere")
    assert "rule" in line("seven.safetensors", "--rule", "mine")
    assert "broken.png" in line("seven.safetensors", "--data", pets / "train", "--strict")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["train", "tiny.yaml", "--epochs", "0"],
        ["train", "tiny.yaml", "--batch", "1"],
        ["train", "tiny.yaml", "--size", "31"],
        ["train", "tiny.yaml", "--seed", "-1"],
        ["evaluate"],
        ["evaluate", "tiny.safetensors", "--format", "xml"],
        ["evaluate", "tiny.safetensors", "--batch", "0"],
    ],
)
def test_wrong_usage_ends_with_2_and_shows_the_usage(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage:")
    assert result.stdout == ""


def test_the_laptops_recipe_is_the_default() -> None:
    run("train", "tiny.yaml", *QUICK)
    recipe = json.loads(Path("runs/tiny/run.json").read_text(encoding="utf-8"))["recipe"]
    assert {**recipe, "epochs": LAPTOP.epochs, "batch": LAPTOP.batch} == {
        name: getattr(LAPTOP, name) for name in recipe
    }
