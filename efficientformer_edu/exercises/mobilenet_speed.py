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

from efficientformer_edu.exercises._check import (
    call,
    close,
    compare,
    describe,
    done,
    expect_shape,
    require,
    require_value_error,
)

Condition = tuple[str, int, int]  # engine, batch, threads
BlockTable = Mapping[tuple[str, int], Mapping[int, float]]  # (kind, stage) -> milliseconds by width


def check_fold_before(fold_before: Callable[[nn.BatchNorm2d, nn.Conv2d], nn.Conv2d]) -> None:
    """Fold a batch norm into the convolution after it without padding; with padding, an error is expected."""
    torch.manual_seed(0)
    for kernel, stride, outputs in ((1, 1, 5), (3, 1, 5), (3, 2, 4), (2, 2, 7)):
        norm, conv = _norm(5), nn.Conv2d(5, outputs, kernel, stride).double()
        before = [tensor.clone() for tensor in (*norm.state_dict().values(), *conv.state_dict().values())]
        folded = call(fold_before, norm, conv)
        require(isinstance(folded, nn.Conv2d), f"Return a convolution; got {describe(folded)}.")
        after = (*norm.state_dict().values(), *conv.state_dict().values())
        require(
            all(torch.equal(old, new) for old, new in zip(before, after, strict=True)),
            "You have changed the layers of the caller: fold into a new convolution.",
        )
        _check_folded(folded, norm, conv)
    message = (
        "With padding the fold is not exact: the zeros are added after the norm, so a pixel outside the map has no "
        "offset. Raise a ValueError."
    )
    for padding in (1, (0, 1)):
        require_value_error(message, fold_before, _norm(5), nn.Conv2d(5, 5, 3, padding=padding).double())
    done("a norm before a convolution folds, too, as long as no zeros are added after it.")


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
    outputs_scaled = {
        "The norm comes before the convolution: its factors multiply the inputs, axis 1 of the weight. You scale the "
        "outputs, axis 0.": weight * factor[:, None, None, None] if shape[0] == shape[1] else None,
    }
    message = "Axis 1 of the weight must be scaled by γ / √(σ²+ε)."
    compare(got, weight * factor[:, None, None], outputs_scaled, message)
    taps = weight.sum((2, 3))  # (outputs, C)
    mistakes = {
        "The norm's offset is lost: each output sees it through its whole kernel, and it belongs in the bias.": bias,
        "An offset passes through the entire kernel, not through its middle alone: sum the weight over the kernel.": (
            bias + weight[:, :, shape[2] // 2, shape[3] // 2] @ offset
        ),
        "The norm's offset of a channel is β − γ μ / √(σ²+ε), not β alone: the mean is subtracted first.": (
            bias + taps @ numbers["bias"]
        ),
        "The offset is added after the factor: it is multiplied by the original weight, not by the scaled one.": (
            bias + (taps * factor) @ offset
        ),
    }
    compare(got_bias, bias + taps @ offset, mistakes, "The bias must be b plus the offsets through the whole kernel.")
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
        mistakes = {
            "Each neighbour's weight is 1/9 in your kernel: γ multiplies the output of pooling.": (
                torch.full_like(around, 1 / 9)
            ),
        }
        compare(around, pool[:, None].expand_as(around), mistakes, "The eight neighbours have the weight γ/9 each.")
        mistakes = {
            "This is γ Pool(x) alone: x is added, and subtracted inside of γ.": pool,
            "This is the branch γ (Pool(x) − x) alone: the residual adds 1 in the middle.": pool - gamma,
            "This is x + γ Pool(x), as in Eq. 4: the released code subtracts x inside of γ.": 1 + pool,
        }
        compare(middle, 1 - gamma + pool, mistakes, "The weight in the middle is 1 − γ + γ/9.")
        x = torch.randn(2, channels, 5, 6, dtype=torch.float64)
        pooled = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        expected = x + gamma[:, None, None] * (pooled - x)
        outputs = F.conv2d(x, kernel, padding=1, groups=channels)
        inside = close(outputs[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])
        require(inside, "The weight in the middle is 1 − γ + γ/9.")
    done("one convolution is exact inside the map, but not at the border, where pooling divides by fewer pixels.")


def check_like_for_like(like_for_like: Callable[[Sequence[Mapping[str, Any]], str, str], Any]) -> None:
    """Check with shuffled runs of two networks; one condition was only run with one network."""
    runs, expected = _runs()
    answer = call(like_for_like, runs, "ours", "theirs")
    require(
        isinstance(answer, Mapping),
        f"Return a dictionary with a ratio for each (engine, batch, threads); got {describe(answer)}. The best of one "
        "against the best of the other is a ratio of engines, not of networks.",
    )
    require(
        all(isinstance(key, tuple) and len(key) == 3 for key in answer),
        "The keys are (engine, batch, threads): with less, runs under different conditions cannot be distinguished.",
    )
    alone = [key for key in answer if key not in expected]
    require(not alone, f"Only one of the two ran under {alone[:1]}: there is nothing to compare.")
    missing = [key for key in expected if key not in answer]
    require(not missing, f"{len(missing)} of the {len(expected)} conditions are missing, such as {missing[:1]}.")
    for key, (ratio, of_medians) in expected.items():
        mistakes = {
            "You have the inverse ratio: above 1 means that the first network takes longer.": 1 / ratio,
            "Divide round by round, and take the median then: these are medians of different rounds.": of_medians,
        }
        message = f"For {key} the ratio is {ratio:.3f}; you have {float(answer[key]):.3f}."
        compare(float(answer[key]), ratio, mistakes, message)
    done("same engine, same batch, same threads, same rounds: the difference that remains is the network.")


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
            other: float = 5.0,
        ) -> float:
            return other + sum(
                (depth - vit) * time("MB4D", stage, width) + vit * time("MB3D", stage, width)
                for stage, (width, depth, vit) in enumerate(zip(widths, depths, vits, strict=True))
            )

        def straight(kind: str, stage: int, width: float) -> float:
            (low, high), row = known[stage], table[kind, stage]
            return row[low] + (width - low) / (high - low) * (row[high] - row[low])

        def nearest(kind: str, stage: int, width: float) -> float:
            return true(kind, stage, min(known[stage], key=lambda candidate: abs(candidate - width)))

        mistakes = {
            "Stem, embeddings and head are missing: add their time.": total(true, other=0.0),
            "A stage of depth N with v blocks MB3D has N − v blocks MB4D; you count N of them.": total(
                true, depths=[depth + vit for depth, vit in zip(depths, vits, strict=True)]
            ),
            "Between two widths you take the nearest one: interpolate linearly between both.": total(nearest),
            "Between two widths the time is linear in the MACs, which grow with the width squared; your interpolation "
            "is linear in the width, and too high.": total(straight),
        }
        message = f"Widths {widths}, depths {depths}, MB3D {vits}: {total(true):.3f} ms, and you have {describe(got)}."
        compare(got, total(true), mistakes, message)
    done("a few measured blocks, and the latency of any network between them.")
