"""Checks for chapter 1, latency: interleaved timing, a paired interval, layer norm folding, and copies.

Paper: section 3. No check measures real time: machines and rounds are simulated, so the answers do not depend on the
machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu.exercises._check import (
    call,
    close,
    compare,
    describe,
    done,
    expect_items,
    require,
    require_value,
)

Subjects = Mapping[str, Callable[[], object]]
Step = Callable[[Tensor], Tensor]


class Machine:
    """A simulated machine: its clock counts the work of its subjects, and each call is slower than the last.

    Args:
        slower: relative slowdown per call.
        first: extra seconds for a subject's first call.
    """

    def __init__(self, slower: float = 0.0, first: float = 0.0) -> None:
        self.slower, self.first, self.now = slower, first, 0.0
        self.calls: list[str] = []

    def clock(self) -> float:
        """Seconds since the machine was created."""
        return self.now

    def subject(self, name: str, seconds: float) -> Callable[[], None]:
        """A function that takes `seconds` on a new machine."""

        def run() -> None:
            self.now += seconds * (1 + self.slower * len(self.calls)) + self.first * (name not in self.calls)
            self.calls.append(name)

        return run


def check_interleaved(interleaved: Callable[[Subjects, int, int, Callable[[], float]], Any]) -> None:
    """Run the timer on a machine that slows down, and compare calls and samples with those of the machine."""
    for works, rounds, warm_up in (({"A": 1.0, "B": 1.0}, 5, 1), ({"A": 2.0, "B": 0.5, "C": 1.0}, 4, 2)):
        machine = Machine(slower=0.05, first=8.0)
        subjects = {name: machine.subject(name, seconds) for name, seconds in works.items()}
        answer = call(interleaved, subjects, rounds, warm_up, machine.clock)
        require(
            isinstance(answer, Mapping) and list(answer) == list(works),
            f"interleaved returns a dictionary with the samples of {', '.join(works)}; got {describe(answer)}.",
        )
        samples = {name: list(values) for name, values in answer.items() if isinstance(values, Sequence)}
        require(len(samples) == len(works), "interleaved returns a list for each subject: every sample, not the mean.")
        _check_calls(machine.calls, works, rounds, warm_up, samples)
        _check_samples(machine, works, rounds, samples)
    done("a slowdown of the machine affects all subjects equally, so the ratio stays the same.")


def _check_calls(
    calls: list[str], works: Mapping[str, float], rounds: int, warm_up: int, samples: Mapping[str, Sequence[float]]
) -> None:
    timed = rounds * len(works)
    require(
        len(calls) != timed or warm_up == 0,
        "The warm-up is missing: the first call of each subject is slower, and it is among your samples.",
    )
    require(
        len(calls) == timed + warm_up * len(works),
        f"{rounds} rounds of {len(works)} subjects and {warm_up} for warm-up are "
        f"{timed + warm_up * len(works)} calls; you made {len(calls)}.",
    )
    in_a_row = [name for name in works for _ in range(rounds)]
    by_subject = [name for name in works for _ in range(rounds + warm_up)]
    if in_a_row == calls[-timed:] or calls == by_subject:
        first, second = list(works)[:2]
        seems = median(samples[second][-rounds:]) / median(samples[first][-rounds:])
        truly = works[second] / works[first]
        require(
            False,
            f"You run all rounds of one subject in a row. This machine slows down from call to call, so {second} seems "
            f"to take {seems:.2f} times as long as {first}; it does {truly:.2f} times the work.",
        )
    require(
        calls[-timed:] == list(works) * rounds,
        f"A round runs every subject once, in the order given; your calls were {' '.join(calls)}.",
    )


def _check_samples(machine: Machine, works: Mapping[str, float], rounds: int, samples: Mapping[str, Any]) -> None:
    warm_up_calls = len(machine.calls) - rounds * len(works)
    for i, (name, seconds) in enumerate(works.items()):
        at = [warm_up_calls + i + number * len(works) for number in range(rounds)]  # timed calls of this subject
        times = [seconds * (1 + machine.slower * number) for number in at]
        got = samples[name]
        require(len(got) <= rounds, f"{name} has {len(got)} samples in {rounds} rounds: the warm-up does not count.")
        require(len(got) == rounds, f"{name} has {len(got)} samples, but there were {rounds} rounds.")
        require(
            i == 0 or got[0] < times[0] + 1e-9,
            f"A sample of {name} includes the time of the subjects before it: read the clock right before each call.",
        )
        require(
            close(got, times),
            f"The calls of {name} took {times[0]:.2f} s, {times[1]:.2f} s, ...; you have {got[0]:.2f}, {got[1]:.2f}.",
        )


def check_ratio_interval(ratio_interval: Callable[[Any, Any, Any], Any]) -> None:
    """Compare with the interval of simulated rounds with shared noise, and identify common mistakes."""
    for seed, factor in ((0, 1.1), (1, 0.8), (2, 1.0)):
        random = np.random.default_rng(seed)
        shared = np.exp(random.normal(0, 0.3, 21))  # noise that affects both members of a pair
        b = 0.010 * shared
        a = factor * b * np.exp(random.normal(0, 0.05, 21))
        draws = random.integers(21, size=(400, 21))  # (draws, rounds)
        got = call(ratio_interval, a, b, draws)
        expect_items(got, 3, "Return (median, low, high).")
        require(got[1] <= got[2], "The low end is above the high end.")
        ratios, resampled = a / b, np.median((a / b)[draws], axis=1)
        ratio_of_medians = np.median(a) / np.median(b)
        middle, tails = float(np.median(ratios)), [0.025, 0.975]
        expected = (middle, *np.quantile(resampled, tails))
        medians = np.median(a[draws], axis=1) / np.median(b[draws], axis=1)
        mistakes = {
            "Divide first, round by round, and resample then: a median of a and a median of b come from different "
            "rounds.": (ratio_of_medians, *np.quantile(medians, tails)),
            "Divide first, round by round: the middle is the median of the ratios, not the ratio of the medians.": (
                (ratio_of_medians, *expected[1:])
            ),
            "That is the spread of single rounds. The interval is about their median: resample the rounds, and take "
            "the median of each draw.": (middle, *np.quantile(ratios, tails)),
            "You take means; a single disturbed round can move a mean arbitrarily far.": (
                (ratios.mean(), *np.quantile(ratios[draws].mean(axis=1), tails))
            ),
            "These are the smallest and the largest median of all draws; leave out 2.5 % at either end.": (
                (middle, resampled.min(), resampled.max())
            ),
        }
        message = (
            f"The interval is {expected[0]:.3f} ({expected[1]:.3f} to {expected[2]:.3f}); "
            f"you have {got[0]:.3f} ({got[1]:.3f} to {got[2]:.3f})."
        )
        compare(got, expected, mistakes, message)
    done("pairs stay pairs, and disturbances of both cancel.")


def check_fold_affine(fold_affine: Callable[[nn.LayerNorm, nn.Linear], nn.Linear]) -> None:
    """Compare the folded linear layer, applied after plain normalization, with the original two layers."""
    torch.manual_seed(0)
    for inputs, outputs in ((6, 6), (6, 9), (8, 3)):
        norm, linear = nn.LayerNorm(inputs).double(), nn.Linear(inputs, outputs).double()
        with torch.no_grad():
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(0.5, 2)
        before = [parameter.detach().clone() for parameter in (*norm.parameters(), *linear.parameters())]
        gamma, beta, weight, bias = before
        folded = call(fold_affine, norm, linear)
        require(isinstance(folded, nn.Linear), f"Return a linear layer; got {describe(folded)}.")
        after = (*norm.parameters(), *linear.parameters())
        require(
            all(torch.equal(old, new) for old, new in zip(before, after, strict=True)),
            "You have changed the layers of the caller: fold into a new linear layer.",
        )
        got = require_value(folded.bias, "the bias of the folded layer")
        require(folded.weight.shape == weight.shape, f"The weight has the wrong shape; expected {tuple(weight.shape)}.")
        square, scaled = inputs == outputs, weight * gamma
        rows = {
            "γ multiplies the inputs of the linear layer: its columns. You scale the rows, its outputs.": (
                weight * gamma[:, None] if square else None
            ),
        }
        compare(folded.weight, scaled, rows, "Column j of the weight must be multiplied by γ_j.")
        mistakes = {
            "β comes before the linear layer and passes through it: the bias becomes b + W·β, not b + β.": (
                bias + beta if square else None
            ),
            "The norm's offsets β are lost: their contribution after the linear layer belongs in its bias.": bias,
            "β is added after γ has multiplied: it is multiplied by the original weight, not by the scaled one.": (
                bias + scaled @ beta
            ),
        }
        compare(got, bias + weight @ beta, mistakes, "The bias must be b + W·β.")
        x = torch.randn(5, inputs, dtype=torch.float64)
        normalized = F.layer_norm(x, (inputs,), eps=norm.eps)
        require(close(folded(normalized), linear(norm(x))), "The outputs of the folded layer differ from the original.")
    done("the factors and offsets fold forward; mean and variance of each token remain to be computed.")


def check_bytes_copied(bytes_copied: Callable[[Sequence[Step], Tensor], int]) -> None:
    """Apply chains of layout changes whose views and copies are known."""
    x = torch.arange(2 * 6 * 4 * 4, dtype=torch.float32).reshape(2, 6, 4, 4)
    flat, swap, dense = (lambda t: t.flatten(2)), (lambda t: t.transpose(1, 2)), (lambda t: t.contiguous())
    back = lambda t: t.transpose(1, 2).reshape(2, 6, 4, 4)  # noqa: E731
    half = lambda t: t[1:]  # noqa: E731
    again = lambda t: t.flatten()  # noqa: E731
    size = x.numel() * 4
    chains: tuple[tuple[str, tuple[Step, ...], Tensor, int], ...] = (
        ("flatten, transpose", (flat, swap), x, 0),
        ("flatten, transpose, contiguous", (flat, swap, dense), x, size),
        ("to tokens in a copy, and back as a view", (flat, swap, dense, back), x, size),
        ("to tokens and back, a copy each", (flat, swap, dense, back, dense), x, 2 * size),
        ("contiguous, of a contiguous tensor", (dense, dense), x, 0),
        ("transpose, flatten", (swap, again), x, size),
        ("half of the batch", (half,), x, 0),
        ("half of the batch, transpose, contiguous", (half, swap, dense), x, size // 2),
        ("transpose, contiguous, in bfloat16", (swap, dense), x.bfloat16(), size // 2),
        ("one column expanded to 4", (lambda t: t[..., :1].expand(2, 6, 4, 4),), x, 0),
    )
    for name, steps, start, expected in chains:
        got, at = call(bytes_copied, steps, start.clone()), f"For {name} of {tuple(start.shape)}"
        require(
            not (expected == 0 and got) or "half" not in name,
            f"{at} you find a copy. A part of a tensor begins at another address, but in the same storage.",
        )
        require(
            not (expected == 0 and got),
            f"{at} you count {describe(got)} bytes. These are views: other strides, no copy.",
        )
        require(got * start.element_size() != expected or not expected, f"{at} you count elements, not bytes.")
        require(
            got <= expected,
            f"{at} you count {describe(got)} bytes, not {expected}: compare each step with the step before it, "
            "not with the first tensor, and count only copies.",
        )
        require(got == expected, f"{at} {expected} bytes are copied; you count {describe(got)}.")
    done("views cost nothing; a copy costs time for every byte.")
