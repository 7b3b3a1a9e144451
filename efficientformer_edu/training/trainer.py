"""The training loop for all tasks, from a laptop to several machines.

Released code: `train_one_epoch` in `util/engine.py` and `main.py`. Distributed training uses accelerate: under
`torchrun`, each process trains on its shard of every batch. Losses and metrics do not communicate; the trainers do.
(Synchronized batch norms also communicate, in the forward pass in training mode.)

Randomness in a step depends only on the seed, the epoch and the step. Therefore only weights, optimizer and averages
are stored, and a run that was killed and resumed ends with the same weights as an uninterrupted run. The global random
state is not changed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import Dataset

from efficientformer_edu.training import checkpoints
from efficientformer_edu.training.distributed import synchronize
from efficientformer_edu.training.loading import Shard, loader
from efficientformer_edu.training.nan_checks import NotFiniteError, check_gradients, check_loss
from efficientformer_edu.training.optimization import WeightAverage, clip_adaptive_, parameter_groups
from efficientformer_edu.training.run import BaseRun, InitFrom, TrainingResult
from efficientformer_edu.utils.optional import import_optional
from efficientformer_edu.utils.rng import seeded

Tracker = Literal["tensorboard"]

COLUMNS = {
    "epoch": ("epoch", 5, "d"),
    "learning_rate": ("lr", 10, ".2e"),
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
"""Columns of the printed log: title, width and number format."""


class Trainer:
    """Trains a network. `fit` trains to the end and prints the log; `for row in trainer.epochs()` goes epoch by epoch.

    A subclass defines the network, the batches, the loss and the evaluation: the methods up to `save_weights`.

    Args:
        run: network, data and recipe.
        folder: folder to store the run in; None stores nothing.
        resume: continue the run in the folder. The number of epochs may increase, see `checkpoints`.
        workers: number of additional processes that load images, per training process.
        tracker: `"tensorboard"` also writes the log to the folder as TensorBoard events.

    Attributes:
        network: the network being trained.
        epoch: number of complete epochs.
        log: one row per epoch.
        evaluation: evaluation after the last epoch; its `scores` are in the log, its `result` is stored at the end.
        extended: one entry for each increase of the number of epochs: after which epoch, and the number before.
        notes: messages for the user about the start of training.

    Raises:
        ValueError: if the folder contains another run, or a tracker has no folder to write to.
        FileExistsError: if it contains a run and `resume` is False.
        FileNotFoundError: if it does not contain a run and `resume` is True.
        ImportError: if the package of the tracker is missing, with the command that installs it.
    """

    metric_names: tuple[str, ...]  # names of the evaluation's `scores`, in the order of the log
    unused_parameters = False  # whether some parameters have no gradient; DDP would wait for them

    def __init__(
        self,
        run: BaseRun,
        folder: Path | None = None,
        *,
        resume: bool = False,
        workers: int = 0,
        tracker: Tracker | None = None,
    ) -> None:
        check_tracker(tracker, folder)
        self.run, self.folder, self.workers = run, folder, workers
        self.accelerator = accelerator = Accelerator(
            # Without a GPU, accelerate only connects the processes if `cpu` is set; else each would train alone.
            cpu="LOCAL_RANK" in os.environ and not torch.cuda.is_available(),
            mixed_precision="no",  # it cannot change within a Python process; `autocast` sets that of the run
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=self.unused_parameters)],
            log_with=tracker,
            project_dir=folder,
        )
        self.shard = Shard(accelerator.process_index, accelerator.num_processes)
        self.epoch, self.log, self.extended = 0, list[dict[str, Any]](), list[dict[str, int]]()
        self.evaluation: Any = None
        self.notes = list[str]()
        recipe = run.recipe
        with seeded(accelerator.device, run.seed):
            self.network = self.build_model(recipe.drop_path)
            if run.init_from is not None:
                self.notes.append(self.load_initial(run.init_from))
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on every device
        if recipe.sync_bn and accelerator.num_processes > 1:
            synchronize(self.network, accelerator.device)
        groups = parameter_groups(self.network, recipe.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=recipe.max_lr, fused=True)  # one call for all parameters
        self.ddp_model, self.optimizer = accelerator.prepare(self.training_module(), optimizer)
        self.average = WeightAverage(self.network, recipe.ema) if recipe.ema else None
        if folder is not None and resume:
            self._restore(checkpoints.load_checkpoint(folder, run.described()))
        elif folder is not None:
            checkpoints.begin(folder)
        accelerator.wait_for_everyone()
        if tracker:
            accelerator.init_trackers(tracker)  # in the folder of this name

    def build_model(self, drop_path: float | None = None) -> nn.Module:
        """Create a network with random weights. If `drop_path` is None, the rate of the configuration is used."""
        raise NotImplementedError

    def load_initial(self, init_from: InitFrom) -> str:
        """Load initial weights. Returns a sentence about what was loaded."""
        raise NotImplementedError

    def training_module(self) -> nn.Module:
        """The module whose `forward` is called in distributed training."""
        return self.network

    def batches(self) -> Dataset[Any]:
        """This process's shard of each batch of the epoch. A batch has an attribute `images`."""
        raise NotImplementedError

    def lr_at_step(self, step: int) -> float:
        """The learning rate of a step, counted from the start of the run."""
        raise NotImplementedError

    def compute_loss(self, images: Float[Tensor, "B C H W"], batch: Any) -> Tensor:
        """The loss of this process's shard, computed with `ddp_model` under `autocast()`. The images are on the device.

        The gradient of the complete batch is the mean of the processes' gradients.
        """
        raise NotImplementedError

    def evaluate_network(self) -> Any:
        """Evaluate the network on all test images. Each process evaluates its shard."""
        raise NotImplementedError

    def save_weights(self, state: Mapping[str, Tensor], path: Path) -> None:
        """Write weights of the network to a file."""
        raise NotImplementedError

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in one epoch."""
        return len(self.run.train) // self.run.recipe.batch

    def fit(self) -> TrainingResult:
        """Train to the end: print a line per epoch, and show the steps in a progress bar on a terminal.

        Only the main process prints. Raises the same errors as `epochs`.
        """
        main = self.accelerator.is_main_process
        columns = ("epoch", "learning_rate", "train_loss", *self.metric_names, "seconds")
        if main:
            for note in self.notes:
                print(f"Note: {note}.")
            print("".join(f"{title:>{width}}" for title, width, _ in map(COLUMNS.__getitem__, columns)))
        bar = Progress(
            *(TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()),
            console=Console(stderr=True),
            transient=True,
            disable=not (main and sys.stderr.isatty()),
        )
        total, completed = (self.steps_per_epoch * count for count in (self.run.recipe.total_epochs, self.epoch))
        with bar:
            task = bar.add_task("", total=total, completed=completed)
            for row in self.epochs(lambda: bar.advance(task)):
                if main:
                    cells = ((row[name], *COLUMNS[name][1:]) for name in columns)
                    print("".join(f"{value:{width}{form}}" for value, width, form in cells), flush=True)
        result = self.finalize()
        if main:
            print(result.evaluation)
            print(f"evaluated on: {self.run.test.description}")
            if self.folder is not None:
                print(f"Weights, log and everything else: {self.folder}")
        return result

    def epochs(self, after_step: Callable[[], None] = lambda: None) -> Iterator[dict[str, Any]]:
        """Train epoch by epoch.

        Args:
            after_step: called after each step, for example to update a progress bar.

        Yields:
            The row of the log of each epoch, once it is stored.

        Raises:
            NotFiniteError: if a loss or a gradient is not finite; epochs stored before are kept.
            OSError: if the folder cannot be written; epochs stored before are kept.
        """
        while self.epoch < self.run.recipe.total_epochs:
            started, losses = time.perf_counter(), []
            for loss in self.steps():
                losses.append(loss)
                after_step()
            seconds = time.perf_counter() - started
            self.evaluation = self.evaluate()
            self.epoch += 1
            row = {
                "epoch": self.epoch,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "train_loss": float(torch.stack(losses).mean()),
                **self.evaluation.scores,
                "seconds": round(seconds, 2),
            }
            self.log.append(row)
            if self.folder is not None and self.accelerator.is_main_process:
                checkpoints.save_checkpoint(self.folder, self._state())
                checkpoints.write_log(self.folder, self.log)
            self.accelerator.log(row, step=self.epoch)  # to the tracker, if there is one
            yield row

    def steps(self) -> Iterator[Tensor]:
        """Train one epoch. Yields the loss after each step."""
        self.ddp_model.train()
        for step, batch in enumerate(loader(self.batches(), self.workers), self.epoch * self.steps_per_epoch):
            yield self.step(batch, step)

    def step(self, batch: Any, step: int) -> Tensor:
        """One training step: forward, backward, optimizer. Returns the loss of the complete batch, detached."""
        recipe, accelerator = self.run.recipe, self.accelerator
        images = batch.images.to(accelerator.device, memory_format=torch.channels_last)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr_at_step(step)
        with seeded(accelerator.device, self.run.seed, step, accelerator.process_index):  # drop path and dropout
            loss = self.compute_loss(images, batch)
        batch_loss = accelerator.reduce(loss.detach(), "mean")
        if not batch_loss.isfinite():  # checked in every process, so that no process waits for one that has stopped
            check_loss(loss, self.network, images, step)
            raise NotFiniteError(f"step {step}: the loss of another process is not finite")
        self.optimizer.zero_grad()
        accelerator.backward(loss)
        check_gradients(self.network.named_parameters(), step)
        if recipe.agc_clip:
            clip_adaptive_(self.network.parameters(), recipe.agc_clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.network)
        return batch_loss

    def autocast(self) -> torch.autocast:
        """The precision of the network's forward pass."""
        enabled = self.run.recipe.precision == "bf16"
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=enabled)

    def evaluate(self) -> Any:
        """Evaluate the current network on all test images. With several processes, all must call this method.

        All processes use the running statistics of the main process, because these are saved.
        """
        if self.accelerator.num_processes > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, 0)
        return self.evaluate_network()

    def finalize(self) -> TrainingResult:
        """Store the network, its weight average and the result, and return network and result."""
        with seeded(self.accelerator.device, self.run.seed):
            network = self.build_model()
        network.load_state_dict(self.network.state_dict())
        evaluation = self.evaluation or self.evaluate()
        if self.folder is not None and self.accelerator.is_main_process:
            self.save_weights(network.state_dict(), self.folder / checkpoints.WEIGHTS)
            if self.average is not None:
                self.save_weights(self.average.state_dict(), self.folder / checkpoints.AVERAGE)
            result = {"extended": self.extended} if self.extended else {}
            checkpoints.write_run(self.folder, {**self.run.described(), **result, "result": dict(evaluation.result)})
        for tracker in self.accelerator.trackers:
            tracker.finish()
        return TrainingResult(network.eval(), evaluation, tuple(self.log))

    def _state(self) -> Mapping[str, Any]:
        return {
            "run": self.run.described(),
            "epoch": self.epoch,
            "log": self.log,
            "extended": self.extended,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average and self.average.state_dict(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.epoch, self.log, self.extended = state["epoch"], list(state["log"]), list(state.get("extended", ()))
        before, now = state["run"]["recipe"]["epochs"], self.run.recipe.epochs
        if now > before:
            self.extended.append({"after_epoch": self.epoch, "epochs": before})
            self.notes.append(
                f"the schedule now has {now} epochs instead of {before}; from epoch {self.epoch + 1} on, the learning "
                "rate is that of the longer schedule"
            )


def check_tracker(tracker: Tracker | None, folder: Path | None) -> None:
    """Raise ImportError if the package of a tracker is missing, and ValueError if it has no folder to write to."""
    if tracker is not None:
        import_optional(tracker)  # accelerate would silently ignore a missing package
        if folder is None:
            raise ValueError(f"the tracker {tracker} needs a folder to write to")
