"""What is compared, and how: contenders by hand, pairs by target and seed, and a planted way that is worse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from slimming_runs import LOOKUP, SEARCHED, Knowing, supernet

from efficientformer_edu.audit import count
from efficientformer_edu.latency.lookup_errors import Errors, Prediction
from efficientformer_edu.latency.records import Conditions
from efficientformer_edu.slimming.contenders import (
    METHODS,
    Contender,
    baselines,
    found,
    load_contenders,
    save_contenders,
)
from efficientformer_edu.slimming.front import get_front
from efficientformer_edu.slimming.records import Search
from efficientformer_edu.slimming.search import Slimming, begin
from efficientformer_edu.training.records import Record

SMALLER = SEARCHED.replace(depths=(1, 1, 1, 1), embed_dims=(16, 16, 16, 16))


def searched(judge: Knowing) -> Search:
    network = supernet(SEARCHED)
    start = begin(network, LOOKUP, [1.0]).start
    slimming = Slimming(network, begin(network, LOOKUP, [0.8 * start, 0.6 * start]), LOOKUP, judge)
    list(slimming.steps())
    return slimming.search


def record(name: str, seed: int, top1: float) -> Record:
    return Record(name, seed, top1, "", 1.0, {}, (), {})


def test_every_way_is_tried_at_every_target() -> None:
    judge = Knowing(lambda subnet: sum(subnet.embed_dims) / 1000)
    search = searched(judge)
    judge.subnets.clear()
    others = list(baselines(search, LOOKUP, supernet(SEARCHED), judge))
    assert [(one.target, one.method) for one in others] == [
        (target, method) for target in search.family for method in ("uniform", "no-mb3d", "random")
    ]
    assert all(one.predicted == LOOKUP.predict(one.config) <= one.target for one in others)
    assert all(sum(one.config.vits) == 0 for one in others if one.method == "no-mb3d")
    tried = [
        sum(len(step.trials) for step, before in zip(search.steps, search.seconds, strict=False) if before > target)
        for target in search.family
    ]
    assert len(judge.subnets) == sum(tried)  # the random way asks the judge as often as the search did
    widest = {}
    asked = iter(judge.subnets)
    for target, number in zip(search.family, tried, strict=True):
        widest[target] = max(sum(next(asked).embed_dims) for _ in range(number))
    assert {one.target: sum(one.config.embed_dims) for one in others if one.method == "random"} == widest


def test_what_was_found_are_the_networks_of_the_search() -> None:
    search = searched(Knowing(lambda subnet: sum(subnet.embed_dims) / 1000))
    assert [(one.target, one.config) for one in found(search, LOOKUP)] == list(search.family.items())


def test_contenders_come_back_from_their_file(tmp_path: Path) -> None:
    two = (Contender("slimming", 0.0125, 0.012, SEARCHED), Contender("uniform", 0.0125, 0.011, SMALLER))
    save_contenders(two, tmp_path / "contenders.json")
    assert load_contenders(tmp_path / "contenders.json") == two
    assert [one.name for one in two] == ["slimming-12.5ms", "uniform-12.5ms"]
    (tmp_path / "contenders.json").write_text(json.dumps([{"method": "slimming"}]), encoding="utf-8")
    with pytest.raises(ValueError, match="holds no networks to compare"):
        load_contenders(tmp_path / "contenders.json")


def test_differences_are_paired_by_target_and_seed() -> None:
    networks = [
        Contender(method, target, target, SEARCHED if method == "slimming" else SMALLER)
        for target in (0.02, 0.01)
        for method in ("slimming", "uniform")
    ]
    level = {0.02: 0.9, 0.01: 0.8}  # what a target costs is common to both members of a pair
    records = [
        record(one.name, seed, level[one.target] + 0.01 * seed - 0.02 * (one.method == "uniform"))
        for one in networks
        for seed in range(3)
    ]
    front = get_front(networks, records, None, (64, 96))
    both = front.difference("uniform")
    assert both is not None and both.pairs == 6
    assert both.mean == pytest.approx(0.02) and both.low == pytest.approx(0.02) and both.verdict == "better"
    one = front.difference("uniform", 0.01)
    assert one is not None and one.pairs == 3 and one.verdict == "cannot tell"  # three pairs decide nothing
    assert front.difference("random") is None


def test_the_table_has_predicted_beside_measured() -> None:
    contender = Contender("slimming", 0.02, 0.018, SMALLER)
    timed = Errors(Conditions(), (Prediction(SMALLER, 0.018, 0.02, 0.0225),))
    front = get_front([contender], [record(contender.name, 0, 0.75), record("other", 0, 0.1)], timed, (64, 96))
    (row,) = front.table().rows
    costs = count(SMALLER, (64, 96))
    assert row == ("slimming", "20.00", "18.00", "20.00", "-10.0%", "-20.0%", "75.00%", costs.params, costs.macs)
    (empty,) = get_front([contender], [], None, (64, 96)).table().rows
    assert empty[3:6] == (None, None, None)
    assert set(METHODS) == {"slimming", "uniform", "random", "no-mb3d"}
