"""Figures of a slimming run: the mixture weights, the steps of the search, and the resulting networks.

Paper: section 4.2 and Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from efficientformer_edu.plots import FAINT, INK, PARTS, QUERY, Colour
from efficientformer_edu.plots.style import SMALL_TEXT, Drawing, drawing, light_grid
from efficientformer_edu.slimming.baselines import METHODS, Method
from efficientformer_edu.slimming.front import Front
from efficientformer_edu.slimming.records import Search
from efficientformer_edu.slimming.subnet import Candidate, Kind, Noise, Subnet
from efficientformer_edu.slimming.supernet import NOISES, mixture

CANDIDATES: Mapping[Candidate, Colour] = {
    "MB4D": PARTS["MB4D"],
    "MB3D": PARTS["MB3D"],
    "I": PARTS["image"],
}
KINDS: Mapping[Kind, tuple[str, str, str]] = {  # kinds of actions: marker, fill and description
    "depth": ("s", PARTS["MB4D"].fill, "depth: I for the least important MetaPath"),
    "MB3D": ("^", PARTS["MB3D"].fill, "MB3D: the first becomes MB4D"),
    "width": ("o", PARTS["embedding"].fill, "width: 16 channels off the least important stage"),
}
METHOD_LOOKS: Mapping[Method, tuple[str, str]] = {  # marker and colour
    "slimming": ("o", QUERY),
    "uniform": ("s", PARTS["MB4D"].line),
    "random": ("^", PARTS["embedding"].line),
    "no-mb3d": ("D", PARTS["MB3D"].line),
}
STAGES = tuple(PARTS[name].line for name in ("stem", "embedding", "MB4D", "head"))  # line colours of the stages
SAMPLES = 4000  # mixtures per histogram


def draw_mixtures(mixtures: Sequence[Sequence[Mapping[Candidate, float]]]) -> Drawing:
    """A bar per MetaPath with the weights of its candidates, the softmax of α.

    Args:
        mixtures: mixture weights of each stage, from `Supernet.mixtures`.
    """
    with drawing(height=2.9) as figure:
        axes = figure.subplots()
        positions, names, position = [], [], 0.0
        for stage, paths in enumerate(mixtures, start=1):
            for number, weights in enumerate(paths, start=1):
                bottom = 0.0
                for name, weight in weights.items():
                    colour = CANDIDATES[name]
                    axes.bar(position, weight, 0.8, bottom, color=colour.fill, edgecolor=colour.line)
                    if weight > 0.16:
                        axes.text(
                            position, bottom + weight / 2, f"{name}\n{weight:.2f}", ha="center", va="center", size=8
                        )
                    bottom += weight
                positions.append(position)
                names.append(f"{stage}.{number}")
                position += 1
            position += 0.5
        axes.set_xticks(positions, names)
        axes.set_xlabel("MetaPath: stage and index")
        axes.set_ylabel("weight without noise")
        tiles = [Patch(facecolor=tint.fill, edgecolor=tint.line, label=name) for name, tint in CANDIDATES.items()]
        axes.legend(handles=tiles, fontsize=SMALL_TEXT, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
        light_grid(axes, "y")
    return figure


def draw_noise(alpha: Sequence[float], temperatures: Sequence[float]) -> Drawing:
    """Histograms of the first candidate's weight, for both kinds of noise and several temperatures.

    Args:
        alpha: importance of the candidates.
        temperatures: values of τ, one per column.
    """
    with drawing(height=3.6) as figure:
        grid = figure.subplots(2, len(temperatures), sharex=True, squeeze=False)
        for axes_row, noise in zip(grid, NOISES, strict=True):
            for axes, tau in zip(axes_row, temperatures, strict=True):
                axes.hist(
                    sample_weights(alpha, noise, tau), bins=25, range=(0, 1), color=PARTS["MB4D"].fill, ec=INK, lw=0.5
                )
                axes.set_title(f"{noise} noise, τ = {tau:g}")
                axes.set_yticks([])
                light_grid(axes, "y")
        for axes in grid[-1]:
            axes.set_xlabel("weight of the first candidate")
    return figure


def sample_weights(alpha: Sequence[float], noise: Noise, tau: float) -> list[float]:
    """Sample the weight of the first candidate `SAMPLES` times, with a fixed seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        values = torch.tensor(alpha)
        return [float(mixture(values, NOISES[noise](values), tau)[0]) for _ in range(SAMPLES)]


