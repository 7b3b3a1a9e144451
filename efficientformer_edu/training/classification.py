"""Training of a classifier: two heads, labels, and a teacher if the recipe distills.

Paper: section 5.1. Released code: `train_one_epoch` in `util/engine.py`. The training loop itself is in `trainer`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from torch import Tensor, nn

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.data.datasets import Images
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.model.network import Heads
from efficientformer_edu.training.distillation import DistillationLoss, Teacher
from efficientformer_edu.training.evaluation import Evaluation, evaluate, same_classes
from efficientformer_edu.training.loading import Batch, EvalBatches, TrainBatches, loader
from efficientformer_edu.training.optimization import learning_rate
from efficientformer_edu.training.recipe import Recipe
from efficientformer_edu.training.run import BaseRun, InitFrom, describe_init
from efficientformer_edu.training.trainer import Trainer
from efficientformer_edu.weights import save
from efficientformer_edu.weights.conversion import detect, select_network
from efficientformer_edu.weights.layouts import get_layout
from efficientformer_edu.weights.networks import known_class_names
from efficientformer_edu.weights.store import convert_state_dict, read


@dataclass(frozen=True)
class Run(BaseRun):
    """Everything that the result of training a classifier depends on.

    Attributes:
        config: configuration of the network; its classes and channels match the images.
        init_from: initial weights for fine-tuning; None for random weights. The heads are loaded if their classes are
            those of the images (see `load_initial`), else they are initialized randomly.
        teacher: teacher whose logits the network learns from, if the recipe uses distillation.
        teacher_description: description of the teacher, for the records.
        build: creates the network from its configuration; a function other than the class if a module is replaced.
        variant: description of what `build` replaces, for the records.
        train: see `BaseRun`, as for the other fields that are not listed here.
    """

    config: EfficientFormerConfig
    train: Images
    test: Images
    recipe: Recipe
    teacher: Teacher | None = None
    teacher_description: str = ""
    build: Callable[[EfficientFormerConfig], EfficientFormer] = EfficientFormer
    variant: str = ""

    def __post_init__(self) -> None:
        if self.recipe.distillation and self.teacher is None:
            raise ValueError(f"the recipe distills ({self.recipe.distillation}), but there is no teacher; add one")
        if self.recipe.distillation and not self.config.distillation:
            raise ValueError("a network with one head cannot learn from a teacher; set distillation=True")
        super().__post_init__()
        if self.train.classes != self.test.classes:
            count, test_count = len(self.train.classes), len(self.test.classes)
            raise ValueError(f"training and test images have different classes: {count} and {test_count} names")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Hashes of the content of data, teacher and initial weights; an empty string if there is nothing to hash."""
        return {**super().fingerprints, "teacher": getattr(self.teacher, "fingerprint", "")}

    def described(self) -> dict[str, Any]:
        own = {"config": self.config.to_dict(), "teacher": self.teacher_description, "variant": self.variant}
        return {**super().described(), **own}


def load_initial(network: EfficientFormer, init_from: InitFrom, classes: Sequence[str]) -> str:
    """Load initial weights.

    All weights except those of the heads must match. The heads are loaded if the file names the same classes in the
    same order or, if it does not name its classes, if it has the same number. Else they keep their random weights.

    Args:
        network: network for the classes of the training images.
        init_from: a file in any layout, or a `state_dict`.
        classes: class names of the training images.

    Returns:
        A sentence that says whether the heads were loaded.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the weights belong to another network; the message names the file.
    """
    source = describe_init(init_from)
    try:
        tensors = select_network(init_from, None) if isinstance(init_from, Mapping) else read(Path(init_from))
        names = None if isinstance(init_from, Mapping) else known_class_names(Path(init_from))
        heads = [tensors[f"{head}.weight"] for head in get_layout(detect(tensors)).heads if f"{head}.weight" in tensors]
        count, own = (len(heads[0]) if heads else 0), 1 + network.config.distillation
        fits = count == len(classes) and len(heads) >= own
        keep = fits and (names is None or same_classes(names, classes))
        network.load_state_dict(convert_state_dict(tensors, network.config, head=keep), strict=keep)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{source}: {error}") from error
    if keep and names is None:
        return f"{source} has {count} classes without names, as many as the data: its head is kept"
    if keep:
        return f"{source} has the same classes as the data: its head is kept"
    if count != len(classes):
        return f"{source} has {count} classes and the data {len(classes)}: the head starts at random"
    if len(heads) < own:
        return f"{source} has one head and the network two: both heads start at random"
    return f"{source} has other classes than the data: the head starts at random"


class BothHeads(nn.Module):
    """A network that returns the logits of both heads from `forward`, as distributed training requires."""

    def __init__(self, network: EfficientFormer) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Heads:
        return self.network.forward_heads(images)


class ClassificationTrainer(Trainer):
    """Trains a classifier. See `Trainer` for arguments, methods and errors.

    Raises:
        ValueError: also if there are fewer test images than processes.
    """

    metric_names = ("test_loss", "top1", "top5")
    run: Run
    network: EfficientFormer

    def __init__(self, run: Run, folder: Path | None = None, **options: Any) -> None:
        self.loss = DistillationLoss(run.recipe.distillation, run.recipe.alpha, run.recipe.tau)
        super().__init__(run, folder, **options)
        if len(run.test) < self.shard.world_size:
            raise ValueError(f"{len(run.test)} test images cannot be shared by {self.shard.world_size} processes")

    def build_model(self, drop_path: float | None = None) -> EfficientFormer:
        config = self.run.config
        network = self.run.build(config if drop_path is None else config.replace(drop_path_rate=drop_path))
        network.class_names = self.run.classes
        return network

    def load_initial(self, init_from: InitFrom) -> str:
        return load_initial(self.network, init_from, self.run.classes)

    def training_module(self) -> nn.Module:
        return BothHeads(self.network)

    def batches(self) -> TrainBatches:
        run = self.run
        channels = run.config.in_channels
        return TrainBatches(
            run.train, run.recipe, run.size, channels, seed=run.seed, epoch=self.epoch, shard=self.shard
        )

    def lr_at_step(self, step: int) -> float:
        return learning_rate(self.run.recipe, step, self.steps_per_epoch)

    def compute_loss(self, images: Tensor, batch: Batch) -> Tensor:
        targets = batch.targets.to(images.device)
        teacher = self.run.teacher(images, batch.indices) if self.run.teacher else None
        with self.autocast():
            heads: Heads = self.ddp_model(images)
        logits = Heads(*(None if head is None else head.float() for head in heads))  # type: ignore[arg-type]
        return self.loss(logits, targets, teacher)

    def evaluate_network(self) -> Evaluation:
        run = self.run
        batches = EvalBatches(run.test, run.size, run.config.in_channels, run.recipe.batch, shard=self.shard)
        part = evaluate(self.network, loader(batches, self.workers), run.classes, self.accelerator.device)
        return Evaluation.total(gather_object([part]))

    def save_weights(self, state: Mapping[str, Tensor], path: Path) -> None:
        save(dict(state), path, layout="native", class_names=self.run.classes, config=self.run.config)
