"""The lookup table with a simulated clock that counts floating-point operations: its sums must be exact.

No engine runs here: what it would be given is counted by torch.
"""

from __future__ import annotations

import json
import operator
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from strategies import configs, resolutions
from torch.utils.flop_counter import FlopCounterMode

from efficientformer_edu.audit import count
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.latency import Conditions, Measurement, Timing
from efficientformer_edu.latency import lookup as lookup_chains
from efficientformer_edu.latency import lookup as lookup_errors
from efficientformer_edu.latency import lookup as lookup_module
from efficientformer_edu.latency.lookup import (
    FORMS,
    Errors,
    Lookup,
    build,
    cut_out,
    prediction_errors,
    random_networks,
    whole_network,
)
from efficientformer_edu.latency.lookup_table import Entry, Part, macs, parts
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training.small import SMALL

pytestmark = pytest.mark.slow

BASE = EfficientFormerConfig(
    depths=(1, 2, 1, 2), embed_dims=(16, 32, 32, 48), num_heads=2, key_dim=4, num_classes=6, bias_grid=(2, 2)
)
SIZE = (64, 96)
NARROW = ((16, 48), (16, 48), (32, 64), (32, 64))
BETWEEN = BASE.replace(embed_dims=(32, 32, 48, 48), depths=(2, 1, 3, 4), num_vit=(0, 0, 1, 2))
GROUPS = 11  # a stem, three embeddings, MB4D in four stages, MB3D in two, a head
TICK = 1e-6  # seconds for one operation


class Counted:
    """A subject that knows its number of operations, and discards the networks that were built to count them."""

    def __init__(self, subject: Callable[[], object]) -> None:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            subject()
        self.operations = counter.get_total_flops()

    def __call__(self) -> None:
        raise AssertionError("the clock does not call")


@cache
def counted(make: Callable[..., Callable[[], object]], *arguments: Any) -> Counted:
    return Counted(make(*arguments))


def prepared(engine: str, network: torch.nn.Module, images: torch.Tensor, _: int) -> Callable[[], object]:
    """Replaces `engines.prepare`: torch runs the network instead of the engine."""
    form = FORMS[engine].fold if isinstance(network, EfficientFormer) else None
    return partial(network.eval() if form is None else form(network, SIZE), images)


class Ticks:
    """Replaces `measure`: the time of a subject is its number of operations times the speed of the machine."""

    def __init__(self) -> None:
        self.names: list[list[str]] = []  # of every call
        self.speed: Callable[[int], float] = lambda call: 1.0
        self.rounds = (1.0,) * 3  # how slow the machine is in every round
        self.disturbed = (1.0,) * 3  # and in addition, while anything except the reference runs
        self.machine = "synthetic"
        self.busy_in = 0  # the call in which the machine is busy
        self.stop = 0  # the call that is interrupted, from 1 on

    def __call__(self, subjects: Mapping[str, Counted], conditions: Conditions, **options: Any) -> Measurement:
        if len(self.names) + 1 == self.stop:
            raise KeyboardInterrupt
        assert torch.is_inference_mode_enabled()
        assert options["num_threads"] == 1
        self.names.append(list(subjects))
        tick = TICK * self.speed(len(self.names))
        slow = dict.fromkeys(subjects, self.rounds)
        for name in slow.keys() - {lookup_errors.REFERENCE}:
            slow[name] = tuple(map(operator.mul, self.rounds, self.disturbed))
        timings = tuple(
            Timing(name, tuple(subject.operations * tick * factor for factor in slow[name]))
            for name, subject in subjects.items()
        )
        busy = "busy" if len(self.names) == self.busy_in else ""
        return Measurement(conditions.complete(machine=self.machine, threads=1, busy=busy), timings)


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Ticks:
    clock = Ticks()
    monkeypatch.setattr(lookup_chains, "prepare", prepared)
    monkeypatch.setattr(lookup_module, "cut_out", partial(counted, cut_out))
    for module in (lookup_module, lookup_errors):
        monkeypatch.setattr(module, "measure", clock)
        monkeypatch.setattr(module, "whole_network", partial(counted, whole_network))
    return clock


def operations(config: EfficientFormerConfig, engine: str) -> float:
    """The time of a network by its counted MACs, independent of parts: two operations per MAC."""
    return 2 * TICK * count(config, SIZE, "folded" if engine.endswith("folded") else "trained").macs


