"""A single interface for all image data."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from efficientformer_edu.data import datasets
from efficientformer_edu.data.datasets import Images, load_data


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
    assert train.words == "Fashion-MNIST, 4,000 of its training images"
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
    assert load_data("fashion-mnist", "test", data_dir=tmp_path, download=True).words == "Fashion-MNIST, 3 test images"
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
    with pytest.warns(UserWarning, match="1 of 4 images left out; first reason: .*4.jpg: this is no image"):
        assert load_data(folder, "test").skipped == 1
    with pytest.raises(ValueError, match="4.jpg: this is no image"):
        load_data(folder, "test", strict=True)


def test_a_file_that_breaks_later_is_named(folder: Path) -> None:
    images = load_data(folder, "train")
    (folder / "cat" / "1.png").write_bytes(b"")
    with pytest.raises(ValueError, match="1.png: this is no image, or it is broken"):
        images[0]


def test_what_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="mnist is no folder; use 'fashion-mnist', 'fashion-mnist-small' or a"):
        load_data(tmp_path / "mnist", "train")
    with pytest.raises(ValueError, match="split='val' is unknown; use 'train' or 'test'"):
        load_data("fashion-mnist-small", "val")  # type: ignore[arg-type]


@pytest.mark.parametrize("option", [{"download": True}, {"data_dir": Path()}])
def test_an_option_without_meaning_is_refused(option: dict) -> None:
    with pytest.raises(ValueError, match="data_dir and download are for 'fashion-mnist' alone"):
        load_data("fashion-mnist-small", "train", **option)


def test_every_image_needs_a_label() -> None:
    with pytest.raises(ValueError, match="2 pictures and 3 labels"):
        Images(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), [0, 1, 2], ("a",), "")
