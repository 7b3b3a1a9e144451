"""The training loop for all tasks, from a laptop to several machines.

Released code: `train_one_epoch` in `util/engine.py` and `main.py`. Distributed training uses accelerate: under
`torchrun`, each process trains on its share of every batch. All communication between processes is in this module;
losses and metrics do not communicate. (Synchronized batch norms do, in the forward pass in training mode.)

Randomness in a step depends only on the seed, the epoch and the step. Therefore only weights, optimizer and averages
are stored, and a run that was killed and resumed ends with the same weights as an uninterrupted run. The global random
state is not changed.
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
from accelerate.utils import gather_object
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from efficientformer_edu.training import checkpoints
from efficientformer_edu.training.distributed import synchronize
from efficientformer_edu.training.loading import Share, loader
from efficientformer_edu.training.nan_checks import NotFiniteError, check_gradients, check_loss
from efficientformer_edu.training.optimization import WeightAverage, clip_adaptive_, parameter_groups
from efficientformer_edu.training.run import Trained
from efficientformer_edu.utils.rng import seeded


class Steps(Protocol):
    """The fields of a recipe that a trainer uses; see `recipe.Recipe`."""

    @property
    def batch(self) -> int: ...
    @property
    def peak(self) -> float: ...
    @property
    def epochs(self) -> int: ...
    @property
    def total_epochs(self) -> int: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def clipping(self) -> float | None: ...
    @property
    def ema(self) -> float | None: ...
    @property
    def drop_path(self) -> float: ...
    @property
    def sync_bn(self) -> bool: ...
    @property
    def precision(self) -> str: ...


class Worded(Protocol):
    """Images with a description."""

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
        """The run as a dictionary, which is stored and compared when the run is resumed."""


class Scored(Protocol):
    """The evaluation of a network."""

    @property
    def scores(self) -> Mapping[str, float]:
        """The metrics in a row of the log."""

    @property
    def result(self) -> Mapping[str, Any]:
        """The metrics stored at the end of a run."""


R = TypeVar("R", bound=Described)
N = TypeVar("N", bound=nn.Module)
E = TypeVar("E", bound=Scored)


class Trainer(ABC, Generic[R, N, E]):
    """A run in progress: `for row in trainer.epochs()` trains epoch by epoch.

    A subclass defines the network, the batches of an epoch, the loss and the evaluation.

    Args:
        run: network, data and recipe.
        folder: folder to store the run in; None stores nothing.
        resume: continue the run in the folder. The number of epochs may increase, see `checkpoints`.
        workers: number of additional processes that load images, per training process.

    Attributes:
        network: the network being trained.
        epoch: number of complete epochs.
        log: one row per epoch.
        extended: one entry for each increase of the number of epochs: after which epoch, and the number before.
        notes: messages for the user about the start of training.

    Raises:
        ValueError: if the folder contains another run.
        FileExistsError: if it contains a run and `resume` is False.
        FileNotFoundError: if it does not contain a run and `resume` is True.
    """

    metric_names: tuple[str, ...]  # names of `Scored.scores`, in the order of the log
    unused_parameters: ClassVar[bool] = False  # whether some parameters have no gradient; DDP would wait for them

    def __init__(self, run: R, folder: Path | None = None, *, resume: bool = False, workers: int = 0) -> None:
        recipe = run.recipe
        self.run, self.folder, self.workers = run, folder, workers
        unused = DistributedDataParallelKwargs(find_unused_parameters=self.unused_parameters)
        # Without a GPU, accelerate only connects the processes if `cpu` is set; else each would train alone.
        cpu = "LOCAL_RANK" in os.environ and not torch.cuda.is_available()
        # accelerate's precision cannot change within a Python process; `autocast` sets that of the run.
        self.accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[unused])
        self.share = Share(self.accelerator.process_index, self.accelerator.num_processes)
        self.notes = list[str]()
        with seeded(self.accelerator.device, run.seed):
            self.network = self.build_model(recipe.drop_path)
            self.initialize()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on every device
        if recipe.sync_bn and self.accelerator.num_processes > 1:
            synchronize(self.network, self.accelerator.device)
        groups = parameter_groups(self.network, recipe.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=recipe.peak, fused=True)  # one call for all parameters
        self.ddp_model, self.optimizer = self.accelerator.prepare(self.training_module(), optimizer)
        self.average = WeightAverage(self.network, recipe.ema) if recipe.ema else None
        self.epoch, self.log, self.extended = 0, list[dict[str, Any]](), list[dict[str, int]]()
        self.evaluation: E | None = None
        if folder is not None and resume:
            self._restore(checkpoints.load_checkpoint(folder, run.described()))
        elif folder is not None:
            checkpoints.begin(folder)
        self.accelerator.wait_for_everyone()

    @abstractmethod
    def build_model(self, drop_path: float | None = None) -> N:
        """Create a network with random weights. If `drop_path` is None, the rate of the configuration is used."""

    @abstractmethod
    def initialize(self) -> None:
        """Load the initial weights, if the run has any."""

    def training_module(self) -> nn.Module:
        """The module whose `forward` is called in distributed training."""
        return self.network

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Number of steps in one epoch."""

    @abstractmethod
    def batches(self) -> Dataset[Any]:
        """This process's share of each batch of the epoch. A batch has an attribute `images`."""

    @abstractmethod
    def lr_at_step(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of a step, counted from the start of the run."""

    @abstractmethod
    def compute_loss(self, images: Float[Tensor, "B C H W"], batch: Any) -> Tensor:
        """The loss of this process's share, computed with `ddp_model` under `autocast()`. The images are on the device.

        The gradient of the complete batch is the mean of the processes' gradients.
        """

    @abstractmethod
    def score(self) -> E:
        """Evaluate the network on all test images. Each process evaluates its share."""

    @abstractmethod
    def save(self, state: Mapping[str, Tensor], path: Path) -> None:
        """Write weights of the network to a file."""

    def autocast(self) -> torch.autocast:
        """The precision of the network's forward pass."""
        enabled = self.run.recipe.precision == "bf16"
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=enabled)

    def evaluate(self) -> E:
        """Evaluate the current network on all test images. With several processes, all must call this method.

        All processes use the running statistics of the main process, because these are saved.
        """
        if self.accelerator.num_processes > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, 0)
        return self.score()

    def gather(self, value: Any) -> list[Any]:
        """Collect a value from each process, in rank order. All processes must call this method."""
        return [value] if self.accelerator.num_processes == 1 else gather_object([value])

    def sum_over_processes(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sum tensors over all processes. All processes must call this method.

        Gradients only flow back to the local process, multiplied by the number of processes. If all processes compute
        the same loss from these sums, the mean of their gradients therefore equals the gradient of a single process.
        """
        processes = self.accelerator.num_processes
        if processes == 1:
            return dict(sums)
        flat = torch.cat([value.detach().reshape(-1).double() for value in sums.values()])
        totals = self.accelerator.reduce(flat).split([value.numel() for value in sums.values()])
        return {
            name: total.view_as(value).to(value.dtype) + processes * (value - value.detach())
            for (name, value), total in zip(sums.items(), totals, strict=True)
        }

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
            yield row

    def finish(self) -> Trained[N, E]:
        """Store the network, its weight average and the result, and return network and result."""
        with seeded(self.accelerator.device, self.run.seed):
            network = self.build_model()
        network.load_state_dict(self.network.state_dict())
        evaluation = self.evaluation or self.evaluate()
        if self.folder is not None and self.accelerator.is_main_process:
            self.save(network.state_dict(), self.folder / checkpoints.WEIGHTS)
            if self.average is not None:
                self.save(self.average.state_dict(), self.folder / checkpoints.AVERAGE)
            result = {"extended": self.extended} if self.extended else {}
            checkpoints.write_run(self.folder, {**self.run.described(), **result, "result": dict(evaluation.result)})
        return Trained(network.eval(), evaluation, tuple(self.log))

    def steps(self) -> Iterator[Tensor]:
        """Train one epoch. Yields the loss after each step."""
        batches, per_epoch = self.batches(), self.steps_per_epoch
        self.ddp_model.train()
        for number, batch in enumerate(loader(batches, self.workers)):
            yield self.step(batch, self.epoch * per_epoch + number, per_epoch)

    def step(self, batch: Any, step: int, steps_per_epoch: int) -> Tensor:
        """One training step: forward, backward, optimizer. Returns the loss of the complete batch, detached."""
        recipe, accelerator = self.run.recipe, self.accelerator
        images = batch.images.to(accelerator.device, memory_format=torch.channels_last)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr_at_step(step, steps_per_epoch)
        with seeded(accelerator.device, self.run.seed, step, accelerator.process_index):  # drop path and dropout
            loss = self.compute_loss(images, batch)
        batch_loss = accelerator.reduce(loss.detach(), "mean")
        if not batch_loss.isfinite():  # checked in every process, so that no process waits for one that has stopped
            check_loss(loss, self.network, images, step)
            raise NotFiniteError(f"step {step}: the loss of another process is not finite")
        self.optimizer.zero_grad()
        accelerator.backward(loss)
        check_gradients(self.network.named_parameters(), step)
        if recipe.clipping:
            clip_adaptive_(self.network.parameters(), recipe.clipping)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.network)
        return batch_loss

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
