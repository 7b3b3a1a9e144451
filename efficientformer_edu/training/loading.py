"""Data loading: sample, read, augment and mix the images of a batch.

A batch is a function of the seed, the epoch and its index, independent of the number of worker processes. Therefore an
item of these data sets is a complete batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from efficientformer_edu.training import batches
from efficientformer_edu.training.augment import Evaluation, Training
from efficientformer_edu.training.data import Images
from efficientformer_edu.training.dice import generator
from efficientformer_edu.training.mixing import mix
from efficientformer_edu.training.recipe import Recipe


class Batch(NamedTuple):
    """The input of one process in one step: preprocessed images, their targets, and their indices in the data set."""

    images: Float[Tensor, "B C size size"]
    targets: Float[Tensor, "B num_classes"]
    indices: Int[Tensor, " B"]


class TrainBatches(Dataset[Batch]):
    """The batches of one epoch, or one process's share of each batch.

    Args:
        images: images to sample from.
        recipe: determines batch size, augmentation, mixing and label smoothing.
        size: input height and width of the network, in pixels.
        channels: number of input channels of the network.
        seed: seed of the run.
        epoch: epoch, from 0.
        share: this process's share.

    Raises:
        ValueError: if there are fewer images than one batch needs, or a batch cannot be divided equally.
    """

    def __init__(
        self,
        images: Images,
        recipe: Recipe,
        size: int,
        channels: int,
        *,
        seed: int,
        epoch: int,
        share: batches.Share = batches.ALONE,
    ) -> None:
        self.images, self.recipe = images, recipe
        self.numbers = seed, epoch, share.process  # with the batch index, these seed the randomness in a batch
        self.augment = Training(size, channels, recipe)
        index_batches = batches.epoch_batches(len(images), recipe.batch, seed=seed, epoch=epoch, repeats=recipe.repeats)
        self.shares = [share.of_batch(batch) for batch in index_batches]

    def __len__(self) -> int:
        return len(self.shares)

    def __getitem__(self, number: int) -> Batch:
        random = generator(*self.numbers, number)
        indices, recipe = self.shares[number], self.recipe
        images, labels = self.augment([self.images[index] for index in indices], random)
        classes = len(self.images.classes)
        mixed = mix(images, labels, classes, recipe.mixup, recipe.cutmix, recipe.label_smoothing, random)
        return Batch(*mixed, torch.tensor(indices))


class TestBatches(Dataset[tuple[Tensor, Tensor]]):
    """Batches of preprocessed images and labels for evaluation, in order; all images or one process's share.

    Args:
        images: images to evaluate on.
        size: input height and width of the network, in pixels.
        channels: number of input channels of the network.
        batch: number of images per batch.
        rule: crop rule for images from files.
        share: this process's share.
    """

    __test__ = False  # not a test class, despite its name

    def __init__(
        self,
        images: Images,
        size: int,
        channels: int,
        batch: int,
        rule: str = "official",
        share: batches.Share = batches.ALONE,
    ) -> None:
        self.images, self.crop = images, Evaluation(size, channels, rule)
        mine = share.of(range(len(images)))
        self.shares = [mine[first : first + batch] for first in range(0, len(mine), batch)]

    def __len__(self) -> int:
        return len(self.shares)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.crop([self.images[index] for index in self.shares[number]])


def loader(batches: Dataset[Any], workers: int = 0) -> DataLoader[Any]:
    """A loader that yields the batches in order.

    Args:
        batches: one of the two data sets above.
        workers: number of processes that prepare batches in advance; 0 prepares them in this process.
    """
    pinned = torch.cuda.is_available()
    # Without its own generator, a loader uses the global random state when an epoch starts.
    return DataLoader(batches, batch_size=None, num_workers=workers, pin_memory=pinned, generator=torch.Generator())
