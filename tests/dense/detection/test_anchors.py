"""Anchors: hand-computed, their number, and their positions at sizes that are not a multiple of a stride."""

from __future__ import annotations

import pytest
import torch

from efficientformer_edu.config import PRESETS
from efficientformer_edu.dense.detection.priors import anchors_at, cell_anchors

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
    ("size", "places"),
    [
        (512, 128 * 128 + 64 * 64 + 32 * 32 + 16 * 16),
        (225, 57 * 57 + 29 * 29 + 15 * 15 + 8 * 8),
        ((480, 640), 120 * 160 + 60 * 80 + 30 * 40 + 15 * 20),
        ((500, 333), 125 * 84 + 63 * 42 + 32 * 21 + 16 * 11),
    ],
)
def test_how_many_there_are(size, places):
    anchors = anchors_at(PRESETS["l1"].grids(size), STRIDES, SIZES, RATIOS, LIKE)
    assert anchors.shape == (3 * places, 4)
    assert {512: 65_280, 225: 13_137, (480, 640): 76_500, (500, 333): 41_982}[size] == 3 * places


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
