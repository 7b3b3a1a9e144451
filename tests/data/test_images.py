"""Image files: formats, orientation, broken files, and the five rules of cropping."""

from __future__ import annotations

import json
import math
import re
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from dense_networks import SMALL
from PIL import Image, ImageCms, PngImagePlugin

import efficientformer_edu as ef
from efficientformer_edu import preprocess
from efficientformer_edu.data.coco import read_coco
from efficientformer_edu.data.datasets import load_data
from efficientformer_edu.data.images import (
    PIXEL_LIMIT,
    center_crop,
    check_image,
    get_crop_rule,
    open_image,
    read_image,
    resize_shorter,
    to_rgb,
    upright,
)
from efficientformer_edu.data.mask_folders import read_mask_folder
from efficientformer_edu.weights import RULES, class_names

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def pixels(tensor):
    """The 8-bit image that a network's input was made from, (H, W, 3)."""
    return np.round((tensor[0].permute(1, 2, 0).numpy() * STD + MEAN) * 255).astype(int)


def gradient(width, height):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("size", [32, 224, 256])
def test_a_single_colour(size):
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


def exif_entry(kind, count, value):
    """An EXIF block whose only entry is the orientation, with a type, a count and four bytes."""
    head = b"Exif\0\0II*\0\x08\0\0\0\x01\0"
    return head + struct.pack("<HHI", 0x0112, kind, count) + value + bytes(4)


def oriented(number):
    return exif_entry(3, 1, struct.pack("<HH", number, 0))


