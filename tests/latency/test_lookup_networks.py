"""Networks to test a table on: within their bounds, not in the table, enough of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.latency.lookup import WIDTHS, random_networks

SMALL = EfficientFormerConfig(
    depths=(2, 2, 4, 4), embed_dims=(32, 48, 80, 128), num_vit=(0, 0, 4, 4), num_classes=10, in_channels=1
)
SMALLEST = SMALL.replace(depths=(1, 1, 1, 1), embed_dims=(16, 16, 32, 64), num_vit=0)
EVERY = [range(16, 1024, 16)] * 4


def test_networks_from_l1_to_l3_are_new_to_the_table() -> None:
    networks = random_networks(0, 40)
    assert networks == random_networks(0, 40) != random_networks(1, 40)
    assert len(set(networks)) == 40
    l1, l3 = PRESETS["l1"], PRESETS["l3"]
    for network in networks:
        assert not all(width in known for width, known in zip(network.embed_dims, WIDTHS, strict=True))
        assert all(
            a <= width <= b for a, width, b in zip(l1.embed_dims, network.embed_dims, l3.embed_dims, strict=True)
        )
        assert all(a <= depth <= b for a, depth, b in zip(l1.depths, network.depths, l3.depths, strict=True))
    assert len({network.vits for network in networks}) > 3
    assert len({network.depths for network in networks}) > 10


@given(seed=st.integers(0, 2**32))
def test_networks_between_two_small_networks(seed: int) -> None:
    for network in random_networks(seed, 5, EVERY, small=SMALLEST, large=SMALL):
        assert (network.num_classes, network.in_channels) == (10, 1)
        for low, width, high in zip(SMALLEST.embed_dims, network.embed_dims, SMALL.embed_dims, strict=True):
            assert low <= width <= high and width % 16 == 0
        assert all(depth <= high for depth, high in zip(network.depths, SMALL.depths, strict=True))
        assert network.vits[:2] == (0, 0)
        assert network.vits[2] == 0 or network.vits[3] == network.depths[3]  # after tokens only tokens


def test_both_kinds_of_late_stages_are_sampled() -> None:
    networks = random_networks(0, 40, EVERY, small=SMALLEST, large=SMALL)
    assert {network.vits[2] > 0 for network in networks} == {True, False}
    assert any(sum(network.vits) == 0 for network in networks)


def test_more_networks_than_there_are() -> None:
    config = SMALLEST.replace(num_vit=0)
    assert {network.vits for network in random_networks(0, 3, EVERY, small=config, large=config)} == {
        (0, 0, 0, 0),
        (0, 0, 0, 1),
        (0, 0, 1, 1),
    }
    with pytest.raises(ValueError, match="n=4 is not possible; there are 3 such networks"):
        random_networks(0, 4, EVERY, small=config, large=config)
