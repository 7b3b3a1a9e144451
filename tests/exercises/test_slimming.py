"""Right answers pass, and mistakes that chapter 8 does not list are also named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from efficientformer_edu.exercises import slimming as checks
from efficientformer_edu.exercises._check import ExerciseError
from efficientformer_edu.slimming.subnet import Action, Noise, Subnet, actions, importance
from efficientformer_edu.slimming.supernet import NOISES, mixture

Alphas = Sequence[Sequence[float]]


def refused(check: Any, answer: Any, match: str) -> None:
    with pytest.raises(ExerciseError, match=match):
        check(answer)


def importances(alphas: Alphas) -> tuple[list[float], float]:
    """With the package, whose weights are those of a softmax."""
    paths = [importance(mixture(torch.tensor(alpha, dtype=torch.float64), 0.0, 1.0).tolist()) for alpha in alphas]
    return paths, sum(paths)


def frequencies(alpha: Sequence[float], noise: Noise, draws: int) -> Any:
    """With the package's own noise; returns a tensor."""
    values = torch.tensor(alpha).expand(draws, -1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        winners = (values + NOISES[noise](values)).argmax(1)
    return torch.bincount(winners, minlength=len(alpha)) / draws


def width_reduction(subnet: Subnet, worth: tuple[tuple[float, ...], ...], narrowest: tuple[int, ...]) -> Subnet:
    """As in the package."""
    reductions = [action for action in actions(subnet, worth, narrowest) if action.kind == "width"]
    if not reductions:
        raise ValueError("as narrow as it gets")
    return subnet.after(reductions[0])


def test_right_answers_pass(capsys: pytest.CaptureFixture[str]) -> None:
    checks.check_importances(importances)
    checks.check_frequencies(frequencies)
    checks.check_width_reduction(width_reduction)
    assert capsys.readouterr().out.count("Well done") == 3


def paths(change: Any) -> Any:
    """An answer whose importances are computed from each MetaPath's α."""

    def answer(alphas: Alphas) -> tuple[list[float], float]:
        changed = [change(list(alpha)) for alpha in alphas]
        return changed, sum(changed)

    return answer


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (paths(lambda a: sum(a[:-1]) - a[-1]), "the logarithms of the ratios"),
        (paths(lambda a: math.exp(a[-1]) / sum(map(math.exp, a[:-1]))), "upside down"),
        (paths(lambda a: 1 - math.exp(a[-1]) / sum(map(math.exp, a))), "the weight of I alone"),
        (paths(lambda a: sum(map(math.exp, a[1:])) / math.exp(a[0])), "you divide by the first one"),
        (paths(lambda a: 7.0), "The importances are 1, 3.5, 0.5; you have 7, 7, 7"),
        (lambda alphas: (importances(alphas)[0][:1], 1.0), "3 MetaPaths, but you return 1 importances"),
        (lambda alphas: (importances(alphas)[0], max(importances(alphas)[0])), "you have their largest"),
        (lambda alphas: (importances(alphas)[0], math.prod(importances(alphas)[0])), "you have their product"),
        (lambda alphas: (importances(alphas)[0], 0.1), "importance of the stage is 5; you have 0.1"),
        (lambda alphas: 2.0, "Return the list of the MetaPaths' importances"),
        (lambda alphas: importances(alphas)[0], "Return the list of the MetaPaths' importances"),
    ],
)
def test_wrong_importances_are_named(answer: Any, match: str) -> None:
    refused(checks.check_importances, answer, match)


def uniform_samples(alpha: Sequence[float], draws: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(9).random((draws, len(alpha)))


def won(values: np.ndarray[Any, Any]) -> list[float]:
    return list(np.bincount(values.argmax(1), minlength=values.shape[1]) / len(values))


def as_gumbel(alpha: Sequence[float], noise: str, draws: int) -> list[float]:
    return won(np.array(alpha) - np.log(-np.log(uniform_samples(alpha, draws))))


def as_uniform(alpha: Sequence[float], noise: str, draws: int) -> list[float]:
    return won(np.array(alpha) + uniform_samples(alpha, draws))


def upside_down(alpha: Sequence[float], noise: str, draws: int) -> list[float]:
    return won(np.array(alpha) + np.log(-np.log(uniform_samples(alpha, draws))))


def smallest(alpha: Sequence[float], noise: str, draws: int) -> list[float]:
    return won(np.log(-np.log(uniform_samples(alpha, draws))) - np.array(alpha))


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (as_gumbel, "this is the result of Gumbel noise"),
        (as_uniform, "this is the result of uniform noise"),
        (upside_down, "the sign of your noise"),
        (smallest, "you look for the smallest"),
        (lambda alpha, noise, draws: [1 / len(alpha)] * len(alpha), "the frequencies are about"),
        (
            lambda alpha, noise, draws: [draws * frequency for frequency in as_gumbel(alpha, noise, draws)],
            "divide by the draws",
        ),
        (lambda alpha, noise, draws: [0.5, 0.5], "one frequency for each of 3 candidates"),
        (lambda alpha, noise, draws: 0.5, "one frequency for each of 3 candidates"),
        (lambda alpha, noise, draws: "often", "one frequency for each of 3 candidates"),
    ],
)
def test_wrong_frequencies_are_named(answer: Any, match: str) -> None:
    refused(checks.check_frequencies, answer, match)


