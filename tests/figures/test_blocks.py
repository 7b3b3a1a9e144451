"""What the drawings of chapter 2 say, read from their parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from efficientformer_edu.figures import blocks
from efficientformer_edu.figures.style import Drawing


def words(drawing: Drawing, panel: int) -> list[str]:
    return [text.get_text() for text in drawing.axes[panel].texts]


def boxes(drawing: Drawing, panel: int) -> list[Rectangle]:
    return [patch for patch in drawing.axes[panel].patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize("size", [40, 56])
def test_the_photo_is_grey_and_of_the_asked_size(size: int) -> None:
    photo = blocks.photo(size)
    assert photo.shape == (size, size)
    assert 0 <= photo.min() < 0.2 and 0.8 < photo.max() <= 1


def test_a_field_is_drawn_where_its_mask_is_true() -> None:
    mask = torch.zeros(20, 24, dtype=torch.bool)
    mask[5:9, 2:12] = True
    drawing = blocks.draw_fields({"one": [mask] * 3})
    for box in boxes(drawing, 0):
        assert (*box.get_xy(), box.get_width(), box.get_height()) == (2, 5, 10, 4)
    assert drawing.axes[0].get_title() == "one"


def test_tokens_are_numbered_row_by_row() -> None:
    drawing = blocks.draw_tokens(height=2, width=3, channels=2)
    assert words(drawing, 0) == ["0", "1", "2", "3", "4", "5"]
    assert words(drawing, 1)[8:10] == ["token 4", "y = 1, x = 1"]
    front, tokens = boxes(drawing, 0)[6:], boxes(drawing, 1)[::2]
    assert [box.get_facecolor() for box in front] == [box.get_facecolor() for box in tokens]


def test_maps_share_one_scale() -> None:
    drawing = blocks.draw_maps([{"a": np.zeros((2, 2)), "b": np.ones((2, 2))}] * 2, limits=(0, 1))
    assert [axes.get_title() for axes in drawing.axes] == ["a", "b", "a", "b"]
    assert {axes.images[0].get_clim() for axes in drawing.axes} == {(0, 1)}


def test_both_curves_of_a_network_are_drawn() -> None:
    curves = {name: ([1.0, 0.5], [2.0, 1.0]) for name in ("a", "b", "c")}
    kept, gradient = blocks.draw_depth(curves).axes
    assert [list(line.get_ydata()) for line in kept.lines] == [[1.0, 0.5]] * 3
    assert [list(line.get_ydata()) for line in gradient.lines] == [[2.0, 1.0]] * 3
    assert gradient.get_yscale() == "log"


def test_both_layouts_hold_the_same_channels_in_another_order() -> None:
    drawing = blocks.draw_head_layouts(heads=2, parts=(1, 1, 4))
    assert words(drawing, 0) == ["q\n0", "k\n0", "v\n0", "q\n1", "k\n1", "v\n1"]
    assert words(drawing, 1) == ["q\n0", "q\n1", "k\n0", "k\n1", "v\n0", "v\n1"]
    assert [sum(box.get_width() for box in boxes(drawing, panel)) for panel in (0, 1)] == [12, 12]


def test_only_a_map_of_tokens_is_marked() -> None:
    drawing = blocks.draw_biases({"table": np.eye(3), "seen": np.eye(3)}, marks={"seen": (2, 1)})
    assert boxes(drawing, 0) == []
    assert boxes(drawing, 1)[0].get_xy() == (0.5, 1.5)
    assert [axes.get_xlabel() for axes in drawing.axes[:2]] == ["|Δx|", "x"]


def test_a_drawing_becomes_a_picture() -> None:
    assert blocks.draw_tokens(height=2, width=2, channels=1)._repr_png_().startswith(b"\x89PNG")
