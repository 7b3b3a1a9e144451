"""Checks of chapter 10, weights and pitfalls: heads, schedule, a split qkv, and a test for biases.

Each check has an independent oracle: the logits of both heads, fractions, the attention of single heads, or biases with
known offsets. Released code: `Attention` and the heads of `EfficientFormer` in `models/efficientformer.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial

import torch
from torch import Tensor

from efficientformer_edu.exercises._check import (
    call,
    close,
    compare,
    describe,
    done,
    expect_items,
    expect_shape,
    random_tensor,
    require,
)

State = Mapping[str, Tensor]

SCHEDULES = (((3, 2, 6, 4), 0.1), ((4, 4, 12, 6), 0.3), ((1, 1, 1, 2), 0.2), ((3, 2, 6, 4), 0.0))
GRIDS = ((3, 3), (2, 4), (4, 2))


def check_one_head(one_head: Callable[[State], State]) -> None:
    """Compare the logits of the merged head with the mean of both heads' logits."""
    shapes = {"norm.bias": (4,), "head.weight": (3, 4), "head.bias": (3,), "head_dist.weight": (3, 4)}
    shapes["head_dist.bias"] = (3,)
    state = {name: random_tensor(*shape, seed=seed) for seed, (name, shape) in enumerate(shapes.items())}
    before = {name: value.clone() for name, value in state.items()}
    got = call(one_head, dict(state))
    require(isinstance(got, Mapping), f"one_head must return a dictionary of tensors, got {describe(got)}.")
    require(
        all(torch.equal(state[name], before[name]) for name in state),
        "You changed the tensors that came in: `+=` and `/=` write into them. Make new ones.",
    )
    require("norm.bias" in got, "Keep all tensors outside of the heads: norm.bias is missing.")
    extra = [name for name in got if name.startswith("head_dist")]
    require(not extra, f"A network with one head has no {', '.join(extra)}; a strict load would raise an error.")
    require("head.weight" in got and "head.bias" in got, "The result has no head.weight or no head.bias.")
    expect_shape(got["head.weight"], (3, 4), "One head is as large as each of the two.")
    expect_shape(got["head.bias"], (3,), "One head is as large as each of the two.")
    features = random_tensor(8, 4, seed=9)
    first, second, answer = (
        features @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]
        for tensors, name in ((state, "head"), (state, "head_dist"), (got, "head"))
    )
    half = (state["head.weight"] + state["head_dist.weight"]) / 2
    mistakes = {
        "You kept `head` and dropped the head that learned from the teacher.": first,
        "You kept `head_dist` and dropped the head that learned from the labels.": second,
        "This is the sum of the heads, twice the mean: the same class wins, but every probability is wrong.": (
            first + second
        ),
        "The weight is the mean, the bias is not: a head is both.": answer if close(got["head.weight"], half) else None,
    }
    compare(answer, (first + second) / 2, mistakes, "The logits are not the mean of both heads' logits.")
    require(torch.equal(got["norm.bias"], state["norm.bias"]), "Only the heads change; norm.bias is different.")
    done("one head gives the mean logits of two.")


def check_schedule(schedule: Callable[[Sequence[int], float], Sequence[float]]) -> None:
    """Compare with exact fractions of the last rate."""
    for depths, rate in SCHEDULES:
        blocks = sum(depths)
        got = [float(value) for value in call(schedule, depths, rate)]
        of = f"depths={depths}, rate={rate}"
        require(len(got) == blocks, f"With {of} there are {blocks} blocks, so {blocks} rates; {len(got)} returned.")
        require(max(got) < 1, f"With {of} a rate reaches {max(got):.2f}: divide, so that the last block has {rate}.")
        mistakes = {
            f"the last rate is {got[-1]:.4f}: from the first block to the last there are {blocks - 1} steps, "
            f"not {blocks}.": [rate * i / blocks for i in range(blocks)],
            "the rate falls back to 0 in each stage. Blocks are counted through the whole network.": (
                [rate * b / max(depth - 1, 1) for depth in depths for b in range(depth)]
            ),
        }
        expected = [float(Fraction(i, blocks - 1)) * rate for i in range(blocks)]
        message = f"the rates must rise evenly from 0 to {rate}."
        compare(got, expected, mistakes, message, partial(close, rtol=0, atol=1e-9), f"With {of} ")
    done("from 0 to the given rate, and never above it.")


