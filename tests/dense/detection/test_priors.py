"""Positions and anchors: hand-computed, their number, and sizes that are not a multiple of a stride."""

from __future__ import annotations

import math

import pytest
import torch
from dense_networks import assert_close

from efficientformer_edu.config import PRESETS
from efficientformer_edu.dense.detection.priors import anchors_at, cell_anchors, decode_outputs, positions_at


def test_map_by_map_row_by_row():
    locations = positions_at([(2, 3), (1, 1)], (8, 16), torch.zeros(0))
    assert locations.centres.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12], [8, 8]]
    assert locations.strides.tolist() == [8] * 6 + [16]


def test_boxes_by_hand():
    """In row 0 and column 1 of a map of stride 8: half a cell from the corner (8, 0), 8 wide and 16 high."""
    fine, coarse = torch.zeros(1, 7, 1, 2, dtype=torch.float64), torch.zeros(1, 7, 1, 1, dtype=torch.float64)
    fine[0, :, 0, 1] = torch.tensor([0.5, 0.5, 0.0, math.log(2), 5.0, 6.0, 7.0], dtype=torch.float64)
    boxes = decode_outputs([fine, coarse], (8, 16))
    assert_close(boxes.boxes[0], torch.tensor([[-4, -4, 4, 4], [8, -4, 16, 12], [-8, -8, 8, 8]]).double())
    assert boxes.objectness.tolist() == [[0, 5, 0]] and boxes.classes.tolist() == [[[0, 0], [6, 7], [0, 0]]]
    assert boxes.positions.centres.tolist() == [[4, 4], [12, 4], [8, 8]] and boxes.positions.strides.tolist() == [
        8,
        8,
        16,
    ]


def test_images_do_not_mix_and_rows_are_rows():
    maps = [torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))]
    both, alone = decode_outputs(maps, (4,)), decode_outputs([maps[0][1:]], (4,))
    assert torch.equal(both.boxes[1], alone.boxes[0])
    assert torch.equal(both.classes[:, 4 * 1 + 2, 0], maps[0][:, 5, 1, 2])


def test_boxes_are_not_of_half_precision():
    boxes = decode_outputs([torch.full((1, 6, 1, 200), 0.5, dtype=torch.bfloat16)], (4,))
    assert {x.dtype for x in (boxes.boxes, boxes.objectness, boxes.classes, boxes.positions.centres)} == {torch.float32}
    middle = (boxes.boxes[0, :, 0] + boxes.boxes[0, :, 2]) / 2
    torch.testing.assert_close(middle, torch.arange(200) * 4.0 + 2)


def test_as_many_maps_as_strides():
    with pytest.raises(ValueError, match="zip"):
        decode_outputs([torch.zeros(1, 6, 1, 1)], (8, 16))


STRIDES = (4, 8, 16, 32)
SIZES = ((32.0,), (64.0,), (128.0,), (256.0,))
RATIOS = (0.5, 1.0, 2.0)
LIKE = torch.zeros(0)


def test_the_anchors_of_a_single_position():
    """32 / √½ = 45.25 and 32·√½ = 22.63; half of them, rounded, in both directions."""
    assert cell_anchors((32.0,), RATIOS).tolist() == [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]


def test_ratio_by_ratio_and_within_a_ratio_size_by_size():
    assert cell_anchors((32.0, 64.0), (1.0, 4.0)).tolist() == [
        [-16, -16, 16, 16],
        [-32, -32, 32, 32],
        [-8, -32, 8, 32],
        [-16, -64, 16, 64],
    ]


def test_anchors_are_ordered_by_map_row_and_column():
    result = anchors_at([(2, 2), (1, 2)], (4, 8), ((2.0,), (6.0,)), (1.0, 4.0), LIKE)
    assert result.tolist() == [
        *([-1, -1, 1, 1], [0, -2, 0, 2]),  # size 2 at (0, 0): ½ on both sides of the tall anchor is rounded to 0
        *([3, -1, 5, 1], [4, -2, 4, 2]),
        *([-1, 3, 1, 5], [0, 2, 0, 6]),
        *([3, 3, 5, 5], [4, 2, 4, 6]),
        *([-3, -3, 3, 3], [-2, -6, 2, 6]),  # size 6: 1.5 on both sides of the tall anchor is rounded to 2
        *([5, -3, 11, 3], [6, -6, 10, 6]),
    ]


@pytest.mark.parametrize(
    ("size", "positions"),
    [
        (512, 128 * 128 + 64 * 64 + 32 * 32 + 16 * 16),
        (225, 57 * 57 + 29 * 29 + 15 * 15 + 8 * 8),
        ((480, 640), 120 * 160 + 60 * 80 + 30 * 40 + 15 * 20),
        ((500, 333), 125 * 84 + 63 * 42 + 32 * 21 + 16 * 11),
    ],
)
def test_how_many_there_are(size, positions):
    anchors = anchors_at(PRESETS["l1"].grids(size), STRIDES, SIZES, RATIOS, LIKE)
    assert anchors.shape == (3 * positions, 4)
    assert {512: 65_280, 225: 13_137, (480, 640): 76_500, (500, 333): 41_982}[size] == 3 * positions


def test_they_follow_the_image():
    """The last position of the last map of 500×333 is in row 15 and column 10, at (320, 480)."""
    anchors = anchors_at(PRESETS["l1"].grids((500, 333)), STRIDES, SIZES, RATIOS, LIKE)
    # 256·√2 = 362.04 and 256 / √2 = 181.02, half of them in both directions
    assert anchors[-3:].tolist() == [[139, 389, 501, 571], [192, 352, 448, 608], [229, 299, 411, 661]]
    middle = (anchors[:, :2] + anchors[:, 2:]) / 2  # of each box: the corner of its position
    assert middle.amin(0).tolist() == [0, 0]
    assert middle.amax(0).tolist() == [332, 496]  # column 83 and row 124 of the finest map
    assert (middle.amax(0) < torch.tensor([333, 500])).all()


@pytest.mark.parametrize(
    ("like", "dtype"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_no_pixel_is_lost_in_half_precision(like, dtype):
    grids = [(1, 160)]
    anchors = anchors_at(grids, (4,), ((33.0,),), (1.0,), torch.zeros(0, dtype=like))
    assert anchors.dtype == dtype
    assert anchors[:, 0].tolist() == [4 * column - 16 for column in range(160)]  # ½ · 33 is rounded to the even 16


def test_as_many_maps_as_sizes():
    with pytest.raises(ValueError, match="zip"):
        anchors_at([(1, 1)], STRIDES, SIZES, RATIOS, LIKE)
