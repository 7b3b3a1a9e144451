"""Synthetic scenes: reproducible, with correct annotations, and only the shape determines the class."""

from __future__ import annotations

import itertools

import pytest
import torch

from efficientformer_edu.data.examples import Example
from efficientformer_edu.data.shapes import LEAST, MOST, OUTLINES, PARTS, REACH, VISIBLE, Shapes, boxes_around

SIZES = [(32, 32), (128, 128), (40, 75), (96, 33)]
FIRST = [
    (
        [2, 3, 4, 0, 1],
        [[23, 39, 45, 58], [40, 2, 57, 19], [19, 11, 48, 40], [7, 32, 23, 47], [41, 40, 63, 63]],
    ),
    ([0], [[31, 18, 47, 34]]),
]


def same(example: Example, other: Example) -> bool:
    fields = ("image", "boxes", "labels", "crowd", "masks", "semantic")
    return all(torch.equal(getattr(example, name), getattr(other, name)) for name in fields)


def test_a_scene_hangs_on_its_seed_split_and_number_alone():
    scenes = Shapes(3, 64)
    assert same(scenes[2], Shapes(9, 64)[2])
    assert same(scenes[2], scenes[2])
    others = [scenes[1], Shapes(3, 64, seed=1)[2], Shapes(3, 64, "test")[2]]
    assert not any(torch.equal(scenes[2].image, other.image) for other in others)


def test_the_first_scenes_are_these():
    """On every machine: positions of objects do not depend on the pixels of the background image."""
    assert [(scene.labels.tolist(), scene.boxes.tolist()) for scene in Shapes(2, 64)] == FIRST


def test_the_background_image_does_not_move_objects():
    scenes = list(Shapes(5, 64))
    darker = Shapes(5, 64)
    darker._backgrounds = [photograph.point(lambda level: level // 2) for photograph in darker._backgrounds]
    for example, other in zip(scenes, darker, strict=True):
        assert torch.equal(example.masks, other.masks)
        assert not torch.equal(example.image, other.image)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_everything_about_a_scene_fits(size):
    for scene in Shapes(8, size):
        objects = len(scene.labels)
        assert 1 <= objects <= MOST
        assert (scene.image.shape, scene.image.dtype) == ((3, *size), torch.uint8)
        assert (scene.masks.shape, scene.masks.dtype) == ((objects, *size), torch.bool)
        assert not scene.crowd.any()
        assert scene.labels.dtype == torch.int64
        assert scene.masks.sum(dim=0).max() <= 1  # visible pixels: none shows two objects
        semantic = torch.zeros(size, dtype=torch.uint8)
        for mask, label in zip(scene.masks, scene.labels, strict=True):
            semantic[mask] = int(label) + 1
        assert torch.equal(scene.semantic, semantic)


def test_boxes_are_tight():
    masks = torch.zeros(2, 5, 7, dtype=torch.bool)
    masks[0, 1, 2] = masks[0, 3, 5] = masks[1, 4, 6] = True
    assert boxes_around(masks).tolist() == [[2, 1, 6, 4], [6, 4, 7, 5]]
    assert boxes_around(masks[:0]).shape == (0, 4)


def test_boxes_are_those_of_the_visible_pixels():
    for scene in Shapes(10):
        assert torch.equal(scene.boxes, boxes_around(scene.masks))


def test_every_class_has_its_shape():
    """The mean squared distance from the centre over the area: the same for all sizes and rotations of a shape.

    For a disc ½r² / πr², for a square ⅙s² / s², for an equilateral triangle (s²/12) / (√3·s²/4); ring and cross are
    larger shapes less smaller ones.
    """
    expected = {"disc": 0.1592, "square": 0.1667, "triangle": 0.1925, "cross": 0.1881, "ring": 0.2712}
    seen = set()
    for scene in itertools.islice((scene for scene in Shapes(80, 160) if len(scene.labels) == 1), 12):
        y, x = scene.masks[0].nonzero().double().unbind(1)
        spread = (x.var(correction=0) + y.var(correction=0)) / len(x)
        seen.add(name := Shapes.classes[int(scene.labels[0])])
        assert spread.item() == pytest.approx(expected[name], rel=0.015)
    assert seen == set(OUTLINES)


def test_no_object_is_mostly_hidden():
    """An object is at least as large as the smallest triangle, and at least half of it is visible."""
    smallest = 1.7 * (LEAST / 2) ** 2 * VISIBLE
    fewest = min(int(mask.sum()) for scene in Shapes(40, 48) for mask in scene.masks)
    assert fewest > 0.9 * smallest


def test_objects_have_contrast_to_their_surroundings():
    """The difference of the mean colours on both sides of an object's border; below this the border is invisible."""
    distances = []
    for scene in Shapes(20, 96):
        for mask in scene.masks:
            wide = torch.nn.functional.max_pool2d(mask[None].float(), 5, stride=1, padding=2)[0].bool()
            around = wide & ~mask
            inside = scene.image[:, mask].float().mean(dim=1)
            distances.append((inside - scene.image[:, around].float().mean(dim=1)).norm().item())
    assert torch.tensor(distances).quantile(0.05) > 20


def test_colour_and_size_say_nothing_of_the_class():
    """Over many scenes the mean colours and box sides of the classes are equal."""
    colours, sides = [[[] for _ in OUTLINES] for _ in range(2)]
    for scene in Shapes(150, 64):
        for mask, box, label in zip(scene.masks, scene.boxes, scene.labels.tolist(), strict=True):
            colours[label].append(scene.image[:, mask].float().mean(dim=1))
            sides[label].append((box[2:] - box[:2]).mean())
    assert min(map(len, sides)) > 50
    for first, other in itertools.combinations(range(len(OUTLINES)), 2):
        means = [torch.stack(colours[index]).mean(dim=0) for index in (first, other)]
        assert (means[0] - means[1]).abs().max() < 30  # of 255; the standard deviation of a single object is about 60
        ratio = torch.stack(sides[first]).mean() / torch.stack(sides[other]).mean()
        assert 0.75 < ratio < 1.33


def test_training_and_test_share_no_pixel_of_the_background_image():
    for first, other in itertools.product(PARTS["train"], PARTS["test"]):
        assert first[2] <= other[0] or other[2] <= first[0] or first[3] <= other[1] or other[3] <= first[1]


def test_an_object_fits_into_the_smallest_scene():
    assert LEAST * REACH < 32


def test_what_they_are():
    scenes = Shapes(1200, (32, 40), "test")
    assert (len(scenes), scenes.skipped) == (1200, 0)
    assert scenes.classes == ("disc", "square", "triangle", "cross", "ring")
    assert scenes.pixel_classes == ("background", *scenes.classes)
    assert repr(scenes) == "Shapes: drawn shapes, 1,200 test scenes of 32×40 pixels"


@pytest.mark.parametrize("index", [3, -1])
def test_there_are_no_more(index):
    scenes = Shapes(3, 32)
    assert len(list(scenes)) == 3
    with pytest.raises(IndexError, match=f"scene {index} of 3"):
        scenes[index]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 31}, "size=31 is not possible; allowed: a whole number, at least 32"),
        ({"size": (64, 16)}, "size=16 is not possible"),
        ({"count": -1}, "count=-1 is not possible"),
        ({"seed": -1}, "seed=-1 is not possible"),
        ({"split": "val"}, "'val'.*train, test"),
    ],
)
def test_invalid_scenes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Shapes(**{"count": 1, **arguments})