@given(config=configs(), resolution=resolutions)
def test_the_parts_of_a_network_make_up_the_full_network(
    config: EfficientFormerConfig, resolution: tuple[int, int]
) -> None:
    single_head = config.replace(distillation=False)
    counts = parts(single_head, resolution)
    assert (
        sum(number * macs(part, single_head, resolution) for part, number in counts.items())
        == count(single_head, resolution).macs
    )
    kinds = Counter(part.kind for part in counts.elements())
    assert (kinds["stem"], kinds["head"]) == (1, 1)
    assert kinds["embedding"] == sum(config.downsamples)
    assert (kinds["MB3D"], kinds["MB4D"]) == (sum(config.vits), sum(config.depths) - sum(config.vits))
    assert min(counts.values()) > 0


@pytest.mark.parametrize("engine", FORMS)
def test_what_is_cut_out_does_the_work_of_its_parts(ticks: Ticks, engine: str) -> None:
    lookup = build(NARROW, engine, SIZE, base=BASE)
    assert len(ticks.names) == GROUPS
    assert len(lookup.entries) == 2 + 3 * 4 + 4 * 2 + 2 * 2 + 2
    for part, seconds in lookup.seconds.items():
        heads = 2 if part.kind == "head" and not engine.endswith("folded") else 1
        assert seconds == pytest.approx(2 * TICK * heads * macs(part, BASE, SIZE), abs=2e-9)


@pytest.mark.parametrize("engine", FORMS)
@pytest.mark.parametrize(
    "config", [BASE.replace(embed_dims=(16, 48, 64, 32)), BASE, BETWEEN], ids=["on", "mixed", "off"]
)
def test_a_sum_is_exact_where_time_is_linear_in_macs(ticks: Ticks, engine: str, config: EfficientFormerConfig) -> None:
    lookup = build(NARROW, engine, SIZE, base=BASE)
    assert lookup.predict(config, engine=engine, resolution=SIZE) == pytest.approx(operations(config, engine), rel=1e-6)


@pytest.mark.parametrize("engine", ["folded", "onnxruntime-folded"])
def test_the_small_networks_of_the_slimming(ticks: Ticks, engine: str) -> None:
    supernet = SMALL.replace(
        downsamples=(False, True, True, True), embed_dims=(32, 48, 80, 128), depths=(2, 2, 4, 4), num_vit=(0, 0, 4, 4)
    )
    lookup = build(((16, 32), (16, 48), (16, 80), (16, 128)), engine, SIZE, base=supernet)
    least = supernet.replace(embed_dims=(16, 16, 16, 16), depths=(1, 1, 1, 1), num_vit=0)
    for config in (supernet, least, *random_networks(0, 10, small=least, large=supernet)):
        assert lookup.predict(config) == pytest.approx(operations(config, engine), rel=1e-6)


def test_the_gain_is_what_the_smaller_network_saves(ticks: Ticks) -> None:
    lookup = build(NARROW, "folded", SIZE, base=BASE)
    smaller = BETWEEN.replace(num_vit=(0, 0, 0, 2))
    saved = operations(BETWEEN, "folded") - operations(smaller, "folded")
    assert saved > 0
    assert lookup.gain(BETWEEN, smaller) == pytest.approx(saved, rel=1e-4)
    assert lookup.gain(smaller, BETWEEN) == -lookup.gain(BETWEEN, smaller)


def test_a_machine_that_drifts_between_the_groups_does_not_matter(ticks: Ticks) -> None:
    ticks.speed = float
    lookup = build(NARROW, "folded", SIZE, base=BASE)
    middle = (1 + GROUPS) / 2
    assert lookup.reference == pytest.approx(middle * operations(BASE, "folded"), rel=1e-6)
    assert lookup.predict(BETWEEN) == pytest.approx(middle * operations(BETWEEN, "folded"), rel=1e-6)


def test_parts_and_networks_are_divided_by_the_reference_of_the_same_round(ticks: Ticks) -> None:
    """Computed per round, the median ratio is exact here; a ratio of medians would be 1.5 times as large."""
    ticks.rounds, ticks.disturbed = (1.0, 3.0, 9.0), (1.0, 1.5, 1.0)
    lookup = build(NARROW, "folded", SIZE, base=BASE)
    assert lookup.reference == pytest.approx(3 * operations(BASE, "folded"), rel=1e-6)
    for part, seconds in lookup.seconds.items():
        assert seconds == pytest.approx(3 * 2 * TICK * macs(part, BASE, SIZE), abs=2e-8)
    (error,) = prediction_errors(lookup, [BETWEEN], rounds=3).predictions
    assert error.at_speed == pytest.approx(3 * operations(BETWEEN, "folded"), rel=1e-6)
    assert error.error_at_speed == pytest.approx(0, abs=1e-6)


