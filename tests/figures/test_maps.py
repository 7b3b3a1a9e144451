"""Pictures of maps and attention show the numbers that came."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.figures.maps import draw_attention, draw_feature_maps
from efficientformer_edu.model import EfficientFormer

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
    for title, each in zip(titles, maps, strict=True):
        np.testing.assert_allclose(shown[title], each[0].mean(0).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert len([axes for axes in figure.axes if axes.images]) == 1 + 4 * 3


def test_feature_maps_show_the_channels_that_vary_most() -> None:
    each = np.zeros((3, 2, 2))
    each[0], each[1, 0], each[2, 0] = 5.0, 1.0, 3.0
    figure = draw_feature_maps(PHOTO, [each], channels=2)
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


def test_what_does_not_fit_is_refused() -> None:
    attention = np.full((2, 6, 6), 1 / 6)
    with pytest.raises(ValueError, match=r"allowed: \(heads, 4, 4\)"):
        draw_attention(PHOTO, attention, (2, 2), (0, 0))
    with pytest.raises(ValueError, match="query"):
        draw_attention(PHOTO, attention, (2, 3), (2, 0))
    with pytest.raises(ValueError, match=r"image has shape \(3, 64, 96\)"):
        draw_attention(PHOTO.transpose(2, 0, 1), attention, (2, 3), (0, 0))
    with pytest.raises(ValueError, match="maps has an array of shape"):
        draw_feature_maps(PHOTO, [np.zeros((2, 3, 4, 4))])
