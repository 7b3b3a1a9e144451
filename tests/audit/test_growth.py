"""The formulas against the ledger, which other tests compare with the real network."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import configs, resolutions

from efficientformer_edu.audit import count
from efficientformer_edu.audit.growth import (
    attention_products,
    attention_share,
    crossover_tokens,
    mb3d_macs,
    mb3d_params,
    mb4d_macs,
    mb4d_params,
    sweep_depth,
    sweep_num_vit,
    sweep_resolution,
    sweep_width,
)
from efficientformer_edu.config import PRESETS, EfficientFormerConfig

small = st.integers(1, 300)


@given(config=configs(), resolution=resolutions)
def test_the_formulas_equal_the_sums_of_the_ledger(config: EfficientFormerConfig, resolution: tuple[int, int]) -> None:
    assume(config.layer_scale_init is not None and config.act != "prelu")
    blocks = {label: sums for label, sums in count(config, resolution).by("block").items() if "MB" in label}
    assert len(blocks) == sum(config.depths)
    heads = (config.num_heads, config.key_dim, config.value_dim)
    for label, sums in blocks.items():
        stage = int(label[6]) - 1
        channels, hidden = config.embed_dims[stage], config.hidden_dim(stage)
        positions = prod(config.grids(resolution)[stage])
        if "MB4D" in label:
            assert sums.params == mb4d_params(channels, hidden)
            assert sums.macs == mb4d_macs(channels, hidden, positions)
        else:
            assert sums.params == mb3d_params(channels, hidden, *heads, prod(config.bias_grid))
            assert sums.macs == mb3d_macs(channels, hidden, positions, *heads)


@given(config=configs(), resolution=resolutions)
def test_the_share_is_that_of_all_blocks(config: EfficientFormerConfig, resolution: tuple[int, int]) -> None:
    products = sum(
        vit * attention_products(prod(grid), config.num_heads, config.key_dim, config.value_dim)
        for vit, grid in zip(config.vits, config.grids(resolution), strict=True)
    )
    costs = count(config, resolution)
    assert attention_share(costs) == products / costs.macs


def test_published_shares() -> None:
    # (0.615 + 2.459) of 1291.285 and (4.917 + 19.669) of 10119.326 million
    assert round(100 * attention_share(count("l1")), 2) == 0.24
    assert round(100 * attention_share(count("l7")), 2) == 0.24


@given(channels=small, hidden=small, heads=small, key=small, value=small)
def test_the_crossover_is_the_first_with_more_than_half(
    channels: int, hidden: int, heads: int, key: int, value: int
) -> None:
    tokens = crossover_tokens(channels, hidden, heads, key, value)
    for number, more_than_half in ((tokens, True), (tokens - 1, False)):
        block_macs = mb3d_macs(channels, hidden, number, heads, key, value)
        assert (2 * attention_products(number, heads, key, value) > block_macs) == more_than_half


def test_the_crossover_of_l1() -> None:
    # 2 · 448 · (1 + 1792 / (8 · 160)) = 2150.4 tokens: a feature map of 47×47, an image of 1504 pixels
    config = PRESETS["l1"]
    tokens = crossover_tokens(448, config.hidden_dim(3), config.num_heads, config.key_dim, config.value_dim)
    assert tokens == 2151
    assert 46**2 < tokens <= 47**2


@given(config=configs(), times=st.integers(2, 5), resolution=resolutions)
def test_depth_multiplies_the_blocks_and_nothing_else(
    config: EfficientFormerConfig, times: int, resolution: tuple[int, int]
) -> None:
    once, more = sweep_depth(config, (1, times), resolution)
    blocks = [sums for label, sums in once.costs.by("block").items() if "MB" in label]
    assert once.costs.config.depths == config.depths and once.costs.config.vits == config.vits
    assert more.value == times
    assert more.costs.params - once.costs.params == (times - 1) * sum(block.params for block in blocks)
    assert more.costs.macs - once.costs.macs == (times - 1) * sum(block.macs for block in blocks)


@given(config=configs(), resolution=resolutions)
def test_every_exchanged_block_adds_the_same(config: EfficientFormerConfig, resolution: tuple[int, int]) -> None:
    points = sweep_num_vit(config, resolution=resolution)
    assert [point.value for point in points] == list(range(config.depths[-1] + 1))
    assert [point.costs.config.vits for point in points] == [(*config.vits[:-1], point.value) for point in points]
    own = {sums.macs for label, sums in points[-1].costs.by("block").items() if "stage 4, MB3D" in label}
    old = {sums.macs for label, sums in points[0].costs.by("block").items() if "stage 4, MB4D" in label}
    steps = {after.costs.macs - before.costs.macs for before, after in pairwise(points)}
    assert steps == {own.pop() - old.pop()}


def test_resolutions_change_no_parameter() -> None:
    points = sweep_resolution("l3", (224, (384, 640)))
    assert [point.value for point in points] == [224, (384, 640)]
    assert [point.costs for point in points] == [count("l3"), count("l3", (384, 640))]


def test_widths_are_multiples_of_16() -> None:
    points = sweep_width("l1", (0.01, 0.5, 1, 1.5, 2))
    assert [point.costs.config.embed_dims for point in points] == [
        (16, 16, 16, 16),
        (32, 48, 112, 224),
        (48, 96, 224, 448),
        (80, 144, 336, 672),
        (96, 192, 448, 896),
    ]
    assert points[2].costs == count("l1")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: sweep_width("l1", (0,)), "factor=0 is not possible; allowed: a finite number above 0"),
        (lambda: sweep_depth("l1", (1.5,)), "factor=1.5 is not possible; allowed: a whole number, at least 1"),
        (lambda: sweep_num_vit("l1", (5,)), "num_vit=(0, 0, 0, 5) is not possible"),
        (lambda: sweep_resolution("l1", (31,)), "resolution=31 is not possible"),
    ],
)
def test_errors_name_what_is_wrong(call, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value).startswith(sentence)
