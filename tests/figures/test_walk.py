"""The picture of what one place sees shows the pixels that act, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from efficientformer_edu.figures.walk import FAINTEST, draw_reach

PHOTO = np.linspace(0, 1, 8 * 12 * 3).reshape(8, 12, 3)


def test_frame_is_around_all_pixels_that_act() -> None:
    strength = np.zeros((8, 12))
    strength[2:5, 3:10] = 1.0
    strength[5, 4] = 1e-30  # however faint
    (axes,) = draw_reach(PHOTO, [strength]).axes
    (frame,) = axes.patches
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((2.5, 1.5), 7, 4)
    assert axes.get_title() == "stage 1\n4×7 pixels"


def test_veil_is_logarithmic_and_hides_what_is_zero() -> None:
    strength = np.full((8, 12), 2.0)
    strength[0, :4] = (0.0, 2 * FAINTEST, 2 * FAINTEST**0.5, 2 * FAINTEST**2)
    (axes,) = draw_reach(PHOTO, [strength]).axes
    photo, veil = (image.get_array() for image in axes.images)
    np.testing.assert_array_equal(photo, PHOTO)
    np.testing.assert_allclose(veil[0, :5, 3], (0.95, 0.95, 0.475, 0.95, 0.0), atol=1e-9)


def test_one_panel_a_stage() -> None:
    titles = [axes.get_title() for axes in draw_reach(PHOTO, [np.ones((8, 12))] * 3).axes]
    assert titles == [f"stage {stage}\n8×12 pixels" for stage in (1, 2, 3)]


def test_a_strength_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(8, 8\); allowed: \(8, 12\)"):
        draw_reach(PHOTO, [np.ones((8, 8))])
