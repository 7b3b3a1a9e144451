"""Outlines: polygons and run lengths against pycocotools, worked examples, and what is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_folders import square
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as cocoapi

from efficientformer_edu.dense.outlines import check, mask, unpacked

MASKS = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32)).map(
    lambda three: np.random.default_rng(three[2]).random(three[:2]) < 0.4
)


def test_a_rectangle_is_its_pixels():
    found = mask([square(1, 2, 4, 3)], 5, 6)
    expected = torch.zeros(5, 6, dtype=torch.bool)
    expected[2, 1:4] = True
    assert torch.equal(found, expected)


def test_several_polygons_are_one_object():
    found = mask([square(0, 0, 1, 1), square(3, 3, 5, 5)], 5, 5)
    assert found.sum() == 1 + 4


def test_run_lengths_go_down_the_columns():
    """Of 3×2 pixels one is outside, three are inside, two are outside."""
    assert mask({"size": [3, 2], "counts": [1, 3, 2]}, 3, 2).int().tolist() == [[0, 1], [1, 0], [1, 0]]


@given(MASKS)
def test_masks_packed_by_cocoapi_come_out_again(pixels):
    packed = cocoapi.encode(np.asfortranarray(pixels, np.uint8))
    for counts in (packed["counts"], packed["counts"].decode()):
        encoded = {"size": list(pixels.shape), "counts": counts}
        check(encoded, *pixels.shape)
        assert np.array_equal(mask(encoded, *pixels.shape).numpy(), pixels)


@given(MASKS)
def test_lists_of_run_lengths(pixels):
    column = pixels.T.ravel()
    changes = np.flatnonzero(np.diff(column)) + 1
    lengths = np.diff([0, *changes, column.size]).tolist()
    encoded = {"size": list(pixels.shape), "counts": lengths if not column[0] else [0, *lengths]}
    check(encoded, *pixels.shape)
    assert np.array_equal(mask(encoded, *pixels.shape).numpy(), pixels)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with NumPy 2
@given(st.lists(st.lists(st.floats(-5, 35, width=32), min_size=6, max_size=12), min_size=1, max_size=3))
def test_polygons_as_cocoapi_decodes_them(polygons):
    polygons = [polygon[: len(polygon) // 2 * 2] for polygon in polygons]
    expected = cocoapi.decode(cocoapi.merge(cocoapi.frPyObjects(polygons, 20, 30)))
    check(polygons, 20, 30)
    assert np.array_equal(mask(polygons, 20, 30).numpy(), expected == 1)


def test_numbers_of_several_characters():
    """Five bits each from "0" on, the lowest first: 100 = 3·32 + 4 is "T3", and −1 is a single "O"."""
    assert unpacked("T34") == [100, 4]
    assert unpacked("456O") == [4, 5, 6, 4]  # the fourth is counted from the second


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "neither a list of polygons nor run lengths"),
        ("polygon", "neither a list of polygons nor run lengths"),
        ([[1, 1, 5, 1, 5]], "a polygon has 5 numbers; it needs x and y of three points"),
        ([square(0, 0, 2, 2), [1, 1, 5, 1]], "a polygon has 4 numbers"),
        ([3], "a polygon has 3; it needs"),
        ([[1, 1, 5, 1, 5, float("nan")]], "no finite numbers"),
        ([[1, 1, 5, 1, 5, float("inf")]], "no finite numbers"),
        ([[1, 1, 5, 1, 5, "6"]], "no finite numbers"),
        ([[1, 1, 5, 1, 5, None]], "no finite numbers"),
        ([[1, 1, 5, 1, 5, True]], "no finite numbers"),
        ([[1, 1, 5, 1, 5, 10**400]], "far out of the image"),
        ([[-31, 1, 5, 1, 5, 6]], "far out of the image"),
        ({"size": [30, 20], "counts": [600]}, r"size \[30, 20\], its image has \[20, 30\]"),
        ({"counts": [600]}, "size None"),
        ({"size": [20, 30]}, "no list of whole numbers"),
        ({"size": [20, 30], "counts": [700, -100]}, "no list of whole numbers"),
        ({"size": [20, 30], "counts": [599.0, 1]}, "no list of whole numbers"),
        ({"size": [20, 30], "counts": [599]}, "add up to 599 pixels, its image has 600"),
        ({"size": [20, 30], "counts": "1"}, "add up to 1 pixels"),
        ({"size": [20, 30], "counts": ""}, "add up to 0 pixels"),
        ({"size": [20, 30], "counts": "T"}, "end within a number"),
        ({"size": [20, 30], "counts": "1 1"}, "hold ' '"),
        ({"size": [20, 30], "counts": "1é1"}, "hold 'é'"),
        ({"size": [20, 30], "counts": "O"}, "no list of whole numbers"),
    ],
)
def test_what_is_no_outline(segmentation, message):
    with pytest.raises(ValueError, match=message):
        check(segmentation, 20, 30)
