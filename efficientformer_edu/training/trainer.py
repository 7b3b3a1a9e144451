"""What every training has in common, whatever the network is for: the same on a laptop and on several machines.

Released code: `train_one_epoch` in `util/engine.py` and `main.py`. Processes and precision are accelerate's: under
`torchrun` each process takes its share of every batch.

What is random in a step depends on the seed, the epoch and the step alone. So nothing but weights, optimizer and
averages needs to be stored, and a run that was killed ends with the weights of one that was not.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from efficientformer_edu.training import checkpoints
from efficientformer_edu.training.batches import Share, mixed
from efficientformer_edu.training.guard import check_gradients, check_loss
from efficientformer_edu.training.loading import loader
from efficientformer_edu.training.optimization import WeightAverage, clip_adaptive_, parameter_groups
from efficientformer_edu.training.run import Trained
from efficientformer_edu.training.synchronized import synchronize


class Steps(Protocol):
    """What a trainer needs to know of a recipe; the fields are those of `recipe.Recipe`."""

    @property
    def batch(self) -> int: ...
    @property
    def peak(self) -> float: ...
    @property
    def total_epochs(self) -> int: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def clipping(self) -> float | None: ...
    @property
    def ema(self) -> float | None: ...
    @property
    def sync_bn(self) -> bool: ...
    @property
    def precision(self) -> str: ...


class Worded(Protocol):
    """Images that can say what they are."""

    @property
    def words(self) -> str: ...


class Described(Protocol):
    """Everything that the result of a run depends on."""

    @property
    def recipe(self) -> Steps: ...
    @property
    def seed(self) -> int: ...
    @property
    def test(self) -> Worded: ...
    def described(self) -> dict[str, Any]:
        """The run in numbers and words, as it is stored and compared when it is resumed."""


class Scored(Protocol):
    """How good a network is."""

    @property
    def scores(self) -> Mapping[str, float]:
        """What a row of the log says of it."""

    @property
    def result(self) -> Mapping[str, Any]:
        """What is stored of it in the end."""


R = TypeVar("R", bound=Described)
N = TypeVar("N", bound=nn.Module)
E = TypeVar("E", bound=Scored)


class Trainer(ABC, Generic[R, N, E]):
    """A run under way: `for row in trainer.epochs()` trains one epoch after the other.

    A kind of training says what its network is, which batches make an epoch, what a loss is and how to judge.

    Args:
        run: what to train, on what and how.
        folder: where the run is kept; None keeps nothing.
        resume: go on with the run in the folder.
        workers: processes that read images besides each training process.

    Raises:
        ValueError: if the folder holds another run.
        FileExistsError: if it holds a run and `resume` is False.
        FileNotFoundError: if it holds none and `resume` is True.
    """

    measures: tuple[str, ...]  # names of `Scored.scores`, in the order of the log
    unused_parameters: ClassVar[bool] = False  # whether some have no gradient, for which several processes would wait

    def __init__(self, run: R, folder: Path | None = None, *, resume: bool = False, workers: int = 0) -> None:
        recipe = run.recipe
        self.run, self.folder, self.workers = run, folder, workers
        precision = "no" if recipe.precision == "fp32" else recipe.precision
        unused = DistributedDataParallelKwargs(find_unused_parameters=self.unused_parameters)
        # Of several processes without a GPU each would train alone, unless accelerate is told that this is meant.
        cpu = "LOCAL_RANK" in os.environ and not torch.cuda.is_available()
        self.accelerator = Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[unused])
        self.share = Share(self.accelerator.process_index, self.accelerator.num_processes)
        torch.manual_seed(mixed(run.seed))
        self.network = self.first()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # quicker on every device
        if recipe.sync_bn and self.accelerator.num_processes > 1:
            synchronize(self.network, self.accelerator.device)
        groups = parameter_groups(self.network, recipe.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=recipe.peak, fused=True)  # one call, not some for each parameter
        self.called, self.optimizer = self.accelerator.prepare(self.wrapped(), optimizer)
        self.average = WeightAverage(self.network, recipe.ema) if recipe.ema else None
        self.epoch, self.log = 0, list[dict[str, Any]]()
        self.evaluation: E | None = None
        if folder is not None and resume:
            self._restore(checkpoints.load_checkpoint(folder, run.described()))
        elif folder is not None and self.accelerator.is_main_process:
            checkpoints.begin(folder)
        self.accelerator.wait_for_everyone()

    @abstractmethod
    def first(self) -> N:
        """The network as training begins with it."""

    @abstractmethod
    def plain(self) -> N:
        """The network as it is in the end, its weights still to come."""

    def wrapped(self) -> nn.Module:
        """What several processes call together, by `forward`."""
        return self.network

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Steps in one epoch."""

    @abstractmethod
    def batches(self) -> Dataset[Any]:
        """This process's share of each batch of the epoch; a batch has `images`."""

    @abstractmethod
    def rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of one step of the whole run."""

    @abstractmethod
    def loss_of(self, images: Float[Tensor, "B C H W"], batch: Any) -> Tensor:
        """The loss of this process's share, by `called` under `accelerator.autocast()`; images are on the device."""

    @abstractmethod
    def evaluate(self) -> E:
        """The network as it is now, on all test images: each process asks about its share."""

    @abstractmethod
    def save(self, state: Mapping[str, Tensor], path: Path) -> None:
        """Write weights that the network had."""

    def epochs(self, after_step: Callable[[], None] = lambda: None) -> Iterator[dict[str, Any]]:
        """Train one epoch after the other.

        Args:
            after_step: called after each step, for a progress bar.

        Yields:
            Each epoch's row of the log, once it is stored.

        Raises:
            NotFiniteError: if a loss or a gradient is no number; what was stored before stays.
            OSError: if the folder cannot be written; what was stored before stays.
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
                "train_loss": float(self.accelerator.reduce(torch.stack(losses).mean(), "mean")),
                **self.evaluation.scores,
                "seconds": round(seconds, 2),
            }
            self.log.append(row)
            if self.folder is not None and self.accelerator.is_main_process:
                checkpoints.save_checkpoint(self.folder, self._state())
                checkpoints.write_log(self.folder, self.log)
            yield row

    def finish(self) -> Trained[N, E]:
        """Store the network, and the average of its weights, and what came out; returns them as well."""
        network = self.plain()
        network.load_state_dict(self.network.state_dict())
        evaluation = self.evaluation or self.evaluate()
        if self.folder is not None and self.accelerator.is_main_process:
            self.save(network.state_dict(), self.folder / checkpoints.WEIGHTS)
            if self.average is not None:
                self.save(self.average.state_dict(), self.folder / checkpoints.AVERAGE)
            checkpoints.write_run(self.folder, {**self.run.described(), "result": dict(evaluation.result)})
        return Trained(network.eval(), evaluation, tuple(self.log))

    def steps(self) -> Iterator[Tensor]:
        """Train one epoch; yields the loss after each step."""
        batches, per_epoch = self.batches(), self.steps_per_epoch
        self.called.train()
        for number, batch in enumerate(loader(batches, self.workers)):
            yield self.step(batch, self.epoch * per_epoch + number, per_epoch)

    def step(self, batch: Any, step: int, steps_per_epoch: int) -> Tensor:
        """One step: forward, backward, optimizer. Returns the loss of this process's share, without a gradient."""
        recipe, accelerator = self.run.recipe, self.accelerator
        images = batch.images.to(accelerator.device, memory_format=torch.channels_last)
        torch.manual_seed(mixed(self.run.seed, step, accelerator.process_index))  # for drop path and dropout
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step, steps_per_epoch)
        loss = self.loss_of(images, batch)
        check_loss(loss, self.network, images, step)
        self.optimizer.zero_grad()
        accelerator.backward(loss)
        check_gradients(self.network.named_parameters(), step)
        if recipe.clipping:
            clip_adaptive_(self.network.parameters(), recipe.clipping)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.network)
        return loss.detach()

    def _state(self) -> Mapping[str, Any]:
        return {
            "run": self.run.described(),
            "epoch": self.epoch,
            "log": self.log,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average and self.average.state_dict(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.epoch, self.log = state["epoch"], list(state["log"])
