"""Checks of chapter 8, latency-driven slimming: importance, two noises, width reduction.

Paper: section 4.2, Eq. 7 and Algorithm 1. Each check has its own oracle: weights that are integers, probabilities from
softmax and from an integral, or sums computed stage by stage. Nothing is trained. The check of the fourth exercise is
in `slimming_greedy`.

Check of chapter 8: greedy against exhaustive search, with drops and gains that are additive and that are not.

Paper: Algorithm 1 is greedy; the paper mentions brute force, which may find better networks. The tables are random with
fixed seeds; nothing is trained.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientformer_edu.exercises._check import ExerciseError, call, describe, done, require
from efficientformer_edu.slimming.subnet import Subnet

WEIGHTS = (  # weights of each MetaPath's candidates, I last; the shift that is added to log w has no effect
    (((2, 3, 5), 0.0), ((6, 1, 2), -1.5), ((1, 1, 4), 0.7)),
    (((3, 2), 0.0), ((1, 4), 2.5)),
)
ALPHAS = ((1.4, 0.0, 1.1), (1.4, 0.0), (0.6, 0.2, 0.0, 0.5))
DRAWS = 20_000
SLACK = 0.015  # four standard deviations of a frequency of 0.5

Values = NDArray[np.float64]
Case = tuple[Subnet, tuple[tuple[float, ...], ...], tuple[int, ...]]  # with importances and smallest widths


def check_importances(
    importances: Callable[[Sequence[Sequence[float]]], tuple[Sequence[float], float]],
) -> None:
    """Compare with ratios of integers; α are their logarithms. Common mistakes get their own message."""
    for stage in WEIGHTS:
        alphas = [[math.log(value) + shift for value in weights] for weights, shift in stage]
        result = call(importances, alphas)
        require(
            isinstance(result, tuple | list) and len(result) == 2 and isinstance(result[0], Sequence),
            f"Return the list of the MetaPaths' importances and the stage's number; {describe(result)} came.",
        )
        paths, of_stage = list(result[0]), result[1]
        expected = [sum(weights[:-1]) / weights[-1] for weights, _ in stage]
        mistakes = {
            "You divide α itself. α stands in an exponent: a number added to all of a MetaPath's α changes no mixture, "
            "but it changes your quotient. What a candidate weighs is e^α.": [sum(a[:-1]) / a[-1] for a in alphas],
            "These are differences of α, the logarithms of what is wanted.": [sum(a[:-1]) - a[-1] for a in alphas],
            "The quotient is upside down: what the blocks weigh stands over what I weighs.": [1 / w for w in expected],
            "You divide by the weights of all candidates. I alone stands below the line.": [
                value / (1 + value) for value in expected
            ],
            "An MB3D counts as well: in the last two stages both blocks stand above the line.": [
                weights[0] / weights[-1] for weights, _ in stage
            ],
            "I is the last candidate; you take the first one for it.": [
                sum(weights[1:]) / weights[0] for weights, _ in stage
            ],
        }
        for sentence, wrong in mistakes.items():
            require(not _close(paths, wrong) or _close(wrong, expected), sentence)
        require(len(paths) == len(expected), f"{len(expected)} MetaPaths came in, {len(paths)} importances came out.")
        require(_close(paths, expected), f"The importances are {_list(expected)}; you have {_list(paths)}.")
        total = sum(expected)
        mistaken_totals = {"mean": total / len(expected), "product": math.prod(expected), "largest": max(expected)}
        for operation, wrong_total in mistaken_totals.items():
            require(
                not _close([of_stage], [wrong_total]) or _close([wrong_total], [total]),
                f"A stage is worth the sum of its MetaPaths; you have their {operation}.",
            )
        require(_close([of_stage], [total]), f"The stage is worth {total:.4g}; you have {describe(of_stage)}.")
    done("how much the blocks outweigh doing nothing, whatever is added to every α.")


def check_frequencies(frequencies: Callable[[Sequence[float], str, int], Sequence[float]]) -> None:
    """Compare with the softmax for Gumbel noise and with an integral for uniform noise."""
    for alpha in ALPHAS:
        values = np.array(alpha)
        softmax = np.exp(values) / np.exp(values).sum()
        expected = {"gumbel": softmax, "uniform": _uniform_chances(values)}
        for noise, chances in expected.items():
            rates = _frequencies(call(frequencies, list(alpha), noise, DRAWS), len(alpha))
            require(
                abs(sum(rates) - 1) < 1e-4,
                f"Your frequencies sum to {sum(rates):.4g}, not 1: count how often each candidate is the largest, and "
                "divide by the draws.",
            )
            where = f"α {_list(alpha)}, {noise} noise"
            for sentence, wrong in _noise_slips(values, noise, expected).items():
                require(not _near(rates, wrong) or _near(wrong, chances), f"{where}: {sentence}")
            require(
                _near(rates, chances), f"{where}: the frequencies are about {_list(chances)}; you have {_list(rates)}."
            )
    done("Gumbel's noise draws from softmax(α); uniform noise never lifts what is 1 behind.")


def check_width_reduction(
    width_reduction: Callable[[Subnet, tuple[tuple[float, ...], ...], tuple[int, ...]], Subnet],
) -> None:
    """Compare with sums stage by stage. If no stage can shrink, a ValueError is expected."""
    answers, cases = list[Subnet](), _cases()
    for case in cases:
        answer = call(width_reduction, *case)
        require(isinstance(answer, Subnet), f"Return a Subnet; {describe(answer)} came.")
        answers.append(answer)
    dims = [answer.embed_dims for answer in answers]
    for sentence, mistake in WIDTH_SLIPS.items():
        require(dims != [_off(case[0], mistake(*case)) for case in cases], sentence)
    for answer, case in zip(answers, cases, strict=True):
        subnet = case[0]
        lost = [before - after for before, after in zip(subnet.embed_dims, answer.embed_dims, strict=True)]
        require(sum(map(bool, lost)) == 1, f"One stage loses 16 channels; yours lose {_list(lost)}.")
        expected = _off(subnet, _least(*case))
        require(
            answer.embed_dims == expected,
            f"Of {subnet.embed_dims} {expected} is to be left; you have {answer.embed_dims}.",
        )
        require(answer.choices == subnet.choices, "Width reduction leaves all blocks where they are.")
    narrow = cases[0][0]
    try:
        call(width_reduction, narrow, cases[0][1], narrow.embed_dims)
    except ExerciseError as error:
        require(isinstance(error.__cause__, ValueError), str(error))
    else:
        raise ExerciseError("Where every stage is as narrow as the table goes, raise a ValueError.")
    done("the action that Algorithm 1 calls width reduction.")


def _frequencies(answer: Any, count: int) -> list[float]:
    """The learner's values as a list, from a list, an array or a tensor."""
    try:
        frequencies = np.asarray(answer, dtype=float)
    except (TypeError, ValueError):
        frequencies = np.array([])
    require(
        frequencies.shape == (count,),
        f"One frequency for each of {count} candidates is wanted; {describe(answer)} came.",
    )
    return [float(frequency) for frequency in frequencies]


