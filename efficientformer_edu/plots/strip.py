"""The network as a strip: one bar per block, its MACs upwards and its parameters downwards.

The SVG is written with the standard library only, so a notebook or a browser can redraw it whenever the reader changes
the network. Its text is large, because a phone shows it at half the size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from efficientformer_edu.audit.ledger import Costs
from efficientformer_edu.plots import FAINT, FRAME_LINE, INK, PAPER, PARTS

WIDTH, HEIGHT = 540, 466
EDGE = 14  # padding of the card
GAP = 6  # between stages
LANE = 130  # height of the tallest bar in each direction
BASE = 230  # the line from which bars start
SIZE = 15  # of letters
LETTER = 0.62 * SIZE  # width of a letter of a wide font
WIDEST = 26.0  # bar
GROUND = "#F3F4F5"  # behind the bars of a stage


class Svg(str):
    """The source of an SVG, which Jupyter renders. `print` shows the source."""

    @property
    def caption(self) -> str:
        """The title of the SVG."""
        title = re.search("<title>(.*?)</title>", self)
        return title[1] if title else ""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"image/svg+xml": str(self), "text/plain": self.caption}


class Bar(NamedTuple):
    """A block and its costs: kind ("MB4D", ...), name, MACs and parameters."""

    kind: str
    name: str
    macs: int
    params: int


class StageBars(NamedTuple):
    """The bars of a stage and the lines of text below them."""

    bars: tuple[Bar, ...]
    lines: tuple[str, ...]

    def width(self, bar_width: float) -> float:
        """Width that bars and text need."""
        return max(bar_width * len(self.bars), LETTER * max(map(len, self.lines)))


def strip(costs: Costs) -> Svg:
    """A strip with one bar per block in execution order, for a network of up to about a hundred blocks.

    The tooltip of each bar has its exact numbers.
    """
    stages = bars_by_stage(costs)
    height, width = costs.resolution
    form = "" if costs.form == "trained" else ", folded"
    title = f"{short(costs.params)} parameters, {short(costs.macs)} MACs at {height}×{width}{form}"
    bars = [bar for group in stages for bar in group.bars]
    most = max(bars, key=lambda bar: bar.macs), max(bars, key=lambda bar: bar.params)
    description = (
        f"{len(bars)} bars, one per block in execution order. Most MACs: {most[0].name}, {most[0].macs:,}. "
        f"Most parameters: {most[1].name}, {most[1].params:,}."
    )
    elements = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" width="{4 * WIDTH // 3}" '
        f'height="{4 * HEIGHT // 3}" style="max-width:100%;height:auto" font-family="sans-serif" font-size="{SIZE}">',
        f"<title>{title}</title><desc>{description}</desc>",
        _rect(0.5, 0.5, WIDTH - 1, HEIGHT - 1, f'rx="8" fill="{PAPER}" stroke="{FRAME_LINE}"'),
        _text(EDGE, 28, title, weight="bold"),
        *_legend({bar.kind for bar in bars}),
        _text(EDGE, BASE - LANE - 12, f"↑ MACs of each block, at most {short(most[0].macs)}", FAINT),
        *_bars(stages, most[0].macs, most[1].params),
        _text(EDGE, BASE + LANE + 24, f"↓ parameters of each block, at most {short(most[1].params)}", FAINT),
        "</svg>",
    ]
    return Svg("".join(elements))


def bars_by_stage(costs: Costs) -> list[StageBars]:
    """The blocks of a network by stage."""
    bars = []
    for label, sums in costs.by("block").items():
        stage, _, block = label.partition(", ")
        bars.append((stage, Bar((block or stage).split()[0], label, sums.macs, sums.params)))
    stages = []
    grids = costs.config.grids(costs.resolution)
    for stage, run in groupby(bars, key=lambda pair: pair[0]):
        lines = [stage]
        if stage.startswith("stage"):
            j = int(stage[-1]) - 1
            lines += ["×".join(map(str, grids[j])), f"width {costs.config.embed_dims[j]}"]
        stages.append(StageBars(tuple(bar for _, bar in run), tuple(lines)))
    return stages


def short(number: int) -> str:
    """A number with three significant digits: 12.3 M, 1.29 G, 640."""
    for power, letter in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 0.9995 * 10**power:  # rounds to 1.00 of the larger unit
            value = number / 10**power
            return f"{value:#.3g}".rstrip(".") + f" {letter}" if value < 999.5 else f"{value:,.0f} {letter}"
    return str(number)


def _bars(stages: list[StageBars], macs: int, params: int) -> Iterator[str]:
    """The bars of all stages with their labels. `macs` and `params` are the largest of a block."""
    available = WIDTH - 2 * EDGE - GAP * (len(stages) - 1)
    bar_width = WIDEST
    while sum(group.width(bar_width) for group in stages) > available and bar_width > 1:
        bar_width *= 0.98
    spare = (available - sum(group.width(bar_width) for group in stages)) / len(stages)
    x = float(EDGE)
    for group in stages:
        width = group.width(bar_width) + spare
        yield _rect(x, BASE - LANE, width, 2 * LANE, f'fill="{GROUND}"')
        left = x + (width - bar_width * len(group.bars)) / 2
        for bar in group.bars:
            fill, line = PARTS[bar.kind]
            up, down = LANE * bar.macs / macs, LANE * bar.params / params
            yield f'<g fill="{fill}" stroke="{line}" stroke-width="{min(1, bar_width / 6):.2f}">'
            yield f"<title>{bar.name}: {bar.macs:,} MACs, {bar.params:,} parameters</title>"
            yield _rect(left, BASE - up, 0.86 * bar_width, up) + _rect(left, BASE, 0.86 * bar_width, down) + "</g>"
            left += bar_width
        for i, label in enumerate(group.lines):
            yield _text(x + width / 2, BASE + LANE + 52 + 1.3 * SIZE * i, label, INK if i == 0 else FAINT, "middle")
        x += width + GAP
    yield f'<path d="M{EDGE} {BASE}H{WIDTH - EDGE}" stroke="{INK}" stroke-width="0.8"/>'


def _legend(kinds: set[str]) -> Iterator[str]:
    x = float(EDGE)
    for kind, (fill, line) in PARTS.items():
        if kind not in kinds:
            continue
        yield _rect(x, 44, 14, 14, f'fill="{fill}" stroke="{line}"')
        yield _text(x + 20, 56, kind)
        x += 20 + LETTER * len(kind) + 16


def _rect(x: float, y: float, width: float, height: float, paint: str = "") -> str:
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" {paint}/>'


def _text(x: float, y: float, label: str, fill: str = INK, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" text-anchor="{anchor}" font-weight="{weight}">{label}</text>'
