"""The figures of the building blocks, read from their artists; biases are compared with brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from efficientformer_edu.dense.offset_tables import source_tokens
from efficientformer_edu.plots import INK, PAPER, blocks
from efficientformer_edu.plots.style import Drawing


def texts(drawing: Drawing, panel: int) -> list[str]:
    return [text.get_text() for text in drawing.axes[panel].texts]


def boxes(drawing: Drawing, panel: int) -> list[Rectangle]:
    return [patch for patch in drawing.axes[panel].patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize("size", [40, 56])
def test_the_photo_is_grey_and_of_the_requested_size(size: int) -> None:
    photo = blocks.photo(size)
    assert photo.shape == (size, size)
    assert 0 <= photo.min() < 0.2 and 0.8 < photo.max() <= 1


def test_a_field_is_plotted_where_its_mask_is_true() -> None:
    mask = torch.zeros(20, 24, dtype=torch.bool)
    mask[5:9, 2:12] = True
    drawing = blocks.draw_fields({"panel": [mask] * 3})
    for box in boxes(drawing, 0):
        assert (*box.get_xy(), box.get_width(), box.get_height()) == (2, 5, 10, 4)
    assert drawing.axes[0].get_title() == "panel"


def test_tokens_are_numbered_row_by_row() -> None:
    drawing = blocks.draw_tokens(height=2, width=3, channels=2)
    assert texts(drawing, 0) == ["0", "1", "2", "3", "4", "5"]
    assert texts(drawing, 1)[8:10] == ["token 4", "y = 1, x = 1"]
    front, tokens = boxes(drawing, 0)[6:], boxes(drawing, 1)[::2]
    assert [box.get_facecolor() for box in front] == [box.get_facecolor() for box in tokens]


def test_maps_have_a_common_scale() -> None:
    drawing = blocks.draw_maps([{"a": np.zeros((2, 2)), "b": np.ones((2, 2))}] * 2, limits=(0, 1))
    assert [axes.get_title() for axes in drawing.axes] == ["a", "b", "a", "b"]
    assert {axes.images[0].get_clim() for axes in drawing.axes} == {(0, 1)}


def test_both_curves_of_a_network_are_plotted() -> None:
    curves = {name: ([1.0, 0.5], [2.0, 1.0]) for name in ("a", "b", "c")}
    signal, gradient = blocks.draw_depth(curves).axes
    assert [list(line.get_ydata()) for line in signal.lines] == [[1.0, 0.5]] * 3
    assert [list(line.get_ydata()) for line in gradient.lines] == [[2.0, 1.0]] * 3
    assert gradient.get_yscale() == "log"


def test_both_layouts_have_the_same_channels_in_different_orders() -> None:
    drawing = blocks.draw_head_layouts(heads=2, parts=(1, 1, 4))
    assert texts(drawing, 0) == ["q\n0", "k\n0", "v\n0", "q\n1", "k\n1", "v\n1"]
    assert texts(drawing, 1) == ["q\n0", "q\n1", "k\n0", "k\n1", "v\n0", "v\n1"]
    assert [sum(box.get_width() for box in boxes(drawing, panel)) for panel in (0, 1)] == [12, 12]


def test_only_a_map_of_tokens_is_marked() -> None:
    drawing = blocks.draw_biases({"table": np.eye(3), "seen": np.eye(3)}, marks={"seen": (2, 1)})
    assert boxes(drawing, 0) == []
    assert boxes(drawing, 1)[0].get_xy() == (0.5, 1.5)
    assert [axes.get_xlabel() for axes in drawing.axes[:2]] == ["|Δx|", "x"]


@pytest.mark.parametrize(("grid", "query"), [((7, 7), (2, 3)), ((3, 5), (2, 0)), ((1, 4), (0, 3)), ((12, 20), (3, 4))])
def test_offsets_against_brute_force(grid: tuple[int, int], query: tuple[int, int]) -> None:
    (height, width), (y, x) = grid, query
    tokens = [(v, u) for v in range(height) for u in range(width)]
    seen, table, matrix = (axes.images[0].get_array() for axes in blocks.draw_offsets(grid, query).axes)
    assert seen.tolist() == [[abs(v - y) * width + abs(u - x) for u in range(width)] for v in range(height)]
    assert table.tolist() == [[v * width + u for u in range(width)] for v in range(height)]
    assert matrix.tolist() == [[abs(v - w) * width + abs(u - z) for w, z in tokens] for v, u in tokens]


def test_cells_are_labelled_with_their_offset() -> None:
    seen, table, _ = blocks.draw_offsets((3, 5), (2, 1)).axes
    assert {text.get_position(): text.get_text() for text in seen.texts} == {
        (u, v): f"{abs(v - 2)},{abs(u - 1)}" for v in range(3) for u in range(5)
    }
    assert [text.get_text() for text in table.texts] == [f"{v},{u}" for v in range(3) for u in range(5)]
    assert blocks.draw_offsets((12, 20)).axes[0].texts[:] == []


def test_query_is_marked_on_the_grid_and_in_the_matrix() -> None:
    seen, _, matrix = blocks.draw_offsets((3, 5), (2, 1)).axes
    (cell,) = (patch for patch in seen.patches if isinstance(patch, Rectangle))
    (row,) = (patch for patch in matrix.patches if isinstance(patch, Rectangle))
    assert (cell.get_xy(), cell.get_width(), cell.get_height()) == ((0.5, 1.5), 1, 1)
    assert (row.get_xy(), row.get_width(), row.get_height()) == ((-0.5, 10.5), 15, 1)


@pytest.mark.parametrize("query", [(7, 0), (0, 7), (-1, 0)])
def test_a_query_off_the_grid_is_rejected(query: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"query=.* 6 .* 6"):
        blocks.draw_offsets((7, 7), query)


@pytest.mark.parametrize("heads", [1, 3, 8])
def test_bias_table_shows_every_head(heads: int) -> None:
    table = torch.nn.Parameter(torch.arange(heads * 15.0).view(heads, 15) - 7)
    figure = blocks.draw_bias_table(table, (3, 5))
    panels = [axes for axes in figure.axes if axes.images and axes.get_visible()]
    assert [axes.get_title() for axes in panels] == [f"head {i + 1}" for i in range(heads)]
    for axes, entries in zip(panels, table.detach().numpy(), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), entries.reshape(3, 5))
        low, high = axes.images[0].get_clim()
        assert -low == high == np.abs(table.detach().numpy()).max()


def test_bias_table_of_a_single_head_and_of_zeros() -> None:
    figure = blocks.draw_bias_table(torch.zeros(15), (3, 5))
    assert figure.axes[0].images[0].get_clim() == (-1, 1)


def test_a_bias_table_of_the_wrong_size_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"table .*\(8, 49\).*\(heads, 15\)"):
        blocks.draw_bias_table(torch.zeros(8, 49), (3, 5))


def biases(count: int = 6) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return {name: torch.randn(2, count, count, generator=random, requires_grad=True) for name in ("a", "b", "c")}


@pytest.mark.parametrize(("query", "head"), [((1, 2), 0), ((0, 0), 1)])
def test_every_method_has_its_matrix_and_the_row_of_the_query(query: tuple[int, int], head: int) -> None:
    methods = biases()
    figure = blocks.draw_resized_biases(methods, (2, 3), query, head)
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    above, below = panels[:3], panels[3:]
    assert [axes.get_title() for axes in above] == list(methods)
    row = query[0] * 3 + query[1]
    limits = {axes.images[0].get_clim() for axes in panels}
    assert len(limits) == 1
    for matrix, query_row, bias in zip(above, below, methods.values(), strict=True):
        expected = bias.detach().numpy()[head]
        expected = expected - expected.mean(1, keepdims=True)
        np.testing.assert_allclose(matrix.images[0].get_array(), expected, rtol=1e-6)
        np.testing.assert_allclose(query_row.images[0].get_array(), expected[row].reshape(2, 3), rtol=1e-6)
        assert f"{query[0]},{query[1]}" in query_row.get_title()
        (frame,) = (patch for patch in matrix.patches if isinstance(patch, Rectangle))
        assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((-0.5, row - 0.5), 6, 1)
        (mark,) = (patch for patch in query_row.patches if isinstance(patch, Rectangle))
        assert mark.get_xy() == (query[1] - 0.5, query[0] - 0.5)


def test_the_colour_scale_is_symmetric() -> None:
    figure = blocks.draw_resized_biases({"it": torch.tensor([[[0.0, 4.0], [1.0, 0.0]]])}, (1, 2), (0, 0))
    assert figure.axes[0].images[0].get_clim() == (-2, 2)
    assert blocks.draw_resized_biases({"it": torch.zeros(1, 2, 2)}, (1, 2), (0, 0)).axes[0].images[0].get_clim() == (
        -1,
        1,
    )


@pytest.mark.parametrize(
    ("named", "match"),
    [
        ({"query": (2, 0)}, "query=.* 1 .* 2"),
        ({"query": (0, 0), "head": 2}, "head=2.*0 to 1"),
        ({"query": (0, 0), "grid": (2, 2)}, r"a .*\(2, 6, 6\).*\(heads, 4, 4\)"),
    ],
)
def test_resized_biases_that_do_not_fit_are_rejected(named: dict[str, object], match: str) -> None:
    arguments: dict[str, object] = {"grid": (2, 3), **named}
    with pytest.raises(ValueError, match=match):
        blocks.draw_resized_biases(biases(), **arguments)  # type: ignore[arg-type]


def test_tokens_are_coloured_and_labelled_by_their_match() -> None:
    trained, by_position, resized = blocks.draw_token_matches((2, 3), (4, 6)).axes
    panels = {
        trained: [[(y, x) for x in range(3)] for y in range(2)],
        by_position: [[(y // 2, x // 2) for x in range(6)] for y in range(4)],
        resized: source_tokens((2, 3), (4, 6)),
    }
    for axes, tokens in panels.items():
        assert axes.images[0].get_array().tolist() == [[3 * y + x for y, x in row] for row in tokens]
        assert axes.images[0].get_clim() == (0, 5)
        labels = {text.get_position(): text.get_text() for text in axes.texts}
        assert labels == {(x, y): "{},{}".format(*token) for y, row in enumerate(tokens) for x, token in enumerate(row)}
    assert {to_hex(text.get_color(), keep_alpha=False).upper() for text in trained.texts} == {INK, PAPER}


def test_a_grid_without_tokens_is_rejected() -> None:
    with pytest.raises(ValueError, match="grid="):
        blocks.draw_token_matches((2, 2), (0, 4))
