"""What the drawings of chapter 10 say, read from their parts."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from efficientformer_edu.figures import pitfalls

PHOTO = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
CROPS = {"middle": ((2.0, 7.0, 18.0, 23.0), PHOTO[7:23, 2:18]), "all": ((0, 0, 20, 30), PHOTO[:32, :20])}


def test_a_frame_stands_around_what_is_kept() -> None:
    drawing = pitfalls.draw_crops(PHOTO, CROPS)
    for axes, (title, (box, _)) in zip(drawing.axes, CROPS.items(), strict=False):
        frame = [patch for patch in axes.patches if isinstance(patch, Rectangle)][-1]
        left, top = frame.get_xy()
        assert (left, top, left + frame.get_width(), top + frame.get_height()) == box
        assert axes.get_title() == title


def test_what_is_kept_lies_above_the_veil_and_is_cut_out_by_its_frame() -> None:
    axes = pitfalls.draw_crops(PHOTO, CROPS).axes[0]
    veil, frame = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    kept = axes.images[1]
    assert veil.get_zorder() < kept.get_zorder() < frame.get_zorder()
    left, bottom, right, top = kept.get_clip_box().transformed(axes.transData.inverted()).extents
    assert np.allclose((left, top, right, bottom), CROPS["middle"][0])


def test_inputs_are_named_by_their_size_and_drawn_to_one_scale() -> None:
    below = pitfalls.draw_crops(PHOTO, CROPS).axes[2:]
    assert [axes.get_title() for axes in below] == ["the network sees 16×16", "the network sees 30×20"]
    assert {axes.get_xlim() for axes in below} == {(0, 30)}
    assert below[0].images[0].get_extent() == [7, 23, 23, 7]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_schedule_is_a_line_from_the_first_block(count: int) -> None:
    schedules = {f"schedule {i}": [0.0, 0.5 * i, 1.0 * i] for i in range(count)}
    axes = pitfalls.draw_schedules(schedules).axes[0]
    lines = [line for line in axes.lines if line.get_label() in schedules]
    assert [list(line.get_ydata()) for line in lines] == list(schedules.values())
    assert all(list(line.get_xdata()) == [1, 2, 3] for line in lines)


def test_the_line_at_one_is_drawn_even_if_no_rate_comes_near() -> None:
    axes = pitfalls.draw_schedules({"small": [0.0, 0.1]}).axes[0]
    assert axes.get_ylim()[1] >= 1.0


def test_a_drawing_becomes_a_picture() -> None:
    assert pitfalls.draw_crops(PHOTO, CROPS)._repr_png_().startswith(b"\x89PNG")
