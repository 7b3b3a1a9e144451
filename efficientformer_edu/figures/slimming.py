"""Drawings of a slimming: what the mixtures weigh, what the search did step by step, and where its networks stand.

Paper: section 4.2 and Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from efficientformer_edu.figures.colours import FAINT, INK, PARTS, QUERY, Colour
from efficientformer_edu.figures.latency_times import GRID
from efficientformer_edu.figures.style import Drawing, drawing
from efficientformer_edu.slimming.contenders import METHODS, Method
from efficientformer_edu.slimming.front import Front
from efficientformer_edu.slimming.metapath import NOISES, Noise, mixture
from efficientformer_edu.slimming.records import Search
from efficientformer_edu.slimming.subnet import Candidate, Kind

CANDIDATES: Mapping[Candidate, Colour] = {
    "MB4D": PARTS["MB4D"],
    "MB3D": PARTS["MB3D"],
    "I": PARTS["image"],
}
KINDS: Mapping[Kind, tuple[str, str]] = {  # of actions: marker and words
    "depth": ("s", "depth: I for the least important MetaPath"),
    "MB3D": ("^", "MB3D: the first becomes MB4D"),
    "width": ("o", "width: 16 channels off the least important stage"),
}
WAYS: Mapping[Method, tuple[str, str]] = {  # marker and colour
    "slimming": ("o", QUERY),
    "uniform": ("s", PARTS["MB4D"].line),
    "random": ("^", PARTS["embedding"].line),
    "no-mb3d": ("D", PARTS["MB3D"].line),
}
DRAWN = 4000  # mixtures for each histogram


def draw_mixtures(mixtures: Sequence[Sequence[Mapping[Candidate, float]]]) -> Drawing:
    """A bar for each MetaPath with the weights of its candidates, e^α over their sum.

    Args:
        mixtures: of each stage, as `Supernet.mixtures` gives them.
    """
    with drawing(height=2.9) as figure:
        axes = figure.subplots()
        places, names, place = [], [], 0.0
        for stage, paths in enumerate(mixtures, start=1):
            for number, weights in enumerate(paths, start=1):
                bottom = 0.0
                for name, weight in weights.items():
                    colour = CANDIDATES[name]
                    axes.bar(place, weight, 0.8, bottom, color=colour.fill, edgecolor=colour.line)
                    if weight > 0.12:
                        axes.text(place, bottom + weight / 2, f"{name}\n{weight:.2f}", ha="center", va="center", size=8)
                    bottom += weight
                places.append(place)
                names.append(f"{stage}.{number}")
                place += 1
            place += 0.5
        axes.set_xticks(places, names)
        axes.set_xlabel("MetaPath: stage and place in it")
        axes.set_ylabel("weight without noise")
        _quiet(axes)
    return figure


def draw_noise(alpha: Sequence[float], temperatures: Sequence[float]) -> Drawing:
    """How the weight of the first of some candidates is distributed, for either noise and some temperatures.

    Args:
        alpha: importance of the candidates.
        temperatures: τ, one column each.
    """
    with drawing(height=3.6) as figure:
        grid = figure.subplots(2, len(temperatures), sharex=True, squeeze=False)
        for axes_row, noise in zip(grid, NOISES, strict=True):
            for axes, tau in zip(axes_row, temperatures, strict=True):
                axes.hist(
                    weights_drawn(alpha, noise, tau), bins=25, range=(0, 1), color=PARTS["MB4D"].fill, ec=INK, lw=0.5
                )
                axes.set_title(f"{noise} noise, τ = {tau:g}")
                axes.set_yticks([])
                _quiet(axes)
        for axes in grid[-1]:
            axes.set_xlabel("weight of the first candidate")
    return figure


def weights_drawn(alpha: Sequence[float], noise: Noise, tau: float) -> list[float]:
    """The weight of the first candidate in many mixtures; the same ones each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        values = torch.tensor(alpha)
        return [float(mixture(values, NOISES[noise](values), tau)[0]) for _ in range(DRAWN)]


def draw_search(search: Search) -> Drawing:
    """The way of a search: accuracy on the images held out over predicted latency, a mark for each action.

    Below, the widths of the stages and the blocks that are left. Dotted lines are the targets.

    Raises:
        ValueError: for a search without steps.
    """
    if not search.steps:
        raise ValueError("no steps to draw: the largest network already reaches the targets")
    times = [1e3 * seconds for seconds in search.seconds]
    accuracies = [100 * step.accuracy for step in search.steps]
    with drawing(height=5.4) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        upper.plot(times[:-1], accuracies, color=FAINT, lw=1, zorder=1)
        for kind, (marker, words) in KINDS.items():
            taken = [i for i, step in enumerate(search.steps) if step.taken.action.kind == kind]
            if taken:
                upper.scatter(
                    [times[i] for i in taken],
                    [accuracies[i] for i in taken],
                    marker=marker,
                    s=42,
                    color=PARTS["MB3D" if kind == "MB3D" else "MB4D"].fill,
                    edgecolor=INK,
                    linewidth=0.8,
                    label=words,
                    zorder=2,
                )
        upper.set_ylabel("top-1 before the step, %,\ninherited weights")
        upper.legend(frameon=False, fontsize=8, loc="lower left")
        for stage in range(4):
            shares = [subnet.embed_dims[stage] / search.supernet.embed_dims[stage] for subnet in search.subnets]
            lower.step(times, shares, where="post", lw=1.6, label=f"width of stage {stage + 1}")
        left = [sum(map(_blocks, subnet.choices)) / sum(search.supernet.depths) for subnet in search.subnets]
        lower.step(times, left, where="post", lw=1.6, ls="--", color=INK, label="blocks")
        lower.yaxis.set_major_formatter(PercentFormatter(1))
        lower.set_ylabel("of the supernet's")
        lower.set_xlabel("predicted latency at 224 pixels, ms; the search goes to the right")
        lower.legend(frameon=False, fontsize=8, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.32))
        for axes in (upper, lower):
            for target in search.targets:
                axes.axvline(1e3 * target, color=FAINT, ls=":", lw=1)
            _quiet(axes)
        lower.invert_xaxis()
    return figure


def draw_front(front: Front) -> Drawing:
    """Accuracy of networks trained from scratch over their measured latency, a line for each way they were found.

    A whisker is the interval of the mean over the seeds; a single seed has none.

    Raises:
        ValueError: if nothing was both trained and timed.
    """
    ways = {method: [one for one in front.of(method) if one.accuracy and one.prediction] for method in METHODS}
    if not any(ways.values()):
        raise ValueError("no network was both trained and timed; run the comparison to its end")
    with drawing(height=4.2, width=8.5) as figure:
        axes = figure.subplots()
        for method, standings in ways.items():
            marker, colour = WAYS[method]
            points = []
            for one in standings:
                assert one.accuracy is not None
                assert one.prediction is not None
                points.append(
                    (1e3 * one.prediction.measured, *(100 * value for value in one.accuracy[:3]), len(one.top1))
                )
            if not points:
                continue
            axes.plot(
                [p[0] for p in points], [p[1] for p in points], marker=marker, color=colour, label=METHODS[method]
            )
            for time, _, low, high, seeds in points:
                if seeds > 1:
                    axes.plot((time, time), (low, high), color=colour, lw=1, marker="_", ms=6)
        axes.set_xlabel("measured latency of the whole network at 224 pixels, ms")
        axes.set_ylabel("top-1 on the test images, %")
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        _quiet(axes)
    return figure


def _blocks(chosen: Sequence[Candidate]) -> int:
    return len(chosen) - list(chosen).count("I")


def _quiet(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
