"""The inside of a block as a chain of its operations, read off the ledger.

Paper: the lower half of Fig. 3. What runs as one is stacked: CONV-BN-activation, the steps of Eq. 6, and the two heads.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from efficientformer_edu.audit import Operation
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.figures.colours import FAINT, Colour
from efficientformer_edu.figures.parts import shape_text
from efficientformer_edu.figures.shapes import arrow, box, circle, line, text

CELL = 2.2  # height of one operation in a stack
RADIUS = 1.15  # of a round operation
LETTER = 0.69  # width of a letter of the smallest text
JOINED = ("batch norm", "activation", "attention bias", "softmax")  # stand below the operation before them
UNDRAWN = ("convolution bias", "linear bias", "resize")  # part of the operation before or after them
ACTIVATIONS = {
    "gelu": "GELU",
    "relu": "ReLU",
    "relu6": "ReLU6",
    "prelu": "PReLU",
    "leaky_relu": "LeakyReLU",
    "silu": "SiLU",
    "hard_swish": "HardSwish",
}
Stack = list[Operation]


def stacks(operations: Sequence[Operation]) -> list[Stack]:
    """Operations in the order in which they run, those that are drawn as one stack together."""
    found: list[Stack] = []
    for row in operations:
        if row.kind in UNDRAWN:
            continue
        if row.kind in JOINED or row.name.endswith((".scale", ".values", "head_dist")):
            found[-1].append(row)
        else:
            found.append([row])
    return found


def height(operations: Sequence[Operation]) -> float:
    """Units from top to bottom of the tallest stack of a chain."""
    return CELL * max(len(stack) for stack in stacks(operations))


def width(operations: Sequence[Operation], config: EfficientFormerConfig, gap: float) -> float:
    """Units from left to right of a chain, with a gap before and after each stack."""
    found = stacks(operations)
    return sum(_width(stack, config) for stack in found) + gap * (len(found) + 1)


def draw_chain(
    axes: Axes,
    place: tuple[float, float],
    operations: Sequence[Operation],
    config: EfficientFormerConfig,
    gap: float,
    colour: Colour,
) -> None:
    """Draw a chain from a place to the right; below each stack stands the shape that it makes, where that changes."""
    x, y = place
    above = y + height(operations) / 2 + 1.0  # height of the residual's way around a branch
    shape: tuple[int, ...] = ()
    line(axes, [(x, y), (x + gap / 2, y)])
    fork = x = x + gap / 2  # the middle of a gap: where ways part and meet
    for stack in stacks(operations):
        wide = _width(stack, config)
        left, middle, right = x + gap / 2, x + gap / 2 + wide / 2, x + gap / 2 + wide
        for at, tier in _tiers(stack, y):
            arrow(axes, [(x, y), (x, at), (left, at)])
            _draw_tier(axes, left, at, wide, [_label(row, config) for row in tier], _is_round(tier), colour)
            line(axes, [(right, at), (right + gap / 2, at), (right + gap / 2, y)])
        if stack[-1].output_shape != shape:
            shape = stack[-1].output_shape
            text(axes, middle, y - len(stack) * CELL / 2 - 1.4, shape_text(shape), color=FAINT)
        x = right + gap / 2
        if stack[0].kind == "residual":
            arrow(axes, [(fork, y), (fork, above), (middle, above), (middle, y + RADIUS)])
            fork = x
    arrow(axes, [(x, y), (x + gap / 2, y)])


def _draw_tier(axes: Axes, x: float, y: float, wide: float, words: list[str], is_round: bool, colour: Colour) -> None:
    if is_round:
        circle(axes, x + wide / 2, y, RADIUS, words[0])
        return
    top = y + len(words) * CELL / 2
    box(axes, x, top - len(words) * CELL, wide, len(words) * CELL, colour)
    for i, word in enumerate(words):
        text(axes, x + wide / 2, top - (i + 0.5) * CELL, word)
        if i > 0:
            axes.plot([x, x + wide], [top - i * CELL] * 2, color=colour.line, lw=0.6)


def _tiers(stack: Stack, y: float) -> list[tuple[float, Stack]]:
    """A stack at its height, or, if they are the two heads, which run side by side, each at its own."""
    if [row.name for row in stack] != ["head", "head_dist"]:
        return [(y, stack)]
    return [(y + 0.6 * CELL, stack[:1]), (y - 0.6 * CELL, stack[1:])]


def _is_round(stack: Stack) -> bool:
    return stack[0].kind in ("layer scale", "residual") or stack[0].name.endswith(".difference")


def _width(stack: Stack, config: EfficientFormerConfig) -> float:
    if _is_round(stack):
        return 2 * RADIUS
    return 1.2 + LETTER * max(len(_label(row, config)) for row in stack)


def _label(row: Operation, config: EfficientFormerConfig) -> str:
    """What an operation is called in a drawing."""
    last = row.name.rpartition(".")[2]
    if last in ("layer_scale_1", "layer_scale_2"):
        return {"1": "γ₁", "2": "γ₂"}[last[-1]]
    if row.kind == "convolution":
        return "conv 1×1" if ".mlp." in row.name else "conv 3×3 /2"
    if row.kind == "activation":
        return ACTIVATIONS[config.stem_act if row.stage == "stem" else config.act]
    labels = {
        "pool": f"pool {config.pool_size}×{config.pool_size}",
        "difference": "−x",
        "scores": "Q·Kᵀ",
        "scale": f"/ √{config.key_dim}",
        "attention_biases": "+ b",
        "values": "· V",
        "qkv": "linear",
        "proj": "linear",
        "fc1": "linear",
        "fc2": "linear",
        "pooled": "mean",
        "logits": "mean",
    }
    kinds = {"batch norm": "BN", "layer norm": "LN", "residual": "+"}
    return labels.get(last) or kinds.get(row.kind) or last