def check_split_qkv(split_qkv: Callable[[Tensor, int, int], tuple[Tensor, Tensor, Tensor]]) -> None:
    """Compare the three matrices with individually selected rows, for weights and for biases."""
    heads, key_dim, value_dim = 3, 2, 5
    head_rows = 2 * key_dim + value_dim
    rows = {
        "query": [h * head_rows + c for h in range(heads) for c in range(key_dim)],
        "key": [h * head_rows + key_dim + c for h in range(heads) for c in range(key_dim)],
        "value": [h * head_rows + 2 * key_dim + c for h in range(heads) for c in range(value_dim)],
    }
    for shape in ((heads * head_rows, 4), (heads * head_rows,)):
        qkv = torch.arange(heads * head_rows, dtype=torch.float32).view(-1, *[1] * (len(shape) - 1)).expand(shape)
        got = call(split_qkv, qkv, heads, key_dim)
        expect_items(got, 3, "split_qkv returns query, key and value.")
        sizes = [tuple(getattr(part, "shape", (0,)))[:1] for part in got]
        third = heads * head_rows // 3
        require(
            sizes != [(third,)] * 3,
            f"You cut into three equal parts. A value is wider than a key: a head has {key_dim} rows of query, "
            f"{key_dim} of key and {value_dim} of value here.",
        )
        for (name, expected), part in zip(rows.items(), got, strict=True):
            expect_shape(part, (len(expected), *shape[1:]), f"For qkv of shape {shape} the {name} has the wrong shape.")
        selected = {name: part.reshape(len(part), -1)[:, 0].tolist() for name, part in zip(rows, got, strict=True)}
        require(
            selected["query"] != list(range(heads * key_dim)),
            "You took the first rows of all as queries. The rows lie head by head: q, k and v of head 0, then those of "
            "head 1.",
        )
        for name, expected in rows.items():
            require(
                sorted(selected[name]) != expected or selected[name] == expected,
                f"The {name} has the right rows in the wrong order: first all rows of head 0, then those of head 1.",
            )
            require(
                selected[name] == expected,
                f"The {name} must be the rows {expected} of qkv; yours are {selected[name]}.",
            )
    done("three linear layers instead of one, with the heads in order.")


def check_by_offset(by_offset: Callable[[Tensor, tuple[int, int]], bool]) -> None:
    """Call it with biases that depend only on the offset, and with biases corrupted in different ways."""
    for grid in GRIDS:
        height, width = grid
        tokens = [(y, x) for y in range(height) for x in range(width)]
        table = random_tensor(2, height, width, seed=height)
        sound = _looked_up(table, tokens)
        of = f"On the grid {height}×{width}"
        answer = call(by_offset, sound, grid)
        require(
            bool(answer),
            f"{of} your test rejects biases that were looked up by (|Δy|, |Δx|). Token i is in row i // {width}, "
            f"column i % {width}.",
        )
        signed = sound.clone()
        for i, (y, x) in enumerate(tokens):
            for j, (v, u) in enumerate(tokens):
                if (v, u) > (y, x):
                    signed[:, i, j] += 1
        shifted = sound.clone()
        shifted[:, -1, :] += 1
        matrix = sound + random_tensor(2, len(tokens), len(tokens), seed=5)
        symmetric = matrix + matrix.transpose(1, 2)
        broken_head = sound.clone()
        broken_head[1] = symmetric[1]
        corrupted = {
            "the last row differs: compare all queries, not only the first": shifted,
            "the bias from i to j differs from that from j to i. Offsets are absolute": signed,
            "they are only symmetric. Pairs with the same offset have different biases": symmetric,
            "head 0 is sound and head 1 is not: look at every head": broken_head,
        }
        for sentence, bias in corrupted.items():
            require(not bool(call(by_offset, bias, grid)), f"{of} your test accepts biases where {sentence}.")
    done("this test detects a resized matrix, regardless of its values.")


def _looked_up(table: Tensor, tokens: Sequence[tuple[int, int]]) -> Tensor:
    rows = [[table[:, abs(y - v), abs(x - u)] for v, u in tokens] for y, x in tokens]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=1)  # (heads, N, N)
