"""Folders of images and masks, generic and in ADE20K's layout, and every kind of broken pair."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from dense_folders import HEIGHT, WIDTH, put, write_masks
from PIL import Image

from efficientformer_edu.data.examples import IGNORED
from efficientformer_edu.data.mask_folders import read_mask_folder

INFO = "Idx\tRatio\tTrain\tVal\tName\n1\t0.2\t11\t1\twall\n2 \t0.1\t6\t6\tbuilding, edifice\n3\t0.1\t8\t8\tbed \n"


@pytest.fixture
def root(tmp_path):
    """With names for the classes, all of which occur in training."""
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms/classes.txt").write_text("wall\n bed \nlamp\n\n", encoding="utf-8")
    return write_masks(tmp_path / "rooms")


def masks_of(root, ids, split="train"):
    for mask in (root / "masks" / split).rglob("*.png"):
        put(mask, np.broadcast_to(np.asarray(ids), (HEIGHT, WIDTH)))
    return root


def test_both_splits(root):
    train, test = (read_mask_folder(root, split, strict=True) for split in ("train", "test"))
    assert (len(train), len(test), train.skipped) == (2, 1, 0)
    assert train.classes == ()
    assert train.pixel_classes == test.pixel_classes == ("wall", "bed", "lamp")
    assert repr(train) == "MaskFolder: rooms, 2 training images, pixels of 3 classes"
    assert test.description == "rooms, 1 test images, pixels of 3 classes"


def test_an_example(root):
    example = read_mask_folder(root, "train")[0]
    with Image.open(root / "images/train/a.jpg") as image:
        assert torch.equal(example.image, torch.from_numpy(np.array(image)).permute(2, 0, 1))
    assert (example.semantic[:-2, : WIDTH // 2] == 0).all()
    assert (example.semantic[:-2, WIDTH // 2 :] == 2).all()
    assert (example.semantic[-2:] == torch.tensor([[1], [IGNORED]])).all()
    assert (example.boxes.shape, example.masks.shape) == ((0, 4), (0, HEIGHT, WIDTH))
    assert (example.labels.dtype, example.crowd.dtype, example.masks.dtype) == (torch.int64, torch.bool, torch.bool)


@pytest.mark.parametrize("name", ["validation", "test"])
def test_other_names_of_the_splits(tmp_path, name):
    root = write_masks(tmp_path, splits=("training", name))
    assert [len(read_mask_folder(root, split)) for split in ("train", "test")] == [2, 1]


def test_classes_without_names_are_numbers(tmp_path):
    root = write_masks(tmp_path)
    put(root / "masks/val/c.png", np.ones((HEIGHT, WIDTH)))  # class 2 occurs only in training
    assert read_mask_folder(root, "test").pixel_classes == ("class 0", "class 1", "class 2")
    masks_of(root, np.arange(WIDTH) % 2 * 2)
    with pytest.warns(UserWarning, match="never occur in the training masks: class 1$"):
        read_mask_folder(root, "train")


def test_ade20k(tmp_path):
    """In ADE20K, 0 is a pixel without a class, and classes count from 1; of several names the first is used."""
    root = write_masks(tmp_path / "ADEChallengeData2016", "annotations", ("training", "validation"))
    ids = np.zeros((HEIGHT, WIDTH))
    ids[:5], ids[5:9] = 1, 3
    put(root / "annotations/validation/c.png", ids)
    ids[9], ids[10:12] = 2, 255  # also no class, as in copies of the data set that mark borders
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
    assert (semantic[9] == 1).all()
    assert (semantic[10:] == IGNORED).all()


def test_a_number_beyond_ade20ks_classes(tmp_path):
    root = write_masks(tmp_path, "annotations", ("training", "validation"))
    (root / "objectInfo150.txt").write_text(INFO, encoding="utf-8")
    put(root / "annotations/validation/c.png", np.full((HEIGHT, WIDTH), 4))
    with pytest.raises(ValueError, match="holds 4; its 3 classes are 1 to 3"):
        read_mask_folder(root, "test", strict=True)


@pytest.mark.parametrize("mode", ["P", "1"])
def test_masks_with_a_palette_or_of_a_single_bit(root, mode):
    """The class is the index of the colour, not the colour itself."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[3:8] = 1
    image = Image.fromarray(ids if mode == "P" else ids * 255)
    if mode == "P":
        image.putpalette([200, 0, 0, 0, 0, 90])
    image.convert(mode).save(root / "masks/val/c.png")
    assert torch.equal(read_mask_folder(root, "test", strict=True)[0].semantic, torch.from_numpy(ids))


def test_a_mask_is_turned_as_its_image_is(root):
    """With the same function, so that a pixel and its class stay together."""
    exif = Image.Exif()
    exif[0x0112] = 6
    ids = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3
    put(root / "images/val/c.jpg", exif=exif)
    put(root / "masks/val/c.png", ids, exif=exif)
    example = read_mask_folder(root, "test", strict=True)[0]
    assert example.image.shape == (3, WIDTH, HEIGHT)
    assert np.array_equal(example.semantic.numpy(), np.rot90(ids, -1))


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
        (break_image, ValueError, "a.jpg: not an image, or a broken one"),
        (break_mask, ValueError, "a.png: not an image, or a broken one"),
        (other_size, ValueError, "a.png has 30×20 pixels, its image has 20×30"),
        (colours, ValueError, r"a.png has the mode RGB; a mask has one channel .* Image.fromarray\(ids"),
        (sixteen_bits, ValueError, "a.png has the mode I;16; a mask has one channel"),
        (beyond, ValueError, "a.png holds 3; its 3 classes are 0 to 2"),
    ],
)
def test_broken_pairs(root, harm, kind, message):
    harm(root)
    with pytest.raises(kind, match=message):
        read_mask_folder(root, "train", strict=True)
    with pytest.warns(UserWarning, match=f"rooms: 1 of 2 images left out; first reason: .*{message}"):
        data = read_mask_folder(root, "train")
    assert (len(data), data.skipped) == (1, 1)
    assert data.description == "rooms, 1 training images, pixels of 3 classes, 1 left out"


