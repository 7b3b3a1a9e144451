"""The whole network in one figure, like the paper's Fig. 3.

Top: the feature map of each stage, to scale, with a card for its embedding and for each block. Bottom: the operations
of the stem, an embedding, an MB4D, an MB3D and the head. Everything is read from the analytic ledger. Lengths are in
units of a tenth of an inch, from the bottom left corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon

from efficientformer_edu.audit import Costs, Operation, count
from efficientformer_edu.config import PRESETS, EfficientFormerConfig, Resolution
from efficientformer_edu.plots import FAINT, FRAME_LINE, INK, PAPER, PARTS, Colour
from efficientformer_edu.plots.mermaid import LayerRun, layer_runs, shape_text
from efficientformer_edu.plots.style import WIDTH, Drawing, bare, drawing

UNITS = 10  # per inch
HEIGHT = 35.0  # of the overview
MARGIN, SPACE = 1.5, 1.5  # around everything, and between panels
RIGHT = WIDTH * UNITS - MARGIN
CARD, STRIP, CARD_HEIGHT = 2.6, 0.55, 8.0  # width of a card, visible strip of a card behind it, and height of cards
LARGEST = 8.5  # the longest edge of a feature map, and the depth of the one with the most channels
CELL = 2.2  # height of an operation in a stack
RADIUS = 1.15  # of a round operation
LETTER = 0.69  # width of a letter of the smallest text
REMARKS = {"MB4D": "Eq. 4, here in {}", "MB3D": "Eq. 5 and 6, here in {}"}
JOINED = ("batch norm", "activation", "attention bias", "softmax")  # stacked below the previous operation
HIDDEN = ("convolution bias", "linear bias", "resize")  # part of the previous or the next operation
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


def draw_architecture(model: str | EfficientFormerConfig, resolution: Resolution = 224) -> Drawing:
    """A network's stages, blocks and operations with the shapes of its tensors. `mermaid.alt_text` describes it.

    Args:
        model: a configuration, or the name of a published network such as `"l1"`.
        resolution: height and width of the image in pixels, or one number for both.

    Raises:
        ValueError: for an unknown name, or a resolution below 32 pixels.
    """
    costs = count(model, resolution)
    network = layer_runs(costs)
    first = {part.kind: part for part in reversed(network)}
    kinds = (("stem", "embedding", "MB4D"), ("MB3D", "head"))
    rows = [[first[kind] for kind in row if kind in first] for row in kinds]
    heights = [6.6 + CELL * max(len(stack) for part in row for stack in stacks(part.first)) for row in rows]
    with drawing((HEIGHT + sum(heights) + SPACE * len(rows) + MARGIN) / UNITS) as figure:
        width, height = figure.get_size_inches()
        figure.set_layout_engine("none")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), facecolor="none")
        axes.set(xlim=(0, width * UNITS), ylim=(0, height * UNITS))
        bare(axes)
        y = MARGIN
        for row, row_height in reversed(list(zip(rows, heights, strict=True))):
            _draw_details(axes, y, row_height, row, costs.config)
            y += row_height + SPACE
        _draw_overview(axes, y, costs, network)
    return figure


# The overview: from image to logits.


def _draw_overview(axes: Axes, y: float, costs: Costs, network: list[LayerRun]) -> None:
    stem, *body, head = network
    stages = [tuple(run) for _, run in groupby(body, key=lambda part: part.stage)]
    pixel = LARGEST / max(costs.resolution)
    widths = [pixel * costs.resolution[1], CARD, *map(_stage_width, stages), CARD]
    gap = (RIGHT - MARGIN - sum(widths) - 1.0) / len(widths)
    starts = [MARGIN + sum(widths[:i]) + gap * i for i in range(len(widths))]
    middle = y + 3.2 + CARD_HEIGHT / 2
    for start, width in zip(starts, widths, strict=True):
        _arrow(axes, [(start + width, middle), (start + width + gap, middle)])
    _draw_image(axes, starts[0], middle, pixel * costs.resolution[1], pixel * costs.resolution[0])
    shape = shape_text((costs.config.in_channels, *costs.resolution))
    _text(axes, starts[0], middle - pixel * costs.resolution[0] / 2 - 1.4, shape, ha="left", weight="bold")
    _draw_cards(axes, starts[1], middle, stem)
    _draw_cards(axes, starts[-1], middle, head)
    _text(axes, RIGHT, middle + 2.2, "logits", ha="right")
    _text(axes, RIGHT, middle - 2.2, shape_text(head.output_shape), ha="right", color=FAINT)
    for j, (x, run) in enumerate(zip(starts[2:-1], stages, strict=True)):
        _draw_stage(axes, x, y, run)
        _draw_feature_map(axes, x + widths[j + 2] / 2, y + CARD_HEIGHT + 6.0, costs, j, run[-1])
    name = next((f"EfficientFormer-{n.upper()}" for n, c in PRESETS.items() if c == costs.config), "EfficientFormer")
    top = axes.get_ylim()[1] - 2.4
    _text(axes, MARGIN, top, name, size=12.0, ha="left", weight="bold")
    totals = f"{costs.params:,} parameters · {costs.macs:,} MACs at {shape_text(costs.resolution)}"
    _text(axes, RIGHT, top, totals, size=9.0, ha="right", color=FAINT)
    remark = "The maps are to scale:\nchannels to the right,\nheight up, width\ninto the page."
    _text(axes, MARGIN, top - 8.0, remark, ha="left", color=FAINT, linespacing=1.4)


def _draw_stage(axes: Axes, x: float, y: float, run: tuple[LayerRun, ...]) -> None:
    """The frame of a stage with its embedding and blocks."""
    _panel(axes, x, y, _stage_width(run), CARD_HEIGHT + 6.0, run[0].stage)
    middle = y + 3.2 + CARD_HEIGHT / 2
    x += SPACE
    for i, part in enumerate(run):
        if i > 0:
            _arrow(axes, [(x - SPACE, middle), (x, middle)])
        _draw_cards(axes, x, middle, part)
        x += _cards_width(part) + SPACE


def _draw_cards(axes: Axes, x: float, middle: float, part: LayerRun) -> None:
    """One card per block, the first in front."""
    bottom = middle - CARD_HEIGHT / 2
    for i in reversed(range(part.repeats)):
        _box(axes, x + i * _strip(part), bottom, CARD, CARD_HEIGHT, PARTS[part.kind])
    _text(axes, x + CARD / 2, middle, part.kind, rotation=90)
    if part.kind in ("MB4D", "MB3D"):
        _text(axes, x + _cards_width(part) / 2, bottom - 1.4, f"×{part.repeats}", weight="bold")


def _draw_feature_map(axes: Axes, x: float, y: float, costs: Costs, stage: int, last: LayerRun) -> None:
    """A stage's feature map as a cuboid above its shape, in numbers and in the paper's symbols."""
    config, grids = costs.config, costs.config.grids(costs.resolution)
    channels, (height, width) = config.embed_dims[stage], grids[stage]
    scale, colour = LARGEST / max(grids[0]), PARTS["MB4D"]
    length, tall, depth = channels * LARGEST / max(config.embed_dims), height * scale, 0.35 * width * scale
    left, bottom = x - length / 2 - 0.17 * width * scale, y + 6.0
    front = [(left, bottom), (left + length, bottom), (left + length, bottom + tall), (left, bottom + tall)]
    back = [(u + depth, v + depth) for u, v in front]
    for corners, fill in (
        (front, colour.fill),
        ([front[3], front[2], back[2], back[3]], PAPER),
        ([front[1], front[2], back[2], back[1]], to_rgba(colour.line, 0.5)),
    ):
        axes.add_patch(Polygon(corners, facecolor=fill, edgecolor=colour.line, lw=0.8, joinstyle="round"))
    subscript, stride = "₁₂₃₄"[stage], 2 ** (2 + sum(config.downsamples[: stage + 1]))
    numbers, symbols = shape_text((channels, height, width)), f"C{subscript}×H/{stride}×W/{stride}"
    if last.kind == "MB3D":
        numbers += f" → {shape_text(last.output_shape)}"
        symbols += f" → N×C{subscript}"
    _text(axes, x, y + 3.6, numbers, weight="bold")
    _text(axes, x, y + 1.6, symbols, color=FAINT)


def _draw_image(axes: Axes, x: float, middle: float, width: float, height: float) -> None:
    """A stylized landscape: sky, sun and two hills."""
    y = middle - height / 2
    corners = "round,pad=0,rounding_size=0.4"
    sky = FancyBboxPatch((x, y), width, height, boxstyle=corners, facecolor="#DCEBF5", edgecolor=FAINT, lw=1.0)
    axes.add_patch(sky)
    sun = Circle((x + 0.72 * width, y + 0.72 * height), 0.11 * min(width, height), facecolor="#F0C419")
    hills = [
        (((0.0, 0.0), (0.0, 0.3), (0.35, 0.68), (0.8, 0.1), (0.8, 0.0)), "#8FBF9F"),
        (((0.25, 0.0), (0.25, 0.0), (0.7, 0.45), (1.0, 0.22), (1.0, 0.0)), PARTS["embedding"].line),
    ]
    shapes = [Polygon([(x + u * width, y + v * height) for u, v in hill], facecolor=fill) for hill, fill in hills]
    for item in (sun, *shapes):
        axes.add_patch(item)
        item.set_clip_path(sky)


def _stage_width(run: tuple[LayerRun, ...]) -> float:
    return max(8.0, sum(_cards_width(part) + SPACE for part in run) + SPACE)  # at least as wide as its title


def _cards_width(part: LayerRun) -> float:
    return CARD + (part.repeats - 1) * _strip(part)


def _strip(part: LayerRun) -> float:
    return min(STRIP, 10.0 / part.repeats)  # very deep stages get narrower strips


# The details: a block as a chain of its operations, from left to right.


def stacks(operations: Sequence[Operation]) -> list[Stack]:
    """Operations in execution order; those that are drawn as one stack are grouped.

    A stack is CONV-BN-activation, the steps of Eq. 6, or the two heads.
    """
    chain: list[Stack] = []
    for row in operations:
        if row.kind in JOINED or row.name.endswith((".scale", ".values", "head_dist")):
            chain[-1].append(row)
        elif row.kind not in HIDDEN:
            chain.append([row])
    return chain


def _draw_details(axes: Axes, y: float, height: float, row: list[LayerRun], config: EfficientFormerConfig) -> None:
    """One row of panels; the length of the arrows is chosen so that the row fills the figure."""
    widths = [sum(_stack_width(stack, config) for stack in stacks(part.first)) for part in row]
    gaps = [len(stacks(part.first)) + 1 for part in row]
    gap = min((RIGHT - MARGIN - SPACE * (len(row) - 1) - sum(widths)) / sum(gaps), 4.0)
    x = MARGIN
    for part, stack_widths, number in zip(row, widths, gaps, strict=True):
        width = stack_widths + gap * number
        _panel(axes, x, y, width, height, part.kind, REMARKS.get(part.kind, "").format(part.stage))
        _draw_chain(axes, x, y + (height - 1.0) / 2, part, config, gap)
        x += width + SPACE


def _draw_chain(axes: Axes, x: float, y: float, part: LayerRun, config: EfficientFormerConfig, gap: float) -> None:
    """A chain from (x, y) to the right; the output shape is shown below a stack where it changes."""
    chain, colour = stacks(part.first), PARTS[part.kind]
    above = y + CELL * max(map(len, chain)) / 2 + 1.0  # height of a residual's path around its branch
    shape: tuple[int, ...] = ()
    _line(axes, [(x, y), (x + gap / 2, y)])
    fork = x = x + gap / 2  # the middle of a gap, where paths split and join
    for stack in chain:
        width = _stack_width(stack, config)
        left, middle, right = x + gap / 2, x + gap / 2 + width / 2, x + gap / 2 + width
        for at, tier in _tiers(stack, y):
            _arrow(axes, [(x, y), (x, at), (left, at)])
            labels = [_label(row, config) for row in tier]
            if _is_round(tier):
                axes.add_patch(Circle((middle, at), RADIUS, facecolor=PAPER, edgecolor=INK, lw=1.0, zorder=3))
                _text(axes, middle, at, labels[0], zorder=4)
            else:
                _draw_tier(axes, left, at, width, labels, colour)
            _line(axes, [(right, at), (right + gap / 2, at), (right + gap / 2, y)])
        if stack[-1].output_shape != shape:
            shape = stack[-1].output_shape
            _text(axes, middle, y - len(stack) * CELL / 2 - 1.4, shape_text(shape), color=FAINT)
        x = right + gap / 2
        if stack[0].kind == "residual":
            _arrow(axes, [(fork, y), (fork, above), (middle, above), (middle, y + RADIUS)])
            fork = x
    _arrow(axes, [(x, y), (x + gap / 2, y)])


def _draw_tier(axes: Axes, x: float, y: float, width: float, labels: list[str], colour: Colour) -> None:
    """Operations in a box, one below the other."""
    top = y + len(labels) * CELL / 2
    _box(axes, x, top - len(labels) * CELL, width, len(labels) * CELL, colour)
    for i, label in enumerate(labels):
        _text(axes, x + width / 2, top - (i + 0.5) * CELL, label)
        if i > 0:
            axes.plot([x, x + width], [top - i * CELL] * 2, color=colour.line, lw=0.6)


def _tiers(stack: Stack, y: float) -> list[tuple[float, Stack]]:
    """A stack with its height in the chain; the two heads run in parallel, so each has its own."""
    if [row.name for row in stack] != ["head", "head_dist"]:
        return [(y, stack)]
    return [(y + 0.6 * CELL, stack[:1]), (y - 0.6 * CELL, stack[1:])]


def _is_round(stack: Stack) -> bool:
    return stack[0].kind in ("layer scale", "residual") or stack[0].name.endswith(".difference")


def _stack_width(stack: Stack, config: EfficientFormerConfig) -> float:
    return 2 * RADIUS if _is_round(stack) else 1.2 + LETTER * max(len(_label(row, config)) for row in stack)


def _label(row: Operation, config: EfficientFormerConfig) -> str:
    """The label of an operation."""
    last = row.name.rpartition(".")[2]
    if row.kind == "convolution":
        return "conv 1×1" if ".mlp." in row.name else "conv 3×3 /2"
    if row.kind == "activation":
        return ACTIVATIONS[config.stem_act if row.stage == "stem" else config.act]
    labels = {
        "layer_scale_1": "γ₁",
        "layer_scale_2": "γ₂",
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


# The shapes.


def _text(axes: Axes, x: float, y: float, label: str, size: float = 8.0, **options: Any) -> None:
    """Text centred at a point, unless the options say differently."""
    axes.text(x, y, label, **dict[str, Any](fontsize=size, ha="center", va="center", color=INK) | options)


def _box(axes: Axes, x: float, y: float, width: float, height: float, colour: Colour) -> None:
    corners = "round,pad=0,rounding_size=0.5"
    look: dict[str, Any] = {"boxstyle": corners, "facecolor": colour.fill, "edgecolor": colour.line, "lw": 1.0}
    axes.add_patch(FancyBboxPatch((x, y), width, height, **look))


def _line(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    axes.plot(*zip(*points, strict=True), color=INK, lw=1.0, solid_capstyle="round", snap=False, zorder=2)


def _arrow(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """A line with a head at its end."""
    _line(axes, points[:-1])
    look: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 7, "color": INK, "lw": 1.0}
    axes.add_patch(FancyArrowPatch(points[-2], points[-1], shrinkA=0, shrinkB=0, zorder=2, **look))


def _panel(axes: Axes, x: float, y: float, width: float, height: float, title: str, remark: str = "") -> None:
    """A frame with a title at the top left and a remark at the top right."""
    _box(axes, x, y, width, height, Colour(PAPER, FRAME_LINE))
    _text(axes, x + 1.0, y + height - 1.6, title, size=9.0, ha="left", weight="bold")
    _text(axes, x + width - 1.0, y + height - 1.6, remark, ha="right", color=FAINT)
