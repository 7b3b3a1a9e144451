"""Folders of images: layouts, classes, linked and hidden folders, and files that cannot be read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientformer_edu.data.folders import find
from efficientformer_edu.data.images import PIXEL_LIMIT, check_image

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def put(path: Path, number: int = 0) -> Path:
    """A small image, different for every number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.roll(PIXELS, number)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, three images to train on and two to test."""
    for name in ("train/cat/1.jpg", "train/cat/2.PNG", "train/dog/deeper/3.jpeg", "val/cat/4.jpg", "val/dog/5.webp"):
        put(tmp_path / "pets" / name)
    return tmp_path / "pets"


def names(files: list[Path]) -> list[str]:
    return [path.name for path in files]


def test_both_splits(root: Path) -> None:
    train, test = find(root, "train", False), find(root, "test", False)
    assert (names(train.files), train.labels) == (["1.jpg", "2.PNG", "3.jpeg"], [0, 0, 1])
    assert (names(test.files), test.labels) == (["4.jpg", "5.webp"], [0, 1])
    assert train.classes == test.classes == ("cat", "dog")
    assert train.words == "pets, 3 training images of 2 classes"
    assert test.words == "pets, 2 test images of 2 classes"


def test_test_is_used_for_val(root: Path) -> None:
    (root / "val").rename(root / "test")
    assert names(find(root, "test", False).files) == ["4.jpg", "5.webp"]


def test_a_folder_without_splits_is_used_completely(root: Path) -> None:
    for split in ("train", "test"):
        assert names(find(root / "train", split, False).files) == ["1.jpg", "2.PNG", "3.jpeg"]


def test_a_split_that_is_not_there_is_missed(root: Path) -> None:
    (root / "val").rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match="pets has train, but no val or test for the test images"):
        find(root, "test", False)
    (root / "train").rename(root / "val")
    with pytest.raises(FileNotFoundError, match="pets has val, but no train for the train images"):
        find(root, "train", False)


def test_labels_are_those_of_training(root: Path) -> None:
    put(root / "train" / "bird" / "6.jpg")
    assert find(root, "test", False).labels == [1, 2]
    put(root / "val" / "ant" / "7.jpg")
    with pytest.raises(ValueError, match="ant: there is no class of this name in .*train"):
        find(root, "test", False)


def test_other_files_are_no_images(root: Path) -> None:
    hidden = ("train/.cache/1.jpg", "train/cat/.thumbnails/1.jpg", "train/dog/deeper/.cache/a/b/1.jpg")
    for name in ("train/readme.txt", "train/cat/Thumbs.db", "train/cat/._1.jpg", *hidden):
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_bytes(b"no image")
    images = find(root, "train", True)
    assert (len(images.files), images.skipped, images.classes) == (3, 0, ("cat", "dog"))


def test_folders_without_classes_or_images(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty has no sub-folders; expected is one for each class"):
        find(tmp_path / "empty", "train", False)
    (root / "train" / "cow").mkdir()
    with pytest.raises(ValueError, match=r"cow has no readable image \(it is empty\)"):
        find(root, "train", False)


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
    path = put(root / "train" / "cat" / name)
    check_image(path)
    path.write_bytes(BROKEN[name](path.read_bytes()))
    with pytest.warns(UserWarning, match=f"pets: 1 of 4 images left out; first reason: .*{name}: "):
        images = find(root, "train", False)
    assert (names(images.files), images.labels, images.skipped) == (["1.jpg", "2.PNG", "3.jpeg"], [0, 0, 1], 1)
    assert images.words == "pets, 3 training images of 2 classes, 1 left out"
    with pytest.raises(ValueError, match=re.escape(f"{path}: ")):
        find(root, "train", True)


def test_strict_counts_the_others(root: Path) -> None:
    for name in ("8.jpg", "9.jpg"):
        (root / "train" / "dog" / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"8.jpg: .* \(and 1 more\)"):
        find(root, "train", True)


def test_a_class_of_broken_images_has_a_first_reason(root: Path) -> None:
    (root / "train/dog/deeper/3.jpeg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"dog has no readable image \(.*3.jpeg: this is no image"):
        find(root, "train", False)


def test_linked_folders_are_followed(root: Path, tmp_path: Path) -> None:
    """A class or a folder in it, but not a link to a parent folder, which would never end."""
    (root / "train/cat").rename(tmp_path / "cats")
    (root / "train/cat").symlink_to(tmp_path / "cats", target_is_directory=True)
    (root / "train/dog/deeper").rename(tmp_path / "deeper")
    (root / "train/dog/more").symlink_to(tmp_path / "deeper", target_is_directory=True)
    (tmp_path / "deeper/again").symlink_to(tmp_path / "deeper", target_is_directory=True)
    (root / "train/dog/up").symlink_to(root, target_is_directory=True)
    (root / "train/dog/gone").symlink_to(tmp_path / "gone", target_is_directory=True)
    images = find(root, "train", True)
    assert (names(images.files), images.labels, images.classes) == (
        ["1.jpg", "2.PNG", "3.jpeg"],
        [0, 0, 1],
        ("cat", "dog"),
    )


def test_an_image_that_is_too_large_is_not_called_broken(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (600, 400)).save(root / "train/cat/9.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    with pytest.warns(UserWarning) as caught:
        assert find(root, "train", False).skipped == 1
    (message,) = (str(warning.message) for warning in caught)
    assert re.search(f"9.jpg: the image is too large: .*240000 pixels.*{PIXEL_LIMIT}", message)
    assert "broken" not in message
    monkeypatch.setenv(PIXEL_LIMIT, "240000")
    assert find(root, "train", True).skipped == 0
