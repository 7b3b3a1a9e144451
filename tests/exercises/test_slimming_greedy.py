"""The tables of the exercise distinguish the common search methods, and each of them is named."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from efficientformer_edu.exercises import slimming as checks
from efficientformer_edu.exercises._check import ExerciseError
from efficientformer_edu.exercises.slimming import Actions, Amounts, Choose

MIXED = [checks._table(seed, adds_up=False) for seed in range(checks.TABLES)]
ADDING = [checks._table(seed, adds_up=True) for seed in range(checks.TABLES)]


def greedy(drops: Amounts, gains: Amounts, target: float) -> Actions:
    """Over all orders of the actions: the order with the smallest ratios, compared from the first on."""

    def way(order: tuple[str, ...]) -> tuple[list[float], Actions]:
        taken, prices = frozenset[str](), list[float]()
        for name in order:
            if gains[taken] >= target:
                break
            after = taken | {name}
            prices.append((drops[after] - drops[taken]) / (gains[after] - gains[taken]))
            taken = after
        return prices, taken

    return min(map(way, permutations(checks.NAMES)), key=lambda pair: pair[0])[1]


def exhaustive(drops: Amounts, gains: Amounts, target: float) -> Actions:
    enough = sorted((drop, sorted(subset)) for subset, drop in drops.items() if gains[subset] >= target)
    return frozenset(enough[0][1])


def refused(first: Choose, second: Choose, match: str) -> None:
    with pytest.raises(ExerciseError, match=match):
        checks.check_greedy(first, second)


def test_right_answers_pass_and_report_how_often_greedy_loses(capsys: pytest.CaptureFixture[str]) -> None:
    checks.check_greedy(greedy, lambda *table: set(exhaustive(*table)))
    output = capsys.readouterr().out
    add, other = (sum(map(bool, map(worse, some))) / checks.TABLES for some in (ADDING, MIXED))
    assert f"greedy misses the best in {add:.0%} of tables that add up, in {other:.0%} of the others." in output
    assert 0 < add < 1 and 0 < other < 1
    assert len(output) < 89


def worse(table: checks.Table) -> float:
    """The accuracy, in points, that greedy search loses against the best set."""
    drops = table[0]
    return drops[greedy(*table)] - drops[exhaustive(*table)]


def test_greedy_is_never_better() -> None:
    assert min(map(worse, (*MIXED, *ADDING))) >= 0


@pytest.mark.parametrize("table", [*MIXED[:8], *ADDING[:8]])
def test_a_table_has_every_set_and_every_action_saves_something(table: checks.Table) -> None:
    drops, gains, target = table
    assert drops.keys() == gains.keys() and len(drops) == 2 ** len(checks.NAMES)
    assert drops[frozenset()] == gains[frozenset()] == 0 < target < gains[frozenset(checks.NAMES)]
    assert all(gains[subset | {name}] > gains[subset] for subset in gains for name in set(checks.NAMES) - subset)


def test_only_the_adding_tables_add_up() -> None:
    def adds_up(table: checks.Table) -> bool:
        return all(
            amounts[subset] == pytest.approx(sum(amounts[frozenset([name])] for name in subset))
            for amounts in table[:2]
            for subset in amounts
        )

    assert all(map(adds_up, ADDING)) and not any(map(adds_up, MIXED))


GREEDY_WAYS = {
    checks._by_singles: "Drops do not add up",
    checks._by_drop: "whatever it saves",
    checks._by_gain: "whatever it costs",
    checks._from_start: "Take what the next action adds",
    checks._one_more: "a gain that equals it is enough",
    checks._one_less: "stops a step too early",
    checks._exhaustive: "one action after the other",
}
EXHAUSTIVE_WAYS = {
    checks._by_quotient: "the drop alone counts",
    checks._beyond: "meet the target exactly",
    checks._whatever: "forgets the target",
    checks._fewest: "the smallest set",
    checks._greedy: "Look at all sets",
}


@pytest.mark.parametrize(("way", "match"), GREEDY_WAYS.items())
def test_a_wrong_greedy_is_named(way: Choose, match: str) -> None:
    refused(way, exhaustive, match)


@pytest.mark.parametrize(("way", "match"), EXHAUSTIVE_WAYS.items())
def test_a_wrong_exhaustive_search_is_named(way: Choose, match: str) -> None:
    refused(greedy, way, match)


@pytest.mark.parametrize("ways", [GREEDY_WAYS, EXHAUSTIVE_WAYS])
def test_no_two_ways_give_the_same_answers(ways: dict[Callable[..., Actions], str]) -> None:
    answers = [[way(*table) for table in MIXED] for way in ways]
    assert all(a != b for i, a in enumerate(answers) for b in answers[:i])


@pytest.mark.parametrize(
    ("one", "other", "match"),
    [
        (lambda *_: ["an MB4D of stage 1"], exhaustive, "greedy is to return the set"),
        (lambda *_: {"a head"}, exhaustive, "which is none of the sets"),
        (lambda *_: set(), exhaustive, r"yours takes nothing \(0\.00 of"),
        (greedy, lambda drops, *_: max(drops, key=len), "exhaustive is to take"),
        (lambda drops, *_: drops["nothing"], exhaustive, "raised KeyError"),
    ],
)
def test_a_wrong_answer_is_compared_with_the_right_answer(one: Any, other: Any, match: str) -> None:
    refused(one, other, match)
