"""Building the lookup table with simulated clocks: sums, chains, and predictions must be exact.

With the clock that counts floating-point operations, no engine runs: torch counts what the engine would run.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from efficientformer_edu.audit import count
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.latency import Conditions, Measurement, Timing, engines, lookup
from efficientformer_edu.latency.engines import ENGINES
from efficientformer_edu.latency.lookup import (
    FORMS,
    REFERENCE,
    REPEATS,
    WIDTHS,
    Chain,
    Errors,
    Lookup,
    build,
    build_network,
    build_subgraph,
    chain_modules,
    chain_name,
    chains,
    prediction_errors,
    prepare_network,
    random_networks,
)
from efficientformer_edu.latency.lookup_table import Part, macs, parts
from efficientformer_edu.model import EfficientFormer

BASE = EfficientFormerConfig(
    depths=(1, 2, 1, 2), embed_dims=(16, 32, 32, 48), num_heads=2, key_dim=4, num_classes=6, bias_grid=(2, 2)
)
BETWEEN = BASE.replace(embed_dims=(32, 32, 48, 48), depths=(2, 1, 3, 4), num_vit=(0, 0, 1, 2))
SUPERNET = EfficientFormerConfig(  # as in the slimming, for images with one channel
    depths=(2, 2, 4, 4),
    embed_dims=(32, 48, 80, 128),
    num_vit=(0, 0, 4, 4),
    num_classes=10,
    in_channels=1,
    num_heads=4,
    key_dim=16,
    attn_ratio=2.0,
    bias_grid=(4, 4),
)
SMALLEST = SUPERNET.replace(depths=(1, 1, 1, 1), embed_dims=(16, 16, 16, 16), num_vit=0)
SLIMMED = SUPERNET.replace(num_vit=(0, 0, 2, 4))
SIZE = (64, 96)
GRIDS = BASE.grids(SIZE)
NARROW = ((16, 48), (16, 48), (32, 64), (32, 64))
GROUPS = 11  # a stem, three embeddings, MB4D in four stages, MB3D in two, a head
TICK = 1e-6  # seconds for one operation
GRAPHS = [engine for engine, form in FORMS.items() if form.runner != "eager"]


class Counted:
    """A function that knows its number of operations, and discards the networks that were built to count them."""

    def __init__(self, function: Callable[[], object]) -> None:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            function()
        self.operations = counter.get_total_flops()


@cache
def counted(builder: Callable[..., Callable[[], object]], *arguments: Any) -> Counted:
    return Counted(builder(*arguments))


def prepare(engine: str, network: torch.nn.Module, images: torch.Tensor, _: int) -> Callable[[], object]:
    """Replaces `engines.prepare`: torch runs the network instead of the engine."""
    form = FORMS[engine].fold if isinstance(network, EfficientFormer) else None
    return partial(network.eval() if form is None else form(network, SIZE), images)


class Ticks:
    """Replaces `measure`: the time of a function is its number of operations times the speed of the machine."""

    def __init__(self) -> None:
        self.names: list[list[str]] = []  # of every call
        self.speed: Callable[[int], float] = lambda call: 1.0
        self.rounds = (1.0,) * 3  # how slow the machine is in every round
        self.disturbed = (1.0,) * 3  # and in addition, while anything except the reference runs
        self.machine = "synthetic"
        self.busy_in = 0  # the call in which the machine is busy
        self.stop = 0  # the call that is interrupted, from 1 on

    def __call__(self, functions: Mapping[str, Counted], conditions: Conditions, **options: Any) -> Measurement:
        if len(self.names) + 1 == self.stop:
            raise KeyboardInterrupt
        assert torch.is_inference_mode_enabled()
        assert options["num_threads"] == 1
        self.names.append(list(functions))
        tick = TICK * self.speed(len(self.names))
        slow = dict.fromkeys(functions, self.rounds)
        for name in slow.keys() - {REFERENCE}:
            slow[name] = tuple(map(operator.mul, self.rounds, self.disturbed))
        timings = tuple(
            Timing(name, tuple(function.operations * tick * factor for factor in slow[name]))
            for name, function in functions.items()
        )
        busy = "busy" if len(self.names) == self.busy_in else ""
        return Measurement(conditions.complete(machine=self.machine, threads=1, busy=busy), timings)


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Ticks:
    clock = Ticks()
    monkeypatch.setattr(lookup, "prepare", prepare)
    monkeypatch.setattr(lookup, "build_subgraph", partial(counted, build_subgraph))
    monkeypatch.setattr(lookup, "prepare_network", partial(counted, prepare_network))
    monkeypatch.setattr(lookup, "measure", clock)
    return clock


def narrow(engine: str = "folded", **options: Any) -> Lookup:
    return build(NARROW, engine, SIZE, base=BASE, **options)


def seconds_of(config: EfficientFormerConfig, engine: str = "folded") -> float:
    """The time of a network by its counted MACs, independent of parts: two operations per MAC."""
    return 2 * TICK * count(config, SIZE, "folded" if engine.endswith("folded") else "trained").macs


ENGINES_OF_FORMS = [
    pytest.param(engine, marks=() if engine == "folded" else pytest.mark.slow, id=engine) for engine in FORMS
]


@pytest.mark.parametrize("engine", ENGINES_OF_FORMS)
def test_sums_are_exact_if_time_is_linear_in_macs(ticks: Ticks, engine: str) -> None:
    table = narrow(engine)
    assert len(ticks.names) == GROUPS
    assert len(table.entries) == 2 + 3 * 4 + 4 * 2 + 2 * 2 + 2
    for part, seconds in table.seconds.items():
        heads = 2 if part.kind == "head" and not engine.endswith("folded") else 1
        assert seconds == pytest.approx(2 * TICK * heads * macs(part, BASE, SIZE), abs=2e-9)
    for config in (BASE.replace(embed_dims=(16, 48, 64, 32)), BASE, BETWEEN):  # measured, mixed, and other widths
        assert table.predict(config, engine=engine, resolution=SIZE) == pytest.approx(
            seconds_of(config, engine), rel=1e-6
        )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["folded", "onnxruntime-folded"])
def test_sums_are_exact_for_the_small_networks_of_the_slimming(ticks: Ticks, engine: str) -> None:
    table = build(((16, 32), (16, 48), (16, 80), (16, 128)), engine, SIZE, base=SUPERNET)
    for config in (SUPERNET, SMALLEST, *random_networks(0, 10, small=SMALLEST, large=SUPERNET)):
        assert table.predict(config) == pytest.approx(seconds_of(config, engine), rel=1e-6)


def test_gains_and_shares(ticks: Ticks) -> None:
    table = narrow()
    smaller = BETWEEN.replace(num_vit=(0, 0, 0, 2))
    saved = seconds_of(BETWEEN) - seconds_of(smaller)
    assert saved > 0
    assert table.gain(BETWEEN, smaller) == pytest.approx(saved, rel=1e-4)
    assert table.gain(smaller, BETWEEN) == -table.gain(BETWEEN, smaller)
    shares = table.shares(BETWEEN)
    assert sum(shares.values()) == table.predict(BETWEEN)
    assert shares[Part("MB3D", (2, 3), (48,))] == 2 * table.part(Part("MB3D", (2, 3), (48,)))


def test_drift_between_the_groups_does_not_matter(ticks: Ticks) -> None:
    ticks.speed = float  # the machine gets slower with every call
    table = narrow()
    middle = (1 + GROUPS) / 2
    assert table.reference == pytest.approx(middle * seconds_of(BASE), rel=1e-6)
    assert table.predict(BETWEEN) == pytest.approx(middle * seconds_of(BETWEEN), rel=1e-6)
    references = [entry.reference / seconds_of(BASE) for entry in table.entries]
    calls = [round(reference) for reference in references]  # each entry has the reference of its own group
    assert references == pytest.approx(calls, rel=1e-6)
    assert calls == sorted(calls) and set(calls) == set(range(1, GROUPS + 1))
    for entry, call in zip(table.entries, calls, strict=True):
        assert entry.seconds == pytest.approx(call * 2 * TICK * macs(entry.part, BASE, SIZE), abs=1e-7)


def test_times_are_divided_by_the_reference_of_the_same_round(ticks: Ticks) -> None:
    """Computed per round, the median ratio is exact here; a ratio of medians would be 1.5 times as large."""
    ticks.rounds, ticks.disturbed = (1.0, 3.0, 9.0), (1.0, 1.5, 1.0)
    table = narrow()
    assert table.reference == pytest.approx(3 * seconds_of(BASE), rel=1e-6)
    for part, seconds in table.seconds.items():
        assert seconds == pytest.approx(3 * 2 * TICK * macs(part, BASE, SIZE), abs=2e-8)
    (prediction,) = prediction_errors(table, [BETWEEN], rounds=3).predictions
    assert prediction.at_speed == pytest.approx(3 * seconds_of(BETWEEN), rel=1e-6)
    assert prediction.error_at_speed == pytest.approx(0, abs=1e-6)


def test_sums_are_multiplied_by_network_over_parts(ticks: Ticks) -> None:
    exact = narrow()
    slower = replace(exact, entries=tuple(entry._replace(reference=1.25 * entry.reference) for entry in exact.entries))
    assert (exact.network_over_parts, slower.network_over_parts) == pytest.approx((1, 1.25), rel=1e-6)
    assert slower.predict(BASE) == pytest.approx(slower.reference)
    assert slower.predict(BETWEEN) == pytest.approx(1.25 * exact.predict(BETWEEN), rel=1e-6)
    assert replace(slower, entries=slower.entries[1:]).network_over_parts == 1  # a part of the reference is missing


def test_an_interrupted_build_resumes(ticks: Ticks, tmp_path: Path) -> None:
    path, complete = tmp_path / "lookup.json", narrow()
    ticks.names.clear()
    ticks.stop = 4
    with pytest.raises(KeyboardInterrupt):
        narrow(path=path)
    assert {entry.part.kind for entry in Lookup.load(path).entries} == {"stem", "embedding"}
    ticks.stop = 0
    assert narrow(path=path) == complete == Lookup.load(path)
    assert len(ticks.names) == GROUPS  # every group once
    assert narrow(path=path) == complete
    assert len(ticks.names) == GROUPS
    wider = build((*NARROW[:3], (32, 64, 80)), "folded", SIZE, base=BASE, path=path)
    assert wider.entries[: len(complete.entries)] == complete.entries
    # Besides the reference: two pairs and three neighbours, then MB4D, MB3D and the head, with a neighbour each.
    assert [len(names) - 1 for names in ticks.names[GROUPS:]] == [5, 2, 2, 2]


def test_a_file_of_another_machine_or_form_is_not_changed(ticks: Ticks, tmp_path: Path) -> None:
    path = tmp_path / "lookup.json"
    narrow(path=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"Lookup\(28 parts, folded, 64×96\); .*Lookup\(0 parts, eager, 64×96"):
        narrow("eager", path=path)
    with pytest.raises(ValueError, match="lookup.json"):
        build(NARROW, "folded", SIZE, base=BASE.replace(num_heads=3), path=path)
    ticks.machine = "another"
    with pytest.raises(ValueError, match="was measured on synthetic; .*same machine"):
        build((*NARROW[:3], (32, 80)), "folded", SIZE, base=BASE, path=path)
    assert path.read_bytes() == before


def test_a_table_is_the_same_after_a_round_trip(ticks: Ticks, tmp_path: Path) -> None:
    table, path = narrow(), tmp_path / "lookup.json"
    table.save(path)
    assert Lookup.load(path) == table
    assert Lookup.load(path).predict(BETWEEN) == table.predict(BETWEEN)
    for entry in json.loads(path.read_text(encoding="utf-8"))["entries"]:
        assert entry["seconds"] == round(entry["seconds"], 9)
    assert list(tmp_path.iterdir()) == [path]
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="lookup.json"):
        Lookup.load(path)
    rows = table.table().rows
    assert len(rows) == len(table.entries)
    seconds = table.seconds[Part("embedding", (8, 12), (16, 48))]
    assert ("embedding", "8×12", "16 to 48", 1e6 * seconds) in rows
    assert repr(table) == "Lookup(28 parts, folded, 64×96)"
    assert "synthetic; 1 thread" in table._repr_markdown_()


def test_fields_that_the_table_does_not_cover(ticks: Ticks) -> None:
    table = narrow()
    for fields, message in (
        ({"embed_dims": (16, 16, 32, 56)}, "multiples of 16"),
        ({"embed_dims": (64, 16, 32, 48)}, "64 is outside of the table, which has 16 to 48 channels"),
        ({"num_vit": (1, 0, 0, 0)}, "MB3D at 16×24, 16 channels: 16 is outside .* none on this grid"),
        ({"mlp_ratio": 3.0}, "mlp_ratio=3.0.*4.0"),
        ({"act": "relu"}, "act='relu'.*'gelu'"),
        ({"layer_scale_init": None}, "layer_scale_init=None.*1e-05"),
    ):
        with pytest.raises(ValueError, match=message):
            table.predict(BASE.replace(**fields))
    with pytest.raises(ValueError, match="distillation=False.*True"):
        replace(table, engine="eager").predict(BASE.replace(distillation=False))
    with pytest.raises(ValueError, match=r"resolution=224.*\(64, 96\)"):
        table.predict(BASE, resolution=224)
    with pytest.raises(ValueError, match="engine='eager'.*'folded'"):
        table.predict(BASE, engine="eager")
    without_effect = {"distillation": False, "bias_grid": (3, 3), "layer_scale_init": 1.0, "drop_path_rate": 0.1}
    assert table.predict(BASE.replace(**without_effect)) == table.predict(BASE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engine": "oven"}, "engine='oven'.*eager, folded"),
        ({"widths": NARROW[:3]}, "four lists of multiples of 16"),
        ({"widths": (*NARROW[:3], ())}, "four lists of multiples of 16"),
        ({"widths": (*NARROW[:3], (24,))}, "four lists of multiples of 16"),
        ({"widths": (*NARROW[:3], (0,))}, "four lists of multiples of 16"),
        ({"base": BASE.replace(downsamples=(True, True, True, True))}, "embedding between all stages"),
        ({"resolution": 31}, "32 pixels"),
    ],
)
def test_invalid_arguments_are_errors_before_anything_is_timed(
    ticks: Ticks, change: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"widths": NARROW, "engine": "folded", "resolution": SIZE, "base": BASE}
    with pytest.raises(ValueError, match=message):
        build(**(arguments | change))
    assert ticks.names == []


def test_a_missing_engine_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "is_installed", lambda library: library != "onnxruntime")
    with pytest.raises(ImportError, match="onnxruntime needs onnxruntime: pip install"):
        narrow("onnxruntime-folded")


def test_predictions_have_no_error_with_the_clock_of_macs(ticks: Ticks, tmp_path: Path) -> None:
    table = narrow()
    ticks.names.clear()
    networks = [BASE, BETWEEN, *(BETWEEN.replace(depths=(1, 1, 1, depth)) for depth in range(2, 7))]
    errors = prediction_errors(table, networks, rounds=2)
    assert [prediction.config for prediction in errors.predictions] == networks
    assert [len(names) for names in ticks.names] == [6, 3]  # five networks at once, and the reference
    assert errors.worst == pytest.approx(0, abs=1e-6)
    measured = [prediction.measured for prediction in errors.predictions]
    assert measured == pytest.approx([seconds_of(network) for network in networks])
    errors.save(path := tmp_path / "errors.json")
    loaded = Errors.load(path)
    assert loaded.conditions == errors.conditions
    assert [prediction.measured for prediction in loaded.predictions] == [round(seconds, 9) for seconds in measured]
    loaded.save(again := tmp_path / "again.json")
    assert Errors.load(again) == loaded
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["worst"] == errors.worst
    assert stored["predictions"][1]["config"] == BETWEEN.to_dict()
    path.write_text('{"conditions": {"resolution": [64, 96]}}', encoding="utf-8")
    with pytest.raises(ValueError, match="errors.json.*'predictions'"):
        Errors.load(path)


def test_errors_with_and_without_the_drift(ticks: Ticks) -> None:
    table = narrow()
    ticks.speed = lambda call: 1.25
    errors = prediction_errors(table, [BASE, BETWEEN], rounds=2)
    assert (errors.median, errors.worst) == pytest.approx((0.2, 0.2), abs=1e-6)  # 1 / 1.25 − 1, as an absolute value
    assert (errors.median_at_speed, errors.worst_at_speed) == pytest.approx((0, 0), abs=1e-6)
    widths, depths, vits, *_, error, at_speed = errors.table().rows[1]
    assert (widths, depths, vits) == ("32, 32, 48, 48", "2, 1, 3, 4", "0, 0, 1, 2")
    assert (error, at_speed) == pytest.approx((-0.2, 0), abs=1e-6)


def test_a_busy_machine_is_recorded(ticks: Ticks) -> None:
    assert narrow().conditions.busy == ""
    ticks.busy_in = GROUPS + 2
    table = narrow()
    assert table.conditions.busy == "busy"
    ticks.busy_in = 2 * GROUPS + 1
    networks = [BASE.replace(depths=(1, 1, 1, depth)) for depth in range(1, 8)]
    assert len(ticks.names) == 2 * GROUPS
    assert prediction_errors(table, networks).conditions.busy == "busy"


def test_errors_need_networks_that_can_be_predicted(ticks: Ticks) -> None:
    table = narrow()
    ticks.names.clear()
    with pytest.raises(ValueError, match="at least one"):
        prediction_errors(table, [])
    with pytest.raises(ValueError, match="outside of the table"):
        prediction_errors(table, [BASE, BASE.replace(embed_dims=PRESETS["l1"].embed_dims)])
    assert ticks.names == []


def test_forms_are_engines() -> None:
    assert set(FORMS) | {form.runner for form in FORMS.values()} <= set(ENGINES)
    assert all(ENGINES[engine].requirements for engine in GRAPHS)


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
    assert chain_name((last, last, mb3d)) == "2 × MB4D at 2×3, 80 channels, 1 × MB3D at 2×3, 80 channels"


class RandomCosts(dict[str, float]):
    """A cost for any key; halves and quarters of it are integral microseconds, so rounding does not change them."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = torch.Generator().manual_seed(seed)

    def __missing__(self, key: str) -> float:
        self[key] = 8e-6 * int(torch.randint(1, 1000, (), generator=self.random))
        return self[key]


