"""Checks of chapter 8, latency-driven slimming: importance, two noises, width reduction, greedy and exhaustive search.

Paper: section 4.2, Eq. 7 and Algorithm 1, which is greedy; the paper mentions brute force, which may find better
networks. Each check has its own oracle: weights that are integers, probabilities from softmax and from an integral,
sums computed stage by stage, or searches in random tables with fixed seeds. Nothing is trained.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from operator import eq
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientformer_edu.exercises._check import (
    call,
    close,
    compare,
    describe,
    done,
    expect_items,
    listed,
    require,
    require_value_error,
)
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
    same = partial(close, rtol=1e-6, atol=1e-9)
    for stage in WEIGHTS:
        alphas = [[math.log(value) + shift for value in weights] for weights, shift in stage]
        result = call(importances, alphas)
        message = "Return the list of the MetaPaths' importances and the importance of the stage."
        expect_items(result, 2, message)
        require(isinstance(result[0], Sequence), message)
        paths, of_stage = list(result[0]), result[1]
        expected = [sum(weights[:-1]) / weights[-1] for weights, _ in stage]
        mistakes = {
            "You divide α itself. α is an exponent: adding a constant to all of a MetaPath's α changes no mixture, "
            "but it changes your ratio. The weight of a candidate is e^α.": [sum(a[:-1]) / a[-1] for a in alphas],
            "These are differences of α, the logarithms of the ratios.": [sum(a[:-1]) - a[-1] for a in alphas],
            "The ratio is upside down: the weight of the blocks is divided by the weight of I.": [
                1 / value for value in expected
            ],
            "You divide by the weights of all candidates. Divide by the weight of I alone.": [
                value / (1 + value) for value in expected
            ],
            "MB3D counts as well: in the last two stages the weights of both blocks are added.": [
                weights[0] / weights[-1] for weights, _ in stage
            ],
            "I is the last candidate; you divide by the first one.": [
                sum(weights[1:]) / weights[0] for weights, _ in stage
            ],
        }
        message = f"The importances are {listed(expected)}; you have {listed(paths)}."
        if len(paths) != len(expected):
            message = f"There are {len(expected)} MetaPaths, but you return {len(paths)} importances."
        compare(paths, expected, mistakes, message, same)
        operations = {"mean": fmean(expected), "product": math.prod(expected), "largest": max(expected)}
        totals = {
            f"The importance of a stage is the sum of its MetaPaths; you have their {name}.": total
            for name, total in operations.items()
        }
        total = sum(expected)
        message = f"The importance of the stage is {total:.4g}; you have {describe(of_stage)}."
        compare(of_stage, total, totals, message, same)
    done("the weight of the blocks relative to I, independent of constants added to α.")


def check_frequencies(frequencies: Callable[[Sequence[float], str, int], Sequence[float]]) -> None:
    """Compare with the softmax for Gumbel noise and with an integral for uniform noise."""
    for alpha in ALPHAS:
        values = np.array(alpha)
        softmax = np.exp(values) / np.exp(values).sum()
        expected = {"gumbel": softmax, "uniform": _uniform_chances(values)}
        for noise, chances in expected.items():
            answer = call(frequencies, list(alpha), noise, DRAWS)
            message = f"Return one frequency for each of {len(alpha)} candidates; got {describe(answer)}."
            require(close(answer, answer) and np.shape(answer) == (len(alpha),), message)
            rates = [float(rate) for rate in answer]
            require(
                abs(sum(rates) - 1) < 1e-4,
                f"Your frequencies sum to {sum(rates):.4g}, not 1: count how often each candidate is the largest, and "
                "divide by the draws.",
            )
            message = f"the frequencies are about {listed(chances)}; you have {listed(rates)}."
            mistakes = _noise_mistakes(values, noise, expected)
            same, at = partial(close, rtol=0, atol=SLACK), f"α {listed(alpha)}, {noise} noise: "
            compare(rates, chances, mistakes, message, same, at)
    done("Gumbel noise samples from softmax(α); uniform noise never selects a candidate that is 1 behind.")


def _uniform_chances(alpha: Values) -> Values:
    """Probability that each α + ε is the largest, ε uniform: integrate P(all others are smaller) over its own ε."""
    own = (np.arange(10_000) + 0.5) / 10_000
    others = [[np.clip(a + own - b, 0, 1) for j, b in enumerate(alpha) if j != i] for i, a in enumerate(alpha)]
    return np.array([np.prod(probabilities, axis=0).mean() for probabilities in others])


def _noise_mistakes(alpha: Values, noise: str, expected: Mapping[str, Values]) -> dict[str, Values]:
    """Frequencies that typical mistakes give, sampled independently of the learner's."""
    u = np.random.default_rng(1).random((DRAWS, len(alpha)))
    correct = u if noise == "uniform" else -np.log(-np.log(u))
    weights = np.exp(alpha + correct)

    def largest(values: Values) -> Values:
        return np.bincount(values.argmax(axis=1), minlength=len(alpha)) / DRAWS

    mistakes = {
        "the same candidate is the largest in every draw: each candidate needs noise of its own.": (
            np.eye(len(alpha))[int(alpha.argmax())]
        ),
        "you look for the smallest α + ε.": largest(-alpha - correct),
    }
    if noise == "uniform":
        return {**mistakes, "this is the result of Gumbel noise; here ε is u itself.": expected["gumbel"]}
    return mistakes | {
        "these are mean weights. Count how often each candidate is the largest.": (
            (weights / weights.sum(1, keepdims=True)).mean(0)
        ),
        "this is the result of uniform noise. Gumbel noise is −log(−log u).": expected["uniform"],
        "your noise is −log u, an exponential one: a second logarithm is missing.": largest(alpha - np.log(u)),
        "the sign of your noise: it is −log(−log u), with its long tail upwards.": largest(alpha - correct),
    }