def draw_search(search: Search) -> Drawing:
    """The steps of a search: accuracy on the held-out images against predicted latency, with a mark per action.

    The panels below show the remaining blocks and channels. Dotted lines are the targets, labelled at the top. The last
    network has no mark, because its accuracy is not evaluated.

    Raises:
        ValueError: for a search without steps.
    """
    if not search.steps:
        raise ValueError("no steps to draw: the largest network already reaches the targets")
    times, targets = ([1e3 * seconds for seconds in values] for values in (search.seconds, search.targets))
    with drawing(height=6.4) as figure:
        panels = upper, middle, lower = figure.subplots(3, 1, sharex=True, height_ratios=(5, 3, 3))
        _accuracies(upper, search, times)
        ends = [*times, times[-1] - 0.03 * (times[0] - times[-1])]  # makes the last network visible
        subnets = (*search.subnets, search.subnets[-1])
        _blocks(middle, subnets, ends)
        _widths(lower, subnets, ends)
        lower.set_xlabel("predicted latency at 224 pixels, ms; the search goes to the right")
        for axes in panels:
            for target in targets:
                axes.axvline(target, color=FAINT, ls=":", lw=1, zorder=3)
            light_grid(axes, "y")
        upper.xaxis.set_tick_params(bottom=False)
        above = upper.secondary_xaxis("top")
        above.set_xticks(targets, [f"target {target:.3g} ms" for target in targets], fontsize=SMALL_TEXT)
        above.tick_params(length=0)
        above.spines["top"].set_visible(False)
        lower.invert_xaxis()
    return figure


def _accuracies(axes: Axes, search: Search, times: Sequence[float]) -> None:
    accuracies = [100 * step.accuracy for step in search.steps]
    axes.plot(times[:-1], accuracies, color=FAINT, lw=1, zorder=1)
    for kind, (marker, fill, label) in KINDS.items():
        steps = [i for i, step in enumerate(search.steps) if step.taken.action.kind == kind]
        if steps:
            points = [times[i] for i in steps], [accuracies[i] for i in steps]
            axes.plot(*points, marker, ms=6.5, mfc=fill, mec=INK, mew=0.8, label=label, zorder=4)
    axes.set_ylabel("top-1 before the step, %,\ninherited weights")
    axes.legend(fontsize=SMALL_TEXT, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.1))


def _blocks(axes: Axes, subnets: Sequence[Subnet], times: Sequence[float]) -> None:
    """The number of blocks of each kind, stacked."""
    bottom = [0] * len(times)
    for kind in ("MB4D", "MB3D"):
        top = [
            low + sum(choice.count(kind) for choice in subnet.choices)
            for low, subnet in zip(bottom, subnets, strict=True)
        ]
        axes.fill_between(times, bottom, top, step="post", color=CANDIDATES[kind].fill)
        axes.step(times, top, where="post", color=CANDIDATES[kind].line, lw=1.2, label=kind)
        if top[0] > bottom[0]:
            axes.annotate(kind, (times[0], (bottom[0] + top[0]) / 2), (6, 0), textcoords="offset points", va="center")
        bottom = top
    axes.set_ylim(0, 1.05 * bottom[0])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("remaining blocks")


def _widths(axes: Axes, subnets: Sequence[Subnet], times: Sequence[float]) -> None:
    """The channels of each stage, as lines labelled at their right end."""
    widest, lowest = max(subnets[0].embed_dims), 0.0
    for stage in sorted(range(4), key=subnets[-1].embed_dims.__getitem__):
        widths = [subnet.embed_dims[stage] for subnet in subnets]
        axes.step(times, widths, where="post", lw=1.6, color=STAGES[stage], label=f"stage {stage + 1}")
        lowest = max(lowest, widths[-1])
        axes.annotate(
            f"stage {stage + 1}",
            (times[-1], lowest),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL_TEXT,
        )
        lowest += 0.13 * widest  # so that labels do not overlap
    axes.set_ylim(0, 1.15 * widest)
    axes.set_ylabel("channels")


def draw_front(front: Front) -> Drawing:
    """Accuracy of networks trained from scratch against their measured latency, one line per search method.

    Whiskers are intervals of the mean over the seeds; a single seed has none.

    Raises:
        ValueError: if nothing was both trained and timed.
    """
    with drawing(height=4.2, width=8.5) as figure:
        axes = figure.subplots()
        for method, (marker, colour) in METHOD_LOOKS.items():
            points = sorted(
                (1e3 * network.prediction.measured, network.accuracy)
                for network in front.by_method(method)
                if network.accuracy and network.prediction
            )
            if points:
                times, accuracies = zip(*points, strict=True)
                values = [100 * value for value, *_ in accuracies]
                axes.plot(times, values, marker=marker, color=colour, label=METHODS[method])
            for time, (_, low, high, seeds) in points:
                if seeds > 1:
                    axes.plot((time, time), (100 * low, 100 * high), color=colour, lw=1, marker="_", ms=6)
        if not axes.lines:
            raise ValueError("no network was both trained and timed; run the comparison to its end")
        axes.set_xlabel("measured latency of the whole network at 224 pixels, ms")
        axes.set_ylabel("top-1 on the test images, %")
        axes.legend(fontsize=SMALL_TEXT, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14))
        light_grid(axes, "y")
    return figure
