"""The training loop for classification: two heads, labels, and a teacher where the recipe distils.

Paper: section 5.1. Released code: `train_one_epoch` in `util/engine.py`. What does not depend on the task is in
`trainer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.model.network import Heads
from efficientformer_edu.training.distillation import DistillationLoss
from efficientformer_edu.training.evaluation import Evaluation, evaluate
from efficientformer_edu.training.loading import Batch, TestBatches, TrainBatches, loader
from efficientformer_edu.training.optimization import learning_rate
from efficientformer_edu.training.run import Run
from efficientformer_edu.training.trainer import Trainer
from efficientformer_edu.weights import save


class BothHeads(nn.Module):
    """The network with both heads' logits as its output: what several processes call together is `forward`."""

    def __init__(self, network: EfficientFormer) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Heads:
        return self.network.forward_heads(images)


class Loop(Trainer[Run, EfficientFormer, Evaluation]):
    """A classification network under way. Arguments, methods and errors are those of `Trainer`."""

    measures = ("test_loss", "top1", "top5")

    def __init__(self, run: Run, folder: Path | None = None, *, resume: bool = False, workers: int = 0) -> None:
        self.loss = DistillationLoss(run.recipe.distillation, run.recipe.alpha, run.recipe.tau)
        super().__init__(run, folder, resume=resume, workers=workers)

    def first(self) -> EfficientFormer:
        return self.run.build(self.run.config.replace(drop_path_rate=self.run.recipe.drop_path))

    def plain(self) -> EfficientFormer:
        return self.run.build(self.run.config)

    def wrapped(self) -> nn.Module:
        return BothHeads(self.network)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.run.train) // self.run.recipe.batch

    def batches(self) -> TrainBatches:
        run, channels = self.run, self.run.config.in_channels
        return TrainBatches(
            run.train, run.recipe, run.size, channels, seed=run.seed, epoch=self.epoch, share=self.share
        )

    def rate(self, step: int, steps_per_epoch: int) -> float:
        return learning_rate(self.run.recipe, step, steps_per_epoch)

    def loss_of(self, images: Tensor, batch: Batch) -> Tensor:
        targets = batch.targets.to(images.device)
        teacher = self.run.teacher(images, batch.indices) if self.run.teacher else None
        with self.accelerator.autocast():
            return self.loss(self.called(images), targets, teacher)

    def evaluate(self) -> Evaluation:
        run, accelerator, classes = self.run, self.accelerator, self.run.test.classes
        batches = TestBatches(run.test, run.size, run.config.in_channels, run.recipe.batch, share=self.share)
        part = evaluate(self.network, loader(batches, self.workers), classes, accelerator.device)
        if accelerator.num_processes == 1:
            return part
        counts = torch.tensor([part.in_top5, part.total_loss], dtype=torch.float64, device=accelerator.device)
        confusion = accelerator.reduce(part.confusion.to(accelerator.device)).cpu()
        in_top5, loss = accelerator.reduce(counts).tolist()
        return Evaluation(classes, confusion, int(in_top5), loss)

    def save(self, state: Mapping[str, Tensor], path: Path) -> None:
        save(dict(state), path, layout="native")
