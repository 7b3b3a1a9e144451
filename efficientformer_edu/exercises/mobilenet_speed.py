"""Checks for chapter 5: more ways to fold, ratios under equal conditions, and latency from a lookup table.

Paper: section 3 (observation 3), Table 1, and section 4.2, where a lookup table gives the latency of a network. No
check measures time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu.exercises._check import ExerciseError, call, describe, done, expect_shape, require

Condition = tuple[str, int, int]  # engine, batch, threads
BlockTable = Mapping[tuple[str, int], Mapping[int, float]]  # (kind, stage) -> milliseconds by width


def check_fold_before(fold_before: Callable[[nn.BatchNorm2d, nn.Conv2d], nn.Conv2d]) -> None:
    """Fold a batch norm into the convolution after it without padding; with padding, an error is expected."""
    torch.manual_seed(0)
    for kernel, stride, outputs in ((1, 1, 5), (3, 1, 5), (3, 2, 4), (2, 2, 7)):
        norm, conv = _norm(5), nn.Conv2d(5, outputs, kernel, stride).double()
        before = [tensor.clone() for tensor in (*norm.state_dict().values(), *conv.state_dict().values())]
        folded = call(fold_before, norm, conv)
        require(isinstance(folded, nn.Conv2d), f"Return a convolution; {describe(folded)} came.")
        after = (*norm.state_dict().values(), *conv.state_dict().values())
        require(
            all(torch.equal(old, new) for old, new in zip(before, after, strict=True)),
            "You have changed the layers that were given: fold into a new convolution.",
        )
        _check_folded(folded, norm, conv)
    for padding in (1, (0, 1)):
        try:
            call(fold_before, _norm(5), nn.Conv2d(5, 5, 3, padding=padding).double())
        except ExerciseError as error:
            require(isinstance(error.__cause__, ValueError), str(error))
        else:
            raise ExerciseError(
                "With padding the fold is not exact: the zeros come behind the norm, where a place outside of the map "
                "has no offset. Raise a ValueError."
            )
    done("a norm in front folds, too, as long as no zero is set beside what it has shifted.")


def _norm(channels: int) -> nn.BatchNorm2d:
    """A batch norm in evaluation mode without values of 0 or 1."""
    norm = nn.BatchNorm2d(channels).double().eval()
    for name, tensor in norm.state_dict().items():
        if name != "num_batches_tracked":
            tensor.copy_(torch.rand(channels, dtype=tensor.dtype) + 1.5)
    return norm


def _check_folded(folded: nn.Conv2d, norm: nn.BatchNorm2d, conv: nn.Conv2d) -> None:
    """Check weight, bias and outputs of the folded convolution, and identify common mistakes."""
    numbers = norm.state_dict()
    factor = numbers["weight"] / (numbers["running_var"] + norm.eps).sqrt()  # (C,)
    offset = numbers["bias"] - factor * numbers["running_mean"]
    weight, bias = conv.state_dict().values()
    shape = tuple(weight.shape)
    expect_shape(folded.weight, shape, "The folded convolution has the weight of the one before, scaled.")
    folded_state = folded.state_dict()
    require("bias" in folded_state, "The convolution has a bias; the bias of the folded convolution is missing.")
    got, got_bias = folded_state["weight"].double(), folded_state["bias"].double()
    if shape[0] == shape[1]:
        require(
            not torch.allclose(got, weight * factor[:, None, None, None]),
            "The norm stands before the convolution: its factors multiply the inputs, axis 1 of the weight. You scale "
            "the outputs, axis 0.",
        )
    require(torch.allclose(got, weight * factor[:, None, None]), "Axis 1 of the weight is to be scaled by γ / √(σ²+ε).")
    taps = weight.sum((2, 3))  # (outputs, C)
    slips = {
        "What the norm adds is lost: each output sees it through its whole kernel, and it belongs into the bias.": bias,
        "An offset passes through all places of the kernel, not through its middle alone: sum the weight over them.": (
            bias + weight[:, :, shape[2] // 2, shape[3] // 2] @ offset
        ),
        "What the norm adds to a channel is β − γ μ / √(σ²+ε), not β alone: the mean is taken off first.": (
            bias + taps @ numbers["bias"]
        ),
        "The offset is added behind the factor: it meets the weight as it was, not the scaled one.": (
            bias + (taps * factor) @ offset
        ),
    }
    right = bias + taps @ offset
    for sentence, slip in slips.items():
        require(not torch.allclose(got_bias, slip) or torch.allclose(slip, right), sentence)
    require(torch.allclose(got_bias, right), "The bias is to become b plus the offsets through the whole kernel.")
    x = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    expected, outputs = conv(norm(x)), call(folded, x)
    require(
        outputs.shape == expected.shape and torch.allclose(outputs, expected),
        "Weight and bias are right, but the outputs differ: give the new convolution the stride of the old one.",
    )


def check_pooling_kernel(pooling_kernel: Callable[[Tensor], Tensor]) -> None:
    """Compare a depthwise convolution with x + γ (Pool(x) − x) away from the border."""
    torch.manual_seed(0)
    for channels in (1, 4):
        gamma = torch.rand(channels, dtype=torch.float64) + 0.5
        kernel = call(pooling_kernel, gamma.clone())
        expect_shape(kernel, (channels, 1, 3, 3), "A depthwise kernel has one filter of 3×3 for each channel.")
        kernel = kernel.detach().double()
        pool, middle = gamma / 9, kernel[:, 0, 1, 1]
        around = kernel.flatten(1)[:, [0, 1, 2, 3, 5, 6, 7, 8]]
        require(
            not torch.allclose(around, torch.full_like(around, 1 / 9)),
            "Each neighbour's weight is 1/9 in your kernel: γ multiplies what pooling gives.",
        )
        require(
            torch.allclose(around, pool[:, None].expand_as(around)), "The eight neighbours have the weight γ/9 each."
        )
        require(not torch.allclose(middle, pool), "This is γ Pool(x) alone: x is added, and taken off inside of γ.")
        require(
            not torch.allclose(middle, pool - gamma),
            "This is the branch γ (Pool(x) − x) alone: the residual adds 1 in the middle.",
        )
        require(
            not torch.allclose(middle, 1 + pool),
            "This is x + γ Pool(x), as in Eq. 4: the released code takes x off inside of γ.",
        )
        x = torch.randn(2, channels, 5, 6, dtype=torch.float64)
        pooled = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        expected = x + gamma[:, None, None] * (pooled - x)
        outputs = F.conv2d(x, kernel, padding=1, groups=channels)
        require(
            torch.allclose(outputs[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1]), "In the middle stands 1 − γ + γ/9."
        )
    done("one convolution has it all inside of the map; at the border, where pooling divides by fewer, none has.")


def check_like_for_like(like_for_like: Callable[[Sequence[Mapping[str, Any]], str, str], Any]) -> None:
    """Check with shuffled runs of two networks; one condition was only run with one network."""
    runs, expected = _runs()
    answer = call(like_for_like, runs, "ours", "theirs")
    require(
        isinstance(answer, Mapping),
        f"Return a dictionary with a ratio for each (engine, batch, threads); {describe(answer)} came. The best of one "
        "against the best of the other is a ratio of engines, not of networks.",
    )
    require(
        all(isinstance(key, tuple) and len(key) == 3 for key in answer),
        "The keys are (engine, batch, threads): with less, runs under different conditions are one and the same.",
    )
    alone = [key for key in answer if key not in expected]
    require(not alone, f"Only one of the two ran under {alone[:1]}: there is nothing to compare.")
    missing = [key for key in expected if key not in answer]
    require(not missing, f"{len(missing)} of the {len(expected)} conditions are missing, such as {missing[:1]}.")
    for key, (ratio, of_medians) in expected.items():
        got = float(answer[key])
        require(not np.isclose(got, 1 / ratio), "You have theirs over ours: above 1 is to mean that ours takes longer.")
        require(
            not np.isclose(got, of_medians),
            "Divide round by round, and take the median then: these are medians of different rounds.",
        )
        require(np.isclose(got, ratio), f"For {key} the ratio is {ratio:.3f}; you have {got:.3f}.")
    done("same engine, same batch, same threads, same rounds: what is left is the network.")


def _runs() -> tuple[list[dict[str, Any]], dict[Condition, tuple[float, float]]]:
    """Simulated runs, and for each condition the median ratio per round and the ratio of the medians."""
    random, runs, expected = np.random.default_rng(3), [], {}
    for engine, batch, threads in product(("eager", "compiled"), (1, 8), (1, 2)):
        shared = np.exp(random.normal(0, 0.3, 15))  # noise that affects both in a round
        seconds_b = batch * 0.03 / threads * shared
        seconds_a = seconds_b * random.uniform(0.7, 1.6) * np.exp(random.normal(0, 0.1, 15))
        condition = {"engine": engine, "batch": batch, "threads": threads}
        runs.append({"network": "ours", "seconds": seconds_a, **condition})
        runs.append({"network": "theirs", "seconds": seconds_b, **condition})
        ratios = float(np.median(seconds_a / seconds_b)), float(np.median(seconds_a) / np.median(seconds_b))
        expected[engine, batch, threads] = ratios
    runs.append({"network": "ours", "engine": "folded", "batch": 1, "threads": 1, "seconds": shared})
    return [runs[index] for index in random.permutation(len(runs))], expected


def check_predict(predict: Callable[..., float]) -> None:
    """Check with a table whose latencies are linear in the square of the width, so they are known at all widths."""

    def true(kind: str, stage: int, width: float) -> float:
        return (0.1 if kind == "MB4D" else 0.3) + (stage + 1) * width**2 / 1e5

    known = ((48, 96), (96, 192), (224, 384), (448, 768))
    table: BlockTable = {
        (kind, stage): {width: true(kind, stage, width) for width in widths}
        for stage, widths in enumerate(known)
        for kind in ("MB4D", "MB3D")
    }
    for widths, depths, vits in (
        ((48, 96, 224, 448), (3, 2, 6, 4), (0, 0, 0, 0)),
        ((48, 192, 224, 768), (3, 2, 6, 4), (0, 0, 0, 1)),
        ((64, 128, 320, 512), (4, 4, 12, 6), (0, 0, 2, 4)),
    ):
        got = call(predict, table, 5.0, widths, depths, vits)

        def total(
            time: Callable[[str, int, float], float],
            widths: Sequence[int] = widths,
            depths: Sequence[int] = depths,
            vits: Sequence[int] = vits,
            rest: float = 5.0,
        ) -> float:
            return rest + sum(
                (depth - vit) * time("MB4D", stage, width) + vit * time("MB3D", stage, width)
                for stage, (width, depth, vit) in enumerate(zip(widths, depths, vits, strict=True))
            )

        def straight(kind: str, stage: int, width: float) -> float:
            (low, high), row = known[stage], table[kind, stage]
            return row[low] + (width - low) / (high - low) * (row[high] - row[low])

        def nearest(kind: str, stage: int, width: float) -> float:
            return true(kind, stage, min(known[stage], key=lambda candidate: abs(candidate - width)))

        expected = total(true)
        every_depth = [depth + vit for depth, vit in zip(depths, vits, strict=True)]
        slips = {
            "Stem, embeddings and head are missing: add the rest.": total(true, rest=0.0),
            "A stage of depth N with v blocks MB3D has N − v blocks MB4D; you count N of them.": total(
                true, depths=every_depth
            ),
            "Between two widths you take the nearest one: go along a line between both.": total(nearest),
            "Between two widths the time is linear in the MACs, which grow with the width squared; your line is drawn "
            "in the width, and lies too high.": total(straight),
        }
        for sentence, slip in slips.items():
            require(not np.isclose(got, slip) or np.isclose(slip, expected), sentence)
        require(
            np.isclose(got, expected),
            f"Widths {widths}, depths {depths}, MB3D {vits}: {expected:.3f} ms, and you have {describe(got)}.",
        )
    done("a few measured blocks, and the latency of any network between them.")