def check_width_reduction(
    width_reduction: Callable[[Subnet, tuple[tuple[float, ...], ...], tuple[int, ...]], Subnet],
) -> None:
    """Compare with sums stage by stage. If no stage can shrink, a ValueError is expected."""
    answers, cases = list[Subnet](), _cases()
    for case in cases:
        answer = call(width_reduction, *case)
        require(isinstance(answer, Subnet), f"Return a Subnet; got {describe(answer)}.")
        answers.append(answer)
    dims = [answer.embed_dims for answer in answers]
    for message, mistake in WIDTH_MISTAKES.items():
        require(dims != [_narrowed(case[0], mistake(*case)) for case in cases], message)
    for answer, case in zip(answers, cases, strict=True):
        subnet = case[0]
        lost = [before - after for before, after in zip(subnet.embed_dims, answer.embed_dims, strict=True)]
        require(sum(map(bool, lost)) == 1, f"Exactly one stage loses 16 channels; yours lose {listed(lost)}.")
        expected = _narrowed(subnet, _select_stage(*case))
        require(
            answer.embed_dims == expected,
            f"From {subnet.embed_dims} the result must be {expected}; you have {answer.embed_dims}.",
        )
        require(answer.choices == subnet.choices, "Width reduction does not change the blocks.")
    subnet, importances, _ = cases[0]
    message = "If every stage has the smallest width in the table, raise a ValueError."
    require_value_error(message, width_reduction, subnet, importances, subnet.embed_dims)
    done("the action that Algorithm 1 calls width reduction.")


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


def _select_stage(
    subnet: Subnet,
    importances: Sequence[Sequence[float]],
    min_widths: Sequence[int],
    importance: Callable[[list[float]], float] = sum,
    with_identities: bool = False,
    any_width: bool = False,
    sign: int = 1,
) -> int:
    """The stage of least importance that can lose 16 channels; the options are common mistakes."""
    stages = [
        sign * importance([v for v, kind in zip(values, kinds, strict=True) if with_identities or kind != "I"])
        for values, kinds in zip(importances, subnet.choices, strict=True)
    ]
    allowed = [stage for stage in range(4) if any_width or subnet.embed_dims[stage] - 16 >= min_widths[stage]]
    return min(allowed, key=lambda stage: stages[stage])


def _widest(subnet: Subnet, importances: Sequence[Sequence[float]], min_widths: Sequence[int]) -> int:
    return max(range(4), key=lambda j: (subnet.embed_dims[j] - 16 >= min_widths[j], subnet.embed_dims[j]))


def _narrowed(subnet: Subnet, stage: int) -> tuple[int, ...]:
    return tuple(width - 16 * (index == stage) for index, width in enumerate(subnet.embed_dims))


WIDTH_MISTAKES: dict[str, Callable[..., int]] = {
    "You count MetaPaths that are I. The importance of a stage is the sum over its blocks.": (
        partial(_select_stage, with_identities=True)
    ),
    "The importance of a stage is the sum of its MetaPaths, not their mean: many blocks are worth more than one.": (
        partial(_select_stage, importance=fmean)
    ),
    "You look for the least important MetaPath. All MetaPaths of a stage have the same width, so sum them.": (
        partial(_select_stage, importance=min)
    ),
    "You narrow the most important stage; the least important one should lose channels.": (
        partial(_select_stage, sign=-1)
    ),
    "You narrow a stage below the smallest width in the table: such a stage cannot be selected.": (
        partial(_select_stage, any_width=True)
    ),
    "You narrow the widest stage; the least important one should lose channels.": _widest,
}


# Greedy against exhaustive search, with drops and gains that are additive and that are not

Actions = frozenset[str]
Amounts = Mapping[Actions, float]  # for each set of actions: points of accuracy, or milliseconds
Choose = Callable[[Amounts, Amounts, float], Actions]
Tables = tuple[dict[Actions, float], dict[Actions, float], float]  # drops, gains, target

NAMES = ("an MB4D of stage 1", "an MB4D of stage 3", "an MB3D of stage 3", "16 channels of stage 4")
TABLES = 400