UNKNOWN = {
    "damaged": b"Exif\0\0\0\x08\0\x02\x01\x12\0\x03",
    "text": exif_entry(2, 2, b"6\0\0\0"),
    "two": exif_entry(3, 2, struct.pack("<HH", 6, 6)),
    "zero": oriented(0),
    "nine": oriented(9),
    "negative": exif_entry(9, 1, struct.pack("<i", -6)),
    "nothing": b"Exif\0\0",
}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("number", range(1, 9))
def test_orientation(tmp_path, suffix, number):
    """Reader and checker agree in every format; the red corner is at the position that EXIF specifies."""
    array = np.zeros((40, 60, 3), np.uint8)
    array[:20, :20, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = number
    Image.fromarray(array).save(path := tmp_path / f"image{suffix}", exif=exif, quality=95)
    image = read_image(path)
    assert check_image(path) == image.shape[1:] == ((40, 60) if number < 5 else (60, 40))
    corners = image[0, [3, 3, -4, -4], [3, -4, -4, 3]] > 128  # clockwise from the upper left
    assert corners.tolist() == [corner == (0, 1, 2, 3, 0, 1, 2, 3)[number - 1] for corner in range(4)]


@pytest.mark.filterwarnings("default:Corrupt EXIF:UserWarning", "default:Truncated File Read:UserWarning")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_orientation_is_upright(tmp_path, suffix, name):
    """In every command and kind of folder."""
    array = gradient(64, 48)
    for path in ("train/cat/1", "images/train/1", "images/train/2"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(tmp_path / f"{path}{suffix}", exif=UNKNOWN[name], lossless=True)
    path = tmp_path / f"train/cat/1{suffix}"
    assert check_image(path) == read_image(path).shape[1:] == (48, 64)
    with Image.open(path) as image:
        assert torch.equal(preprocess(path), preprocess(np.asarray(image)))

    (data, _), *_ = load_data(tmp_path, "train", strict=True)
    assert data.size == (64, 48)
    entry = {"id": 1, "file_name": path.name, "height": 48, "width": 64}
    thing = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}
    content = {"images": [entry], "annotations": [thing], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "coco.json").write_text(json.dumps(content), encoding="utf-8")
    assert read_coco(tmp_path / "coco.json", path.parent, strict=True)[0].image.shape == (3, 48, 64)
    (tmp_path / "masks/train").mkdir(parents=True)
    for number in (1, 2):
        Image.fromarray(array[..., 0] // 200).save(tmp_path / f"masks/train/{number}.png", exif=UNKNOWN[name])
    example = read_mask_folder(tmp_path, "train", strict=True)[0]
    assert example.image.shape[1:] == example.semantic.shape == (48, 64)


def test_an_image_is_turned_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gradient(80, 60)).save(path := tmp_path / "turned.jpg", exif=exif)
    turned = to_rgb(open_image(path))
    assert turned.size == to_rgb(turned).size == upright(turned).size == (60, 80)


def png_with_metadata():
    """A PNG with a text, a compressed text, a profile, a resolution and an EXIF block, and its pixels."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "nobody")
    info.add_text("Comment", "long " * 50, zip=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return {"pnginfo": info, "icc_profile": profile, "dpi": (72, 72), "exif": oriented(6)}


def chunks(data):
    """Start, type and length of each chunk of a PNG."""
    start = 8
    while start < len(data):
        length = int.from_bytes(data[start : start + 4])
        yield start, data[start + 4 : start + 8], length
        start += 12 + length


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iCCP", b"pHYs", b"eXIf"])
@pytest.mark.parametrize("harm", ["wrong checksum", "empty", "random"])
def test_damaged_metadata_of_a_png(tmp_path, kind, harm):
    """It is ignored, as in most viewers. The orientation is kept unless it is the damaged part."""
    array = gradient(40, 30)
    Image.fromarray(array).save(path := tmp_path / "image.png", **png_with_metadata())
    data = path.read_bytes()
    (start, length), *_ = ((start, length) for start, name, length in chunks(data) if name == kind)
    body = bytearray(data[start + 8 : start + 8 + length])
    if harm == "empty":
        body.clear()
    if harm == "random":
        body[:] = np.random.default_rng(0).integers(0, 256, length, np.uint8).tobytes()
    checksum = zlib.crc32(kind + body) ^ (harm == "wrong checksum")
    chunk = len(body).to_bytes(4) + kind + body + checksum.to_bytes(4)
    path.write_bytes(data[:start] + chunk + data[start + 12 + length :])
    turned = kind != b"eXIf"
    expected = np.rot90(array, -1 if turned else 0)
    assert check_image(path) == expected.shape[:2]
    assert np.array_equal(read_image(path).permute(1, 2, 0).numpy(), expected)


def test_damaged_pixels_of_a_png_are_not_ignored(tmp_path):
    Image.fromarray(gradient(40, 30)).save(path := tmp_path / "image.png", **png_with_metadata())
    data = path.read_bytes()
    (start, length), *_ = ((start, length) for start, name, length in chunks(data) if name == b"IDAT")
    middle = start + 8 + length // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :])
    for read in (read_image, check_image):
        with pytest.raises(ValueError, match=r"image.png: not an image, or a broken one"):
            read(path)


@pytest.mark.parametrize("limit", [100, 200])  # Pillow refuses above twice the limit, and warns above the limit
def test_an_image_that_is_too_large(tmp_path, monkeypatch, limit):
    for name in ("large.png", "large.jpg"):
        Image.new("RGB", (20, 15)).save(path := tmp_path / name)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for read in (check_image, read_image, preprocess):
            with pytest.raises(ValueError, match=rf"{name}: the image is too large: .*300 pixels.*{PIXEL_LIMIT}") as e:
                read(path)
            assert "broken" not in str(e.value)
        monkeypatch.setenv(PIXEL_LIMIT, "300")
        assert check_image(path) == read_image(path).shape[1:] == (15, 20)
        monkeypatch.delenv(PIXEL_LIMIT)


def test_a_limit_that_is_none(tmp_path, monkeypatch):
    Image.new("RGB", (20, 15)).save(path := tmp_path / "image.jpg")
    monkeypatch.setenv(PIXEL_LIMIT, "many")
    for read in (check_image, read_image):
        with pytest.raises(ValueError, match=f"{PIXEL_LIMIT}='many' is not possible; allowed: a number of pixels"):
            read(path)


def test_read_image_has_three_channels(tmp_path):
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(path := tmp_path / "gray.png")
    image = read_image(path)
    assert torch.equal(image, torch.arange(12, dtype=torch.uint8).view(1, 3, 4).expand(3, 3, 4))
    assert image.is_contiguous()


def test_check_image_refuses(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.jpg is missing"):
        check_image(tmp_path / "nothing.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="broken.jpg: not an image, or a broken one"):
        check_image(tmp_path / "broken.jpg")


def test_a_jpeg_with_more_bytes_after_its_end_is_complete(tmp_path):
    Image.fromarray(gradient(60, 40)).save(path := tmp_path / "image.jpg")
    path.write_bytes(path.read_bytes() + bytes(5000))
    assert check_image(path) == (40, 60)


def test_the_image_is_not_changed():
    picture = Image.new("RGBA", (40, 30), (1, 2, 3, 4))
    preprocess(picture)
    assert (picture.mode, picture.size) == ("RGBA", (40, 30))


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_no_image(tmp_path, content):
    (path := tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: not an image, or a broken one"):
        preprocess(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_cut_short(tmp_path, suffix):
    Image.fromarray(gradient(200, 200)).save(path := tmp_path / f"photo{suffix}")
    content = path.read_bytes()
    for length in (20, 300, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=f"{re.escape(path.name)}: not an image, or a broken one"):
            preprocess(path)


def test_cut_short_and_opened_without_being_read(tmp_path):
    Image.fromarray(gradient(200, 200)).save(path := tmp_path / "photo.png")
    path.write_bytes(path.read_bytes()[:300])
    with Image.open(path) as picture, pytest.raises(ValueError, match=f"^{re.escape(str(path))}: not an image, or"):
        preprocess(picture)
    with path.open("rb") as file, Image.open(file) as picture, pytest.raises(ValueError, match="a broken one"):
        preprocess(picture)


def test_opened_without_being_read(tmp_path):
    Image.fromarray(array := gradient(200, 200)).save(path := tmp_path / "photo.png")
    with Image.open(path) as picture:
        assert torch.equal(preprocess(picture), preprocess(array))


def test_closed_before_it_was_read(tmp_path):
    Image.fromarray(gradient(40, 40)).save(path := tmp_path / "photo.png")
    with Image.open(path) as picture:
        pass
    with pytest.raises(ValueError, match="photo.png: not an image, or a broken one"):
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


BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


def photo(width, height):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5) * np.cos(y / 7), np.sin((x + y) / 11), np.cos(x / 3)]
    return Image.fromarray(np.stack([np.round(127.5 + 127 * wave) for wave in waves], axis=-1).astype(np.uint8))


def normalised(picture):
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255  # (3, H, W)
    return ((pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))[None].float()


# Width and height of the image, the size it is resized to, and the box of the crop: left, top, right, bottom.
CASES = [
    ("official", (512, 512), (256, 256), (16, 16, 240, 240)),
    (
        "official",
        (640, 480),
        (341, 256),
        (58, 16, 282, 240),
    ),  # 341.3 is rounded down; half of 117 rounds to the even 58
    ("official", (300, 900), (256, 768), (16, 272, 240, 496)),
    ("official", (10, 10), (256, 256), (16, 16, 240, 240)),
    ("timm", (640, 480), (313, 235), (44, 6, 268, 230)),  # halves of 89 and of 11 round to the even 44 and 6
    ("timm", (300, 900), (235, 705), (6, 240, 230, 464)),
    ("mmpretrain", (640, 480), (330, 248), (53, 12, 277, 236)),
    ("mmpretrain", (300, 900), (248, 744), (12, 260, 236, 484)),
    ("hf", (640, 480), (224, 224), (0, 0, 224, 224)),
    ("hf", (300, 900), (224, 224), (0, 0, 224, 224)),
    ("netspresso", (640, 480), (256, 256), (0, 0, 256, 256)),
    ("netspresso", (300, 900), (256, 256), (0, 0, 256, 256)),
]


@pytest.mark.parametrize(("rule", "shape", "resized", "box"), CASES)
def test_geometry(rule, shape, resized, box):
    picture = photo(*shape)
    expected = picture.resize(resized, BILINEAR if rule == "netspresso" else BICUBIC).crop(box)
    torch.testing.assert_close(ef.preprocess(picture, rule=rule), normalised(expected))


def test_the_default_is_the_authors_rule():
    picture = photo(640, 480)
    assert torch.equal(ef.preprocess(picture), ef.preprocess(picture, 224, "official"))


def test_the_rules_differ():
    picture = photo(640, 480)
    results = [ef.preprocess(picture, 224, rule) for rule in RULES]
    assert all(not torch.equal(a, b) for i, a in enumerate(results) for b in results[:i])


# The edge before the crop as computed by the five code bases, in their own arithmetic:
EDGES = {
    "official": lambda size: int((256 / 224) * size),
    "timm": lambda size: math.floor(size / 0.95),
    "mmpretrain": lambda size: int(248 * size / 224),
    "hf": lambda size: size,
    "netspresso": lambda size: size,
}


@pytest.mark.parametrize("rule", RULES)
def test_the_edge_before_the_crop_grows_with_the_size(rule, monkeypatch):
    seen = []
    monkeypatch.setattr(Image.Image, "resize", lambda image, size, *_: seen.append(size) or Image.new("RGB", size))
    for size in range(32, 700):
        assert get_crop_rule(rule).cut(Image.new("RGB", (8, 8)), size).size == (size, size)
        assert seen.pop() == (EDGES[rule](size),) * 2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [32, 288])
def test_size_is_that_of_the_result(rule, size):
    assert ef.preprocess(photo(90, 70), size, rule).shape == (1, 3, size, size)


@pytest.mark.parametrize(
    ("rule", "size"), [("official", 224), ("timm", 224), ("mmpretrain", 224), ("hf", 224), ("netspresso", 256)]
)
def test_crops_of_a_single_colour(rule, size):
    tensor = ef.preprocess(Image.new("RGB", (90, 70), (255, 128, 0)), rule=rule)
    assert tensor.shape == (1, 3, size, size) and tensor.dtype == torch.float32
    for channel, value in enumerate(
        (2.2489, 0.2052, -1.8044)
    ):  # (1 - .485) / .229, (128/255 - .456) / .224, -.406/.225
        torch.testing.assert_close(tensor[0, channel], torch.full((size, size), value), rtol=0, atol=5e-5)


def test_geometry_by_hand():
    assert resize_shorter(Image.new("L", (30, 20)), 10, BICUBIC).size == (15, 10)
    assert resize_shorter(Image.new("L", (20, 31)), 10, BICUBIC).size == (10, 15)
    picture = Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5))
    assert np.asarray(center_crop(picture, 2)).tolist() == [[7, 8], [12, 13]]  # 1.5 columns are left out: two


def test_squashing_does_not_keep_proportions():
    left_half = Image.fromarray(np.repeat(np.uint8([[255] * 200 + [0] * 200]), 100, axis=0))
    kept, squashed = (ef.preprocess(left_half, rule=rule)[0, 0, 112] for rule in ("official", "hf"))
    assert (kept[:100] > 2).all() and (kept[-100:] < -2).all()  # both show the edge in the middle
    assert (squashed[:100] > 2).all() and (squashed[-100:] < -2).all()
    stripes = Image.fromarray(np.uint8([[255, 0, 0, 255]]).repeat(100, axis=1).repeat(100, axis=0))
    assert (ef.preprocess(stripes)[0, 0, 112] < -2).all()  # only the dark middle is seen
    assert (ef.preprocess(stripes, rule="hf")[0, 0, 112, :50] > 2).all()


@pytest.mark.parametrize("rule", ["lucid", "", None])
def test_unknown_rules(rule):
    with pytest.raises(ValueError, match="rule=.* is unknown; use one of official, timm, mmpretrain, hf, netspresso"):
        ef.preprocess(Image.new("RGB", (40, 40)), rule=rule)
    with pytest.raises(ValueError, match="is unknown; use one of official"):
        ef.inference_model(ef.EfficientFormer(SMALL), Image.new("RGB", (40, 40)), rule=rule)


def test_every_rule_names_its_source():
    assert list(RULES) == ["official", "timm", "mmpretrain", "hf", "netspresso"]
    assert len({rule.source for rule in RULES.values()}) == len(RULES)
