"""The pictures of resized biases against what they are made from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from efficientformer_edu.dense.offset_tables import taken_for
from efficientformer_edu.figures.colours import INK, PAPER
from efficientformer_edu.figures.offset_tables import draw_biases, draw_taken_for

RANDOM = torch.Generator().manual_seed(1)


def biases(count: int = 6) -> dict[str, torch.Tensor]:
    return {name: torch.randn(2, count, count, generator=RANDOM, requires_grad=True) for name in ("one", "two", "six")}


@pytest.mark.parametrize(("query", "head"), [((1, 2), 0), ((0, 0), 1)])
def test_each_way_has_its_matrix_and_the_row_of_the_query(query: tuple[int, int], head: int) -> None:
    given = biases()
    figure = draw_biases(given, (2, 3), query, head)
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    above, below = panels[:3], panels[3:]
    assert [axes.get_title() for axes in above] == list(given)
    row = query[0] * 3 + query[1]
    limits = {axes.images[0].get_clim() for axes in panels}
    assert len(limits) == 1
    for matrix, one, bias in zip(above, below, given.values(), strict=True):
        wanted = bias.detach().numpy()[head]
        wanted = wanted - wanted.mean(1, keepdims=True)
        np.testing.assert_allclose(matrix.images[0].get_array(), wanted, rtol=1e-6)
        np.testing.assert_allclose(one.images[0].get_array(), wanted[row].reshape(2, 3), rtol=1e-6)
        assert one.get_title() == f"the row of query {query[0]},{query[1]}"
        (frame,) = (patch for patch in matrix.patches if isinstance(patch, Rectangle))
        assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((-0.5, row - 0.5), 6, 1)
        (mark,) = (patch for patch in one.patches if isinstance(patch, Rectangle))
        assert mark.get_xy() == (query[1] - 0.5, query[0] - 0.5)


def test_colours_are_as_strong_for_less_as_for_more() -> None:
    figure = draw_biases({"it": torch.tensor([[[0.0, 4.0], [1.0, 0.0]]])}, (1, 2), (0, 0))
    assert figure.axes[0].images[0].get_clim() == (-2, 2)
    assert draw_biases({"it": torch.zeros(1, 2, 2)}, (1, 2), (0, 0)).axes[0].images[0].get_clim() == (-1, 1)


@pytest.mark.parametrize(
    ("named", "match"),
    [
        ({"query": (2, 0)}, "query=.*a row from 0 to 1 and a column from 0 to 2"),
        ({"query": (0, 0), "head": 2}, "head=2.*allowed: 0 to 1"),
        ({"query": (0, 0), "grid": (2, 2)}, r"one has shape \(2, 6, 6\); allowed: \(heads, 4, 4\)"),
    ],
)
def test_what_does_not_fit_is_refused(named: dict[str, object], match: str) -> None:
    given: dict[str, object] = {"grid": (2, 3), **named}
    with pytest.raises(ValueError, match=match):
        draw_biases(biases(), **given)  # type: ignore[arg-type]


def test_tokens_say_and_show_for_which_they_are_taken() -> None:
    own, by_place, wrong = draw_taken_for((2, 3), (4, 6)).axes
    panels = {
        own: [[(y, x) for x in range(3)] for y in range(2)],
        by_place: [[(y // 2, x // 2) for x in range(6)] for y in range(4)],
        wrong: taken_for((2, 3), (4, 6)),
    }
    for axes, tokens in panels.items():
        assert axes.images[0].get_array().tolist() == [[3 * y + x for y, x in row] for row in tokens]
        assert axes.images[0].get_clim() == (0, 5)
        said = {text.get_position(): text.get_text() for text in axes.texts}
        assert said == {(x, y): "{},{}".format(*token) for y, row in enumerate(tokens) for x, token in enumerate(row)}
    assert {to_hex(text.get_color(), keep_alpha=False).upper() for text in own.texts} == {INK, PAPER}


def test_a_grid_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="grid="):
        draw_taken_for((2, 2), (0, 4))
