"""Accuracy against latency, and the stored contents of a slimming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from slimming_runs import LOOKUP, SEARCHED, Knowing, supernet

from efficientformer_edu.audit import count
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.latency.lookup import Errors, Prediction
from efficientformer_edu.latency.records import Conditions
from efficientformer_edu.slimming.baselines import (
    CONTENDERS,
    METHODS,
    Contender,
    Method,
    baselines,
    load_contenders,
    save_contenders,
    searched_networks,
)
from efficientformer_edu.slimming.front import LATENCY, TRAINED, get_front, load_slimming, stored_slimming
from efficientformer_edu.slimming.records import SEARCH, Search, Step, Trial
from efficientformer_edu.slimming.search import Slimming, begin
from efficientformer_edu.slimming.subnet import Action, Subnet
from efficientformer_edu.training.study import Record
from efficientformer_edu.utils.statistics import mean_estimate

SMALLER = SEARCHED.replace(depths=(1, 1, 1, 1), embed_dims=(16, 16, 16, 16))


def searched(evaluator: Knowing) -> Search:
    network = supernet(SEARCHED)
    start = begin(network, LOOKUP, [1.0]).start
    slimming = Slimming(network, begin(network, LOOKUP, [0.8 * start, 0.6 * start]), LOOKUP, evaluator)
    list(slimming.steps())
    return slimming.search


def record(name: str, seed: int, top1: float) -> Record:
    return Record(name, seed, {"top1": top1}, {})


@pytest.mark.slow
def test_every_way_is_tried_at_every_target() -> None:
    evaluator = Knowing(lambda subnet: sum(subnet.embed_dims) / 1000)
    search = searched(evaluator)
    evaluator.subnets.clear()
    others = list(baselines(search, LOOKUP, supernet(SEARCHED), evaluator))
    assert [(contender.target, contender.method) for contender in others] == [
        (target, method) for target in search.family for method in ("uniform", "no-mb3d", "random")
    ]
    assert all(contender.predicted == LOOKUP.predict(contender.config) <= contender.target for contender in others)
    assert all(sum(contender.config.vits) == 0 for contender in others if contender.method == "no-mb3d")
    tried = [
        sum(len(step.trials) for step, before in zip(search.steps, search.seconds, strict=False) if before > target)
        for target in search.family
    ]
    assert len(evaluator.subnets) == sum(tried)  # random search calls the evaluator as often as the search did
    widest = {}
    subnets = iter(evaluator.subnets)
    for target, number in zip(search.family, tried, strict=True):
        widest[target] = max(sum(next(subnets).embed_dims) for _ in range(number))
    assert {
        contender.target: sum(contender.config.embed_dims) for contender in others if contender.method == "random"
    } == widest


def test_the_contenders_are_the_networks_of_the_search() -> None:
    search = searched(Knowing(lambda subnet: sum(subnet.embed_dims) / 1000))
    assert {network.target: network.config for network in searched_networks(search, LOOKUP)} == search.family


def test_contenders_come_back_from_their_file(tmp_path: Path) -> None:
    two = (Contender("slimming", 0.0125, 0.012, SEARCHED), Contender("uniform", 0.0125, 0.011, SMALLER))
    save_contenders(two, tmp_path / "contenders.json")
    assert load_contenders(tmp_path / "contenders.json") == two
    assert [contender.name for contender in two] == ["slimming-12.5ms", "uniform-12.5ms"]
    (tmp_path / "contenders.json").write_text(json.dumps([{"method": "slimming"}]), encoding="utf-8")
    with pytest.raises(ValueError, match="networks"):
        load_contenders(tmp_path / "contenders.json")


THIRD, FOURTH = (SEARCHED.replace(embed_dims=(16, 16, width, width)) for width in (32, 48))


def compared(*networks: tuple[Method, float, EfficientFormerConfig]) -> list[Contender]:
    return [Contender(method, target, target, config) for method, target, config in networks]


def test_differences_are_paired_by_target_and_seed() -> None:
    """The effect of a target is common to both members of a pair, and every target is resampled separately."""
    networks = compared(
        *(("slimming", 0.02, SEARCHED), ("uniform", 0.02, SMALLER)),
        *(("slimming", 0.01, THIRD), ("uniform", 0.01, FOURTH)),
    )
    level = {0.02: 0.9, 0.01: 0.8}
    shift = {0.02: 0.06, 0.01: 0.01}  # how much better slimming is
    records = [
        record(
            contender.name,
            seed,
            level[contender.target] + 0.01 * seed + shift[contender.target] * (contender.method == "slimming"),
        )
        for contender in networks
        for seed in range(3)
    ]
    front = get_front(networks, records, None, (64, 96))
    both = front.compare("uniform")
    assert both is not None
    assert both.difference == pytest.approx((0.035, 0.035, 0.035, 6))  # pooled, the interval would span both shifts
    assert both.difference.verdict() == "better"
    assert (both.targets, both.networks, both.trainings, both.left_out) == ((0.01, 0.02), 4, 12, {})
    single = front.compare("uniform", 0.01)
    assert single is not None and single.difference.samples == 3 and single.difference.verdict() == "too few"
    assert front.compare("random") is None and front.compare("uniform", 0.5) is None


@pytest.mark.parametrize("shared", ["slimming", "no-mb3d"])
def test_a_network_at_two_targets_enters_once_at_the_tighter_target(shared: Method) -> None:
    """If its records entered twice there would be nine pairs, and a narrower interval."""
    methods: tuple[Method, ...] = ("slimming", "no-mb3d")
    configs = iter([SEARCHED, SMALLER, THIRD, FOURTH, SEARCHED.replace(depths=(1, 2, 1, 2))])
    networks = []
    for method in methods:
        first = next(configs)
        networks += [(method, 0.03, first), (method, 0.02, first if method == shared else next(configs))]
        networks.append((method, 0.01, next(configs)))
    contenders = compared(*networks)
    random = Random(0)
    by_config = {config: [random.uniform(0.79, 0.86) for _ in range(3)] for _, _, config in networks}
    records = [
        record(contender.name, seed, top1)
        for contender in contenders
        for seed, top1 in enumerate(by_config[contender.config])
    ]
    front = get_front(contenders, records, None, (64, 96))
    comparison = front.compare("no-mb3d")
    assert comparison is not None
    assert comparison.targets == (0.01, 0.02) and comparison.left_out == {0.03: 0.02}
    assert (comparison.networks, comparison.trainings, comparison.difference.samples) == (4, 12, 6)
    configs_at = {(method, target): config for method, target, config in networks}
    pairs = [
        [a - b for a, b in zip(*(by_config[configs_at[method, target]] for method in methods), strict=True)]
        for target in (0.01, 0.02)
    ]
    assert comparison.difference == mean_estimate(*pairs)
    assert str(comparison).endswith("4 networks, 12 trainings, 2 targets")
    table = front.comparisons()
    rows = {row[2]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert [rows[None][name] for name in ("targets", "networks", "trainings", "pairs")] == [2, 4, 12, 6]
    assert (rows[30.0]["verdict"], rows[30.0]["same network at ms"]) == (None, 20.0)
    assert rows[20.0]["verdict"] == rows[10.0]["verdict"] == "too few"
    assert rows[None]["more accurate by, points"] == comparison.difference.scaled(100)


def test_records_count_wherever_their_network_is_listed() -> None:
    contenders = compared(("no-mb3d", 0.02, SMALLER), ("slimming", 0.02, SEARCHED), ("no-mb3d", 0.01, SMALLER))
    records = [record("no-mb3d-20ms", 0, 0.8), record("no-mb3d-10ms", 1, 0.7)]
    front = get_front(contenders, records, None, (64, 96))
    assert [point.top1 for point in front.points] == [{0: 0.8, 1: 0.7}, {}, {0: 0.8, 1: 0.7}]


def test_the_table_has_predicted_and_measured_latency() -> None:
    contender = Contender("slimming", 0.02, 0.018, SMALLER)
    timed = Errors(Conditions(), (Prediction(SMALLER, 0.018, 0.02, 0.0225),))
    front = get_front([contender], [record(contender.name, 0, 0.75), record("other", 0, 0.1)], timed, (64, 96))
    (row,) = front.table().rows
    costs = count(SMALLER, (64, 96))
    assert row[1:6] == pytest.approx((20, 18, 20, -0.1, -0.2)) and row[6:] == (0.75, costs.params, costs.macs)
    assert front.table().formatted()[0][:7] == ["slimming", "20.00", "18.00", "20.00", "-10.0 %", "-20.0 %", "75.00 %"]
    (empty,) = get_front([contender], [], None, (64, 96)).table().rows
    assert empty[3:6] == (None, None, None)
    assert set(METHODS) == {"slimming", "uniform", "random", "no-mb3d"}


START = LOOKUP.predict(Subnet.largest(SEARCHED).config(SEARCHED))
FIRST = Action("depth", 1, 0)
GAIN = START - LOOKUP.predict(Subnet.largest(SEARCHED).after(FIRST).config(SEARCHED))
SEARCH_DONE = Search(SEARCHED, ((1.0,), (0.5, 1.0), (1.0, 1.0), (1.0, 1.0)), (START - GAIN,), START).with_step(
    Step(0.8, (Trial(FIRST, GAIN, 0.01),))
)
NETWORK = searched_networks(SEARCH_DONE, LOOKUP)[0]
OTHER = Contender("uniform", NETWORK.target, NETWORK.predicted, Subnet.largest(SEARCHED).config(SEARCHED))


def record_of(contender: Contender, top1: float) -> Record:
    return Record(contender.name, 0, {"top1": top1}, {"config": contender.config.to_dict()})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As the command leaves it before the networks are trained, without networks to compare with."""
    SEARCH_DONE.save(tmp_path / SEARCH)
    LOOKUP.save(tmp_path / "lookup.json")
    (tmp_path / TRAINED).mkdir()
    return tmp_path


