"""The training loop: the same on a laptop, on several GPUs and on several machines.

Paper: section 5.1. Released code: `train_one_epoch` in `util/engine.py` and `main.py`. Processes and precision are
accelerate's: under `torchrun` each process takes its share of every batch.

What is random in a step depends on the seed, the epoch and the step alone. So nothing but weights, optimizer and
averages needs to be stored, and a run that was killed ends with the weights of one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.model.network import Heads
from efficientformer_edu.training import checkpoints
from efficientformer_edu.training.batches import Share, mixed
from efficientformer_edu.training.distillation import DistillationLoss
from efficientformer_edu.training.evaluation import Evaluation, evaluate
from efficientformer_edu.training.guard import check_gradients, check_loss
from efficientformer_edu.training.loading import Batch, TestBatches, TrainBatches, loader
from efficientformer_edu.training.optimization import WeightAverage, clip_adaptive_, learning_rate, parameter_groups
from efficientformer_edu.training.run import Run, Trained
from efficientformer_edu.training.synchronized import synchronize
from efficientformer_edu.weights import save


class BothHeads(nn.Module):
    """The network with both heads' logits as its output: what several processes call together is `forward`."""

    def __init__(self, network: EfficientFormer) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Heads:
        return self.network.forward_heads(images)


class Loop:
    """A run under way: `for row in loop.epochs()` trains one epoch after the other.

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

    def __init__(self, run: Run, folder: Path | None = None, *, resume: bool = False, workers: int = 0) -> None:
        recipe = run.recipe
        self.run, self.folder, self.workers = run, folder, workers
        self.accelerator = Accelerator(mixed_precision="no" if recipe.precision == "fp32" else recipe.precision)
        self.share = Share(self.accelerator.process_index, self.accelerator.num_processes)
        torch.manual_seed(mixed(run.seed))
        self.network = run.build(run.config.replace(drop_path_rate=recipe.drop_path))
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # quicker on every device
        if recipe.sync_bn and self.accelerator.num_processes > 1:
            synchronize(self.network, self.accelerator.device)
        optimizer = torch.optim.AdamW(parameter_groups(self.network, recipe.weight_decay), lr=recipe.peak)
        self.heads, self.optimizer = self.accelerator.prepare(BothHeads(self.network), optimizer)
        self.average = WeightAverage(self.network, recipe.ema) if recipe.ema else None
        self.loss = DistillationLoss(recipe.distillation, recipe.alpha, recipe.tau)
        self.epoch, self.log = 0, list[dict[str, Any]]()
        self.evaluation: Evaluation | None = None
        if folder is not None and resume:
            self._restore(checkpoints.load_checkpoint(folder, run.described()))
        elif folder is not None and self.accelerator.is_main_process:
            checkpoints.begin(folder)
        self.accelerator.wait_for_everyone()

    @property
    def steps_per_epoch(self) -> int:
        return len(self.run.train) // self.run.recipe.batch

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
                "test_loss": self.evaluation.loss,
                "top1": self.evaluation.top1,
                "top5": self.evaluation.top5,
                "seconds": round(seconds, 2),
            }
            self.log.append(row)
            if self.folder is not None and self.accelerator.is_main_process:
                checkpoints.save_checkpoint(self.folder, self._state())
                checkpoints.write_log(self.folder, self.log)
            yield row

    def finish(self) -> Trained:
        """Store the network, and the average of its weights, and what came out; returns them as well."""
        network = self.run.build(self.run.config)
        network.load_state_dict(self.network.state_dict())
        evaluation = self.evaluation or self.evaluate()
        if self.folder is not None and self.accelerator.is_main_process:
            save(network, self.folder / checkpoints.WEIGHTS, layout="native")
            if self.average is not None:
                save(self.average.state_dict(), self.folder / checkpoints.AVERAGE, layout="native")
            result = {"top1": evaluation.top1, "top5": evaluation.top5, "images": evaluation.count}
            checkpoints.write_run(self.folder, {**self.run.described(), "result": result})
        return Trained(network.eval(), evaluation, tuple(self.log))

    def steps(self) -> Iterator[Tensor]:
        """Train one epoch; yields the loss after each step."""
        run = self.run
        batches = TrainBatches(
            run.train, run.recipe, run.size, run.config.in_channels, seed=run.seed, epoch=self.epoch, share=self.share
        )
        self.heads.train()
        for number, batch in enumerate(loader(batches, self.workers)):
            yield self.step(batch, self.epoch * len(batches) + number, len(batches))

    def step(self, batch: Batch, step: int, steps_per_epoch: int) -> Tensor:
        """One step: forward, backward, optimizer. Returns the loss of this process's share, without a gradient."""
        recipe, accelerator = self.run.recipe, self.accelerator
        images = batch.images.to(accelerator.device, memory_format=torch.channels_last)
        targets = batch.targets.to(accelerator.device)
        torch.manual_seed(mixed(self.run.seed, step, accelerator.process_index))  # for drop path and dropout
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, steps_per_epoch)
        teacher = self.run.teacher(images, batch.indices) if self.run.teacher else None
        with accelerator.autocast():
            loss = self.loss(self.heads(images), targets, teacher)
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

    def evaluate(self) -> Evaluation:
        """The network as it is now, on all test images: each process asks about its share."""
        run, accelerator, classes = self.run, self.accelerator, self.run.test.classes
        batches = TestBatches(run.test, run.size, run.config.in_channels, run.recipe.batch, share=self.share)
        part = evaluate(self.network, loader(batches, self.workers), classes, accelerator.device)
        if accelerator.num_processes == 1:
            return part
        counts = torch.tensor([part.in_top5, part.total_loss], dtype=torch.float64, device=accelerator.device)
        confusion = accelerator.reduce(part.confusion.to(accelerator.device)).cpu()
        in_top5, loss = accelerator.reduce(counts).tolist()
        return Evaluation(classes, confusion, int(in_top5), loss)

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