def test_every_entry_has_the_reference_of_its_own_group(ticks: Ticks) -> None:
    ticks.speed = float  # the machine gets slower with every call
    entries = build(NARROW, "folded", SIZE, base=BASE).entries
    references = [entry.reference / operations(BASE, "folded") for entry in entries]
    calls = [round(reference) for reference in references]
    assert references == pytest.approx(calls, rel=1e-6)
    assert calls == sorted(calls) and set(calls) == set(range(1, GROUPS + 1))
    for entry, call in zip(entries, calls, strict=True):
        assert entry.seconds == pytest.approx(call * 2 * TICK * macs(entry.part, BASE, SIZE), abs=1e-7)


def test_sums_are_raised_by_what_the_reference_takes_beyond_its_parts(ticks: Ticks) -> None:
    exact = build(NARROW, "folded", SIZE, base=BASE)
    slower = replace(exact, entries=tuple(entry._replace(reference=1.25 * entry.reference) for entry in exact.entries))
    assert (exact.whole_over_parts, slower.whole_over_parts) == pytest.approx((1, 1.25), rel=1e-6)
    assert slower.predict(BASE) == pytest.approx(slower.reference)
    assert slower.predict(BETWEEN) == pytest.approx(1.25 * exact.predict(BETWEEN), rel=1e-6)
    assert replace(slower, entries=slower.entries[1:]).whole_over_parts == 1  # nothing to compare with


def test_blocks_between_two_widths_lie_on_the_line_over_their_macs() -> None:
    known = [Part("MB4D", (14, 14), (width,)) for width in (32, 64, 128)]
    config, size = PRESETS["l1"], (224, 224)
    cost = {32: 3.0, 64: 5.0, 128: 6.0}
    lookup = Lookup(
        "folded", size, config, Conditions(), tuple(Entry(part, cost[part.widths[0]], 9.0) for part in known)
    )
    # MACs grow with the square: 48² lies at (48² − 32²) / (64² − 32²) of the way, 96² likewise in its own segment
    assert lookup.part(known[0]._replace(widths=(48,))) == pytest.approx(3 + 2 * (48**2 - 32**2) / (64**2 - 32**2))
    assert lookup.part(known[0]._replace(widths=(96,))) == pytest.approx(5 + 1 * (96**2 - 64**2) / (128**2 - 64**2))
    assert [lookup.part(part) for part in known] == pytest.approx([3, 5, 6])


def test_an_embedding_is_linear_in_both_of_its_widths() -> None:
    def cost(before: int, behind: int) -> float:
        return 7 * before * behind + 3 * before + 5 * behind + 11

    known = [Part("embedding", (14, 14), (i, o)) for i in (16, 64, 128) for o in (32, 96)]
    entries = tuple(Entry(part, cost(*part.widths), 2.0) for part in known)
    lookup = Lookup("folded", (224, 224), PRESETS["l1"], Conditions(), entries)
    for widths in [(16, 64), (32, 96), (112, 80), (48, 48), (64, 32)]:
        assert lookup.part(Part("embedding", (14, 14), widths)) == pytest.approx(cost(*widths))
    holed = Lookup("folded", (224, 224), PRESETS["l1"], Conditions(), entries[:-1])
    with pytest.raises(ValueError, match="128 to 96 channels: not in the table, which is not complete"):
        holed.part(Part("embedding", (14, 14), (112, 80)))


def test_an_interrupted_build_resumes(ticks: Ticks, tmp_path: Path) -> None:
    path, full = tmp_path / "lookup.json", build(NARROW, "folded", SIZE, base=BASE)
    ticks.names.clear()
    ticks.stop = 4
    with pytest.raises(KeyboardInterrupt):
        build(NARROW, "folded", SIZE, base=BASE, path=path)
    assert {entry.part.kind for entry in Lookup.load(path).entries} == {"stem", "embedding"}
    ticks.stop = 0
    assert build(NARROW, "folded", SIZE, base=BASE, path=path) == full == Lookup.load(path)
    assert len(ticks.names) == GROUPS  # every group once
    assert build(NARROW, "folded", SIZE, base=BASE, path=path) == full
    assert len(ticks.names) == GROUPS
    wider = build((*NARROW[:3], (32, 64, 80)), "folded", SIZE, base=BASE, path=path)
    assert wider.entries[: len(full.entries)] == full.entries
    # Besides the reference: two pairs and three neighbours, then MB4D, MB3D and the head, with a neighbour each.
    assert [len(names) - 1 for names in ticks.names[GROUPS:]] == [5, 2, 2, 2]