def test_a_slimming_is_read_as_far_as_it_has_come(folder: Path) -> None:
    slimmed = load_slimming(folder)
    assert slimmed.search == SEARCH_DONE
    assert slimmed.lookup.seconds == pytest.approx(LOOKUP.seconds)
    assert [contender.config for contender in slimmed.contenders] == [NETWORK.config]
    assert slimmed.records == () and slimmed.errors is None
    (point,) = slimmed.front.points
    assert point.accuracy is None and point.prediction is None


def test_networks_that_were_compared_trained_and_timed_are_in_the_front(folder: Path) -> None:
    save_contenders([NETWORK, OTHER], folder / CONTENDERS)
    for contender, top1 in ((NETWORK, 0.9), (OTHER, 0.85)):
        record_of(contender, top1).save(folder / TRAINED)
    Errors(Conditions(), (Prediction(NETWORK.config, 0.2, 0.21, 0.2),)).save(folder / LATENCY)
    front = load_slimming(folder).front
    own, other = front.points
    assert (own.top1, other.top1) == ({0: 0.9}, {0: 0.85})
    assert own.prediction is not None and own.prediction.measured == 0.21
    assert other.prediction is None
    comparison = front.compare("uniform")
    assert comparison is not None and comparison.difference.value == pytest.approx(0.05)


def test_a_record_of_another_network_is_refused(folder: Path) -> None:
    wrong = replace(record_of(NETWORK, 0.9), run={"config": OTHER.config.to_dict()})
    wrong.save(folder / TRAINED)
    with pytest.raises(ValueError, match="seed 0 is not one of the networks to compare"):
        load_slimming(folder)


def test_the_slimming_in_the_package_is_complete() -> None:
    slimmed = stored_slimming()
    assert slimmed.search.done and all(point.top1 and point.prediction for point in slimmed.front.points)
