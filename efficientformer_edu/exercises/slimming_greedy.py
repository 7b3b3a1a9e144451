"""Check of chapter 8: a greedy search against all sets, where drops and gains add up and where they do not.

Paper: Algorithm 1 is greedy, and names brute force as the way that may find better. The tables are drawn at random, the
same each time; nothing is trained.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from efficientformer_edu.exercises._check import call, describe, done, require

Actions = frozenset[str]
Amounts = Mapping[Actions, float]  # of each set of actions: points of accuracy, or milliseconds
Choose = Callable[[Amounts, Amounts, float], Actions]
Table = tuple[dict[Actions, float], dict[Actions, float], float]  # drops, gains, target

NAMES = ("an MB4D of stage 1", "an MB4D of stage 3", "an MB3D of stage 3", "16 channels of stage 4")
TABLES = 400


def check_greedy(greedy: Choose, exhaustive: Choose) -> None:
    """Compare with a second greedy and all sets, on tables of four actions; other ways to choose are named."""
    tables = [_table(seed, adds_up=False) for seed in range(TABLES)]
    ways: dict[str, Choose] = {
        "Your greedy ranks actions by what each does alone, once. Drops do not add up: after each step the ones that "
        "are left are to be tried again.": _by_singles,
        "Your greedy takes the least drop, whatever it saves. Divide by the milliseconds.": _by_drop,
        "Your greedy takes what saves most, whatever it costs.": _by_gain,
        "Your greedy divides the whole drop by the whole gain. Take what the next action adds to both.": _from_start,
        "Your greedy goes on where the target is already met: a gain that equals it is enough.": _one_more,
        "Your greedy stops a step too early: the gain is to reach the target.": _one_less,
        "Your greedy looks at all sets. It is to take one action after the other.": _exhaustive,
    }
    _compare("greedy", greedy, _greedy, tables, ways)
    ways = {
        "Your exhaustive search minimises drop per millisecond. The milliseconds are asked for by the target; among "
        "the sets that reach it the drop alone counts.": _by_quotient,
        "Your exhaustive search leaves out sets that meet the target exactly.": _beyond,
        "Your exhaustive search forgets the target: a set that gains too little is no answer.": _whatever,
        "Your exhaustive search takes the smallest set that reaches the target.": _fewest,
        "Your exhaustive search stops at the greedy one's answer. Look at all sets.": _greedy,
    }
    _compare("exhaustive", exhaustive, _exhaustive, tables, ways)
    adding = [_table(seed, adds_up=True) for seed in range(TABLES)]
    add, other = (sum(_greedy(*one) != _exhaustive(*one) for one in some) / TABLES for some in (adding, tables))
    done(f"greedy misses the best in {add:.0%} of tables that add up, in {other:.0%} of the others.")


def _table(seed: int, adds_up: bool) -> Table:
    """Drops and gains of every set of four actions; where they do not add up, each two change each other's."""
    draw = random.Random(seed)
    drop, gain = ({name: draw.uniform(*span) for name in NAMES} for span in ((0.2, 3), (0.6, 2)))
    pairs = list(combinations(NAMES, 2))
    both_drop, both_gain = ({pair: draw.uniform(-most, most) for pair in pairs} for most in (1.2, 0.15))
    drops, gains = dict[Actions, float](), dict[Actions, float]()
    for size in range(len(NAMES) + 1):
        for taken in combinations(NAMES, size):
            inside = [] if adds_up else [pair for pair in pairs if set(pair) <= set(taken)]
            drops[frozenset(taken)] = sum(drop[name] for name in taken) + sum(both_drop[pair] for pair in inside)
            gains[frozenset(taken)] = sum(gain[name] for name in taken) + sum(both_gain[pair] for pair in inside)
    reached = draw.choice([one for one in drops if len(one) in (2, 3)])
    target = gains[reached] if seed % 2 else gains[frozenset(NAMES)] * draw.uniform(0.4, 0.9)
    return drops, gains, target


def _walk(drops: Amounts, gains: Amounts, target: float, worth: Callable[[Actions, Actions], float]) -> list[Actions]:
    """The sets that a greedy search passes, the last one the first that reaches the target."""
    taken = [frozenset[str]()]
    while gains[taken[-1]] < target:
        left = [taken[-1] | {name} for name in NAMES if name not in taken[-1]]
        taken.append(min(left, key=lambda after: worth(taken[-1], after)))
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
    return min((one for one in drops if gains[one] >= target), key=lambda one: drops[one])


def _beyond(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return _exhaustive(drops, gains, math.nextafter(target, math.inf))


def _whatever(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return _exhaustive(drops, gains, -math.inf)


def _by_quotient(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return min((one for one in drops if gains[one] >= target), key=lambda one: drops[one] / gains[one])


def _fewest(drops: Amounts, gains: Amounts, target: float) -> Actions:
    return min((one for one in drops if gains[one] >= target), key=lambda one: (len(one), drops[one]))


def _compare(name: str, answer: Choose, right: Choose, tables: Sequence[Table], ways: Mapping[str, Choose]) -> None:
    """A slip is named if it gives the learner's answers in all tables, so that none is named by chance."""
    got = [call(answer, dict(drops), dict(gains), target) for drops, gains, target in tables]
    for one in got:
        require(
            isinstance(one, set | frozenset),
            f"{name} is to return the set of the actions that it takes; {describe(one)} came.",
        )
    for sentence, way in ways.items():
        require(got != [way(*table) for table in tables], sentence)
    for found, table in zip(got, tables, strict=True):
        wanted = right(*table)
        require(
            found == wanted,
            f"{name} is to take {_taken(wanted, table)}; yours takes {_taken(frozenset(found), table)}.",
        )


def _taken(actions: Actions, table: Table) -> str:
    drops, gains, target = table
    if actions not in drops:
        return f"{sorted(actions)}, which is none of the sets"
    words = ", ".join(sorted(actions)) or "nothing"
    return f"{words} ({gains[actions]:.2f} of {target:.2f} ms for {drops[actions]:.2f} points)"
