"""Check of chapter 8: greedy against exhaustive search, with drops and gains that are additive and that are not.

Paper: Algorithm 1 is greedy; the paper mentions brute force, which may find better networks. The tables are random with
fixed seeds; nothing is trained.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from efficientformer_edu.exercises._check import call, describe, done, require

Actions = frozenset[str]
Amounts = Mapping[Actions, float]  # for each set of actions: points of accuracy, or milliseconds
Choose = Callable[[Amounts, Amounts, float], Actions]
Table = tuple[dict[Actions, float], dict[Actions, float], float]  # drops, gains, target

NAMES = ("an MB4D of stage 1", "an MB4D of stage 3", "an MB3D of stage 3", "16 channels of stage 4")
TABLES = 400


def check_greedy(greedy: Choose, exhaustive: Choose) -> None:
    """Compare with reference searches on tables of four actions; common mistakes get their own message."""
    tables = [_table(seed, adds_up=False) for seed in range(TABLES)]
    mistakes: dict[str, Choose] = {
        "Your greedy ranks actions by what each does alone, once. Drops do not add up: after each step the ones that "
        "are left are to be tried again.": _by_singles,
        "Your greedy takes the least drop, whatever it saves. Divide by the milliseconds.": _by_drop,
        "Your greedy takes what saves most, whatever it costs.": _by_gain,
        "Your greedy divides the whole drop by the whole gain. Take what the next action adds to both.": _from_start,
        "Your greedy goes on where the target is already met: a gain that equals it is enough.": _one_more,
        "Your greedy stops a step too early: the gain is to reach the target.": _one_less,
        "Your greedy looks at all sets. It is to take one action after the other.": _exhaustive,
    }
    _compare("greedy", greedy, _greedy, tables, mistakes)
    mistakes = {
        "Your exhaustive search minimises drop per millisecond. The milliseconds are asked for by the target; among "
        "the sets that reach it the drop alone counts.": _by_quotient,
        "Your exhaustive search leaves out sets that meet the target exactly.": _beyond,
        "Your exhaustive search forgets the target: a set that gains too little is no answer.": _whatever,
        "Your exhaustive search takes the smallest set that reaches the target.": _fewest,
        "Your exhaustive search stops at the greedy one's answer. Look at all sets.": _greedy,
    }
    _compare("exhaustive", exhaustive, _exhaustive, tables, mistakes)
    additive = [_table(seed, adds_up=True) for seed in range(TABLES)]
    additive_rate, rate = (
        sum(_greedy(*table) != _exhaustive(*table) for table in group) / TABLES for group in (additive, tables)
    )
    done(f"greedy misses the best in {additive_rate:.0%} of tables that add up, in {rate:.0%} of the others.")


def _table(seed: int, adds_up: bool) -> Table:
    """Drops and gains of every set of four actions; if they are not additive, each pair of actions interacts."""
    rng = random.Random(seed)
    drop, gain = ({name: rng.uniform(*span) for name in NAMES} for span in ((0.2, 3), (0.6, 2)))
    pairs = list(combinations(NAMES, 2))
    both_drop, both_gain = ({pair: rng.uniform(-most, most) for pair in pairs} for most in (1.2, 0.15))
    drops, gains = dict[Actions, float](), dict[Actions, float]()
    for size in range(len(NAMES) + 1):
        for taken in combinations(NAMES, size):
            inside = [] if adds_up else [pair for pair in pairs if set(pair) <= set(taken)]
            drops[frozenset(taken)] = sum(drop[name] for name in taken) + sum(both_drop[pair] for pair in inside)
            gains[frozenset(taken)] = sum(gain[name] for name in taken) + sum(both_gain[pair] for pair in inside)
    solution = rng.choice([actions for actions in drops if len(actions) in (2, 3)])
    target = gains[solution] if seed % 2 else gains[frozenset(NAMES)] * rng.uniform(0.4, 0.9)
    return drops, gains, target


def _walk(drops: Amounts, gains: Amounts, target: float, worth: Callable[[Actions, Actions], float]) -> list[Actions]:
    """The sets that a greedy search visits; the last is the first set that reaches the target."""
    taken = [frozenset[str]()]
    while gains[taken[-1]] < target:
        candidates = [taken[-1] | {name} for name in NAMES if name not in taken[-1]]
        taken.append(min(candidates, key=lambda after: worth(taken[-1], after)))
    return taken


def _steps(drops: Amounts, gains: Amounts, target: float) -> list[Actions]:
    return _walk(drops, gains, target, lambda a, b: (drops[b] - drops[a]) / (gains[b] - gains[a]))


def _greedy(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return _steps(drops, gains, target)[-1]


def _one_less(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return _steps(drops, gains, target)[-2]


def _one_more(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return _greedy(drops, gains, math.nextafter(target, math.inf))


def _by_drop(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return _walk(drops, gains, target, lambda a, b: drops[b])[-1]


def _by_gain(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return _walk(drops, gains, target, lambda a, b: -gains[b])[-1]


def _from_start(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return _walk(drops, gains, target, lambda a, b: drops[b] / gains[b])[-1]


def _by_singles(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return _walk(drops, gains, target, lambda a, b: drops[b - a] / gains[b - a])[-1]


def _exhaustive(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return min((actions for actions in drops if gains[actions] >= target), key=lambda actions: drops[actions])


def _beyond(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return _exhaustive(drops, gains, math.nextafter(target, math.inf))


def _whatever(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return _exhaustive(drops, gains, -math.inf)


def _by_quotient(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return min(
        (actions for actions in drops if gains[actions] >= target), key=lambda actions: drops[actions] / gains[actions]
    )


def _fewest(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return min(
        (actions for actions in drops if gains[actions] >= target), key=lambda actions: (len(actions), drops[actions])
    )


def _compare(
    name: str, answer: Choose, reference: Choose, tables: Sequence[Table], mistakes: Mapping[str, Choose]
) -> None:
    """Report a mistake if it gives the learner's answers in all tables, so that none is reported by chance."""
    answers = [call(answer, dict(drops), dict(gains), target) for drops, gains, target in tables]
    for actions in answers:
        require(
            isinstance(actions, set | frozenset),
            f"{name} is to return the set of the actions that it takes; {describe(actions)} came.",
        )
    for sentence, mistake in mistakes.items():
        require(answers != [mistake(*table) for table in tables], sentence)
    for actual, table in zip(answers, tables, strict=True):
        expected = reference(*table)
        require(
            actual == expected,
            f"{name} is to take {_taken(expected, table)}; yours takes {_taken(frozenset(actual), table)}.",
        )


def _taken(actions: Actions, table: Table) -> str:
    drops, gains, target = table
    if actions not in drops:
        return f"{sorted(actions)}, which is none of the sets"
    names = ", ".join(sorted(actions)) or "nothing"
    return f"{names} ({gains[actions]:.2f} of {target:.2f} ms for {drops[actions]:.2f} points)"
