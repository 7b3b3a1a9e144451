"""Train a network for detection or segmentation, on the loop that trains classifiers.

Paper: section 5.2. Stopping and resuming, several processes, precision and progress are `training.trainer`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from efficientformer_edu.dense.criteria import criterion
from efficientformer_edu.dense.evaluation import Scores, classes_of, evaluate_dense
from efficientformer_edu.dense.examples import Examples, Target
from efficientformer_edu.dense.files import save_dense, to_dict
from efficientformer_edu.dense.network import DenseConfig, DenseNetwork
from efficientformer_edu.dense.recipe import DenseRecipe
from efficientformer_edu.dense.views import View
from efficientformer_edu.training.batches import ALONE, Share, epoch_batches, generator
from efficientformer_edu.training.trainer import Trainer


@dataclass(frozen=True)
class DenseRun:
    """Everything that the result of a run depends on.

    Attributes:
        config: of the network; its head has as many classes as the data.
        train: images to learn from.
        test: images to judge by.
        recipe: how to learn.
        size: height and width in pixels of the square that the network sees.
        seed: of the first weights, the order of the images and all that is random.
        backbone: weights that the backbone begins with, such as a classifier's; None for random ones.
        backbone_words: what they are, for the records.

    Raises:
        ValueError: for data that do not fit each other, the network or the recipe.
    """

    config: DenseConfig
    train: Examples
    test: Examples
    recipe: DenseRecipe
    size: int
    seed: int = 0
    backbone: Mapping[str, Tensor] | None = None
    backbone_words: str = ""

    def __post_init__(self) -> None:
        classes, others = (classes_of(data, self.config.task) for data in (self.train, self.test))
        if classes != others:
            raise ValueError(f"training has the classes {', '.join(classes)}, and testing has {', '.join(others)}")
        if self.config.num_classes != len(classes):
            count = self.config.num_classes
            raise ValueError(f"the network tells {count} classes apart, and the data have {len(classes)}")
        if len(self.train) < self.recipe.batch:
            count, batch = len(self.train), self.recipe.batch
            raise ValueError(f"{count} images do not fill a batch of {batch}; take a smaller batch, or more images")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what the head tells apart."""
        return classes_of(self.train, self.config.task)

    def described(self) -> dict[str, Any]:
        """The run in numbers and words, as it is stored and compared when it is resumed."""
        return {
            "task": self.config.task,
            "config": to_dict(self.config),
            "recipe": {**asdict(self.recipe), "scale": list(self.recipe.scale)},
            "train": self.train.words,
            "test": self.test.words,
            "size": self.size,
            "seed": self.seed,
            "backbone": self.backbone_words,
        }


class DenseBatch(NamedTuple):
    """What one process takes in one step: images on their squares, and what the loss needs of each."""

    images: Float[Tensor, "B 3 size size"]
    targets: list[Target]


class DenseBatches(Dataset[DenseBatch]):
    """The batches of one epoch, or the share of one process in each.

    Each is a function of the seed, the epoch and its number, however many processes make images.
    """

    def __init__(self, run: DenseRun, epoch: int, share: Share = ALONE) -> None:
        recipe = run.recipe
        self.examples, self.view = run.train, View(run.size, recipe.scale, recipe.flip)
        self.numbers = run.seed, epoch, share.process
        whole = epoch_batches(len(run.train), recipe.batch, seed=run.seed, epoch=epoch)
        self.shares = [share.of_batch(batch) for batch in whole]

    def __len__(self) -> int:
        return len(self.shares)

    def __getitem__(self, number: int) -> DenseBatch:
        random = generator(*self.numbers, number)
        views = [self.view(self.examples[index], random) for index in self.shares[number]]
        return DenseBatch(torch.stack([one.image for one in views]), [one.target for one in views])


class DenseLoop(Trainer[DenseRun, DenseNetwork, Scores]):
    """A network for a task under way. Arguments, methods and errors are those of `Trainer`."""

    unused_parameters = True  # the backbone's last norm, and that of a map which the neck leaves out

    def __init__(self, run: DenseRun, folder: Path | None = None, *, resume: bool = False, workers: int = 0) -> None:
        self.measures = ("ap", "ap50") if run.config.task == "detection" else ("miou", "pixel_accuracy")
        self.criterion = criterion(run.config)
        super().__init__(run, folder, resume=resume, workers=workers)

    def first(self) -> DenseNetwork:
        backbone = self.run.config.backbone.replace(drop_path_rate=self.run.recipe.drop_path)
        network = DenseNetwork(replace(self.run.config, backbone=backbone))
        if self.run.backbone is not None:
            try:
                begin_with(network, self.run.backbone)
            except ValueError as error:
                raise ValueError(f"{self.run.backbone_words or 'backbone'}: {error}") from error
        return network

    def plain(self) -> DenseNetwork:
        return DenseNetwork(self.run.config)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.run.train) // self.run.recipe.batch

    def batches(self) -> DenseBatches:
        return DenseBatches(self.run, self.epoch, self.share)

    def rate(self, step: int, steps_per_epoch: int) -> float:
        return self.run.recipe.rate(step, steps_per_epoch)

    def loss_of(self, images: Tensor, batch: DenseBatch) -> Tensor:
        targets = [Target(*(part.to(images.device) for part in target)) for target in batch.targets]
        with self.accelerator.autocast():
            output = self.called(images)
        parts = self.criterion(output, targets, getattr(self.network.head, "strides", ()))
        return torch.stack(list(parts.values())).sum()

    def evaluate(self) -> Scores:
        run, device = self.run, self.accelerator.device
        return evaluate_dense(
            self.network,
            run.test,
            run.size,
            run.recipe.batch,
            device=device,
            workers=self.workers,
            share=self.share,
        )

    def save(self, state: Mapping[str, Tensor], path: Path) -> None:
        save_dense(state, self.run.config, self.run.size, self.run.classes, path)


def begin_with(network: DenseNetwork, weights: Mapping[str, Tensor]) -> None:
    """Give the backbone its first weights: what `files.load_backbone` gives. The norms of the maps stay new.

    Raises:
        ValueError: if the weights are of another network, naming what is missing or too much.
    """
    own = network.backbone.state_dict()
    missing = [name for name in own if name not in weights and not name.startswith("norms.")]
    other = [name for name, value in weights.items() if name not in own or own[name].shape != value.shape]
    if missing or other:
        what = f"{missing[0]} is missing" if missing else f"{other[0]} is too much or has another shape"
        raise ValueError(f"these are no weights of this backbone: {what}")
    network.backbone.load_state_dict(dict(weights), strict=False)
