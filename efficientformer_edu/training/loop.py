"""The training loop for classification: two heads, labels, and a teacher if the recipe distills.

Paper: section 5.1. Released code: `train_one_epoch` in `util/engine.py`. Code that does not depend on the task
is in `trainer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.model.network import Heads
from efficientformer_edu.training.distillation import DistillationLoss
from efficientformer_edu.training.evaluation import Evaluation, evaluate
from efficientformer_edu.training.loading import Batch, TestBatches, TrainBatches, loader
from efficientformer_edu.training.optimization import learning_rate
from efficientformer_edu.training.run import Run, load_initial
from efficientformer_edu.training.trainer import Trainer
from efficientformer_edu.weights import save


class BothHeads(nn.Module):
    """A network that returns the logits of both heads from `forward`, as distributed training requires."""

    def __init__(self, network: EfficientFormer) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Heads:
        return self.network.forward_heads(images)


class Loop(Trainer[Run, EfficientFormer, Evaluation]):
    """Trains a classifier. See `Trainer` for arguments, methods and errors.

    Raises:
        ValueError: also if there are fewer test images than processes.
    """

    metric_names = ("test_loss", "top1", "top5")

    def __init__(self, run: Run, folder: Path | None = None, *, resume: bool = False, workers: int = 0) -> None:
        self.loss = DistillationLoss(run.recipe.distillation, run.recipe.alpha, run.recipe.tau)
        super().__init__(run, folder, resume=resume, workers=workers)
        if len(run.test) < self.share.processes:
            raise ValueError(f"{len(run.test)} test images cannot be shared by {self.share.processes} processes")

    def build_model(self, drop_path: float | None = None) -> EfficientFormer:
        config = self.run.config
        network = self.run.build(config if drop_path is None else config.replace(drop_path_rate=drop_path))
        network.class_names = self.run.train.classes
        return network

    def initialize(self) -> None:
        if self.run.init_from is not None:
            self.notes.append(load_initial(self.network, self.run.init_from, self.run.train.classes))

    def training_module(self) -> nn.Module:
        return BothHeads(self.network)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.run.train) // self.run.recipe.batch

    def batches(self) -> TrainBatches:
        run, channels = self.run, self.run.config.in_channels
        return TrainBatches(
            run.train, run.recipe, run.size, channels, seed=run.seed, epoch=self.epoch, share=self.share
        )

    def lr_at_step(self, step: int, steps_per_epoch: int) -> float:
        return learning_rate(self.run.recipe, step, steps_per_epoch)

    def compute_loss(self, images: Tensor, batch: Batch) -> Tensor:
        targets = batch.targets.to(images.device)
        teacher = self.run.teacher(images, batch.indices) if self.run.teacher else None
        with self.autocast():
            heads: Heads = self.ddp_model(images)
        logits = Heads(*(None if head is None else head.float() for head in heads))  # type: ignore[arg-type]
        return self.loss(logits, targets, teacher)

    def score(self) -> Evaluation:
        run = self.run
        batches = TestBatches(run.test, run.size, run.config.in_channels, run.recipe.batch, share=self.share)
        part = evaluate(self.network, loader(batches, self.workers), run.test.classes, self.accelerator.device)
        return Evaluation.total(self.gather(part))

    def save(self, state: Mapping[str, Tensor], path: Path) -> None:
        save(dict(state), path, layout="native", class_names=self.run.train.classes)
