"""What is timed for a part: chains that reproduce pieces of networks, and boundary costs that cancel in a sum."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.latency import Conditions, Measurement, Timing
from efficientformer_edu.latency import lookup as lookup_chains
from efficientformer_edu.latency import lookup as lookup_module
from efficientformer_edu.latency.engines import ENGINES
from efficientformer_edu.latency.lookup import FORMS, ROW, Chain, build, chains, cut_out, layers, name, run_form
from efficientformer_edu.latency.lookup_table import Part, parts

pytestmark = pytest.mark.slow

BASE = EfficientFormerConfig(
    depths=(1, 2, 1, 2), embed_dims=(16, 32, 32, 48), num_heads=2, key_dim=4, num_classes=6, bias_grid=(2, 2)
)
SLIMMED = EfficientFormerConfig(  # as in a slimmed network, with one channel inside
    depths=(2, 2, 4, 4),
    embed_dims=(32, 48, 80, 128),
    num_vit=(0, 0, 2, 4),
    num_classes=10,
    in_channels=1,
    num_heads=4,
    key_dim=16,
    attn_ratio=2.0,
    bias_grid=(4, 4),
)
SIZE = (64, 96)
GRIDS = BASE.grids(SIZE)
WIDTHS = ((16, 32), (32, 48), (48, 80), (80, 128))
GRAPHS = [engine for engine, form in FORMS.items() if form.runner != "eager"]


def test_forms_are_engines() -> None:
    assert set(FORMS) | {form.runner for form in FORMS.values()} <= set(ENGINES)
    assert all(ENGINES[engine].needs for engine in GRAPHS)


def test_the_chains_of_every_part() -> None:
    stem, first = Part("stem", GRIDS[0], (32,)), Part("MB4D", GRIDS[0], (32,))
    embedding, second = Part("embedding", GRIDS[1], (32, 48)), Part("MB4D", GRIDS[1], (48,))
    head, last = Part("head", GRIDS[3], (80,)), Part("MB4D", GRIDS[3], (80,))
    mb3d = last._replace(kind="MB3D")
    for part, expected in {
        stem: {(stem, first): 1, (first, first): -0.5},
        embedding: {(first, embedding, second): 1, (first, first): -0.5, (second, second): -0.5},
        head: {(last, head): 1, (last, last): -0.5},
        last: {(last,) * 6: 0.25, (last, last): -0.25},
        mb3d: {(last, last, *(mb3d,) * 4): 0.25, (last, last): -0.25},
    }.items():
        assert chains(part, GRIDS) == expected
    assert name((last, last, mb3d)) == "2 × MB4D at 2×3, 80 channels, 1 × MB3D at 2×3, 80 channels"


class Borders:
    """Replaces `measure`: a chain costs the sum of its parts, plus the boundary cost of its first and last map."""

    def __init__(self, costs: Mapping[str, float], call: float) -> None:
        self.costs, self.call = costs, call

    def seconds(self, chain: Chain) -> float:
        inside = sum(self.costs[str(part)] for part in chain)
        return self.call + inside + self.border("in", chain[0]) + self.border("out", chain[-1])

    def border(self, way: str, part: Part) -> float:
        return self.costs[f"{way} {part.grid} {part.widths}"] if part.kind in ("MB4D", "MB3D") else 0

    def __call__(self, subjects: Mapping[str, Chain], conditions: Conditions, **_: Any) -> Measurement:
        timings = tuple(Timing(description, (self.seconds(chain),) * 3) for description, chain in subjects.items())
        return Measurement(conditions.complete(machine="synthetic", threads=1), timings)


def in_order(config: EfficientFormerConfig) -> Chain:
    """The parts of a network, stem first and head last; the order in between does not matter for this clock."""
    return tuple(parts(config, SIZE).elements())


class Drawn(dict[str, float]):
    """A cost for any part; halves and quarters of it are whole microseconds, so rounding does not change them."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = torch.Generator().manual_seed(seed)

    def __missing__(self, key: str) -> float:
        self[key] = 8e-6 * int(torch.randint(1, 1000, (), generator=self.random))
        return self[key]