class BoundaryClock:
    """Replaces `measure`: a chain costs one call, its parts, and a boundary cost for its first and last feature map."""

    def __init__(self, seed: int) -> None:
        self.costs, self.call = RandomCosts(seed), 24e-6

    def seconds(self, chain: Chain) -> float:
        ends = {"in": chain[0], "out": chain[-1]}.items()
        boundary = sum(self.costs[f"{end} {p.grid} {p.widths}"] for end, p in ends if p.kind in ("MB4D", "MB3D"))
        return self.call + sum(self.costs[str(part)] for part in chain) + boundary

    def __call__(self, functions: Mapping[str, Chain], conditions: Conditions, **_: Any) -> Measurement:
        timings = tuple(Timing(name, (self.seconds(chain),) * 3) for name, chain in functions.items())
        return Measurement(conditions.complete(machine="synthetic", threads=1), timings)


def all_parts(config: EfficientFormerConfig) -> Chain:
    """The parts of a network, stem first and head last; the order in between does not matter for this clock."""
    return tuple(parts(config, SIZE).elements())


@given(seed=st.integers(0, 2**32))
def test_boundary_costs_cancel_in_the_sum(seed: int) -> None:
    clock = BoundaryClock(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "measure", clock)
        patch.setattr(lookup, "build_subgraph", lambda chain, *_: chain)
        patch.setattr(lookup, "prepare_network", lambda config, *_: all_parts(config))
        widths = ((16, 32), (32, 48), (48, 80), (80, 128))
        table = build(widths, "openvino", SIZE, base=BASE.replace(embed_dims=(16, 32, 48, 80)))
    for dims, vits in [((16, 48, 48, 128), (0, 0, 0, 1)), ((32, 32, 80, 80), (0, 0, 1, 2))]:
        config = BASE.replace(embed_dims=dims, num_vit=vits)
        assert table.predict(config) == pytest.approx(clock.seconds(all_parts(config)), abs=2e-8)


