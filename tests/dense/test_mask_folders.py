"""Folders of images and masks, plain and as ADE20K's, and every kind of pair that is broken."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from dense_folders import HEIGHT, WIDTH, put, write_masks
from PIL import Image

from efficientformer_edu.dense.examples import IGNORED
from efficientformer_edu.dense.mask_folders import read_mask_folder

INFO = "Idx\tRatio\tTrain\tVal\tName\n1\t0.2\t11\t1\twall\n2 \t0.1\t6\t6\tbuilding, edifice\n3\t0.1\t8\t8\tbed \n"


@pytest.fixture
def root(tmp_path):
    """With names for the classes."""
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms/classes.txt").write_text("wall\n bed \nlamp\n\n", encoding="utf-8")
    return write_masks(tmp_path / "rooms")


def test_both_splits(root):
    train, test = (read_mask_folder(root, split, strict=True) for split in ("train", "test"))
    assert (len(train), len(test), train.skipped) == (2, 1, 0)
    assert train.classes == ()
    assert train.pixel_classes == test.pixel_classes == ("wall", "bed", "lamp")
    assert repr(train) == "MaskFolder: rooms, 2 training images, pixels of 3 classes"
    assert test.words == "rooms, 1 test images, pixels of 3 classes"


def test_an_example(root):
    found = read_mask_folder(root, "train")[0]
    with Image.open(root / "images/train/a.jpg") as image:
        assert torch.equal(found.image, torch.from_numpy(np.array(image)).permute(2, 0, 1))
    assert (found.semantic[:-1, : WIDTH // 2] == 0).all()
    assert (found.semantic[:-1, WIDTH // 2 :] == 2).all()
    assert (found.semantic[-1] == IGNORED).all()
    assert (found.boxes.shape, found.masks.shape) == ((0, 4), (0, HEIGHT, WIDTH))
    assert (found.labels.dtype, found.crowd.dtype, found.masks.dtype) == (torch.int64, torch.bool, torch.bool)


@pytest.mark.parametrize("name", ["validation", "test"])
def test_other_names_of_the_splits(tmp_path, name):
    root = write_masks(tmp_path, splits=("training", name))
    assert [len(read_mask_folder(root, split)) for split in ("train", "test")] == [2, 1]


def test_classes_without_names_are_numbers(tmp_path):
    root = write_masks(tmp_path)
    put(root / "masks/val/c.png", np.ones((HEIGHT, WIDTH)))  # class 2 is seen in training alone
    assert read_mask_folder(root, "test").pixel_classes == ("class 0", "class 1", "class 2")


def test_ade20k(tmp_path):
    """There 0 is a pixel without a class, and classes count from 1; of several names the first is taken."""
    root = write_masks(tmp_path / "ADEChallengeData2016", "annotations", ("training", "validation"))
    ids = np.zeros((HEIGHT, WIDTH))
    ids[:5], ids[5:9] = 1, 3
    put(root / "annotations/validation/c.png", ids)
    for mask in (root / "annotations/training").rglob("*.png"):
        put(mask, ids)
    assert read_mask_folder(root, "test").pixel_classes == ("class 0", "class 1", "class 2")
    (root / "objectInfo150.txt").write_text(INFO, encoding="utf-8")
    data = read_mask_folder(root, "test", strict=True)
    assert data.pixel_classes == ("wall", "building", "bed")
    semantic = data[0].semantic
    assert (semantic[:5] == 0).all()
    assert (semantic[5:9] == 2).all()
    assert (semantic[9:] == IGNORED).all()


def test_a_number_beyond_ade20ks_classes(tmp_path):
    root = write_masks(tmp_path, "annotations", ("training", "validation"))
    (root / "objectInfo150.txt").write_text(INFO, encoding="utf-8")
    put(root / "annotations/validation/c.png", np.full((HEIGHT, WIDTH), 4))
    with pytest.raises(ValueError, match="holds 4; its 3 classes are the numbers 1 to 3"):
        read_mask_folder(root, "test", strict=True)


@pytest.mark.parametrize("mode", ["P", "1"])
def test_masks_with_a_palette_or_of_one_bit(root, mode):
    """What counts is the number of the colour, and not the colour."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[3:8] = 1
    image = Image.fromarray(ids if mode == "P" else ids * 255)
    if mode == "P":
        image.putpalette([200, 0, 0, 0, 0, 90])
    image.convert(mode).save(root / "masks/val/c.png")
    assert torch.equal(read_mask_folder(root, "test", strict=True)[0].semantic, torch.from_numpy(ids))


