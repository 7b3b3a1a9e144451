"""Baselines for a target latency: no network is slower than the target, and the scaled network is the largest."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from itertools import islice, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slimming_runs import LOOKUP, SEARCHED

from efficientformer_edu.slimming.baselines import FACTORS, NEAR, random_subnets, scaled, uniform_scaling
from efficientformer_edu.slimming.search import narrowest
from efficientformer_edu.slimming.subnet import Subnet

pytestmark = pytest.mark.slow

LEAST = narrowest(LOOKUP)
LARGEST = Subnet.largest(SEARCHED)


def seconds(subnet: Subnet) -> float:
    return LOOKUP.predict(subnet.config(SEARCHED))


SLOWEST, QUICKEST = seconds(LARGEST), seconds(Subnet(LEAST, (("MB4D",),) * 4))


def test_a_network_is_scaled_by_hand() -> None:
    wide = Subnet((64, 96, 160, 320), (("MB4D",) * 4, ("MB4D",) * 2, ("MB3D",) * 6, ("MB3D",) * 3))
    half = scaled(wide, 0.5, 0.5, (16, 64, 16, 16))
    assert half.embed_dims == (32, 64, 80, 160)  # 48 would be below the 64 of the second stage
    assert half.choices == (
        ("I", "I", "MB4D", "MB4D"),
        ("I", "MB4D"),
        ("I",) * 3 + ("MB3D",) * 3,
        ("I", "MB3D", "MB3D"),
    )
    assert scaled(wide, 1.0, 1.0, LEAST) == wide
    thin, shallow = scaled(wide, 0.001, 1.0, LEAST), scaled(wide, 1.0, 0.001, LEAST)
    assert (thin.embed_dims, thin.choices) == (LEAST, wide.choices)
    assert shallow.embed_dims == wide.embed_dims
    assert shallow.config(SEARCHED.replace(embed_dims=wide.embed_dims)).depths == (1, 1, 1, 1)


@cache
def ways(attention: bool) -> dict[Subnet, tuple[float, float]]:
    """Every network of two scale factors: its seconds, and the smallest difference between its factors."""
    start = (
        LARGEST if attention else Subnet(LARGEST.embed_dims, tuple(("MB4D",) * len(stage) for stage in LARGEST.choices))
    )
    apart = defaultdict[Subnet, list[float]](list)
    for width, depth in product(FACTORS, FACTORS):
        apart[scaled(start, width, depth, LEAST)].append(abs(width - depth))
    return {subnet: (seconds(subnet), min(some)) for subnet, some in apart.items()}


@settings(max_examples=40)
@given(st.floats(1.0, 2.0), st.booleans())
def test_the_scaled_network_is_near_the_target_and_the_factors_are_similar(slack: float, attention: bool) -> None:
    target = min(QUICKEST * slack, SLOWEST)
    subnet = uniform_scaling(SEARCHED, LOOKUP, target, LEAST, attention=attention)
    quick = {candidate: time for candidate, (time, _) in ways(attention).items() if time <= target}
    if subnet is None:
        assert not quick
        return
    kinds = {kind for stage in subnet.choices[2:] for kind in stage} - {"I"}
    assert kinds == {"MB3D" if attention else "MB4D"}
    near = [candidate for candidate, time in quick.items() if time >= (1 - NEAR) * target]
    if near:
        assert subnet in near
        assert ways(attention)[subnet][1] == min(ways(attention)[candidate][1] for candidate in near)
    else:
        assert quick[subnet] == max(quick.values())


def test_a_target_that_no_scaled_network_reaches_has_none() -> None:
    assert uniform_scaling(SEARCHED, LOOKUP, 0.9 * QUICKEST, LEAST, attention=False) is None


@pytest.mark.parametrize("part", [0.5, 0.8])
def test_random_networks_take_as_long_as_the_target_and_differ(part: float) -> None:
    target = part * SLOWEST
    subnets = list(islice(random_subnets(SEARCHED, LOOKUP, target, LEAST, seed=3), 12))
    assert len(subnets) == len(set(subnets)) == 12
    assert all((1 - NEAR) * target <= seconds(subnet) <= target for subnet in subnets)
    assert subnets == list(islice(random_subnets(SEARCHED, LOOKUP, target, LEAST, seed=3), 12))
    assert subnets != list(islice(random_subnets(SEARCHED, LOOKUP, target, LEAST, seed=4), 12))


def test_random_networks_end_where_there_are_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("efficientformer_edu.slimming.baselines.TRIES", 300)
    assert list(random_subnets(SEARCHED, LOOKUP, 0.9 * QUICKEST, LEAST, seed=0)) == []
