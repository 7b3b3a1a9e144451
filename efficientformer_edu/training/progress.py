"""A bar on the terminal while a network trains, a line for each epoch, and at the end where everything is."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from efficientformer_edu.training.loop import Loop
from efficientformer_edu.training.run import Trained

HEAD = "epoch      rate  train loss  test loss    top-1    top-5  seconds"
LINE = "{epoch:5d}{learning_rate:10.2e}{train_loss:12.4f}{test_loss:11.4f}{top1:9.2%}{top5:9.2%}{seconds:9.1f}"


def follow(loop: Loop) -> Trained:
    """Train to the end, and tell of it: each epoch on standard output, each step on the bar of a terminal.

    Of several processes one tells. Raises as `Loop.epochs` does.
    """
    tells = loop.accelerator.is_main_process
    columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not (tells and sys.stderr.isatty())) as bar:
        steps = loop.steps_per_epoch
        task = bar.add_task("", total=steps * loop.run.recipe.total_epochs, completed=steps * loop.epoch)
        if tells:
            print(HEAD)
        for row in loop.epochs(lambda: bar.advance(task)):
            if tells:
                print(LINE.format(**row), flush=True)
    trained = loop.finish()
    if tells:
        print(f"{trained.evaluation}: {loop.run.test.words}")
        if loop.folder is not None:
            print(f"Weights, log and everything else: {loop.folder}")
    return trained
