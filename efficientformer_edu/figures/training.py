"""Drawings of training: what the network sees, how its learning rate moves, how a run goes, what comes out.

Paper: section 5.1. What a trained network looks at is drawn in `training_fields`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.ticker import MaxNLocator, PercentFormatter

from efficientformer_edu.config_values import count
from efficientformer_edu.figures.colours import FAINT, INK, PAPER, PARTS, QUERY
from efficientformer_edu.figures.latency_times import GRID
from efficientformer_edu.figures.style import WIDTH, Drawing, array, bare, drawing
from efficientformer_edu.training.evaluation import Evaluation
from efficientformer_edu.training.fashion_mnist import statistics
from efficientformer_edu.training.optimization import learning_rate
from efficientformer_edu.training.recipe import Recipe
from efficientformer_edu.weights.images import MEAN, STD

MOST_NAMES = 20  # classes whose names and shares a drawing has room for
MOST_CELLS = 100  # in a row
SHARES = LinearSegmentedColormap.from_list("shares", [PAPER, *PARTS["MB4D"], "#00304D"])
RUNS = [PARTS[part].line for part in ("MB4D", "MB3D", "embedding", "head", "stem")] + [QUERY]
POINTS = 600  # of a curve: more than a drawing has dots for


def draw_confusion(evaluation: Evaluation) -> Drawing:
    """How often each class (row) is taken for each (column), as part of the images of its row.

    Up to 20 classes bear their names and percentages. Of more than 100, neighbours share a cell: a dot for each of
    ImageNet's pairs of classes would not be seen. Colours grow with the square root, so that seldom mistakes are to be
    seen beside what is mostly right.
    """
    classes, counts = evaluation.classes, array(evaluation.confusion)
    together = math.ceil(len(classes) / MOST_CELLS)
    for axis in (0, 1):
        counts = np.add.reduceat(counts, range(0, len(classes), together), axis=axis)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)  # a class without images has a row of zeros
    named = len(classes) <= MOST_NAMES
    side = 2.4 + 0.52 * len(classes) if named else 7.0
    with drawing(height=side, width=side + 1.0) as figure:
        axes = figure.subplots()
        edges = (-0.5, together * len(counts) - 0.5)
        drawn = axes.imshow(shares, cmap=SHARES, norm=PowerNorm(0.5, vmin=0, vmax=1), extent=(*edges, *edges[::-1]))
        axes.set_title(str(evaluation))
        axes.set(xlabel="taken for", ylabel="is" + f", {together} classes to a cell" * (together > 1))
        if named:
            axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
            axes.set_yticks(range(len(classes)), classes)
            axes.tick_params(length=0)
            for (row, column), share in np.ndenumerate(shares):
                if share:
                    colour = PAPER if share > 0.35 else INK
                    axes.text(column, row, f"{100 * share:.3g}", color=colour, ha="center", va="center", fontsize=8)
        ticks = [0, 0.05, 0.2, 0.5, 1]
        format = PercentFormatter(1, decimals=0)
        figure.colorbar(drawn, ax=axes, shrink=0.7, label="of the images of a row", ticks=ticks, format=format)
    return figure


def draw_curves(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Drawing:
    """Learning curves: loss and top-1 accuracy after each epoch, one colour for each run.

    The loss in training is the mean over the epoch's steps, on augmented images and smoothed targets: that of the test
    images, after the epoch and on neither, can be lower.

    Args:
        logs: for each run, by its name, rows as `Loop.epochs` yields them.

    Raises:
        ValueError: without runs, with more than there are colours, or for a run without an epoch.
    """
    if not 1 <= len(logs) <= len(RUNS):
        raise ValueError(f"{len(logs)} runs to draw; wanted: 1 to {len(RUNS)}")
    if empty := [name for name, rows in logs.items() if not rows]:
        raise ValueError(f"the run {empty[0]!r} has no epoch to draw")
    with drawing(height=4.0) as figure:
        left, right = figure.subplots(1, 2)
        for colour, (name, rows) in zip(RUNS, logs.items(), strict=False):
            epochs = [row["epoch"] for row in rows]
            look: dict[str, Any] = {"color": colour, "marker": "o", "ms": 4 if len(rows) < 30 else 0}
            left.plot(epochs, [row["train_loss"] for row in rows], ls="--", **look)
            left.plot(epochs, [row["test_loss"] for row in rows], **look)
            right.plot(epochs, [100 * row["top1"] for row in rows], label=f"{name}: {rows[-1]['top1']:.2%}", **look)
        for axes, title in ((left, "loss"), (right, "top-1 accuracy on the test images, %")):
            axes.set_title(title)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            _quiet(axes)
        for style, words in (("--", "training images, augmented"), ("-", "test images")):
            left.plot([], [], color=FAINT, ls=style, label=words)
        for axes in (left, right):
            axes.legend(frameon=False)
    return figure


def draw_rates(recipes: Mapping[str, Recipe], steps_per_epoch: int) -> Drawing:
    """The learning rate at every step of a run, with the warm-up shaded; one panel for each recipe, one scale for all.

    Args:
        recipes: by the names that they shall bear.
        steps_per_epoch: steps in an epoch, in each of them.

    Raises:
        ValueError: without recipes, or for an epoch without a step.
    """
    if not recipes:
        raise ValueError("no recipes to draw; wanted: at least one")
    count("steps_per_epoch", steps_per_epoch)
    with drawing(height=3.4, width=min(WIDTH, 1.0 + 4.0 * len(recipes))) as figure:
        panels = figure.subplots(1, len(recipes), squeeze=False, sharey=True)[0]
        for axes, colour, (name, recipe) in zip(panels, RUNS * len(recipes), recipes.items(), strict=False):
            last, warm = recipe.total_epochs * steps_per_epoch - 1, recipe.warm_up_epochs
            turn = math.ceil(warm * steps_per_epoch)  # the first step after the warm-up
            steps = {*np.linspace(0, last, POINTS).round().astype(int).tolist(), max(turn - 1, 0), min(turn, last)}
            rates = {step: learning_rate(recipe, step, steps_per_epoch) for step in sorted(steps)}
            axes.axvspan(0, warm, color=PARTS["stem"].fill, lw=0)
            axes.plot([step / steps_per_epoch for step in rates], list(rates.values()), color=colour, lw=1.8)
            words = f"warm-up: {warm:g} epochs" if warm else "no warm-up"
            axes.annotate(words, (warm, 0), (4, 6), textcoords="offset points", fontsize=8)
            axes.set_title(f"{name}, at most {max(rates.values()):.2g}")
            axes.set_xlabel("epoch")
            _quiet(axes)
        panels[0].set_ylabel("learning rate")
        panels[0].set_ylim(bottom=0)
    return figure


def draw_samples(images: Any, titles: Sequence[str]) -> Drawing:
    """A row of images as the network gets them, with the normalisation taken back.

    Args:
        images: (B, C, H, W), normalised, as `TrainBatches` makes them.
        titles: one for each image, such as `target_words` makes them.

    Raises:
        ValueError: for another shape, or if there are not as many titles as images.
    """
    arrays = array(images)
    if arrays.ndim != 4 or arrays.shape[1] not in (1, 3):
        raise ValueError(f"images have the shape {arrays.shape}; wanted: (B, 1 or 3, H, W)")
    if len(arrays) != len(titles) or not titles:
        raise ValueError(f"{len(arrays)} images and {len(titles)} titles; wanted: at least one, and as many of both")
    mean, std = (np.array(numbers) for numbers in (statistics() if arrays.shape[1] == 1 else (MEAN, STD)))
    side = min(1.6, (WIDTH - 0.4) / len(arrays))  # inches
    with drawing(height=side + 0.5, width=side * len(arrays) + 0.4) as figure:
        for axes, image, title in zip(figure.subplots(1, len(arrays), squeeze=False)[0], arrays, titles, strict=True):
            pixels = (image.transpose(1, 2, 0) * std + mean).clip(0, 1)
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=1)
            axes.set_title(title, fontsize=8)
            bare(axes)
    return figure


def target_words(targets: Any, classes: Sequence[str], least: float = 0.05) -> list[str]:
    """For each image the classes that its target names, one a line with its part.

    Args:
        targets: (B, classes), mixed and smoothed.
        classes: their names.
        least: what a class has by smoothing alone is below this part, and left out.
    """
    return [
        "\n".join(f"{classes[label]} {row[label]:.0%}" for label in np.argsort(-row) if row[label] >= least)
        for row in array(targets)
    ]


def _quiet(axes: Axes) -> None:
    axes.grid(color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
