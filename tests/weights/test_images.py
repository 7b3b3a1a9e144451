"""Pictures against hand-worked pixels and Pillow used directly."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from efficientformer_edu import preprocess
from efficientformer_edu.weights import class_names
from efficientformer_edu.weights.images import open_image, to_rgb

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def pixels(tensor):
    """The 8-bit picture that a network's input was made from, (H, W, 3)."""
    return np.round((tensor[0].permute(1, 2, 0).numpy() * STD + MEAN) * 255).astype(int)


def gradient(width, height):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("size", [32, 224, 256])
def test_one_colour(size):
    tensor = preprocess(Image.new("RGB", (90, 70), (255, 128, 0)), size)
    assert tensor.shape == (1, 3, size, size) and tensor.dtype == torch.float32
    for channel, value in enumerate((1.0, 128 / 255, 0.0)):
        expected = (value - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(tensor[0, channel], torch.full((size, size), expected, dtype=torch.float32))


def test_file_image_and_array_are_the_same(tmp_path):
    array = gradient(300, 260)
    Image.fromarray(array).save(tmp_path / "picture.png")
    expected = preprocess(array)
    for picture in (tmp_path / "picture.png", str(tmp_path / "picture.png"), Image.fromarray(array)):
        assert torch.equal(preprocess(picture), expected)


def test_arrays_of_grey_and_alpha():
    array = gradient(64, 64)
    grey = array[..., 0]
    assert torch.equal(preprocess(grey), preprocess(np.stack([grey] * 3, axis=-1)))
    assert torch.equal(preprocess(grey[..., None]), preprocess(grey))
    assert torch.equal(preprocess(np.dstack([array, grey])), preprocess(array))


@pytest.mark.parametrize(
    ("mode", "colour"),
    [
        ("L", 200),
        ("1", 1),
        ("LA", (200, 3)),
        ("RGBA", (10, 20, 30, 0)),
        ("CMYK", (0, 255, 255, 0)),
        ("HSV", (0, 0, 80)),
        ("YCbCr", (100, 128, 128)),
    ],
)
def test_modes(mode, colour, tmp_path):
    expected = {
        "L": (200,) * 3,
        "1": (255,) * 3,
        "LA": (200,) * 3,
        "RGBA": (10, 20, 30),
        "CMYK": (255, 0, 0),
        "HSV": (80,) * 3,
        "YCbCr": (100,) * 3,
    }[mode]
    assert to_rgb(Image.new(mode, (40, 40), colour)).getpixel((5, 5)) == expected


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_palette_with_transparency_does_not_warn(tmp_path, suffix):
    picture = Image.new("P", (40, 40), 1)
    picture.putpalette([0, 0, 0, 250, 100, 50])
    picture.save(tmp_path / f"palette{suffix}", transparency=b"\x00\x80" if suffix == ".png" else 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = preprocess(tmp_path / f"palette{suffix}", 32)
    assert pixels(tensor)[0, 0].tolist() == [250, 100, 50]


def test_sixteen_bits(tmp_path):
    grey = (np.arange(64 * 64).reshape(64, 64) * 16).astype(np.uint16)
    for mode, picture in {"I;16": Image.fromarray(grey), "I": Image.fromarray(grey.astype(np.int32))}.items():
        path = tmp_path / f"grey.{'png' if mode == 'I;16' else 'tif'}"
        picture.save(path)
        expected = np.round(grey / 65535 * 255)
        for source in (picture, open_image(path)):
            assert source.mode == mode
            assert np.array_equal(np.asarray(to_rgb(source))[..., 0], expected)
    with pytest.raises(ValueError, match="values from -5 to 0; allowed: 0 to 65535"):
        preprocess(Image.fromarray(np.array([[-5, 0]], dtype=np.int32)))


def test_floats_are_refused():
    with pytest.raises(ValueError, match="floating-point values of unknown range"):
        preprocess(Image.new("F", (40, 40)))


def test_orientation(tmp_path):
    picture = Image.fromarray(gradient(80, 60))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show the picture turned clockwise by 90°
    picture.save(tmp_path / "turned.png", exif=exif)
    turned = picture.transpose(Image.Transpose.ROTATE_270)
    assert torch.equal(preprocess(tmp_path / "turned.png"), preprocess(turned))
    assert not torch.equal(preprocess(tmp_path / "turned.png"), preprocess(picture))


def test_the_picture_is_left_as_it_is():
    picture = Image.new("RGBA", (40, 30), (1, 2, 3, 4))
    preprocess(picture)
    assert (picture.mode, picture.size) == ("RGBA", (40, 30))


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_no_image(tmp_path, content):
    (path := tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: this is no image, or it is broken"):
        preprocess(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_cut_short(tmp_path, suffix):
    Image.fromarray(gradient(200, 200)).save(path := tmp_path / f"photo{suffix}")
    content = path.read_bytes()
    for length in (20, 300, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=f"{re.escape(path.name)}: this is no image, or it is broken"):
            preprocess(path)


def test_cut_short_and_opened_without_being_read(tmp_path):
    Image.fromarray(gradient(200, 200)).save(path := tmp_path / "photo.png")
    path.write_bytes(path.read_bytes()[:300])
    with Image.open(path) as picture, pytest.raises(ValueError, match=f"^{re.escape(str(path))}: this is no image, or"):
        preprocess(picture)
    with path.open("rb") as file, Image.open(file) as picture, pytest.raises(ValueError, match="is broken"):
        preprocess(picture)


def test_opened_without_being_read(tmp_path):
    Image.fromarray(array := gradient(200, 200)).save(path := tmp_path / "photo.png")
    with Image.open(path) as picture:
        assert torch.equal(preprocess(picture), preprocess(array))


def test_closed_before_it_was_read(tmp_path):
    Image.fromarray(gradient(40, 40)).save(path := tmp_path / "photo.png")
    with Image.open(path) as picture:
        pass
    with pytest.raises(ValueError, match="photo.png: this is no image, or it is broken"):
        preprocess(picture)


def test_no_pixels():
    with pytest.raises(ValueError, match="^the image: the image has no pixels: it is 5×0"):
        preprocess(Image.new("RGB", (0, 5)))


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="photo.jpg"):
        preprocess(tmp_path / "photo.jpg")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_wrong_arrays(array):
    with pytest.raises(
        ValueError, match=f"the array is {array.dtype} of shape {re.escape(str(array.shape))}; allowed: "
    ):
        preprocess(array)


@pytest.mark.parametrize("size", [31, 0, -1, 224.0, "224", True])
def test_wrong_sizes(size):
    with pytest.raises(ValueError, match="size=.* is not possible; allowed: a whole number, at least 32"):
        preprocess(Image.new("RGB", (40, 40)), size)


def test_class_names():
    names = class_names()
    assert len(names) == len(set(names)) == 1000
    assert {0: "tench", 1: "goldfish", 207: "golden retriever", 281: "tabby", 999: "toilet tissue"}.items() <= dict(
        enumerate(names)
    ).items()
    assert all(name == name.strip() and name for name in names)