@pytest.mark.parametrize("engine", ["eager", "folded", "onnxruntime", "onnxruntime-folded"])
@pytest.mark.parametrize("size", [SIZE, (224, 224)])
def test_a_chain_of_all_parts_is_the_network(
    engine: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = tuple(parts(SLIMMED, size).elements())
    network = build_network(SLIMMED, size, engine)
    monkeypatch.setattr(lookup, "build_network", lambda config, *_: network if config == SLIMMED else None)
    images = torch.randn(1, 1, *size)
    with torch.inference_mode():
        expected = network(images)
        assert torch.equal(chain_modules(chain, SLIMMED, size, engine)(images), expected)


@pytest.mark.parametrize("engine", ["eager", "folded"])
def test_feature_maps_have_the_layout_of_the_form(engine: str) -> None:
    network, inputs = build_network(BASE, SIZE, engine), []
    for stage in network.stages:
        stage.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    with torch.inference_mode():
        network(torch.zeros(1, 3, *SIZE))
    assert len(inputs) == 4
    assert all(maps.is_contiguous(memory_format=FORMS[engine].layout) for maps in inputs)
    assert prod(inputs[0].shape[2:]) > 1  # else both layouts would be the same


def test_repeated_blocks_have_separate_weights() -> None:
    (stage,) = chain_modules((Part("MB4D", GRIDS[2], (32,)),) * REPEATS, BASE, SIZE, "folded")
    assert len({block.mlp.fc1.weight.data_ptr() for block in stage.mb4d}) == len(stage.mb4d) == REPEATS


@pytest.mark.parametrize("engine", ["eager", "folded"])
def test_the_output_of_a_chain(engine: str) -> None:
    for part, shape in {
        Part("stem", GRIDS[0], (32,)): (1, 32, 16, 24),
        Part("embedding", GRIDS[2], (48, 80)): (1, 80, 4, 6),
        Part("MB4D", GRIDS[1], (48,)): (1, 48, 8, 12),
        Part("MB3D", GRIDS[3], (128,)): (1, 128, 2, 3),
        Part("head", GRIDS[3], (128,)): (1, 10),
    }.items():
        chain = next(iter(chains(part, GRIDS)))  # the chain with the part
        assert build_subgraph(chain, SLIMMED, SIZE, engine, 1)().shape == shape


@pytest.mark.slow
@pytest.mark.parametrize("engine", GRAPHS)
def test_a_chain_runs_in_its_engine(engine: str) -> None:
    if ENGINES[engine].missing:
        pytest.skip(f"{engine} needs {' and '.join(ENGINES[engine].missing)}")
    embedding, head = Part("embedding", GRIDS[3], (32, 48)), Part("head", GRIDS[3], (48,))
    block = Part("MB4D", GRIDS[3], (48,))
    chain = (embedding, block, block._replace(kind="MB3D"), head)
    assert build_subgraph(chain, BASE, SIZE, engine, 1)().shape == (1, 6)  # compared with torch by `prepare`


def between(low: tuple[int, ...], values: tuple[int, ...], high: tuple[int, ...]) -> bool:
    return all(a <= value <= b for a, value, b in zip(low, values, high, strict=True))


def test_random_networks_from_l1_to_l3_are_not_in_the_table() -> None:
    networks = random_networks(0, 40)
    assert networks == random_networks(0, 40) != random_networks(1, 40)
    assert len(set(networks)) == 40
    l1, l3 = PRESETS["l1"], PRESETS["l3"]
    for network in networks:
        assert not all(width in known for width, known in zip(network.embed_dims, WIDTHS, strict=True))
        assert between(l1.embed_dims, network.embed_dims, l3.embed_dims)
        assert between(l1.depths, network.depths, l3.depths)
    assert len({network.vits for network in networks}) > 3
    assert len({network.depths for network in networks}) > 10


ALL_WIDTHS = [range(16, 1024, 16)] * 4


@given(seed=st.integers(0, 2**32))
def test_random_networks_between_two_small_networks(seed: int) -> None:
    for network in random_networks(seed, 5, ALL_WIDTHS, small=SMALLEST, large=SUPERNET):
        assert (network.num_classes, network.in_channels) == (10, 1)
        assert between(SMALLEST.embed_dims, network.embed_dims, SUPERNET.embed_dims)
        assert all(width % 16 == 0 for width in network.embed_dims)
        assert between(SMALLEST.depths, network.depths, SUPERNET.depths)
        assert network.vits[:2] == (0, 0)
        assert network.vits[2] == 0 or network.vits[3] == network.depths[3]  # no MB4D after an MB3D


def test_random_networks_have_all_numbers_of_mb3d() -> None:
    networks = random_networks(0, 40, ALL_WIDTHS, small=SMALLEST, large=SUPERNET)
    assert {network.vits[2] > 0 for network in networks} == {True, False}
    assert any(sum(network.vits) == 0 for network in networks)
    only = {"small": SMALLEST, "large": SMALLEST}
    vits = {network.vits for network in random_networks(0, 3, ALL_WIDTHS, **only)}
    assert vits == {(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 1)}
    with pytest.raises(ValueError, match="n=4.*3 such networks"):
        random_networks(0, 4, ALL_WIDTHS, **only)
