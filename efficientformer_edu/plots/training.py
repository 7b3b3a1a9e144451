"""Figures of training: input images and crops, schedules, learning curves, and the confusion matrix.

Paper: section 5.1. Crops: `data.images`. Receptive fields of a trained network are in `plots.maps`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from efficientformer_edu._validation import positive_int
from efficientformer_edu.data.fashion_mnist import statistics
from efficientformer_edu.data.images import MEAN, STD
from efficientformer_edu.plots import FAINT, INK, PAPER, PARTS, QUERY
from efficientformer_edu.plots.style import SERIES, WIDTH, Drawing, array, bare, drawing, light_grid
from efficientformer_edu.training.evaluation import Evaluation
from efficientformer_edu.training.optimization import learning_rate
from efficientformer_edu.training.recipe import Recipe

MAX_NAMES = 20  # classes whose names and percentages fit
MAX_CELLS = 100  # per row
SHARES = LinearSegmentedColormap.from_list("shares", [PAPER, *PARTS["MB4D"], "#00304D"])
RUNS = [PARTS[part].line for part in ("MB4D", "MB3D", "embedding", "head", "stem")] + [QUERY]
POINTS = 600  # of a curve: more than the figure has dots


def draw_confusion(evaluation: Evaluation) -> Drawing:
    """The confusion matrix: how often a class (row) is predicted as another (column), as a share of its images.

    Up to 20 classes are shown with names and percentages. With more than 100, neighbouring classes share a cell,
    because single cells would not be visible. The colour scale is a square root, so that rare mistakes are visible next
    to large values on the diagonal.
    """
    classes, counts = evaluation.classes, array(evaluation.confusion)
    together = math.ceil(len(classes) / MAX_CELLS)
    for axis in (0, 1):
        counts = np.add.reduceat(counts, range(0, len(classes), together), axis=axis)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)  # a class without images has a row of zeros
    named = len(classes) <= MAX_NAMES
    side = 2.4 + 0.52 * len(classes) if named else 7.0
    with drawing(height=side, width=side + 1.0) as figure:
        axes = figure.subplots()
        edges = (-0.5, together * len(counts) - 0.5)
        image = axes.imshow(shares, cmap=SHARES, norm=PowerNorm(0.5, vmin=0, vmax=1), extent=(*edges, *edges[::-1]))
        axes.set_title(str(evaluation))
        axes.set(xlabel="predicted class", ylabel="true class" + f", {together} per cell" * (together > 1))
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
        figure.colorbar(image, ax=axes, shrink=0.7, label="share of the images of a row", ticks=ticks, format=format)
    return figure


def draw_curves(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Drawing:
    """Learning curves: loss and top-1 accuracy after each epoch, one colour per run.

    The training loss is the mean over the steps of an epoch, with augmented images and smoothed targets. The test loss
    is computed after the epoch without either, so it can be lower.

    Args:
        logs: name of each run to its rows, one per epoch.

    Raises:
        ValueError: without runs, for more runs than colours, or for a run without an epoch.
    """
    if not 1 <= len(logs) <= len(RUNS):
        raise ValueError(f"{len(logs)} runs to draw; expected 1 to {len(RUNS)}")
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
            light_grid(axes)
        for style, label in (("--", "training images, augmented"), ("-", "test images")):
            left.plot([], [], color=FAINT, ls=style, label=label)
        for axes in (left, right):
            axes.legend()
    return figure


def draw_rates(recipes: Mapping[str, Recipe], steps_per_epoch: int) -> Drawing:
    """The learning rate at every step of a run, with the warm-up shaded; one panel per recipe, with a common scale.

    Args:
        recipes: title of each panel to its recipe.
        steps_per_epoch: of all recipes.

    Raises:
        ValueError: without recipes, or for an epoch without a step.
    """
    if not recipes:
        raise ValueError("no recipes to draw; expected at least one")
    positive_int("steps_per_epoch", steps_per_epoch)
    with drawing(height=3.4, width=min(WIDTH, 1.0 + 4.0 * len(recipes))) as figure:
        panels = figure.subplots(1, len(recipes), squeeze=False, sharey=True)[0]
        for axes, colour, (name, recipe) in zip(panels, RUNS * len(recipes), recipes.items(), strict=False):
            last, warm = recipe.total_epochs * steps_per_epoch - 1, recipe.warmup_epochs
            turn = math.ceil(warm * steps_per_epoch)  # the first step after the warm-up
            steps = {*np.linspace(0, last, POINTS).round().astype(int).tolist(), max(turn - 1, 0), min(turn, last)}
            rates = {step: learning_rate(recipe, step, steps_per_epoch) for step in sorted(steps)}
            axes.axvspan(0, warm, color=PARTS["stem"].fill, lw=0)
            axes.plot([step / steps_per_epoch for step in rates], list(rates.values()), color=colour, lw=1.8)
            label = f"warm-up: {warm:g} epochs" if warm else "no warm-up"
            axes.annotate(label, (warm, 0), (4, 6), textcoords="offset points", fontsize=8)
            axes.set_title(f"{name}, at most {max(rates.values()):.2g}")
            axes.set_xlabel("epoch")
            light_grid(axes)
        panels[0].set_ylabel("learning rate")
        panels[0].set_ylim(bottom=0)
    return figure


def draw_samples(images: Any, titles: Sequence[str]) -> Drawing:
    """A row of images as the network receives them, with the normalization undone.

    Args:
        images: (B, C, H, W), normalized, as `TrainBatches` makes them.
        titles: one per image, for example from `target_labels`.

    Raises:
        ValueError: for another shape, or if the numbers of titles and images differ.
    """
    arrays = array(images)
    if arrays.ndim != 4 or arrays.shape[1] not in (1, 3):
        raise ValueError(f"images have the shape {arrays.shape}; expected (B, 1 or 3, H, W)")
    if len(arrays) != len(titles) or not titles:
        raise ValueError(f"{len(arrays)} images and {len(titles)} titles; expected at least one, and as many of both")
    mean, std = (np.array(numbers) for numbers in (statistics() if arrays.shape[1] == 1 else (MEAN, STD)))
    side = min(1.6, (WIDTH - 0.4) / len(arrays))  # inches
    with drawing(height=side + 0.5, width=side * len(arrays) + 0.4) as figure:
        for axes, image, title in zip(figure.subplots(1, len(arrays), squeeze=False)[0], arrays, titles, strict=True):
            pixels = (image.transpose(1, 2, 0) * std + mean).clip(0, 1)
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=1)
            axes.set_title(title, fontsize=8)
            bare(axes)
    return figure


def target_labels(targets: Any, classes: Sequence[str], threshold: float = 0.05) -> list[str]:
    """The classes in the target of each image with their probabilities, one per line.

    Args:
        targets: (B, classes), mixed and smoothed.
        classes: their names.
        threshold: smaller probabilities, which come from label smoothing, are left out.
    """
    return [
        "\n".join(f"{classes[label]} {row[label]:.0%}" for label in np.argsort(-row) if row[label] >= threshold)
        for row in array(targets)
    ]


def draw_crops(photo: Any, crops: Mapping[str, tuple[tuple[float, float, float, float], Any]]) -> Drawing:
    """The crop of each rule, and below it the input of the network.

    At the top, the part outside the crop is faded out. At the bottom, a pixel has the same size everywhere, so a larger
    input is drawn larger.

    Args:
        photo: (H, W, 3), uint8 or floats from 0 to 1.
        crops: title of each rule to its box (left, top, right, bottom), in pixels of the image, and the input of the
            network, (h, w, 3).
    """
    image = array(photo)
    height, width = image.shape[:2]
    inputs = {title: array(pixels) for title, (_, pixels) in crops.items()}
    largest = max(max(pixels.shape[:2]) for pixels in inputs.values())
    with drawing(height=5.0) as figure:
        above, below = figure.subplots(2, len(crops), squeeze=False)
        for axes, (title, (box, _)) in zip(above, crops.items(), strict=True):
            left, top, right, bottom = box
            extent = (0, width, height, 0)
            axes.imshow(image, extent=extent)
            axes.add_patch(Rectangle((0, 0), width, height, facecolor=PAPER, alpha=0.72))
            kept = axes.imshow(image, extent=extent, zorder=2)  # above the faded image, clipped to the frame
            frame = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=QUERY, lw=2, zorder=3)
            axes.add_patch(frame)
            kept.set_clip_path(frame)
            axes.set_title(title)
            bare(axes)
        for axes, pixels in zip(below, inputs.values(), strict=True):
            rows, columns = pixels.shape[:2]
            middle = largest / 2
            corners = (middle - columns / 2, middle + columns / 2, middle + rows / 2, middle - rows / 2)
            axes.imshow(pixels, extent=corners)
            axes.set(xlim=(0, largest), ylim=(largest, 0))
            axes.set_title(f"input: {rows}×{columns}", fontsize=9)
            bare(axes)
    return figure


def draw_schedules(schedules: Mapping[str, Sequence[float]]) -> Drawing:
    """The drop path rate of each block, and the limit of 1, which no rate may reach.

    Args:
        schedules: label of each schedule to its rates, in the order of the blocks; at most three.
    """
    with drawing(height=2.9, width=7.0) as figure:
        axes = figure.subplots()
        for (label, rates), (colour, style, marker) in zip(schedules.items(), SERIES, strict=False):
            axes.plot(range(1, 1 + len(rates)), rates, color=colour, ls=style, marker=marker, label=label)
        axes.axhline(1.0, color=FAINT, linewidth=1.0, linestyle=":")
        axes.annotate("1: the branch is always dropped", (1, 1.0), (0, 4), textcoords="offset points", color=FAINT)
        axes.set(xlabel="block", ylabel="drop path rate", ylim=(-0.05, None))
        axes.set_xticks(range(1, 1 + max(map(len, schedules.values()))))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="center left")
    return figure