def _greedy(
    drops: Amounts,
    gains: Amounts,
    target: float,
    cost: Callable[[Amounts, Amounts, Actions, Actions], float] = lambda drops, gains, before, after: (
        (drops[after] - drops[before]) / (gains[after] - gains[before])
    ),
    steps_back: int = 0,
) -> Actions:
    """Add the action of least cost until the target is reached; the options are common mistakes."""
    taken = [frozenset[str]()]
    while gains[taken[-1]] < target:
        candidates = [taken[-1] | {name} for name in NAMES if name not in taken[-1]]
        taken.append(min(candidates, key=lambda after: cost(drops, gains, taken[-1], after)))
    return taken[-1 - steps_back]


def _exhaustive(
    drops: Amounts,
    gains: Amounts,
    target: float,
    cost: Callable[[Amounts, Amounts, Actions], Any] = lambda drops, gains, actions: drops[actions],
) -> Actions:
    """The set of least cost that reaches the target; another cost is a common mistake."""
    return min((actions for actions in drops if gains[actions] >= target), key=lambda a: cost(drops, gains, a))


def _beyond(search: Choose, drops: Amounts, gains: Amounts, target: float) -> Actions:
    return search(drops, gains, math.nextafter(target, math.inf))


GREEDY_MISTAKES: dict[str, Choose] = {
    "Your greedy ranks actions by the effect of each alone, once. Drops do not add up: after each step, evaluate the "
    "remaining actions again.": partial(_greedy, cost=lambda d, g, a, b: d[b - a] / g[b - a]),
    "Your greedy takes the least drop, without regard to the gain. Divide by the milliseconds.": (
        partial(_greedy, cost=lambda d, g, a, b: d[b])
    ),
    "Your greedy takes the largest gain, without regard to the drop.": partial(_greedy, cost=lambda d, g, a, b: -g[b]),
    "Your greedy divides the whole drop by the whole gain. Take what the next action adds to both.": (
        partial(_greedy, cost=lambda d, g, a, b: d[b] / g[b])
    ),
    "Your greedy continues after the target is reached: a gain that equals it is enough.": partial(_beyond, _greedy),
    "Your greedy stops a step too early: the gain must reach the target.": partial(_greedy, steps_back=1),
    "Your greedy compares all sets. It should take one action after the other.": _exhaustive,
}
EXHAUSTIVE_MISTAKES: dict[str, Choose] = {
    "Your exhaustive search minimizes drop per millisecond. The target already limits the milliseconds; among "
    "the sets that reach it, the drop alone counts.": partial(_exhaustive, cost=lambda d, g, a: d[a] / g[a]),
    "Your exhaustive search leaves out sets that meet the target exactly.": partial(_beyond, _exhaustive),
    "Your exhaustive search forgets the target: the gain of a set must reach it.": (
        lambda drops, gains, target: _exhaustive(drops, gains, -math.inf)
    ),
    "Your exhaustive search takes the smallest set that reaches the target.": (
        partial(_exhaustive, cost=lambda d, g, a: (len(a), d[a]))
    ),
    "Your exhaustive search returns the result of greedy search. Compare all sets.": _greedy,
}


def check_greedy(greedy: Choose, exhaustive: Choose) -> None:
    """Compare with reference searches on tables of four actions; common mistakes get their own message."""
    tables = [_table(seed, adds_up=False) for seed in range(TABLES)]
    _check_search("greedy", greedy, _greedy, tables, GREEDY_MISTAKES)
    _check_search("exhaustive", exhaustive, _exhaustive, tables, EXHAUSTIVE_MISTAKES)
    additive = [_table(seed, adds_up=True) for seed in range(TABLES)]
    additive_rate, rate = (
        sum(_greedy(*table) != _exhaustive(*table) for table in group) / TABLES for group in (additive, tables)
    )
    done(f"greedy misses the best in {additive_rate:.0%} of tables that add up, in {rate:.0%} of the others.")


def _table(seed: int, adds_up: bool) -> Tables:
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


def _check_search(
    name: str, answer: Choose, reference: Choose, tables: Sequence[Tables], mistakes: Mapping[str, Choose]
) -> None:
    """Report a mistake if it gives the learner's answers in all tables, so that none is reported by chance."""
    answers = [call(answer, dict(drops), dict(gains), target) for drops, gains, target in tables]
    for actions in answers:
        message = f"{name} must return the set of the actions that it takes; got {describe(actions)}."
        require(isinstance(actions, set | frozenset), message)
    expected = [reference(*table) for table in tables]
    different = next((i for i, actions in enumerate(answers) if actions != expected[i]), 0)
    correct, actual = (_summary(frozenset(results[different]), tables[different]) for results in (expected, answers))
    wrong = {message: [mistake(*table) for table in tables] for message, mistake in mistakes.items()}
    compare(answers, expected, wrong, f"{name} should take {correct}; yours takes {actual}.", eq)


def _summary(actions: Actions, table: Tables) -> str:
    drops, gains, target = table
    if actions not in drops:
        return f"{sorted(actions)}, which is none of the sets"
    names = ", ".join(sorted(actions)) or "nothing"
    return f"{names} ({gains[actions]:.2f} of {target:.2f} ms for {drops[actions]:.2f} points)"
