"""Progress of a training run: a progress bar, a line per epoch, and the location of the results."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from efficientformer_edu.training.run import Trained
from efficientformer_edu.training.trainer import E, N, R, Trainer

COLUMNS = {
    "epoch": ("epoch", 5, "d"),
    "learning_rate": ("rate", 10, ".2e"),
    "train_loss": ("train loss", 12, ".4f"),
    "test_loss": ("test loss", 11, ".4f"),
    "top1": ("top-1", 9, ".2%"),
    "top5": ("top-5", 9, ".2%"),
    "miou": ("mIoU", 9, ".4f"),
    "pixel_accuracy": ("pixels", 9, ".2%"),
    "ap": ("AP", 9, ".4f"),
    "ap50": ("AP50", 9, ".4f"),
    "seconds": ("seconds", 9, ".1f"),
}
"""Columns of the log: title, width and number format."""


def follow(loop: Trainer[R, N, E]) -> Trained[N, E]:
    """Train to the end and report progress: epochs on standard output, steps in a progress bar on a terminal.

    Only the main process prints. Raises the same errors as `Trainer.epochs`.
    """
    is_main = loop.accelerator.is_main_process
    for note in loop.notes if is_main else ():
        print(f"Note: {note}.")
    columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not (is_main and sys.stderr.isatty())) as bar:
        steps = loop.steps_per_epoch
        task = bar.add_task("", total=steps * loop.run.recipe.total_epochs, completed=steps * loop.epoch)
        names = ("epoch", "learning_rate", "train_loss", *loop.metric_names, "seconds")
        if is_main:
            print("".join(f"{title:>{width}}" for title, width, _ in map(COLUMNS.__getitem__, names)))
        for row in loop.epochs(lambda: bar.advance(task)):
            if is_main:
                cells = ((row[name], *COLUMNS[name][1:]) for name in names)
                print("".join(f"{value:{width}{form}}" for value, width, form in cells), flush=True)
    trained = loop.finish()
    if is_main:
        print(trained.evaluation)
        print(f"judged by: {loop.run.test.words}")
        if loop.folder is not None:
            print(f"Weights, log and everything else: {loop.folder}")
    return trained