def _uniform_chances(alpha: Values) -> Values:
    """Probability that each α + ε is the largest, ε uniform: integrate P(all others are smaller) over its own ε."""
    own = (np.arange(10_000) + 0.5) / 10_000
    others = [[np.clip(a + own - b, 0, 1) for j, b in enumerate(alpha) if j != i] for i, a in enumerate(alpha)]
    return np.array([np.prod(probabilities, axis=0).mean() for probabilities in others])


def _noise_slips(alpha: Values, noise: str, expected: Mapping[str, Values]) -> dict[str, Values]:
    """Frequencies that typical mistakes give, sampled independently of the learner's."""
    u = np.random.default_rng(1).random((DRAWS, len(alpha)))
    right = u if noise == "uniform" else -np.log(-np.log(u))
    weights = np.exp(alpha + right)

    def largest(values: Values) -> Values:
        return np.bincount(values.argmax(axis=1), minlength=len(alpha)) / DRAWS

    mistakes = {
        "the same candidate wins every draw: each candidate needs a noise of its own.": np.eye(len(alpha))[
            int(alpha.argmax())
        ],
        "you look for the smallest α + ε.": np.bincount((alpha + right).argmin(axis=1), minlength=len(alpha)) / DRAWS,
    }
    if noise == "gumbel":
        mistakes |= {
            "these are mean weights. Ask which candidate is the largest, and how often.": (
                (weights / weights.sum(1, keepdims=True)).mean(0)
            ),
            "this is what uniform noise gives. Gumbel's is −log(−log u).": expected["uniform"],
            "your noise is −log u, an exponential one: a second logarithm is missing.": largest(alpha - np.log(u)),
            "the sign of your noise: it is −log(−log u), with its long tail upwards.": largest(alpha - right),
        }
    else:
        mistakes["this is what Gumbel's noise gives; ε is to be u itself."] = expected["gumbel"]
    return mistakes


