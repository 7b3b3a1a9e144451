"""Small networks for small images: the last stage keeps enough tokens for attention to be useful."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from strategies import configs

from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training.small import LEAST_GRID, SMALL, smallest_size


@pytest.mark.parametrize(
    ("embeddings", "size"),
    # By hand: the stem leaves a quarter, each embedding a half of that, and all round up. 32 pixels become 8 pixels
    # per side, 4 after one embedding, 2 after two. Then 64 / 16 = 4, 128 / 32 = 4, and 224 / 64 = 3.5, which is 4.
    [(0, 32), (1, 32), (2, 64), (3, 128), (4, 224)],
)
def test_the_smallest_size_by_hand(embeddings: int, size: int) -> None:
    downsamples = (True,) * embeddings + (False,) * (4 - embeddings)
    config = EfficientFormerConfig(embed_dims=(8, 8, 8, 8), downsamples=downsamples)
    assert smallest_size(config) == size


@pytest.mark.parametrize("name", PRESETS)
def test_the_published_networks_need_128_pixels(name: str) -> None:
    assert smallest_size(PRESETS[name]) == 128


@given(configs())
def test_four_tokens_a_side_and_not_with_32_pixels_less(config: EfficientFormerConfig) -> None:
    size, shrinks = smallest_size(config), 4 * 2 ** sum(config.downsamples)
    assert size % 32 == 0
    assert size > 3 * shrinks  # three tokens reach no further than this many pixels, and a fourth starts after them
    assert size == 32 or size - 32 <= 3 * shrinks


def test_what_is_trained_on_32_pixels_keeps_a_grid_in_its_last_stage() -> None:
    assert smallest_size(SMALL) == 32
    assert SMALL.grids(32)[-1] == SMALL.bias_grid == (LEAST_GRID, LEAST_GRID)
    torch.manual_seed(0)
    (attention,) = EfficientFormer(SMALL).eval().attention_maps(torch.randn(2, 1, 32, 32))
    assert attention.shape == (2, 4, 16, 16)
    assert attention.max() < 1  # a single token would have all the attention, regardless of the weights
