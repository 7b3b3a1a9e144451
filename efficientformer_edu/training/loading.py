"""Batches on their way to the network: chosen, read, augmented and mixed.

A batch is a function of the seed, the epoch and its number, however many processes read images. So an item of these
data sets is a whole batch.
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
from efficientformer_edu.training.mixing import mix
from efficientformer_edu.training.recipe import Recipe


class Batch(NamedTuple):
    """What one process takes in one step: images as the network sees them, their targets, their numbers in the data."""

    images: Float[Tensor, "B C size size"]
    targets: Float[Tensor, "B num_classes"]
    indices: Int[Tensor, " B"]


class TrainBatches(Dataset[Batch]):
    """The batches of one epoch, or the share of one process in each.

    Args:
        images: to choose from.
        recipe: for the size of a batch, augmentation, mixing and smoothing.
        size: height and width in pixels that the network sees.
        channels: of the network.
        seed: of the run.
        epoch: from 0.
        share: of the process among all.

    Raises:
        ValueError: if the images do not fill a batch, or the processes cannot share it equally.
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
        self.numbers = seed, epoch, share.process  # with a batch's own number the seed of all that is random in it
        self.augment = Training(size, channels, recipe)
        whole = batches.epoch_batches(len(images), recipe.batch, seed=seed, epoch=epoch, repeats=recipe.repeats)
        self.shares = [share.of_batch(batch) for batch in whole]

    def __len__(self) -> int:
        return len(self.shares)

    def __getitem__(self, number: int) -> Batch:
        random = batches.generator(*self.numbers, number)
        indices, recipe = self.shares[number], self.recipe
        images, labels = self.augment([self.images[index] for index in indices], random)
        classes = len(self.images.classes)
        mixed = mix(images, labels, classes, recipe.mixup, recipe.cutmix, recipe.label_smoothing, random)
        return Batch(*mixed, torch.tensor(indices))


class TestBatches(Dataset[tuple[Tensor, Tensor]]):
    """All images in their order, as the network sees them in evaluation, with their labels; or one process's share.

    Args:
        images: to evaluate on.
        size: height and width in pixels that the network sees.
        channels: of the network.
        batch: images at once.
        rule: whose crop, where they are photographs.
        share: of the process among all.
    """

    __test__ = False  # no class of tests, for all its name

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
    """The batches in their order.

    Args:
        batches: one of the two data sets above.
        workers: processes that make batches ahead; 0 makes them here, when they are wanted.
    """
    pinned = torch.cuda.is_available()
    # Without a generator of its own, a loader would draw from the global random state when an epoch starts.
    return DataLoader(batches, batch_size=None, num_workers=workers, pin_memory=pinned, generator=torch.Generator())
