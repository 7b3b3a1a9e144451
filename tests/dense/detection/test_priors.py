"""Locations: by hand, and the boxes that are predicted at them."""

from __future__ import annotations

import math

import pytest
import torch
from dense_networks import assert_close

from efficientformer_edu.dense.detection.priors import places_at, predictions_at_places


def test_map_by_map_row_by_row():
    locations = places_at([(2, 3), (1, 1)], (8, 16), torch.zeros(0))
    assert locations.centres.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12], [8, 8]]
    assert locations.strides.tolist() == [8] * 6 + [16]


def test_boxes_by_hand():
    """In row 0 and column 1 of a map of stride 8: half a cell from the corner (8, 0), 8 wide and 16 high."""
    fine, coarse = torch.zeros(1, 7, 1, 2, dtype=torch.float64), torch.zeros(1, 7, 1, 1, dtype=torch.float64)
    fine[0, :, 0, 1] = torch.tensor([0.5, 0.5, 0.0, math.log(2), 5.0, 6.0, 7.0], dtype=torch.float64)
    boxes = predictions_at_places([fine, coarse], (8, 16))
    assert_close(boxes.boxes[0], torch.tensor([[-4, -4, 4, 4], [8, -4, 16, 12], [-8, -8, 8, 8]]).double())
    assert boxes.objectness.tolist() == [[0, 5, 0]] and boxes.classes.tolist() == [[[0, 0], [6, 7], [0, 0]]]
    assert boxes.places.centres.tolist() == [[4, 4], [12, 4], [8, 8]] and boxes.places.strides.tolist() == [8, 8, 16]


def test_images_do_not_mix_and_rows_are_rows():
    maps = [torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))]
    both, alone = predictions_at_places(maps, (4,)), predictions_at_places([maps[0][1:]], (4,))
    assert torch.equal(both.boxes[1], alone.boxes[0])
    assert torch.equal(both.classes[:, 4 * 1 + 2, 0], maps[0][:, 5, 1, 2])


def test_boxes_are_not_of_half_precision():
    boxes = predictions_at_places([torch.full((1, 6, 1, 200), 0.5, dtype=torch.bfloat16)], (4,))
    assert {x.dtype for x in (boxes.boxes, boxes.objectness, boxes.classes, boxes.places.centres)} == {torch.float32}
    middle = (boxes.boxes[0, :, 0] + boxes.boxes[0, :, 2]) / 2
    torch.testing.assert_close(middle, torch.arange(200) * 4.0 + 2)


def test_as_many_maps_as_strides():
    with pytest.raises(ValueError, match="zip"):
        predictions_at_places([torch.zeros(1, 6, 1, 1)], (8, 16))
