"""How parameters and MACs grow with the image and with the shape of the network, and the share of attention in them.

Paper: section 3, observation 2: attention is not necessarily slow, if there are few tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from efficientformer_edu.audit.growth import (
    Point,
    attention_share,
    sweep_depth,
    sweep_num_vit,
    sweep_resolution,
    sweep_width,
)
from efficientformer_edu.audit.ledger import count
from efficientformer_edu.config import PRESETS, EfficientFormerConfig, get_config
from efficientformer_edu.plots import FAINT, PARTS
from efficientformer_edu.plots.style import Drawing, drawing

RESOLUTIONS = (112, 224, 448, 896)
FACTORS = (1, 2, 4, 8)  # in the same ratios as the resolutions, so that slopes can be compared by eye
MULTIPLES = (0.25, 1, 4, 16, 64)
WIDE_RESOLUTIONS = (112, 224, 448, 896, 1792, 3584)
SHARES = (0.001, 0.01, 0.1, 1.0)
SLOPE = "#C4C4C4"
LOOKS = (  # colour, marker and its size, line style: colour is never the only difference, and none hides another
    (PARTS["MB4D"].line, "o", 4.0, "-"),
    (PARTS["MB3D"].line, "s", 5.0, "--"),
    (PARTS["head"].line, "^", 10.0, ":"),
)


def draw_growth(model: str | EfficientFormerConfig = "l1") -> Drawing:
    """Parameters and MACs, relative to the network at 224 pixels, in four panels.

    The first three have logarithmic axes, on which a power law is a straight line: MACs grow with the square of the
    resolution and of the width, and linearly with the depth. The fourth replaces MB4D blocks of the last stage by MB3D
    blocks, on linear axes.

    Args:
        model: a configuration, or the name of a published network such as `"l1"`.

    Raises:
        ValueError: for an unknown name.
    """
    config = get_config(model)
    with drawing(height=3.2) as figure:
        *powers, last = figure.subplots(1, 4)
        _draw_power(powers[0], config, sweep_resolution(config, RESOLUTIONS), 2, "resolution in pixels")
        _draw_power(powers[1], config, sweep_width(config, FACTORS), 2, "all widths, times")
        _draw_power(powers[2], config, sweep_depth(config, FACTORS), 1, "all depths, times")
        _draw_multiples(last, config, sweep_num_vit(config))
        last.set_title("linear axes")
        last.set_xlabel("MB3D blocks in stage 4")
        last.xaxis.set_major_locator(MaxNLocator(integer=True))
        last.margins(y=0.15)
        last.set_ylim(bottom=0)
        last.grid()
        powers[0].set_ylabel("relative to the network at 224 pixels")
        figure.legend(*last.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def draw_attention_share() -> Drawing:
    """The share of attention products in all MACs by resolution, for the published networks."""
    with drawing(height=3.4, width=6.5) as figure:
        axes = figure.subplots()
        for number, name in enumerate(PRESETS):
            points = sweep_resolution(name, WIDE_RESOLUTIONS)
            _line(axes, number, name.upper(), points, [attention_share(point.costs) for point in points])
        _logarithmic(axes, WIDE_RESOLUTIONS, SHARES)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        axes.axvline(224, color=FAINT, lw=0.8, ls=(0, (1, 2)))
        axes.set_xlabel("resolution in pixels")
        axes.set_ylabel("attention products, share of all MACs")
        axes.legend()
    return figure


def _draw_power(axes: Axes, config: EfficientFormerConfig, points: Sequence[Point], power: int, varied: str) -> None:
    """A panel with logarithmic axes, and the line of a power law through the network itself."""
    xs = _values(points)
    itself = 224 if 224 in xs else 1
    axes.plot(xs, [(x / itself) ** power for x in xs], color=SLOPE, lw=6, zorder=1)
    _draw_multiples(axes, config, points)
    _logarithmic(axes, xs, MULTIPLES)
    axes.set_ylim(MULTIPLES[0] / 1.3, MULTIPLES[-1] * 1.3)
    axes.set_title(f"grey: slope {power}")
    axes.set_xlabel(varied)


def _draw_multiples(axes: Axes, config: EfficientFormerConfig, points: Sequence[Point]) -> None:
    itself = count(config)
    _line(axes, 0, "MACs", points, [point.costs.macs / itself.macs for point in points])
    _line(axes, 1, "parameters", points, [point.costs.params / itself.params for point in points])


def _line(axes: Axes, look: int, label: str, points: Sequence[Point], ys: Sequence[float]) -> None:
    colour, marker, size, dashes = LOOKS[look]
    axes.plot(
        _values(points), ys, color=colour, marker=marker, ms=size, mfc="none", ls=dashes, lw=1.4, label=label, zorder=2
    )


def _logarithmic(axes: Axes, xs: Sequence[float], ys: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, ticks in ((axes.xaxis, xs), (axes.yaxis, ys)):
        axis.set_major_locator(FixedLocator(list(ticks)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid()


def _values(points: Sequence[Point]) -> list[float]:
    return [point.value for point in points if not isinstance(point.value, tuple)]
