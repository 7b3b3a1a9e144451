"""The tables of the exercise distinguish the common search methods, and each of them is named."""

from __future__ import annotations

import re
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


def worse(table: checks.Tables) -> float:
    """The accuracy, in points, that greedy search loses against the best set."""
    drops = table[0]
    return drops[greedy(*table)] - drops[exhaustive(*table)]


def test_greedy_is_never_better() -> None:
    assert min(map(worse, (*MIXED, *ADDING))) >= 0


@pytest.mark.parametrize("table", [*MIXED[:8], *ADDING[:8]])
def test_a_table_has_every_set_and_every_action_saves_something(table: checks.Tables) -> None:
    drops, gains, target = table
    assert drops.keys() == gains.keys() and len(drops) == 2 ** len(checks.NAMES)
    assert drops[frozenset()] == gains[frozenset()] == 0 < target < gains[frozenset(checks.NAMES)]
    assert all(gains[subset | {name}] > gains[subset] for subset in gains for name in set(checks.NAMES) - subset)


def test_only_the_adding_tables_add_up() -> None:
    def adds_up(table: checks.Tables) -> bool:
        return all(
            amounts[subset] == pytest.approx(sum(amounts[frozenset([name])] for name in subset))
            for amounts in table[:2]
            for subset in amounts
        )

    assert all(map(adds_up, ADDING)) and not any(map(adds_up, MIXED))


@pytest.mark.parametrize("message", checks.GREEDY_MISTAKES)
def test_a_wrong_greedy_is_named(message: str) -> None:
    refused(checks.GREEDY_MISTAKES[message], exhaustive, re.escape(message))


@pytest.mark.parametrize("message", checks.EXHAUSTIVE_MISTAKES)
def test_a_wrong_exhaustive_search_is_named(message: str) -> None:
    refused(greedy, checks.EXHAUSTIVE_MISTAKES[message], re.escape(message))


@pytest.mark.parametrize("mistakes", [checks.GREEDY_MISTAKES, checks.EXHAUSTIVE_MISTAKES])
def test_no_two_mistakes_give_the_same_answers(mistakes: dict[str, Choose]) -> None:
    answers = [[search(*table) for table in MIXED] for search in mistakes.values()]
    assert all(a != b for i, a in enumerate(answers) for b in answers[:i])


@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        (lambda *_: ["an MB4D of stage 1"], exhaustive, "greedy must return the set"),
        (lambda *_: {"a head"}, exhaustive, "which is none of the sets"),
        (lambda *_: set(), exhaustive, r"yours takes nothing \(0\.00 of"),
        (greedy, lambda drops, *_: max(drops, key=len), "exhaustive should take"),
        (lambda drops, *_: drops["nothing"], exhaustive, "raised KeyError"),
    ],
)
def test_a_wrong_answer_is_compared_with_the_right_answer(first: Any, second: Any, match: str) -> None:
    refused(first, second, match)
