"""The pictures of offsets against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from efficientformer_edu.figures.offsets import draw_bias_table, draw_offsets


@pytest.mark.parametrize(("grid", "query"), [((7, 7), (2, 3)), ((3, 5), (2, 0)), ((1, 4), (0, 3)), ((12, 20), (3, 4))])
def test_offsets_against_brute_force(grid: tuple[int, int], query: tuple[int, int]) -> None:
    (height, width), (y, x) = grid, query
    tokens = [(v, u) for v in range(height) for u in range(width)]
    seen, table, matrix = (axes.images[0].get_array() for axes in draw_offsets(grid, query).axes)
    assert seen.tolist() == [[abs(v - y) * width + abs(u - x) for u in range(width)] for v in range(height)]
    assert table.tolist() == [[v * width + u for u in range(width)] for v in range(height)]
    assert matrix.tolist() == [[abs(v - w) * width + abs(u - z) for w, z in tokens] for v, u in tokens]


def test_cells_say_their_offset() -> None:
    seen, table, _ = draw_offsets((3, 5), (2, 1)).axes
    assert {text.get_position(): text.get_text() for text in seen.texts} == {
        (u, v): f"{abs(v - 2)},{abs(u - 1)}" for v in range(3) for u in range(5)
    }
    assert [text.get_text() for text in table.texts] == [f"{v},{u}" for v in range(3) for u in range(5)]
    assert draw_offsets((12, 20)).axes[0].texts[:] == []


def test_query_is_marked_on_the_grid_and_in_the_matrix() -> None:
    seen, _, matrix = draw_offsets((3, 5), (2, 1)).axes
    (cell,) = (patch for patch in seen.patches if isinstance(patch, Rectangle))
    (row,) = (patch for patch in matrix.patches if isinstance(patch, Rectangle))
    assert (cell.get_xy(), cell.get_width(), cell.get_height()) == ((0.5, 1.5), 1, 1)
    assert (row.get_xy(), row.get_width(), row.get_height()) == ((-0.5, 10.5), 15, 1)


@pytest.mark.parametrize("query", [(7, 0), (0, 7), (-1, 0)])
def test_query_off_the_grid_is_refused(query: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="query=.*a row from 0 to 6 and a column from 0 to 6"):
        draw_offsets((7, 7), query)


@pytest.mark.parametrize("heads", [1, 3, 8])
def test_bias_table_shows_each_head(heads: int) -> None:
    table = torch.nn.Parameter(torch.arange(heads * 15.0).view(heads, 15) - 7)
    figure = draw_bias_table(table, (3, 5))
    shown = [axes for axes in figure.axes if axes.images and axes.get_visible()]
    assert [axes.get_title() for axes in shown] == [f"head {i + 1}" for i in range(heads)]
    for axes, entries in zip(shown, table.detach().numpy(), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), entries.reshape(3, 5))
        low, high = axes.images[0].get_clim()
        assert -low == high == np.abs(table.detach().numpy()).max()


def test_bias_table_of_one_head_and_of_zeros() -> None:
    figure = draw_bias_table(torch.zeros(15), (3, 5))
    assert figure.axes[0].images[0].get_clim() == (-1, 1)


def test_bias_table_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"table has shape \(8, 49\); allowed: \(heads, 15\)"):
        draw_bias_table(torch.zeros(8, 49), (3, 5))
