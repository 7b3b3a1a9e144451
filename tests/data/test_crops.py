"""The five crop rules against Pillow, with numbers from the five code bases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

import efficientformer_edu as ef
from efficientformer_edu.data.crops import center_crop, get_rule, resize_shorter
from efficientformer_edu.weights import RULES

BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def photo(width, height):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5) * np.cos(y / 7), np.sin((x + y) / 11), np.cos(x / 3)]
    return Image.fromarray(np.stack([np.round(127.5 + 127 * wave) for wave in waves], axis=-1).astype(np.uint8))


def normalised(picture):
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255  # (3, H, W)
    return ((pixels - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1))[None]


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
        assert get_rule(rule).cut(Image.new("RGB", (8, 8)), size).size == (size, size)
        assert seen.pop() == (EDGES[rule](size),) * 2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [32, 288])
def test_size_is_that_of_the_result(rule, size):
    assert ef.preprocess(photo(90, 70), size, rule).shape == (1, 3, size, size)


@pytest.mark.parametrize(
    ("rule", "size"), [("official", 224), ("timm", 224), ("mmpretrain", 224), ("hf", 224), ("netspresso", 256)]
)
def test_a_single_colour(rule, size):
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
def test_unknown_rules(network, rule):
    with pytest.raises(ValueError, match="rule=.* is unknown; use one of official, timm, mmpretrain, hf, netspresso"):
        ef.preprocess(Image.new("RGB", (40, 40)), rule=rule)
    with pytest.raises(ValueError, match="is unknown; use one of official"):
        ef.inference_model(network, Image.new("RGB", (40, 40)), rule=rule)


def test_every_rule_names_its_source():
    assert list(RULES) == ["official", "timm", "mmpretrain", "hf", "netspresso"]
    assert len({rule.source for rule in RULES.values()}) == len(RULES)
