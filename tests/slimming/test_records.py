"""A stored search: scores, seconds, the family, the table, and that a modified file is detected."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from slimming_runs import TINY

from efficientformer_edu.slimming.records import SEARCH, Search, Step, Trial
from efficientformer_edu.slimming.subnet import Action, Subnet

DEPTH, MB3D, WIDTH = Action("depth", 1, 0), Action("MB3D", 2, 0), Action("width", 3)
FIRST = Step(0.75, (Trial(DEPTH, 0.002, 0.01), Trial(MB3D, 0.001, 0.02), Trial(WIDTH, 0.004, 0.01)))
SECOND = Step(0.74, (Trial(DEPTH, 0.002, 0.03), Trial(MB3D, 0.001, 0.01), Trial(WIDTH, -0.0001, -0.5)))
BEGUN = Search(TINY, ((1.5,), (0.25, 3.0), (2.0, 2.0), (2.0, 1e-9)), (0.0151, 0.016), 0.02, {"seed": 3})
DONE = BEGUN.with_step(FIRST).with_step(SECOND)


def trial(gain: float, drop: float) -> Trial:
    return Trial(DEPTH, gain, drop)


def backwards(trials: list[Trial]) -> list[Trial]:
    return trials[::-1]


def test_the_score_is_drop_per_second() -> None:
    assert trial(0.004, 0.01).score == (False, pytest.approx(2.5))
    ordered = [trial(0.004, -0.01), trial(0.01, 0.0), trial(0.004, 0.01), trial(0.002, 0.01), trial(1.0, 10.0)]
    assert sorted(backwards(ordered), key=lambda action: action.score) == ordered


def test_what_saves_nothing_comes_last_even_if_it_helps() -> None:
    ordered = [trial(1e-9, 1.0), trial(0.0, -0.5), trial(-0.1, -0.2), trial(0.0, 0.3)]
    assert sorted(backwards(ordered), key=lambda action: action.score) == ordered


def test_the_trial_taken_has_the_least_drop_per_second() -> None:
    """5, 20 and 2.5 per second; then 15, 10, and one that saves nothing."""
    assert FIRST.taken.action == WIDTH
    assert SECOND.taken.action == MB3D


def test_where_the_slimming_has_been_follows_from_the_steps() -> None:
    start = Subnet.largest(TINY)
    assert DONE.subnets == (start, start.after(WIDTH), start.after(WIDTH).after(MB3D))
    assert DONE.seconds == pytest.approx((0.02, 0.016, 0.015))
    assert BEGUN.subnets == (start,) and BEGUN.seconds == (0.02,)


def test_a_search_is_done_at_its_last_target() -> None:
    assert [search.done for search in (BEGUN, BEGUN.with_step(FIRST), DONE)] == [False, False, True]


def test_the_family_has_the_first_network_for_every_target() -> None:
    family = replace(DONE, targets=(0.0151, 0.0170, 0.03, 0.0155)).family
    assert list(family) == [0.03, 0.0170, 0.0155, 0.0151]
    start, wide, last = (subnet.config(TINY) for subnet in DONE.subnets)
    assert list(family.values()) == [start, wide, last, last]
    assert wide == TINY.replace(embed_dims=(32, 32, 32, 32), num_vit=(0, 0, 2, 2))
    assert last == TINY.replace(embed_dims=(32, 32, 32, 32), num_vit=(0, 0, 1, 2))


def test_a_target_that_is_not_reached_yet_has_no_network() -> None:
    assert list(BEGUN.with_step(FIRST).family) == [0.016]
    assert BEGUN.family == {}


@pytest.mark.parametrize("targets", [(), (0.0,), (0.01, -0.01)])
def test_a_search_needs_targets_above_0(targets: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="targets="):
        replace(BEGUN, targets=targets)


def test_the_table_has_the_numbers_of_every_step() -> None:
    table = DONE.table()
    scores = ("points per ms, depth", "points per ms, MB3D", "points per ms, width")
    assert table.columns == ("step", "action", "ms then", "top-1 before", *scores, "margin, images", "decided")
    (first, second), action = table.rows, "MB4D for MB3D at MetaPath 1 of stage 3"
    assert first[:2] == (1, "16 channels off stage 4") and second[:2] == (2, action)
    assert first[2:7] == pytest.approx((16, 0.75, 0.5, 2, 0.25)) and second[2:6] == pytest.approx((15, 0.74, 1.5, 1))
    assert second[6] is None  # the width saves nothing
    assert first[7:] == second[7:] == (None, None)


def answered(before: str, depth: str, mb3d: str) -> Step:
    """A step with predictions per image. Depth saves 2 ms, MB3D 1 ms."""
    trials = [
        Trial(action, gain, (before.count("1") - after.count("1")) / len(before), after)
        for action, gain, after in ((DEPTH, 0.002, depth), (MB3D, 0.001, mb3d))
    ]
    return Step(before.count("1") / len(before), tuple(trials), before)


def test_the_margin_is_what_the_action_taken_could_have_lost_in_addition() -> None:
    """Per second, FIRST has 2.5 and 5: the action saves 4 ms, so it could have lost 0.02 instead of 0.01."""
    assert FIRST.margin == pytest.approx(0.01) and FIRST.margin_estimate() is None
    assert FIRST.runner_up is not None and FIRST.runner_up.action == DEPTH
    assert SECOND.runner_up is not None and SECOND.runner_up.action == DEPTH  # the width saves nothing
    assert replace(SECOND, trials=SECOND.trials[1:]).margin is None
    step = answered("1" * 100, "1" * 90 + "0" * 10, "1" * 80 + "0" * 20)
    estimate = step.margin_estimate()
    assert estimate is not None and estimate.value == pytest.approx(step.margin) == pytest.approx(0.3)
    assert estimate.verdict() == "better"


def test_the_margin_is_a_paired_comparison() -> None:
    """The same accuracies, once with errors on the same images and once on different ones: the latter is noisier."""
    depth = "0" * 60 + "1" * 340
    steps = {
        "better": answered("1" * 400, depth, "0" * 40 + "1" * 360),
        "inconclusive": answered("1" * 400, depth, "1" * 360 + "0" * 40),
    }
    for verdict, step in steps.items():
        estimate = step.margin_estimate()
        assert estimate is not None and estimate.value == pytest.approx(0.05) and estimate.verdict() == verdict
        (row,) = BEGUN.with_step(step).table().rows
        assert row[-2] == estimate.scaled(400) and row[-2][0] == pytest.approx(20)
        assert row[-1] is (verdict == "better")


@pytest.mark.parametrize("search", [BEGUN, BEGUN.with_step(FIRST), DONE], ids=["begun", "under way", "done"])
def test_a_search_that_is_stored_and_loaded_is_the_same(search: Search, tmp_path: Path) -> None:
    search.save(tmp_path / SEARCH)
    loaded = Search.load(tmp_path / SEARCH)
    assert loaded == search
    assert (loaded.subnets, loaded.seconds, loaded.family) == (search.subnets, search.seconds, search.family)
    assert [path.name for path in tmp_path.iterdir()] == [SEARCH]


def test_the_file_names_the_networks_for_others_to_read(tmp_path: Path) -> None:
    DONE.save(tmp_path / SEARCH)
    data = json.loads((tmp_path / SEARCH).read_text(encoding="utf-8"))
    assert [entry["target"] for entry in data["family"]] == [0.016, 0.0151]
    assert data["family"][1]["config"]["embed_dims"] == [32, 32, 32, 32]
    assert data["steps"][0]["trials"][2] == {
        "action": {"kind": "width", "stage": 3, "block": None},
        "gain": 0.004,
        "drop": 0.01,
        "correct": "",
    }
    assert data["made_of"] == {"seed": 3}


def another_drop(data: dict[str, Any]) -> None:
    data["steps"][0]["trials"][0]["drop"] = 0.0


def another_gain(data: dict[str, Any]) -> None:
    data["steps"][0]["trials"][2]["gain"] = 0.0001


def another_width(data: dict[str, Any]) -> None:
    data["family"][0]["config"]["embed_dims"][3] = 16


def another_target(data: dict[str, Any]) -> None:
    data["targets"] = [0.0151]


def no_family(data: dict[str, Any]) -> None:
    data["family"] = []


def another_field(data: dict[str, Any]) -> None:
    data["family"][1]["config"]["key_dim"] = 16


@pytest.mark.parametrize(
    "change", [another_drop, another_gain, another_width, another_target, no_family, another_field]
)
def test_a_file_changed_by_hand_is_refused(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    DONE.save(tmp_path / SEARCH)
    data = json.loads((tmp_path / SEARCH).read_text(encoding="utf-8"))
    change(data)
    (tmp_path / SEARCH).write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match=r"search\.json.*its steps lead to other networks than it names"):
        Search.load(tmp_path / SEARCH)


def test_steps_that_are_not_possible_are_refused(tmp_path: Path) -> None:
    """The first MetaPath of stage 1 is its only one."""
    DONE.save(tmp_path / SEARCH)
    text = (tmp_path / SEARCH).read_text(encoding="utf-8")
    data = json.loads(text)
    data["steps"][1]["trials"][1]["action"] = {"kind": "depth", "stage": 0, "block": 0}
    (tmp_path / SEARCH).write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match="search.*stage 1 has no block left"):
        Search.load(tmp_path / SEARCH)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"family": 3}', "{", '{"family": [], "supernet": {}}'])
def test_a_file_without_a_search_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / SEARCH).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"search\.json"):
        Search.load(tmp_path / SEARCH)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Search.load(tmp_path / SEARCH)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("targets", (0.0151,)),
        ("start", 0.021),
        ("made_of", {"seed": 4}),
        ("supernet", TINY.replace(num_classes=9)),
        ("importances", ((1.0,), *BEGUN.importances[1:])),
    ],
)
def test_another_search_is_not_mistaken_for_this_search(field: str, value: object, tmp_path: Path) -> None:
    DONE.save(tmp_path / SEARCH)
    stored = Search.load(tmp_path / SEARCH)
    assert stored.same_as(BEGUN) is stored
    with pytest.raises(ValueError, match=f"{field} "):
        stored.same_as(replace(BEGUN, **{field: value}))
