"""Maps of a backbone are drawn by what their places differ in most."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_networks import SMALL, images
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientformer_edu.dense import DenseBackbone
from efficientformer_edu.figures.dense_maps import draw_maps, main_components, maps_alt_text

FLAT = np.zeros((8, 8, 3))


def maps(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    return [torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes]


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), channels=st.integers(2, 9))
def test_components_are_those_of_the_singular_values(seed: int, channels: int) -> None:
    features = np.random.default_rng(seed).normal(size=(channels, 5, 6))
    found = main_components(features, FLAT)
    vectors = features.reshape(channels, -1)
    vectors = vectors - vectors.mean(1, keepdims=True)
    _, sizes, rows = np.linalg.svd(vectors, full_matrices=False)
    assert found.part == pytest.approx((sizes[:2] ** 2).sum() / (sizes**2).sum())
    for values, row in zip(found.values, rows, strict=False):
        inside = ((values > 0) & (values < 1)).ravel()
        assert abs(np.corrcoef(values.ravel()[inside], row[inside])[0, 1]) == pytest.approx(1)
        assert values.min() == 0 and values.max() == 1


@pytest.mark.parametrize("sign", [1, -1])
def test_places_that_are_bright_in_the_image_are_light(sign: int) -> None:
    photo = np.linspace(0, 1, 64).reshape(8, 8, 1).repeat(3, axis=2)
    grid = photo[::2, ::2, 0]
    found = main_components(sign * np.stack([3 * grid, 0 * grid]), photo)
    assert (np.diff(found.values[0].ravel()) >= 0).all() and found.part == pytest.approx(1)


def test_a_map_without_differences() -> None:
    found = main_components(np.ones((4, 1, 1)), FLAT)
    assert found.part == 1 and not found.values.any()


def test_the_maps_of_a_backbone() -> None:
    image = images(1, 64, 96)
    with torch.no_grad():
        found = DenseBackbone(SMALL).eval()(image)
    figure = draw_maps(image[0], found)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        "image, 64×96 pixels",
        "stride 4: 16×24 places\n16 channels",
        "stride 8: 8×12 places\n32 channels",
        "stride 16: 4×6 places\n48 channels",
        "stride 32: 2×3 places\n64 channels",
    ]
    for axes, each in zip(figure.axes[1:], found, strict=True):
        (shown,) = axes.images
        assert np.asarray(shown.get_array()).shape == (*each.shape[2:], 3)
        assert np.asarray(shown.get_array()).min() >= 0 and np.asarray(shown.get_array()).max() <= 1
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    words = maps_alt_text(image[0], found)
    assert words.startswith(
        "An image of 64×96 pixels, and beside it its maps: at stride 4 16×24 places of 16 channels, "
    )
    assert words.count("of whose variance the picture holds") == 4


def test_what_does_not_fit_is_refused() -> None:
    four = maps((4, 8, 8), (4, 4, 4), (4, 2, 2), (4, 1, 1))
    for draw in (draw_maps, maps_alt_text):
        with pytest.raises(ValueError, match=r"image has the shape \(1, 32, 32\); wanted: \(3, H, W\)"):
            draw(torch.zeros(1, 32, 32), four)
        for wrong in (four[:3], maps((2, 4, 8, 8)) + four[1:], maps((1, 8, 8)) + four[1:]):
            with pytest.raises(ValueError, match=r"wanted: four of \(C, h, w\), C at least 2"):
                draw(torch.zeros(3, 32, 32), wrong)