def _cases() -> list[Case]:
    four: tuple[Any, ...] = (("MB4D", "MB4D"), ("MB4D", "I"), ("MB4D", "MB4D", "MB3D"), ("MB3D", "I", "MB3D"))
    three: tuple[Any, ...] = (("MB4D",), ("MB4D", "MB4D"), ("I", "I", "MB4D"), ("MB3D", "MB3D", "MB3D"))
    least = (16, 16, 16, 16)
    return [
        (Subnet((48, 64, 96, 128), four), ((2.0, 2.5), (1.0, 9.0), (0.5, 0.6, 0.7), (3.0, 0.1, 3.0)), least),
        (Subnet((48, 64, 96, 128), four), ((0.7, 0.2), (4.0, 0.1), (0.9, 0.9, 0.9), (0.1, 8.0, 5.0)), (48, 32, 32, 32)),
        (Subnet((32, 48, 80, 112), three), ((6.0,), (0.9, 4.0), (0.2, 0.3, 4.0), (1.9, 1.8, 1.7)), (16, 32, 80, 112)),
        (Subnet((32, 48, 80, 112), three), ((3.0,), (1.5, 1.5), (7.0, 7.0, 2.0), (1.0, 1.0, 1.1)), (32, 32, 80, 32)),
    ]


def _stages(
    subnet: Subnet,
    importances: Sequence[Sequence[float]],
    worth: Callable[[list[float]], float],
    left_only: bool = True,
) -> list[float]:
    """Importance of each stage, from its remaining MetaPaths or from all of them."""
    return [
        worth([value for value, kind in zip(values, kinds, strict=True) if kind != "I" or not left_only])
        for values, kinds in zip(importances, subnet.choices, strict=True)
    ]


def _wide(subnet: Subnet, narrowest: Sequence[int]) -> list[int]:
    return [stage for stage in range(4) if subnet.embed_dims[stage] - 16 >= narrowest[stage]]


def _least(subnet: Subnet, importances: Sequence[Sequence[float]], narrowest: Sequence[int]) -> int:
    sums = _stages(subnet, importances, sum)
    return min(_wide(subnet, narrowest), key=lambda stage: sums[stage])


def _off(subnet: Subnet, stage: int) -> tuple[int, ...]:
    return tuple(width - 16 * (index == stage) for index, width in enumerate(subnet.embed_dims))


def _with_identities(subnet: Subnet, importances: Sequence[Sequence[float]], narrowest: Sequence[int]) -> int:
    sums = _stages(subnet, importances, sum, left_only=False)
    return min(_wide(subnet, narrowest), key=lambda stage: sums[stage])


def _by_mean(subnet: Subnet, importances: Sequence[Sequence[float]], narrowest: Sequence[int]) -> int:
    means = _stages(subnet, importances, lambda values: sum(values) / len(values))
    return min(_wide(subnet, narrowest), key=lambda stage: means[stage])


def _by_path(subnet: Subnet, importances: Sequence[Sequence[float]], narrowest: Sequence[int]) -> int:
    lowest = _stages(subnet, importances, min)
    return min(_wide(subnet, narrowest), key=lambda stage: lowest[stage])


def _most(subnet: Subnet, importances: Sequence[Sequence[float]], narrowest: Sequence[int]) -> int:
    sums = _stages(subnet, importances, sum)
    return max(_wide(subnet, narrowest), key=lambda stage: sums[stage])


def _any_width(subnet: Subnet, importances: Sequence[Sequence[float]], narrowest: Sequence[int]) -> int:
    sums = _stages(subnet, importances, sum)
    return min(range(4), key=lambda stage: sums[stage])


def _widest(subnet: Subnet, importances: Sequence[Sequence[float]], narrowest: Sequence[int]) -> int:
    return max(_wide(subnet, narrowest), key=lambda stage: subnet.embed_dims[stage])


WIDTH_SLIPS: dict[str, Callable[..., int]] = {
    "You count MetaPaths that are I. A stage is worth the sum of those that are left.": _with_identities,
    "A stage is worth the sum of its MetaPaths, not their mean: one with many blocks is worth more.": _by_mean,
    "You look for the least important MetaPath. A width is the whole stage's, so its MetaPaths are summed.": _by_path,
    "You narrow the most important stage; the least important one is to lose channels.": _most,
    "You narrow a stage below the fewest channels that the table knows: it drops out of the choice.": _any_width,
    "You narrow the widest stage; the least important one is to lose channels.": _widest,
}


def _near(actual: Sequence[float] | Values, expected: Sequence[float] | Values) -> bool:
    return len(actual) == len(expected) and all(abs(a - b) < SLACK for a, b in zip(actual, expected, strict=True))


def _close(actual: Sequence[Any], expected: Sequence[float]) -> bool:
    return len(actual) == len(expected) and all(
        math.isclose(float(a), b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(actual, expected, strict=True)
    )


def _list(values: Sequence[float] | Values) -> str:
    return ", ".join(f"{float(value):.3g}" for value in values)


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
