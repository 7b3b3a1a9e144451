"""Batch sampling: the images of a batch, as a function of the seed and the epoch only.

A run that was killed therefore continues with the same batches, and several processes share the batches that a single
process would use. Released code: `RASampler` in `util/samplers.py` for repeated augmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from efficientformer_edu.training.dice import generator


def epoch_batches(count: int, batch: int, *, seed: int, epoch: int, repeats: int = 1) -> list[list[int]]:
    """The batches of one epoch, as lists of image indices.

    Args:
        count: number of images in the data set.
        batch: number of images in a batch, over all processes.
        seed: of the run.
        epoch: from 0.
        repeats: how often an image occurs in an epoch, with a different augmentation each time. The length of an epoch
            does not change: it samples fewer distinct images.

    Returns:
        count // batch lists of `batch` indices each. Images that are left over occur in other epochs.

    Raises:
        ValueError: if there are fewer images than one batch needs.
    """
    if count < batch:
        raise ValueError(f"{count} images do not fill a batch of {batch}; take a smaller batch, or more images")
    order = torch.randperm(count, generator=generator(seed, epoch)).repeat_interleave(repeats)
    complete = order[: count // batch * batch].view(-1, batch)
    return complete.tolist()


class Share(NamedTuple):
    """One of several processes that share the images; `ALONE` stands for a single process."""

    process: int
    processes: int

    def of(self, numbers: Sequence[int]) -> Sequence[int]:
        """This process's share of some images."""
        return numbers[self.process :: self.processes]

    def of_batch(self, batch: Sequence[int]) -> Sequence[int]:
        """This process's share of a batch. Raises ValueError if the batch cannot be divided equally."""
        if len(batch) % self.processes:
            raise ValueError(f"a batch of {len(batch)} cannot be shared by {self.processes} processes; take a multiple")
        return self.of(batch)


ALONE = Share(0, 1)