@given(seed=st.integers(0, 2**32))
def test_borders_leave_nothing_in_the_sum(seed: int) -> None:
    clock = Borders(Drawn(seed), call=24e-6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup_module, "measure", clock)
        patch.setattr(lookup_module, "cut_out", lambda chain, *_: chain)
        patch.setattr(lookup_module, "whole_network", lambda config, *_: in_order(config))
        lookup = build(WIDTHS, "openvino", SIZE, base=BASE.replace(embed_dims=(16, 32, 48, 80)))
    for dims, vits in [((16, 48, 48, 128), (0, 0, 0, 1)), ((32, 32, 80, 80), (0, 0, 1, 2))]:
        config = BASE.replace(embed_dims=dims, num_vit=vits)
        assert lookup.predict(config) == pytest.approx(clock.seconds(in_order(config)), abs=2e-8)


@pytest.mark.parametrize("engine", ["eager", "folded", "onnxruntime", "onnxruntime-folded"])
@pytest.mark.parametrize("size", [(64, 96), (224, 224)])
def test_a_chain_of_all_parts_is_the_network(
    engine: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = tuple(parts(SLIMMED, size).elements())
    network = run_form(SLIMMED, size, engine)
    monkeypatch.setattr(lookup_chains, "run_form", lambda config, *_: network if config == SLIMMED else None)
    images = torch.randn(1, 1, *size)
    with torch.inference_mode():
        expected = network(images)
        assert torch.equal(layers(chain, SLIMMED, size, engine)(images), expected)


@pytest.mark.parametrize("engine", ["eager", "folded"])
def test_parts_take_maps_in_the_layout_that_they_find_in_the_network(engine: str) -> None:
    network, layouts = run_form(BASE, SIZE, engine), []
    for stage in network.stages:
        stage.register_forward_pre_hook(lambda _, inputs: layouts.append(inputs[0]))
    with torch.inference_mode():
        network(torch.zeros(1, 3, *SIZE))
    assert len(layouts) == 4
    assert all(maps.is_contiguous(memory_format=FORMS[engine].layout) for maps in layouts)
    assert prod(layouts[0].shape[2:]) > 1  # else both layouts would be the same


def test_blocks_in_a_row_have_weights_of_their_own() -> None:
    (stage,) = layers((Part("MB4D", GRIDS[2], (32,)),) * ROW, BASE, SIZE, "folded")
    assert len({block.mlp.fc1.weight.data_ptr() for block in stage.mb4d}) == len(stage.mb4d) == ROW


@pytest.mark.parametrize("engine", ["eager", "folded"])
def test_what_a_chain_takes_and_gives(engine: str) -> None:
    for part, shape in {
        Part("stem", GRIDS[0], (32,)): (1, 32, 16, 24),
        Part("embedding", GRIDS[2], (48, 80)): (1, 80, 4, 6),
        Part("MB4D", GRIDS[1], (48,)): (1, 48, 8, 12),
        Part("MB3D", GRIDS[3], (128,)): (1, 128, 2, 3),
        Part("head", GRIDS[3], (128,)): (1, 10),
    }.items():
        chain = next(iter(chains(part, GRIDS)))  # the chain with the part
        assert cut_out(chain, SLIMMED, SIZE, engine, 1)().shape == shape


@pytest.mark.parametrize("engine", GRAPHS)
def test_a_chain_runs_in_its_engine(engine: str) -> None:
    if ENGINES[engine].missing:
        pytest.skip(f"{engine} needs {' and '.join(ENGINES[engine].missing)}")
    embedding, head = Part("embedding", GRIDS[3], (32, 48)), Part("head", GRIDS[3], (48,))
    block = Part("MB4D", GRIDS[3], (48,))
    subject = cut_out((embedding, block, block._replace(kind="MB3D"), head), BASE, SIZE, engine, 1)  # equal to torch
    assert subject().shape == (1, 6)


def test_an_engine_that_is_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("efficientformer_edu.latency.engines._installed", lambda library: library != "onnxruntime")
    with pytest.raises(ImportError, match="onnxruntime needs onnxruntime: pip install"):
        build(WIDTHS, "onnxruntime-folded", SIZE, base=BASE)