@pytest.mark.parametrize("alpha", checks.ALPHAS)
def test_the_chances_of_uniform_noise_are_those_of_many_draws(alpha: tuple[float, ...]) -> None:
    values = np.array(alpha)
    chances = checks._uniform_chances(values)
    counted = won(values + np.random.default_rng(2).random((200_000, len(alpha))))
    assert chances == pytest.approx(counted, abs=0.006)
    assert chances.sum() == pytest.approx(1, abs=1e-4)
    behind = values <= values.max() - 1
    assert not chances[behind].any() and chances[~behind].all()


@pytest.mark.parametrize("alpha", checks.ALPHAS)
def test_mistakes_for_the_same_noise_differ_by_more_than_the_tolerance(alpha: tuple[float, ...]) -> None:
    """If two mistakes give the same result, the wrong one could be named; for some α they all differ."""
    values = np.array(alpha)
    soft = np.exp(values) / np.exp(values).sum()
    expected = {"gumbel": soft, "uniform": checks._uniform_chances(values)}
    if len(alpha) == 3:
        for noise, right in expected.items():
            answers = [right, *checks._noise_mistakes(values, noise, expected).values()]
            apart = [max(abs(a - b)) for i, a in enumerate(answers) for b in answers[:i]]
            assert min(apart) > 2 * checks.SLACK


def by(choose: Any) -> Any:
    """An answer that narrows the stage selected by `choose`."""

    def answer(subnet: Subnet, worth: Any, narrowest: Any) -> Subnet:
        return subnet.after(Action("width", choose(subnet, worth, narrowest)))

    return answer


@pytest.mark.parametrize("sentence", checks.WIDTH_MISTAKES)
def test_every_mistake_in_width_reduction_is_named_correctly(sentence: str) -> None:
    refused(checks.check_width_reduction, by(checks.WIDTH_MISTAKES[sentence]), sentence[:60])


def without_error(subnet: Subnet, worth: Any, narrowest: Any) -> Subnet:
    try:
        return width_reduction(subnet, worth, narrowest)
    except ValueError:
        return subnet


def twice(subnet: Subnet, worth: Any, narrowest: Any) -> Subnet:
    once = width_reduction(subnet, worth, narrowest)
    return width_reduction(once, worth, (16,) * 4)


def another_block(subnet: Subnet, worth: Any, narrowest: Any) -> Subnet:
    once = width_reduction(subnet, worth, narrowest)
    return replace(once, choices=(("MB4D",), *once.choices[1:]))


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (without_error, "raise a ValueError"),
        (
            lambda subnet, *_: replace(subnet, embed_dims=tuple(w - 16 for w in subnet.embed_dims)),
            "Exactly one stage loses",
        ),
        (lambda subnet, *_: replace(subnet, embed_dims=tuple(w - 1 for w in subnet.embed_dims)), "raised ValueError"),
        (by(lambda *_: 0), "the result must be"),
        (twice, "the result must be"),
        (another_block, "does not change the blocks"),
        (lambda subnet, *_: subnet.embed_dims, "Return a Subnet"),
    ],
)
def test_a_wrong_width_reduction_is_named(answer: Any, match: str) -> None:
    refused(checks.check_width_reduction, answer, match)


def test_the_cases_of_width_reduction_have_a_unique_answer() -> None:
    for subnet, worth, narrowest in checks._cases():
        stages = zip(subnet.embed_dims, narrowest, worth, subnet.choices, strict=True)
        able = [
            sum(importance for importance, kind in zip(some, kinds, strict=True) if kind != "I")
            for width, least, some, kinds in stages
            if width - 16 >= least
        ]
        assert all(b - a > 0.05 for a, b in pairwise(sorted(able)))
