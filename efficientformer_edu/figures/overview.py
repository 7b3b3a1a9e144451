"""The network from image to logits: the upper half of the paper's Fig. 3, with each stage's map to scale above it."""

from __future__ import annotations

from itertools import groupby

from matplotlib.axes import Axes

from efficientformer_edu.audit import Costs
from efficientformer_edu.config import PRESETS
from efficientformer_edu.figures.colours import FAINT, PARTS
from efficientformer_edu.figures.parts import Part, parts, shape_text
from efficientformer_edu.figures.shapes import UNITS, arrow, box, cuboid, panel, picture, text
from efficientformer_edu.figures.style import WIDTH

HEIGHT = 35.0  # units of the overview
MARGIN, SPACE = 1.5, 1.5  # around everything, and between panels
RIGHT = WIDTH * UNITS - MARGIN
CARD, STRIP, CARD_HEIGHT = 2.6, 0.55, 8.0  # a block's card, what shows of a card behind it, and their height
LARGEST = 8.5  # the longest edge and the most channels of a map


def draw_overview(axes: Axes, y: float, costs: Costs) -> None:
    """Draw the network from image to logits, with its title, from the height y to the top of the axes."""
    stem, *body, head = parts(costs)
    stages = [tuple(run) for _, run in groupby(body, key=lambda part: part.stage)]
    wides = [_pixel(costs) * costs.resolution[1], CARD, *map(_stage_width, stages), CARD]
    gap = (RIGHT - MARGIN - sum(wides) - 1.0) / len(wides)
    starts = [MARGIN + sum(wides[:i]) + gap * i for i in range(len(wides))]
    frame = CARD_HEIGHT + 6.0
    middle = y + 3.2 + CARD_HEIGHT / 2
    for start, wide in zip(starts, wides, strict=True):
        arrow(axes, [(start + wide, middle), (start + wide + gap, middle)])

    _draw_image(axes, starts[0], middle, costs)
    _draw_cards(axes, starts[1], middle, stem)
    _draw_cards(axes, starts[-1], middle, head)
    text(axes, RIGHT, middle + 2.2, "logits", ha="right")
    text(axes, RIGHT, middle - 2.2, shape_text(head.output_shape), ha="right", color=FAINT)
    for j, (x, run) in enumerate(zip(starts[2:-1], stages, strict=True)):
        _draw_stage(axes, x, y, frame, run)
        _draw_map(axes, x + wides[j + 2] / 2, y + frame, costs, j, run)
    _draw_title(axes, costs)


def _draw_stage(axes: Axes, x: float, y: float, height: float, run: tuple[Part, ...]) -> None:
    """The frame of a stage, and in it its embedding and blocks."""
    panel(axes, x, y, _stage_width(run), height, run[0].stage)
    middle = y + 3.2 + CARD_HEIGHT / 2
    x += SPACE
    for i, part in enumerate(run):
        if i > 0:
            arrow(axes, [(x - SPACE, middle), (x, middle)])
        _draw_cards(axes, x, middle, part)
        x += _cards_width(part) + SPACE


def _draw_cards(axes: Axes, x: float, middle: float, part: Part) -> None:
    """A card for each block, the first in front of the others."""
    bottom, strip = middle - CARD_HEIGHT / 2, _strip(part)
    for i in reversed(range(part.repeats)):
        box(axes, x + i * strip, bottom, CARD, CARD_HEIGHT, PARTS[part.kind])
    text(axes, x + CARD / 2, middle, part.kind, rotation=90)
    if part.kind in ("MB4D", "MB3D"):
        text(axes, x + _cards_width(part) / 2, bottom - 1.4, f"×{part.repeats}", weight="bold")


def _draw_image(axes: Axes, x: float, middle: float, costs: Costs) -> None:
    height, width = (_pixel(costs) * size for size in costs.resolution)
    picture(axes, x, middle - height / 2, width, height)
    shape = shape_text((costs.config.in_channels, *costs.resolution))
    text(axes, x, middle - height / 2 - 1.4, shape, ha="left", weight="bold")


def _draw_map(axes: Axes, x: float, y: float, costs: Costs, stage: int, run: tuple[Part, ...]) -> None:
    """The map of a stage as a solid, above its shape in numbers and in the paper's letters."""
    config = costs.config
    grids = config.grids(costs.resolution)
    channels, (height, width) = config.embed_dims[stage], grids[stage]
    pixel, channel = LARGEST / max(grids[0]), LARGEST / max(config.embed_dims)
    size = channels * channel, height * pixel, width * pixel
    cuboid(axes, x - size[0] / 2 - 0.17 * size[2], y + 6.0, size, PARTS["MB4D"])
    subscript, part = "₁₂₃₄"[stage], 2 ** (2 + sum(config.downsamples[: stage + 1]))
    numbers, letters = shape_text((channels, height, width)), f"C{subscript}×H/{part}×W/{part}"
    if run[-1].kind == "MB3D":
        numbers += f" → {shape_text(run[-1].output_shape)}"
        letters += f" → N×C{subscript}"
    text(axes, x, y + 3.6, numbers, weight="bold")
    text(axes, x, y + 1.6, letters, color=FAINT)


def _draw_title(axes: Axes, costs: Costs) -> None:
    name = next(
        (f"EfficientFormer-{name.upper()}" for name, c in PRESETS.items() if c == costs.config), "EfficientFormer"
    )
    top = axes.get_ylim()[1] - 2.4
    text(axes, MARGIN, top, name, size=12.0, ha="left", weight="bold")
    words = f"{costs.params:,} parameters · {costs.macs:,} MACs at {shape_text(costs.resolution)}"
    text(axes, RIGHT, top, words, size=9.0, ha="right", color=FAINT)
    remark = "The maps are to scale:\nchannels to the right,\nheight up, width\ninto the page."
    text(axes, MARGIN, top - 8.0, remark, ha="left", color=FAINT, linespacing=1.4)


def _stage_width(run: tuple[Part, ...]) -> float:
    return max(8.0, sum(_cards_width(part) + SPACE for part in run) + SPACE)  # at least as wide as its title


def _cards_width(part: Part) -> float:
    return CARD + (part.repeats - 1) * _strip(part)


def _strip(part: Part) -> float:
    return min(STRIP, 10.0 / part.repeats)  # very deep stages get narrower strips


def _pixel(costs: Costs) -> float:
    """Units of one pixel of the image."""
    return LARGEST / max(costs.resolution)
