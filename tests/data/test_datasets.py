"""Data sets by name or folder: Fashion-MNIST, class folders, COCO, mask folders and synthetic scenes."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_folders import annotation, coco_content, write_coco, write_masks
from PIL import Image

from efficientformer_edu.data import datasets
from efficientformer_edu.data.coco import Coco
from efficientformer_edu.data.datasets import SCENES, Images, load_data, load_examples, read_image_folder
from efficientformer_edu.data.images import PIXEL_LIMIT, check_image
from efficientformer_edu.data.mask_folders import MaskFolder
from efficientformer_edu.data.shapes import Shapes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, colour in (("cat/1.png", (255, 0, 0)), ("dog/2.png", (0, 0, 255))):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (50, 40), colour).save(tmp_path / name)
    Image.new("L", (50, 40), 7).save(tmp_path / "dog" / "3.png")
    return tmp_path


def test_the_small_set() -> None:
    train, test = load_data("fashion-mnist-small", "train"), load_data("fashion-mnist-small", "test")
    assert (len(train), len(test)) == (4000, 1000)
    assert train.classes == test.classes and train.classes[9] == "Ankle boot"
    assert (train.channels, train.skipped) == (1, 0)
    assert train.description == "Fashion-MNIST, 4,000 of its training images"
    assert repr(test) == "Images: Fashion-MNIST, 1,000 of its test images"
    picture, label = train[7]
    assert picture.shape == (1, 28, 28) and picture.dtype == torch.uint8
    assert label == train.labels[7] and isinstance(label, int)


def test_the_full_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []

    def full(*arguments: object) -> tuple[torch.Tensor, list[int]]:
        calls.append(arguments)
        return torch.zeros(3, 1, 28, 28, dtype=torch.uint8), [0, 1, 2]

    monkeypatch.setattr(datasets.fashion_mnist, "full", full)
    assert (
        load_data("fashion-mnist", "test", data_dir=tmp_path, download=True).description
        == "Fashion-MNIST, 3 test images"
    )
    assert calls == [("test", tmp_path, True)]


@pytest.mark.skipif(not datasets.fashion_mnist.DEBIAN.is_dir(), reason="needs Debian's dataset-fashion-mnist")
@pytest.mark.parametrize(("split", "count"), [("train", 60_000), ("test", 10_000)])
def test_the_full_set_of_debian(split: datasets.Split, count: int) -> None:
    images = load_data("fashion-mnist", split)
    assert len(images) == count
    assert np.bincount(images.labels).tolist() == [count // 10] * 10


def test_a_folder(folder: Path) -> None:
    images = load_data(str(folder), "train")
    assert (images.classes, images.labels, images.channels) == (("cat", "dog"), [0, 1, 1], 3)
    assert len(images) == 3
    picture, label = images[1]
    assert (picture.mode, picture.size, picture.getpixel((0, 0)), label) == ("RGB", (50, 40), (0, 0, 255), 1)
    assert images[2][0].getpixel((0, 0)) == (7, 7, 7)
    assert images[-1][1] == 1
    with pytest.raises(IndexError):
        images[3]
    assert pickle.loads(pickle.dumps(images))[1][0].tobytes() == picture.tobytes()  # required by worker processes


def test_broken_images_are_counted_or_refused(folder: Path) -> None:
    (folder / "cat" / "4.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match="1 of 4 images left out; first reason: .*4.jpg: not an image"):
        assert load_data(folder, "test").skipped == 1
    with pytest.raises(ValueError, match="4.jpg: not an image"):
        load_data(folder, "test", strict=True)


def test_a_file_that_breaks_later_is_named(folder: Path) -> None:
    images = load_data(folder, "train")
    (folder / "cat" / "1.png").write_bytes(b"")
    with pytest.raises(ValueError, match="1.png: not an image, or a broken one"):
        images[0]


def test_what_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match="mnist is not a folder; allowed: 'fashion-mnist', 'fashion-mnist-small' or a"
    ):
        load_data(tmp_path / "mnist", "train")
    with pytest.raises(ValueError, match="split 'val'"):
        load_data("fashion-mnist-small", "val")  # type: ignore[arg-type]


@pytest.mark.parametrize("option", [{"download": True}, {"data_dir": Path()}])
def test_an_option_without_meaning_is_refused(option: dict) -> None:
    with pytest.raises(ValueError, match="data_dir and download apply to 'fashion-mnist' only"):
        load_data("fashion-mnist-small", "train", **option)


def test_every_image_needs_a_label() -> None:
    with pytest.raises(ValueError, match="2 images and 3 labels"):
        Images(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), [0, 1, 2], ("a",), "")


PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def put_image(path: Path, number: int = 0) -> Path:
    """A small image, different for every number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.roll(PIXELS, number)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, three images to train on and two to test."""
    for name in ("train/cat/1.jpg", "train/cat/2.PNG", "train/dog/deeper/3.jpeg", "val/cat/4.jpg", "val/dog/5.webp"):
        put_image(tmp_path / "pets" / name)
    return tmp_path / "pets"


def names(files: list[Path]) -> list[str]:
    return [path.name for path in files]


def test_both_splits(root: Path) -> None:
    train, test = read_image_folder(root, "train", False), read_image_folder(root, "test", False)
    assert (names(train._images), train.labels) == (["1.jpg", "2.PNG", "3.jpeg"], [0, 0, 1])
    assert (names(test._images), test.labels) == (["4.jpg", "5.webp"], [0, 1])
    assert train.classes == test.classes == ("cat", "dog")
    assert train.description == "pets, 3 training images of 2 classes"
    assert test.description == "pets, 2 test images of 2 classes"


def test_test_is_used_for_val(root: Path) -> None:
    (root / "val").rename(root / "test")
    assert names(read_image_folder(root, "test", False)._images) == ["4.jpg", "5.webp"]


def test_a_folder_without_splits_is_used_completely(root: Path) -> None:
    for split in ("train", "test"):
        assert names(read_image_folder(root / "train", split, False)._images) == ["1.jpg", "2.PNG", "3.jpeg"]


def test_a_split_that_is_not_there_is_missed(root: Path) -> None:
    (root / "val").rename(root / "other")
    with pytest.raises(FileNotFoundError, match="pets has train, but no val or test for the test images"):
        read_image_folder(root, "test", False)
    (root / "train").rename(root / "val")
    with pytest.raises(FileNotFoundError, match="pets has val, but no train for the train images"):
        read_image_folder(root, "train", False)


def test_labels_are_those_of_training(root: Path) -> None:
    put_image(root / "train" / "bird" / "6.jpg")
    assert read_image_folder(root, "test", False).labels == [1, 2]
    put_image(root / "val" / "ant" / "7.jpg")
    with pytest.raises(ValueError, match="ant: .*train has no class of this name"):
        read_image_folder(root, "test", False)


def test_other_files_are_no_images(root: Path) -> None:
    hidden = ("train/.cache/1.jpg", "train/cat/.thumbnails/1.jpg", "train/dog/deeper/.cache/a/b/1.jpg")
    for name in ("train/readme.txt", "train/cat/Thumbs.db", "train/cat/._1.jpg", *hidden):
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_bytes(b"no image")
    images = read_image_folder(root, "train", True)
    assert (len(images._images), images.skipped, images.classes) == (3, 0, ("cat", "dog"))


def test_folders_without_classes_or_images(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty has no sub-folders; expected one per class"):
        read_image_folder(tmp_path / "empty", "train", False)
    (root / "train" / "cow").mkdir()
    with pytest.raises(ValueError, match=r"cow has no readable image \(it is empty\)"):
        read_image_folder(root, "train", False)


BROKEN = {
    "empty.jpg": lambda data: b"",
    "text.jpg": lambda data: b"<html>404</html>",
    "cut.jpg": lambda data: data[: len(data) // 2],
    "headless.jpg": lambda data: data[10:],
    "cut.png": lambda data: data[: len(data) // 2],
    "flipped.png": lambda data: data[:3000] + b"......" + data[3006:],
    "cut.webp": lambda data: data[: len(data) // 2],
    "cut.bmp": lambda data: data[:-500],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_detected_left_out_and_counted(root: Path, name: str) -> None:
    path = put_image(root / "train" / "cat" / name)
    check_image(path)
    path.write_bytes(BROKEN[name](path.read_bytes()))
    with pytest.warns(UserWarning, match=f"pets: 1 of 4 images left out; first reason: .*{name}: "):
        images = read_image_folder(root, "train", False)
    assert (names(images._images), images.labels, images.skipped) == (["1.jpg", "2.PNG", "3.jpeg"], [0, 0, 1], 1)
    assert images.description == "pets, 3 training images of 2 classes, 1 left out"
    with pytest.raises(ValueError, match=re.escape(f"{path}: ")):
        read_image_folder(root, "train", True)


def test_strict_counts_the_others(root: Path) -> None:
    for name in ("8.jpg", "9.jpg"):
        (root / "train" / "dog" / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"8.jpg: .* \(and 1 more\)"):
        read_image_folder(root, "train", True)


def test_a_class_of_broken_images_has_a_first_reason(root: Path) -> None:
    (root / "train/dog/deeper/3.jpeg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"dog has no readable image \(.*3.jpeg: not an image"):
        read_image_folder(root, "train", False)


def test_linked_folders_are_followed(root: Path, tmp_path: Path) -> None:
    """A class or a folder in it, but not a link to a parent folder, which would never end."""
    (root / "train/cat").rename(tmp_path / "cats")
    (root / "train/cat").symlink_to(tmp_path / "cats", target_is_directory=True)
    (root / "train/dog/deeper").rename(tmp_path / "deeper")
    (root / "train/dog/more").symlink_to(tmp_path / "deeper", target_is_directory=True)
    (tmp_path / "deeper/again").symlink_to(tmp_path / "deeper", target_is_directory=True)
    (root / "train/dog/up").symlink_to(root, target_is_directory=True)
    (root / "train/dog/gone").symlink_to(tmp_path / "gone", target_is_directory=True)
    images = read_image_folder(root, "train", True)
    assert (names(images._images), images.labels, images.classes) == (
        ["1.jpg", "2.PNG", "3.jpeg"],
        [0, 0, 1],
        ("cat", "dog"),
    )


def test_an_image_that_is_too_large_is_not_called_broken(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (600, 400)).save(root / "train/cat/9.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    with pytest.warns(UserWarning) as caught:
        assert read_image_folder(root, "train", False).skipped == 1
    (message,) = (str(warning.message) for warning in caught)
    assert re.search(f"9.jpg: the image is too large: .*240000 pixels.*{PIXEL_LIMIT}", message)
    assert "broken" not in message
    monkeypatch.setenv(PIXEL_LIMIT, "240000")
    assert read_image_folder(root, "train", True).skipped == 0


@pytest.mark.parametrize("split", ["train", "test"])
def test_synthetic_scenes(split):
    scenes = load_examples("shapes", split)
    assert isinstance(scenes, Shapes)
    assert (len(scenes), scenes.split) == (SCENES[split], split)
    assert scenes[0].image.shape == (3, 96, 96)
    assert load_examples("shapes", split, size=48)[0].image.shape == (3, 48, 48)


def test_the_layout_of_coco(tmp_path):
    write_coco(tmp_path, coco_content(annotation()))
    write_coco(tmp_path, coco_content(annotation(), annotation(image=5)), "val2017")
    train, test = (load_examples(tmp_path, split) for split in ("train", "test"))
    assert isinstance(train, Coco)
    assert [len(train[1].labels), len(test[1].labels)] == [0, 1]


def test_coco_of_another_year(tmp_path):
    write_coco(tmp_path, coco_content(annotation()), "train")
    assert len(load_examples(str(tmp_path), "train")) == 2


def test_a_split_of_coco_that_is_not_there(tmp_path):
    write_coco(tmp_path, coco_content(annotation()))
    with pytest.raises(FileNotFoundError, match=r"annotations has no instances_val\*.json"):
        load_examples(tmp_path, "test")


def test_which_year_of_coco(tmp_path):
    for part in ("train2014", "train2017"):
        write_coco(tmp_path, coco_content(), part)
    with pytest.raises(ValueError, match="several .*: instances_train2014.json, instances_train2017.json"):
        load_examples(tmp_path, "train")


@pytest.mark.parametrize("masks", ["masks", "annotations"])
def test_masks(tmp_path, masks):
    assert isinstance(load_examples(write_masks(tmp_path, masks), "train"), MaskFolder)


def test_strict_is_passed_on(tmp_path):
    write_coco(tmp_path / "coco", coco_content(annotation(), annotation(category=3)))
    write_masks(tmp_path / "masks")
    (tmp_path / "masks/masks/train/a.png").unlink()
    for folder in ("coco", "masks"):
        with pytest.warns(UserWarning, match="left out"):
            assert load_examples(tmp_path / folder, "train").skipped == 1
        with pytest.raises((ValueError, FileNotFoundError)):
            load_examples(tmp_path / folder, "train", strict=True)


def test_what_is_no_data(tmp_path):
    with pytest.raises(FileNotFoundError, match="square is not a folder; allowed: 'shapes'"):
        load_examples("square", "train")
    with pytest.raises(ValueError, match=r"neither annotations/instances_train\*.json.* nor images/ .*'shapes'"):
        load_examples(tmp_path, "train")
    with pytest.raises(ValueError, match="'val'.*train, test"):
        load_examples("shapes", "val")


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from jaxtyping import install_import_hook, TypeCheckError

with install_import_hook("efficientformer_edu.data", "beartype.beartype"):
    from efficientformer_edu.data.datasets import load_examples
    from efficientformer_edu.data.letterbox import Letterbox

import torch
import dense_folders as small

root = Path(sys.argv[2])
small.write_coco(root / "coco", small.coco_content(small.annotation(iscrowd=1), small.annotation(segmentation=[])))
small.write_masks(root / "masks")
for data in ("shapes", root / "coco", root / "masks"):
    example = load_examples(data, "train")[0]
    for generator in (None, torch.Generator().manual_seed(0)):
        image, target, params = Letterbox(40, (0.5, 2.0), True)(example, generator)
        params.restore_semantic(target.semantic)
        params.restore_boxes(target.boxes)
try:
    params.restore_boxes(torch.zeros(3, 5))
except TypeCheckError:
    print("refused")
"""


@pytest.mark.slow
def test_every_signature_holds(tmp_path):
    command = [sys.executable, "-B", "-W", "ignore", "-c", PROGRAM, str(Path(__file__).parents[1]), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    assert run.stdout.split() == ["refused"]
