"""Checks for chapter 7, ablations: pairing, bootstrap, two standard errors, multiple testing, and a variant.

Paper: section 3 and Appendix B. Each check has its own oracle: pairs made by hand, all resamples of a few numbers, sums
of squares, all patterns of signs, or the maximum of nine shifted feature maps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from statistics import fmean

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from efficientformer_edu.exercises._check import (
    call,
    close,
    compare,
    describe,
    done,
    expect_items,
    expect_shape,
    listed,
    require,
)
from efficientformer_edu.model import MB3D, MB4D, EfficientFormer
from efficientformer_edu.model.mixers import Attention
from efficientformer_edu.training.small import SMALL

BASE = {0: 0.81, 1: 0.84, 2: 0.82, 3: 0.85, 4: 0.83}
CHANGED = {4: 0.82, 0: 0.80, 7: 0.90, 2: 0.82, 1: 0.85}  # in a different order, with a seed that the base does not have
SAMPLES = ((-0.4, -0.1, 0.2, -0.7, -0.3), (1.0, 2.0, 4.0), (0.3, 0.3, 0.3, 0.3), (-2.0, 5.0, 1.0, 0.5))
same = partial(close, rtol=1e-6, atol=1e-9)
NETWORK = SMALL.replace(depths=(1, 2, 1, 3), embed_dims=(8, 16, 16, 16), num_vit=2)


def check_differences(differences: Callable[[Mapping[int, float], Mapping[int, float]], Sequence[float]]) -> None:
    """Compare with pairs made by hand, and identify common pairing mistakes."""
    got = list(call(differences, CHANGED, BASE))
    changed, base = list(CHANGED.values()), list(BASE.values())
    expected = [CHANGED[seed] - BASE[seed] for seed in (0, 1, 2, 4)]
    unpaired = [[CHANGED[seed] - BASE.get(seed, other) for seed in (0, 1, 2, 4, 7)] for other in (0.0, fmean(base))]
    mistakes = {
        "You pair by position in the dictionary. Runs are pairs if they have the same seed, in any order.": [
            a - b for a, b in zip(changed, base, strict=True)
        ],
        "You pair sorted values, so you pair by position. Runs are pairs if they have the same seed.": [
            a - b for a, b in zip(sorted(changed), sorted(base), strict=True)
        ],
        "The sign: a difference is the changed network minus the base, so that below 0 is worse.": [
            -value for value in expected
        ],
        "Seed 7 was trained with only one of the two. It has no pair, so it is left out.": (
            got if any(same(got, answer) for answer in unpaired) else None
        ),
        "The pairs are correct, but not in the order of the seeds.": [
            CHANGED[seed] - BASE[seed] for seed in CHANGED if seed in BASE
        ],
        "A difference has a sign; yours are all positive.": [abs(value) for value in expected],
    }
    message = f"The differences are {listed(expected)}; you have {listed(got)}."
    if len(got) != len(expected):
        message = f"{len(expected)} seeds were trained with both; you have {len(got)} differences."
    compare(got, expected, mistakes, message, same)
    done("an effect of the seed on both runs cancels in their difference.")


def check_bootstrap(bootstrap: Callable[[Sequence[float], float], tuple[float, float]]) -> None:
    """Compare with the means of all resamples with replacement, of three, four and five numbers."""
    for values, level in product(SAMPLES, (0.95, 0.5)):
        got = call(bootstrap, list(values), level)
        at = f"Of {describe(list(values))} at a level of {level:g}: "
        expect_items(got, 2, f"{at}return two ends.")
        means = [fmean(sample) for sample in product(values, repeat=len(values))]
        expected, tail = _ends(means, level), 1 - level
        mistakes = {
            "you take the quantiles of the differences. An interval for the mean comes from the means of the draws.": (
                _ends(values, level)
            ),
            "you draw without replacement. Then every draw contains all values, and every mean is the same.": (
                (fmean(values), fmean(values))
            ),
            "you leave out 1 − level on each side; that is twice as much. Half of it belongs on each.": (
                _ends(means, 1 - 2 * tail)
            ),
            "you leave out nothing: these are the smallest and the largest mean.": (min(means), max(means)),
            "the lower end comes first.": (expected[1], expected[0]),
            "you leave out all on one side.": (min(means), float(np.quantile(means, level))),
        }
        compare(got, expected, mistakes, f"the ends are {listed(expected)}; you have {listed(got)}.", same, at)
    done("an interval out of five numbers, without assuming a distribution.")


def check_errors(errors: Callable[[Sequence[float], Sequence[float]], tuple[float, float]]) -> None:
    """Compare with sums of squares, for positively and negatively correlated runs and for a constant difference."""
    base = [81.0, 84.0, 82.0, 85.0, 83.0]
    for changed in ([82.0, 84.5, 82.5, 86.5, 83.5], [84.0, 82.0, 83.5, 81.0, 83.0], [83.0, 86.0, 84.0, 87.0, 85.0]):
        got = call(errors, changed, base)
        at = f"With {listed(changed)} and {listed(base)}: "
        expect_items(got, 2, f"{at}return two errors.")
        count, pairs = len(base), [a - b for a, b in zip(changed, base, strict=True)]
        a, b, paired = (_spread(values) for values in (changed, base, pairs))
        root = math.sqrt(count)
        expected = paired / root, math.hypot(a, b) / root
        few = math.sqrt((count - 1) / count)
        mistakes = {
            "these are deviations of single runs. The mean of n runs has the deviation divided by √n.": (
                (paired, math.hypot(a, b))
            ),
            "you divide by n. Squares average as 1/n, so the error itself shrinks as 1/√n.": (
                (paired / count, math.hypot(a, b) / count)
            ),
            "the squares are divided by n − 1, not n: the mean was estimated from the same values.": (
                (few * expected[0], few * expected[1])
            ),
            "independent errors add as squares, √(a² + b²); you add the errors themselves.": (
                (expected[0], (a + b) / root)
            ),
            "independent errors add even where values are subtracted; you take their difference.": (
                (expected[0], abs(a - b) / root)
            ),
            "the two are exchanged: the paired error comes first.": (expected[1], expected[0]),
        }
        compare(got, expected, mistakes, f"the errors are {listed(expected)}; you have {listed(got)}.", same, at)
    done("pairing pays where a seed moves both runs the same way, and only there.")


def check_chance(chance: Callable[[int, int], tuple[float, float]]) -> None:
    """Compare with a count of all sign patterns, and with a product over rows of the chance of no verdict."""
    for rows, pairs in ((1, 5), (19, 5), (40, 5), (19, 3), (8, 10)):
        got = call(chance, rows, pairs)
        at = f"{rows} rows of {pairs} pairs: "
        expect_items(got, 2, f"{at}return two numbers.")
        patterns = list(product((-1, 1), repeat=pairs))
        single = sum(abs(sum(pattern)) == pairs for pattern in patterns) / len(patterns)
        escape = 1.0
        for _ in range(rows):
            escape *= 1 - single
        expected = rows * single, 1 - escape
        mistakes = {
            "you count one side. All above 0 and all below 0 are both a verdict.": (
                (rows * single / 2, 1 - (1 - single / 2) ** rows)
            ),
            "chances of rows do not add up: for many rows your second number is above 1. "
            "Compute how likely it is that no row has a verdict.": (expected[0], expected[0]),
            "that is the chance that no row has a verdict; at least one is 1 minus it.": (expected[0], escape),
            "that is the chance that every row has a verdict.": (expected[0], single**rows),
        }
        message = f"the correct values are {listed(expected)}; you have {listed(got)}."
        compare(got, expected, mistakes, message, same, at)
    done("with nineteen rows, one or two verdicts from chance alone are to be expected.")


def check_max_pooling(mixer: Callable[[], nn.Module], change: Callable[[EfficientFormer], object]) -> None:
    """Compare the mixer with the maximum of nine shifted feature maps, and the changed network with the original."""
    _check_mixer(mixer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = EfficientFormer(NETWORK)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    try:
        change(network)
    except NotImplementedError:
        require(False, "max_pooling is not done yet.")
    maps = [block.token_mixer for block in network.modules() if isinstance(block, MB4D)]
    tokens = [block.token_mixer for block in network.modules() if isinstance(block, MB3D)]
    changed = sum(type(module).__name__ == getattr(mixer, "__name__", "") for module in maps)
    require(
        changed,
        "The network still has its own mixers. A change is made in place: the caller keeps this network.",
    )
    require(
        all(isinstance(module, Attention) for module in tokens),
        "You exchanged attention as well. Change one thing at a time: only the pooling of MB4D.",
    )
    require(changed == len(maps), f"{changed} of {len(maps)} MB4D have the new mixer. All stages have some.")
    after = network.state_dict()
    require(
        before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before),
        "The weights differ from before. Exchange the mixer alone: a new block would start from different weights.",
    )
    done("one change, the same initial weights: a variant that could be added to the table.")


def _check_mixer(mixer: Callable[[], nn.Module]) -> None:
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0)) - 1  # mostly below 0
    got = call(call(mixer), x)
    expect_shape(got, (2, 3, 5, 6), "A token mixer keeps the size of the map.")
    padded = F.pad(x, (1, 1, 1, 1), value=-math.inf)
    shifted = [padded[:, :, top : top + 5, left : left + 6] for top in range(3) for left in range(3)]
    highest = torch.stack(shifted).amax(0)
    with_zeros = torch.stack([torch.where(shift.isinf(), 0.0, shift) for shift in shifted]).amax(0)
    mean = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    mistakes = {
        "Pool(x) − x is missing its − x. MB4D adds x again, so it would count twice.": highest,
        "It is Pool(x) − x, and you have x − Pool(x).": x - highest,
        "You pad with zeros. Where a map is below 0 they are the maximum at every border.": with_zeros - x,
        "That is the mean over the neighbourhood, as before; here it should be the maximum.": mean - x,
    }
    message = "The mixer is the maximum of a pixel and its eight neighbours, minus the pixel itself."
    compare(got, highest - x, mistakes, message)


def _ends(values: Sequence[float], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]) if level > 0 else (math.nan, math.nan)
    return float(low), float(high)


def _spread(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