def test_broken_masks_name_no_class(tmp_path):
    """Without a file of names, only complete pairs determine the number of classes."""
    root = write_masks(tmp_path)
    put(root / "masks/train/a.png", np.full((HEIGHT, WIDTH + 1), 9))
    with pytest.warns(UserWarning, match="1 of 2 images left out"):
        assert len(read_mask_folder(root, "train").pixel_classes) == 3


def test_no_pair_at_all(root):
    for path in (root / "masks/val").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="none of 1 images can be used; first reason: .*c.png is missing"):
        read_mask_folder(root, "test")


def test_no_pixel_has_a_class(tmp_path):
    root = write_masks(tmp_path)
    for mask in (root / "masks/train").rglob("*.png"):
        put(mask, np.full((HEIGHT, WIDTH), IGNORED))
    with pytest.raises(ValueError, match="because no pixel has a class"):
        read_mask_folder(root, "train")


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_a_split_that_is_not_there(root, folder):
    (root / folder / "val").rename(root / folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=re.escape(f"{folder} has no folder val or validation or test")):
        read_mask_folder(root, "test")


@pytest.mark.parametrize(("text", "count"), [("\n", 0), ("class\n" * 256, 256)])
def test_names_of_too_few_or_too_many_classes(root, text, count):
    (root / "classes.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"classes.txt names {count} classes; allowed: 1 to 255"):
        read_mask_folder(root, "train")


def test_other_files_are_no_images(root):
    (root / "images/train/readme.txt").write_text("no image", encoding="utf-8")
    (root / "images/train/._a.jpg").write_bytes(b"what macOS leaves")
    assert len(read_mask_folder(root, "train", strict=True)) == 2


def test_a_class_that_never_occurs_in_training_is_named(root):
    (root / "classes.txt").write_text("wall\nbed\nlamp\nsofa\nrug\n", encoding="utf-8")
    with pytest.warns(UserWarning, match="never occur in the training masks: sofa, rug$"):
        assert len(read_mask_folder(root, "train", strict=True).pixel_classes) == 5
    read_mask_folder(root, "test", strict=True)  # few test images need not contain all classes
    (root / "classes.txt").write_text("wall\nbed\nlamp\n" + "thing\n" * 20, encoding="utf-8")
    with pytest.warns(UserWarning, match="thing, thing and 15 more$"):
        read_mask_folder(root, "train")


@pytest.mark.parametrize("names", ["background\ncat\n", None])
def test_black_and_white_masks(root, names):
    """255 looks like white, the second of two classes, but is not a class."""
    (root / "classes.txt").unlink()
    if names:
        (root / "classes.txt").write_text(names, encoding="utf-8")
    masks_of(masks_of(root, np.arange(WIDTH) % 2 * 255), np.arange(WIDTH) % 2 * 255, "val")
    advice = r"only 0 and 255, and 255 means no class.* Image.fromarray\(\(mask > 0\)"
    if names:
        with pytest.warns(UserWarning, match=f"rooms: .*'background' .masks: 2.*{advice}"):
            assert len(read_mask_folder(root, "train", strict=True)) == 2
    else:
        with pytest.raises(ValueError, match=f"rooms: there is one class of pixels.*{advice}"):
            read_mask_folder(root, "train")
    with pytest.warns(UserWarning, match=f"rooms: .*{advice}"):
        read_mask_folder(root, "test")
    masks_of(masks_of(root, np.arange(WIDTH) % 2), np.arange(WIDTH) % 2, "val")
    assert len(read_mask_folder(root, "train", strict=True).pixel_classes) == 2
    read_mask_folder(root, "test", strict=True)


def test_a_single_class_in_all_training_masks_is_a_warning(root):
    """Other data may have the other classes, such as those from which the network is fine-tuned."""
    with pytest.warns(UserWarning, match="rooms: .*'bed' .masks: 2") as caught:
        data = read_mask_folder(masks_of(root, 1), "train")
    assert len(caught) == 1
    assert (len(data), data.pixel_classes) == (2, ("wall", "bed", "lamp"))


def test_a_single_class_in_total_is_rejected(root):
    (root / "classes.txt").write_text("wall\n", encoding="utf-8")
    with pytest.raises(ValueError, match="rooms: there is one class of pixels.*'wall'"):
        read_mask_folder(masks_of(root, 0), "train")


def test_linked_and_hidden_folders(root):
    """Links are followed, except back to a parent folder; hidden files and folders are ignored at any depth."""
    for kind in ("images", "masks"):
        (root / kind / "train/deeper").rename(root / f"elsewhere {kind}")
        (root / kind / "train/linked").symlink_to(root / f"elsewhere {kind}", target_is_directory=True)
    (root / "images/train/up").symlink_to(root / "images", target_is_directory=True)
    for name in (".hidden/x.jpg", "a/.hidden/b/y.jpg"):
        put(root / "images/train" / name)
    data = read_mask_folder(root, "train", strict=True)
    assert [pair.image.relative_to(root / "images/train").as_posix() for pair in data.pairs] == [
        "a.jpg",
        "linked/b.jpg",
    ]


def test_the_content_has_a_fingerprint(root):
    first, again = (read_mask_folder(root, "train").fingerprint for _ in range(2))
    put(root / "masks/train/a.png", np.full((HEIGHT, WIDTH), 2))
    assert first == again != read_mask_folder(root, "train").fingerprint
