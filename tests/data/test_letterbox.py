"""The network's square input: the position of the image, the visible part of its objects, and the inverse."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from dense_runs import run
from hypothesis import assume, given
from hypothesis import strategies as st

from efficientformer_edu.data.examples import IGNORED, Example
from efficientformer_edu.data.images import MEAN, STD
from efficientformer_edu.data.letterbox import Letterbox, LetterboxParams
from efficientformer_edu.data.shapes import Shapes
from efficientformer_edu.dense.trainer import DenseBatches
from efficientformer_edu.utils.rng import generator

SIDES = st.integers(1, 90)
SEEDS = st.integers(0, 2**32)


def example(height: int, width: int, *boxes: tuple[float, ...], crowd: tuple[bool, ...] | None = None) -> Example:
    """A random image whose pixels have the classes 0 to 4, with objects of the labels 0, 1 and so on."""
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (3, height, width), generator=random, dtype=torch.uint8)
    semantic = torch.randint(5, (height, width), generator=random, dtype=torch.uint8)
    corners = torch.tensor(boxes).float().reshape(-1, 4)
    many = torch.tensor(crowd if crowd is not None else [False] * len(boxes), dtype=torch.bool)
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    return Example(pixels, corners, torch.arange(len(boxes)), many, masks, semantic)


def levels(image: torch.Tensor) -> torch.Tensor:
    """Normalised pixels back in 0 to 255."""
    return (image * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255


def test_an_image_of_the_same_size_stays_as_it_is():
    scene = Shapes(1, 64)[0]
    image, target, params = Letterbox(64, scale=(0.5, 2.0), flip=True)(scene)  # both are, for training
    torch.testing.assert_close(levels(image), scene.image.float(), rtol=0, atol=1e-3)
    assert torch.equal(target.boxes, scene.boxes)
    assert torch.equal(target.labels, scene.labels)
    assert torch.equal(target.semantic, scene.semantic)
    assert params == LetterboxParams(height=64, width=64, size=64, new_height=64, new_width=64)


def test_to_evaluate_an_image_fits_into_the_upper_left_corner():
    image, target, params = Letterbox(40)(example(100, 50, (0, 0, 50, 100), (10, 20, 30, 80)))
    assert (params.new_height, params.new_width, params.top, params.left) == (40, 20, 0, 0)
    assert target.boxes.tolist() == [[0, 0, 20, 40], [4, 8, 12, 32]]
    assert (image[:, :, 20:] == 0).all()  # ImageNet's mean
    assert (target.semantic[:, 20:] == IGNORED).all()
    assert (target.semantic[:, :20] < 5).all()


def test_an_image_is_averaged_where_it_is_made_smaller():
    """Stripes of one pixel become grey without aliasing."""
    stripes = dataclasses.replace(example(64, 64), image=(torch.arange(64) % 2 * 255).byte().expand(3, 64, 64))
    values = levels(Letterbox(32)(stripes).image)
    torch.testing.assert_close(values[:, :, 1:-1], torch.full((3, 32, 30), 127.5), rtol=0, atol=1.0)


def test_an_image_is_interpolated_and_classes_are_not():
    """Two pixels on 32: the class changes in the middle, and grey is interpolated around it."""
    two = torch.tensor([[0, 1], [0, 1]], dtype=torch.uint8)
    both = dataclasses.replace(example(2, 2), image=(two * 200).expand(3, 2, 2), class_map=two * 3)
    image, target, _ = Letterbox(32)(both)
    assert target.semantic[5].tolist() == [0] * 16 + [3] * 16
    row = levels(image)[0, 5]
    assert row[8:24].diff().gt(0).all()
    torch.testing.assert_close(row[15] + row[16], torch.tensor(200.0), rtol=1e-4, atol=1e-3)


def test_a_random_view_by_hand():
    """4×8 pixels at twice their size, two rows cut at the top, three columns free on the left; then flipped."""
    params = LetterboxParams(height=4, width=8, size=20, new_height=8, new_width=16, top=-2, left=3, flip=True)
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert params.boxes(boxes).tolist() == [[20 - 9, 2, 20 - 5, 6]]
    assert torch.equal(params.restore_boxes(params.boxes(boxes)), boxes)
    classes = torch.arange(32, dtype=torch.uint8).view(4, 8)
    seen = params.semantic(classes)
    assert seen[0].tolist() == [IGNORED] + [column for column in range(15, 7, -1) for _ in range(2)] + [IGNORED] * 3
    assert (seen[6:] == IGNORED).all()
    back = params.restore_semantic(seen)
    assert (back[0] == IGNORED).all()  # it was cut
    assert torch.equal(back[1:], classes[1:])


@given(SIDES, SIDES, st.integers(32, 70), SEEDS)
def test_boxes_lead_back(height, width, size, seed):
    """For any letterbox parameters: boxes in the square map back to the same boxes in the image."""
    params = Letterbox(size, (0.4, 2.5), flip=True).params(height, width, generator(seed))
    corners = torch.rand(20, 2, 2, generator=generator(seed, 1)).sort(dim=1).values
    boxes = (corners * torch.tensor([width, height])).flatten(1)  # (20, 4)
    torch.testing.assert_close(params.restore_boxes(params.boxes(boxes)), boxes, rtol=1e-4, atol=1e-3)


@given(SIDES, SIDES, st.integers(32, 70), SEEDS)
def test_classes_lead_back(height, width, size, seed):
    """Enlarged and mapped back, every pixel keeps its class; pixels outside of the letterbox have no class."""
    params = Letterbox(size, (0.4, 2.5), flip=True).params(height, width, generator(seed))
    classes = example(height, width).semantic
    back = params.restore_semantic(params.semantic(classes))
    if params.new_height >= height and params.new_width >= width:
        assert torch.equal(back[back != IGNORED], classes[back != IGNORED])
    inside = params.top >= 0 and params.left >= 0 and max(params.new_height, params.new_width) <= size
    if inside:
        assert (back != IGNORED).all()


@given(SIDES, SIDES, SEEDS)
def test_boxes_and_classes_move_together(height, width, seed):
    """A rectangle of pixels of a class matches its box, to within a pixel."""
    letterbox = Letterbox(48, (0.5, 2.0), flip=True)
    left, top = width // 4, height // 4
    right, bottom = left + max(1, width // 2), top + max(1, height // 2)
    semantic = torch.zeros(height, width, dtype=torch.uint8)
    semantic[top:bottom, left:right] = 1
    unmoved = dataclasses.replace(example(height, width, (left, top, right, bottom)), class_map=semantic)
    _, target, _ = letterbox(unmoved, generator(seed))
    rows, columns = (target.semantic == 1).nonzero(as_tuple=True)
    assume(len(rows) and len(target.boxes))
    tight = torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
    assert (target.boxes - tight).abs().max() <= 1


@given(SEEDS)
def test_targets_lie_within_what_is_shown(seed):
    scene = example(60, 80, (0, 0, 80, 60), (70, 50, 80, 60), (1, 1, 4, 59), (30, 20, 50, 40))
    _, target, params = Letterbox(40, (0.3, 3.0), flip=True)(scene, generator(seed))
    shown = params.boxes(scene.boxes[:1]).clamp(0, 40)[0]
    assert (target.boxes[:, :2] >= shown[:2]).all()
    assert (target.boxes[:, 2:] <= shown[2:]).all()
    assert (target.boxes[:, 2:] - target.boxes[:, :2] >= 1).all()
    assert len(target.labels) == len(target.boxes)


CUT = LetterboxParams(
    height=40, width=40, size=40, new_height=40, new_width=40, left=-20
)  # the right half, on the left


@pytest.mark.parametrize(
    ("box", "left"),
    [
        ((10, 0, 30, 10), [0, 0, 10, 10]),  # half
        ((11, 0, 21, 10), [0, 0, 1, 10]),  # a tenth
        ((10, 0, 21, 10), None),  # one of eleven columns
        ((15, 0, 20.5, 10), None),  # half a pixel wide, although it is a ninth
        ((0, 0, 20, 10), None),  # nothing
        ((25, 5, 25, 9), None),  # zero width from the start
        ((25, 5, 26, 6), [5, 5, 6, 6]),
        ((25, 5, 26, 5.9), None),
    ],
)
def test_boxes_of_which_too_little_is_left(box, left):
    assert CUT.target(example(40, 40, box)).boxes.tolist() == ([] if left is None else [left])


def test_crowds_are_no_targets():
    target = Letterbox(40)(
        example(40, 40, (0, 0, 9, 9), (5, 5, 20, 20), (1, 1, 8, 8), crowd=(False, True, False))
    ).target
    assert target.labels.tolist() == [0, 2]


def test_detection_needs_no_classes_of_pixels():
    target = Letterbox(40, pixels=False)(example(40, 40, (0, 0, 9, 9))).target
    assert target.semantic is target.to(torch.device("cpu")).semantic is None
    assert target.boxes.tolist() == [[0, 0, 9, 9]]
    for task in ("detection", "segmentation"):
        (first, *_) = DenseBatches(run(task), epoch=0)[0].targets
        assert (first.semantic is None) == (task == "detection")


def test_an_image_without_objects():
    target = Letterbox(32)(example(50, 40)).target
    assert (target.boxes.shape, target.labels.shape) == ((0, 4), (0,))


def test_a_detected_box_is_clipped_to_the_image():
    params = Letterbox(40).params(20, 40)
    assert params.restore_boxes(torch.tensor([[-5.0, 10.0, 50.0, 30.0]])).tolist() == [[0, 10, 40, 20]]


def test_random_views_are_as_random_as_they_say():
    letterbox = Letterbox(100, scale=(0.5, 2.0), flip=True)
    all_params = [letterbox.params(80, 100, generator(seed)) for seed in range(400)]
    scales = torch.tensor([params.new_width / 100 for params in all_params])
    assert scales.min() >= 0.5
    assert scales.max() <= 2.0
    assert (scales < 1).float().mean() == pytest.approx(0.5, abs=0.07)  # uniform on a logarithmic scale
    assert sum(params.flip for params in all_params) == pytest.approx(200, abs=40)
    for params in all_params:
        for start, side in ((params.top, params.new_height), (params.left, params.new_width)):
            assert min(0, 100 - side) <= start <= max(0, 100 - side)
    free = torch.tensor([params.left / (100 - params.new_width) for params in all_params if params.new_width != 100])
    assert free.mean() == pytest.approx(0.5, abs=0.05)


def test_the_generator_alone_decides():
    letterbox, scene = Letterbox(48, (0.5, 2.0), flip=True), Shapes(1, 40)[0]
    first, again, other = (letterbox(scene, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.image, again.image)
    assert first.params == again.params != other.params


def test_no_flip_by_default():
    assert not any(Letterbox(40).params(40, 40, generator(seed)).flip for seed in range(20))


def test_a_line_of_pixels_stays():
    params = Letterbox(32).params(1, 1000)
    assert (params.new_height, params.new_width) == (1, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 31}, "size=31 is not possible; allowed: a whole number, at least 32"),
        ({"scale": (2.0, 1.0)}, "the least first, then the largest"),
        ({"scale": (0.0, 1.0)}, "scale=0.0 is not possible; allowed: a finite number above 0"),
        ({"flip": 1}, "flip=1 is not possible; allowed: True or False"),
    ],
)
def test_views_that_do_not_exist(arguments, message):
    with pytest.raises(ValueError, match=message):
        Letterbox(**{"size": 64, **arguments})
