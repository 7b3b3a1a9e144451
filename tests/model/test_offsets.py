"""The table of attention offsets, at the training grid and at any other grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from efficientformer_edu.model import offset_bias, offset_index

grids = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(grids)
def test_the_index_is_the_offset_of_every_pair(grid):
    height, width = grid
    positions = [(y, x) for y in range(height) for x in range(width)]
    expected = [[abs(y - v) * width + abs(x - u) for v, u in positions] for y, x in positions]
    assert offset_index(grid).tolist() == expected


def test_on_the_trained_grid_the_table_is_taken_bit_for_bit():
    table = torch.randn(8, 49)
    bias = offset_bias(table, (7, 7), (7, 7))
    assert bias.shape == (8, 49, 49)
    assert torch.equal(bias, table[:, offset_index((7, 7))])
    assert torch.equal(bias[:, 0], table)  # from the first token, the offsets are the positions


@given(grids, grids, st.floats(-3, 3), st.floats(-3, 3))
def test_an_affine_table_stays_affine(trained, grid, a, b):
    """A table a·Δy + b·Δx becomes a·Δy·(h₀−1)/(h−1) + b·Δx·(w₀−1)/(w−1); with one row or column that term is 0."""
    (h0, w0), (h, w) = trained, grid
    table = torch.tensor([[a * dy + b * dx for dy in range(h0) for dx in range(w0)]], dtype=torch.float64)
    per_row = a * (h0 - 1) / (h - 1) if h > 1 else 0.0
    per_column = b * (w0 - 1) / (w - 1) if w > 1 else 0.0
    positions = [(y, x) for y in range(h) for x in range(w)]
    expected = [[abs(y - v) * per_row + abs(x - u) * per_column for v, u in positions] for y, x in positions]
    np.testing.assert_allclose(offset_bias(table, trained, grid)[0].numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("grid", "slope"), [((12, 12), 6 / 11), ((4, 10), 6 / 3), ((14, 7), 6 / 13)])
def test_the_published_table_on_other_grids(grid, slope):
    """DESIGN's example by hand: trained on 7×7, the bias of the next row is a·6/(h−1)."""
    table = torch.arange(7, dtype=torch.float64).repeat_interleave(7)[None]
    bias = offset_bias(table, (7, 7), grid)[0]
    assert bias[0, grid[1]].item() == pytest.approx(slope, abs=1e-12)
    assert bias[0, -1].item() == pytest.approx(6, abs=1e-12)  # corners are mapped to corners


@given(grids, grids)
def test_the_bias_is_symmetric_and_the_same_for_all_pairs_of_an_offset(trained, grid):
    table = torch.randn(2, trained[0] * trained[1], dtype=torch.float64)
    bias, index = offset_bias(table, trained, grid), offset_index(grid)
    assert torch.equal(bias, bias.transpose(1, 2))
    for offset in index.unique():
        assert len(bias[0][index == offset].unique()) == 1
