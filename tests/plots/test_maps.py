"""Figures of feature maps, attention and receptive fields show the values passed to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_networks import SMALL
from dense_networks import images as dense_images
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.dense import DenseBackbone
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.plots.maps import (
    MIN_STRENGTH,
    draw_attention,
    draw_feature_maps,
    draw_principal_components,
    draw_reach,
    draw_receptive_fields,
    principal_components,
    principal_components_alt_text,
)

WALK = np.linspace(0, 1, 8 * 12 * 3).reshape(8, 12, 3)
FLAT = np.zeros((8, 8, 3))
PHOTO = np.linspace(0, 255, 64 * 96 * 3).reshape(64, 96, 3).astype(np.uint8)


@pytest.fixture(scope="module")
def model() -> EfficientFormer:
    torch.manual_seed(0)
    config = EfficientFormerConfig(depths=(1, 1, 1, 2), embed_dims=(4, 5, 6, 8), num_heads=3, key_dim=4, num_classes=2)
    return EfficientFormer(config).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.from_numpy(PHOTO / 255).permute(2, 0, 1)[None].float()


def test_feature_maps_of_a_network(model: EfficientFormer, images: torch.Tensor) -> None:
    maps = model.features(images)
    figure = draw_feature_maps(PHOTO, maps, channels=2)
    shown = {axes.get_title(): axes.images[0].get_array() for axes in figure.axes if axes.images}
    np.testing.assert_array_equal(shown["image\n64×96"], PHOTO)
    titles = [title for title in shown if title.startswith("stage")]
    shapes = ("4×16×24", "5×8×12", "6×4×6", "8×2×3")
    assert titles == [f"stage {stage}, mean of\n{shape}" for stage, shape in enumerate(shapes, start=1)]
    for title, values in zip(titles, maps, strict=True):
        np.testing.assert_allclose(shown[title], values[0].mean(0).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert len([axes for axes in figure.axes if axes.images]) == 1 + 4 * 3


def test_feature_maps_show_the_channels_that_vary_most() -> None:
    values = np.zeros((3, 2, 2))
    values[0], values[1, 0], values[2, 0] = 5.0, 1.0, 3.0
    figure = draw_feature_maps(PHOTO, [values], channels=2)
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert titles == ["image\n64×96", "stage 1, mean of\n3×2×2", "channel 2", "channel 1"]


def test_attention_of_a_network(model: EfficientFormer, images: torch.Tensor) -> None:
    (attention,) = model.attention_maps(images)
    figure = draw_attention(PHOTO, attention, (2, 3), query=(1, 2))
    heads = [axes for axes in figure.axes if axes.get_title().startswith("head")]
    assert [axes.get_title() for axes in heads] == ["head 1", "head 2", "head 3"]
    for head, axes in enumerate(heads):
        np.testing.assert_array_equal(
            axes.images[1].get_array(), attention[0, head, 1 * 3 + 2].detach().numpy().reshape(2, 3)
        )
        assert axes.patches[0].get_xy() == (2, 1)


def test_heads_have_the_proportions_of_the_image() -> None:
    figure = draw_attention(PHOTO, np.full((2, 12, 12), 1 / 12), (3, 4), query=(1, 2))
    panels = [axes for axes in figure.axes if axes.images and axes.get_label() != "<colorbar>"]
    assert [axes.get_aspect() for axes in panels] == pytest.approx([64 / 96 * 4 / 3] * 3)


def test_maps_and_attention_that_do_not_fit_are_rejected() -> None:
    attention = np.full((2, 6, 6), 1 / 6)
    with pytest.raises(ValueError, match=r"attention .*\(2, 6, 6\).*\(heads, 4, 4\)"):
        draw_attention(PHOTO, attention, (2, 2), (0, 0))
    with pytest.raises(ValueError, match="query="):
        draw_attention(PHOTO, attention, (2, 3), (2, 0))
    with pytest.raises(ValueError, match=r"image .*\(3, 64, 96\)"):
        draw_attention(PHOTO.transpose(2, 0, 1), attention, (2, 3), (0, 0))
    with pytest.raises(ValueError, match=r"maps .*\(2, 3, 4, 4\)"):
        draw_feature_maps(PHOTO, [np.zeros((2, 3, 4, 4))])


def test_the_frame_contains_all_pixels_with_influence() -> None:
    strength = np.zeros((8, 12))
    strength[2:5, 3:10] = 1.0
    strength[5, 4] = 1e-30  # however weak
    (axes,) = draw_reach(WALK, [strength]).axes
    (frame,) = axes.patches
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((2.5, 1.5), 7, 4)
    assert axes.get_title() == "stage 1\n4×7 pixels"


def test_fading_is_logarithmic_and_hides_zeros() -> None:
    strength = np.full((8, 12), 2.0)
    strength[0, :4] = (0.0, 2 * MIN_STRENGTH, 2 * MIN_STRENGTH**0.5, 2 * MIN_STRENGTH**2)
    (axes,) = draw_reach(WALK, [strength]).axes
    photo, fade = (image.get_array() for image in axes.images)
    np.testing.assert_array_equal(photo, WALK)
    np.testing.assert_allclose(fade[0, :5, 3], (0.95, 0.95, 0.475, 0.95, 0.0), atol=1e-9)


def test_every_stage_has_a_panel() -> None:
    titles = [axes.get_title() for axes in draw_reach(WALK, [np.ones((8, 12))] * 3).axes]
    assert titles == [f"stage {stage}\n8×12 pixels" for stage in (1, 2, 3)]


def test_a_strength_of_the_wrong_shape_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"\(8, 8\).*\(8, 12\)"):
        draw_reach(WALK, [np.ones((8, 8))])


def test_receptive_fields_are_relative_to_their_largest_value() -> None:
    field = torch.zeros(4, 4)
    field[1, 1], field[2, 2], field[3, 3] = 8.0, 2.0, 8e-9
    figure = draw_receptive_fields({"stem": field, "even": torch.ones(2, 3), **{f"{n}": field for n in range(4)}})
    stem, even = figure.axes[:2]
    for axes, name, *numbers in ((stem, "stem", "19%", "4×4", "6.2%"), (even, "even", "100%", "2×3", "50.0%")):
        title = axes.get_title()
        assert title.startswith(f"{name}\n") and all(number in title for number in numbers)
    shown = np.asarray(stem.images[0].get_array())
    assert (shown[1, 1], shown[2, 2]) == (1.0, 0.25)
    assert shown[3, 3] == pytest.approx(1e-4)  # the first colour, not the white of pixels without influence
    assert np.count_nonzero(shown) == 3
    assert [axes.get_visible() for axes in figure.axes[5:10]] == [True] + 4 * [False]


def test_receptive_fields_that_do_not_fit_are_rejected() -> None:
    with pytest.raises(ValueError, match="no fields"):
        draw_receptive_fields({})
    with pytest.raises(ValueError, match=r"'flat'.*\(9,\)"):
        draw_receptive_fields({"flat": torch.ones(9)})
    with pytest.raises(ValueError, match="0 everywhere"):
        draw_receptive_fields({"dark": torch.zeros(3, 3)})


def maps(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    return [torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes]


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), channels=st.integers(2, 9))
def test_components_are_those_of_the_singular_values(seed: int, channels: int) -> None:
    features = np.random.default_rng(seed).normal(size=(channels, 5, 6))
    result = principal_components(features, FLAT)
    vectors = features.reshape(channels, -1)
    vectors = vectors - vectors.mean(1, keepdims=True)
    _, sizes, rows = np.linalg.svd(vectors, full_matrices=False)
    assert result.share == pytest.approx((sizes[:2] ** 2).sum() / (sizes**2).sum())
    for values, row in zip(result.values, rows, strict=False):
        inside = ((values > 0) & (values < 1)).ravel()
        assert abs(np.corrcoef(values.ravel()[inside], row[inside])[0, 1]) == pytest.approx(1)
        assert values.min() == 0 and values.max() == 1


@pytest.mark.parametrize("sign", [1, -1])
def test_positions_that_are_bright_in_the_image_are_light(sign: int) -> None:
    photo = np.linspace(0, 1, 64).reshape(8, 8, 1).repeat(3, axis=2)
    grid = photo[::2, ::2, 0]
    result = principal_components(sign * np.stack([3 * grid, 0 * grid]), photo)
    assert (np.diff(result.values[0].ravel()) >= 0).all() and result.share == pytest.approx(1)


def test_a_map_without_differences() -> None:
    result = principal_components(np.ones((4, 1, 1)), FLAT)
    assert result.share == 1 and not result.values.any()


def test_the_maps_of_a_backbone() -> None:
    image = dense_images(1, 64, 96)
    with torch.no_grad():
        features = DenseBackbone(SMALL).eval()(image)
    figure = draw_principal_components(image[0], features)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        "image, 64×96 pixels",
        "stride 4: 16×24 positions\n16 channels",
        "stride 8: 8×12 positions\n32 channels",
        "stride 16: 4×6 positions\n48 channels",
        "stride 32: 2×3 positions\n64 channels",
    ]
    for axes, values in zip(figure.axes[1:], features, strict=True):
        colours = np.asarray(axes.images[0].get_array())
        assert colours.shape == (*values.shape[2:], 3)
        assert colours.min() >= 0 and colours.max() <= 1
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert not any(box.overlaps(other) for n, box in enumerate(boxes) for other in boxes[:n])
    description = principal_components_alt_text(image[0], features)
    for values in features:
        assert f"{values.shape[2]}×{values.shape[3]} positions with {values.shape[1]} channels" in description
    assert description.count("%") == 4


def test_maps_of_a_backbone_that_do_not_fit_are_rejected() -> None:
    four = maps((4, 8, 8), (4, 4, 4), (4, 2, 2), (4, 1, 1))
    for draw in (draw_principal_components, principal_components_alt_text):
        with pytest.raises(ValueError, match=r"image .*\(1, 32, 32\).*\(3, H, W\)"):
            draw(torch.zeros(1, 32, 32), four)
        for wrong in (four[:3], maps((2, 4, 8, 8)) + four[1:], maps((1, 8, 8)) + four[1:]):
            with pytest.raises(ValueError, match="maps"):
                draw(torch.zeros(3, 32, 32), wrong)