def remove(root):
    (root / "masks/train/a.png").unlink()


def break_image(root):
    (root / "images/train/a.jpg").write_bytes(b"no image")


def break_mask(root):
    (root / "masks/train/a.png").write_bytes(b"no image")


def other_size(root):
    put(root / "masks/train/a.png", np.zeros((WIDTH, HEIGHT)))


def colours(root):
    put(root / "masks/train/a.png", np.zeros((HEIGHT, WIDTH, 3)))


def beyond(root):
    put(root / "masks/train/a.png", np.full((HEIGHT, WIDTH), 3))


def sixteen_bits(root):
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(root / "masks/train/a.png")


@pytest.mark.parametrize(
    ("harm", "kind", "message"),
    [
        (remove, FileNotFoundError, "a.png is missing, the mask of a.jpg"),
        (break_image, ValueError, "a.jpg: this is no image, or it is broken"),
        (break_mask, ValueError, "a.png: this is no image, or it is broken"),
        (other_size, ValueError, "a.png has 30×20 pixels, its image has 20×30"),
        (colours, ValueError, r"a.png has the mode RGB; a mask has one channel .* Image.fromarray\(ids"),
        (sixteen_bits, ValueError, "a.png has the mode I;16; a mask has one channel"),
        (beyond, ValueError, "a.png holds 3; its 3 classes are the numbers 0 to 2"),
    ],
)
def test_broken_pairs(root, harm, kind, message):
    harm(root)
    with pytest.raises(kind, match=message):
        read_mask_folder(root, "train", strict=True)
    data = read_mask_folder(root, "train")
    assert (len(data), data.skipped) == (1, 1)
    assert data.words == "rooms, 1 training images, pixels of 3 classes, 1 broken left out"


def test_broken_masks_name_no_class(tmp_path):
    """Without a file of names, only whole pairs say how many classes there are."""
    root = write_masks(tmp_path)
    put(root / "masks/train/a.png", np.full((HEIGHT, WIDTH + 1), 9))
    assert len(read_mask_folder(root, "train").pixel_classes) == 3


def test_no_pair_at_all(root):
    for path in (root / "masks/val").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="of 1 images none is whole and has a mask; such as: .*c.png is missing"):
        read_mask_folder(root, "test")


def test_no_pixel_has_a_class(tmp_path):
    root = write_masks(tmp_path)
    for mask in (root / "masks/train").rglob("*.png"):
        put(mask, np.full((HEIGHT, WIDTH), IGNORED))
    with pytest.raises(ValueError, match="no pixel has a class"):
        read_mask_folder(root, "train")


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_a_split_that_is_not_there(root, folder):
    (root / folder / "val").rename(root / folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=re.escape(f"{folder} has no folder val or validation or test")):
        read_mask_folder(root, "test")


@pytest.mark.parametrize(("text", "count"), [("\n", 0), ("class\n" * 256, 256)])
def test_names_of_too_few_or_too_many_classes(root, text, count):
    (root / "classes.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"classes.txt names {count} classes; possible are 1 to 255"):
        read_mask_folder(root, "train")


def test_other_files_are_no_images(root):
    (root / "images/train/readme.txt").write_text("no image", encoding="utf-8")
    (root / "images/train/._a.jpg").write_bytes(b"what macOS leaves")
    assert len(read_mask_folder(root, "train", strict=True)) == 2