def test_a_file_of_another_machine_or_form_is_left_alone(ticks: Ticks, tmp_path: Path) -> None:
    path = tmp_path / "lookup.json"
    build(NARROW, "folded", SIZE, base=BASE, path=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Lookup\\(28 parts, folded, 64×96\\); wanted: Lookup\\(0 parts, eager, 64×96"):
        build(NARROW, "eager", SIZE, base=BASE, path=path)
    with pytest.raises(ValueError, match="wanted"):
        build(NARROW, "folded", SIZE, base=BASE.replace(num_heads=3), path=path)
    ticks.machine = "another"
    with pytest.raises(ValueError, match="was measured on synthetic; .*; wanted: the same machine"):
        build((*NARROW[:3], (32, 80)), "folded", SIZE, base=BASE, path=path)
    assert path.read_bytes() == before


def test_a_table_is_the_same_after_a_round_trip(ticks: Ticks, tmp_path: Path) -> None:
    lookup, path = build(NARROW, "folded", SIZE, base=BASE), tmp_path / "lookup.json"
    lookup.save(path)
    assert Lookup.load(path) == lookup
    assert Lookup.load(path).predict(BETWEEN) == lookup.predict(BETWEEN)
    for entry in json.loads(path.read_text(encoding="utf-8"))["entries"]:
        assert entry["seconds"] == round(entry["seconds"], 9)
    assert list(tmp_path.iterdir()) == [path]
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="lookup.json holds no lookup table: 'conditions'"):
        Lookup.load(path)


def test_the_table_shows_every_part(ticks: Ticks) -> None:
    lookup = build(NARROW, "folded", SIZE, base=BASE)
    rows = lookup.table().rows
    assert len(rows) == len(lookup.entries)
    seconds = lookup.seconds[Part("embedding", (8, 12), (16, 48))]
    assert ("embedding", "8×12", "16 to 48", f"{1e6 * seconds:.1f}") in rows
    assert repr(lookup) == "Lookup(28 parts, folded, 64×96)"
    assert "synthetic; 1 thread" in lookup._repr_markdown_()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"embed_dims": (16, 16, 32, 56)}, "allowed: widths that are multiples of 16"),
        ({"embed_dims": (64, 16, 32, 48)}, "64 is outside of the table, which has 16 to 48 channels"),
        ({"embed_dims": (16, 16, 32, 16)}, "16 is outside of the table, which has 32 to 64 channels"),
        (
            {"num_vit": (1, 0, 0, 0)},
            "MB3D at 16×24, 16 channels: 16 is outside of the table, which has none on this grid",
        ),
        ({"mlp_ratio": 3.0}, "mlp_ratio=3.0 is not in the table; wanted: 4.0"),
        ({"act": "relu"}, "act='relu' is not in the table; wanted: 'gelu'"),
        ({"layer_scale_init": None}, "layer_scale_init=None is not in the table; wanted: 1e-05"),
    ],
)
def test_what_the_table_cannot_answer(ticks: Ticks, fields: dict[str, Any], message: str) -> None:
    lookup = build(NARROW, "folded", SIZE, base=BASE)
    with pytest.raises(ValueError, match=message):
        lookup.predict(BASE.replace(**fields))


def test_what_does_not_change_the_time_is_free(ticks: Ticks) -> None:
    lookup = build(NARROW, "folded", SIZE, base=BASE)
    other = BASE.replace(distillation=False, bias_grid=(3, 3), layer_scale_init=1.0, drop_path_rate=0.1)
    assert lookup.predict(other) == lookup.predict(BASE)
    eager = Lookup("eager", SIZE, BASE, Conditions(), lookup.entries)
    with pytest.raises(ValueError, match="distillation=False is not in the table; wanted: True"):
        eager.predict(BASE.replace(distillation=False))
    with pytest.raises(ValueError, match=r"resolution=224 is not in the table; it was measured at \(64, 96\)"):
        lookup.predict(BASE, resolution=224)
    with pytest.raises(ValueError, match="engine='eager' is not in the table; it was measured with 'folded'"):
        lookup.predict(BASE, engine="eager")
    with pytest.raises(ValueError, match="the table is empty"):
        _ = Lookup("folded", SIZE, BASE, Conditions()).reference


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engine": "oven"}, "engine='oven' is not possible; allowed: eager, folded"),
        ({"widths": NARROW[:3]}, "four lists of multiples of 16"),
        ({"widths": (*NARROW[:3], ())}, "four lists of multiples of 16"),
        ({"widths": (*NARROW[:3], (24,))}, "four lists of multiples of 16"),
        ({"widths": (*NARROW[:3], (0,))}, "four lists of multiples of 16"),
        ({"base": BASE.replace(downsamples=(True, True, True, True))}, "allowed: an embedding between all stages"),
        ({"resolution": 31}, "at least 32 pixels"),
    ],
)
def test_what_cannot_be_built(ticks: Ticks, change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"widths": NARROW, "engine": "folded", "resolution": SIZE, "base": BASE}
    with pytest.raises(ValueError, match=message):
        build(**(arguments | change))
    assert ticks.names == []


def test_errors_are_none_under_a_clock_of_macs(ticks: Ticks, tmp_path: Path) -> None:
    lookup = build(NARROW, "folded", SIZE, base=BASE)
    ticks.names.clear()
    networks = [BASE, BETWEEN, *(BETWEEN.replace(depths=(1, 1, 1, depth)) for depth in range(2, 7))]
    errors = prediction_errors(lookup, networks, rounds=2)
    assert [prediction.config for prediction in errors.predictions] == networks
    assert [len(names) for names in ticks.names] == [6, 3]  # five networks at once, and the reference
    assert errors.worst == pytest.approx(0, abs=1e-6)
    assert [prediction.measured for prediction in errors.predictions] == pytest.approx(
        [operations(prediction, "folded") for prediction in networks]
    )
    errors.save(path := tmp_path / "errors.json")
    loaded = Errors.load(path)
    assert loaded.conditions == errors.conditions
    assert [prediction.measured for prediction in loaded.predictions] == [
        round(prediction.measured, 9) for prediction in errors.predictions
    ]
    loaded.save(again := tmp_path / "again.json")
    assert Errors.load(again) == loaded
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["worst"] == errors.worst
    assert stored["predictions"][1]["config"] == BETWEEN.to_dict()


def test_errors_with_and_without_the_drift(ticks: Ticks) -> None:
    lookup = build(NARROW, "folded", SIZE, base=BASE)
    ticks.speed = lambda call: 1.25
    errors = prediction_errors(lookup, [BASE, BETWEEN], rounds=2)
    assert (errors.median, errors.worst) == pytest.approx((0.2, 0.2), abs=1e-6)  # 1 / 1.25 − 1, as an absolute value
    assert (errors.median_at_speed, errors.worst_at_speed) == pytest.approx((0, 0), abs=1e-6)
    widths, depths, vits, *_, error, at_speed = errors.table().rows[1]
    assert (widths, depths, vits) == ("32, 32, 48, 48", "2, 1, 3, 4", "0, 0, 1, 2")
    assert (error, at_speed) == pytest.approx((-0.2, 0), abs=1e-6)


def test_a_busy_machine_is_remembered(ticks: Ticks) -> None:
    assert build(NARROW, "folded", SIZE, base=BASE).conditions.busy == ""
    ticks.busy_in = GROUPS + 2
    lookup = build(NARROW, "folded", SIZE, base=BASE)
    assert lookup.conditions.busy == "busy"
    ticks.busy_in = 2 * GROUPS + 1
    networks = [BASE.replace(depths=(1, 1, 1, depth)) for depth in range(1, 8)]
    assert len(ticks.names) == 2 * GROUPS
    assert prediction_errors(lookup, networks).conditions.busy == "busy"


def test_errors_need_networks_that_can_be_predicted(ticks: Ticks) -> None:
    lookup = build(NARROW, "folded", SIZE, base=BASE)
    ticks.names.clear()
    with pytest.raises(ValueError, match="no networks to predict"):
        prediction_errors(lookup, [])
    with pytest.raises(ValueError, match="outside of the table"):
        prediction_errors(
            lookup, [BASE, PRESETS["l1"].replace(num_heads=2, key_dim=4, num_classes=6, bias_grid=(2, 2))]
        )
    assert ticks.names == []


def test_a_file_without_errors_is_named(tmp_path: Path) -> None:
    path = tmp_path / "errors.json"
    path.write_text('{"conditions": {"resolution": [64, 96]}}', encoding="utf-8")
    with pytest.raises(ValueError, match="errors.json holds no errors of a lookup table: 'predictions'"):
        Errors.load(path)


def test_the_shares_of_a_network_are_its_latency(ticks: Ticks) -> None:
    lookup = build(NARROW, "folded", SIZE, base=BASE)
    shares = lookup.shares(BETWEEN)
    assert sum(shares.values()) == lookup.predict(BETWEEN)
    assert shares[Part("MB3D", (2, 3), (48,))] == 2 * lookup.part(Part("MB3D", (2, 3), (48,)))
