"""Which images make a batch: a function of the seed and the epoch alone.

So a run that was killed goes on with the batches that it would have had, and several processes share the batches that
one would have. Released code: `RASampler` in `util/samplers.py` for repeated augmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch


def generator(*numbers: int) -> torch.Generator:
    """A source of random numbers that depends on these numbers alone, such as seed, epoch and step."""
    return torch.Generator().manual_seed(mixed(*numbers))


def mixed(*numbers: int) -> int:
    """One seed of 63 bits from several numbers, none of them negative: near ones give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def epoch_batches(count: int, batch: int, *, seed: int, epoch: int, repeats: int = 1) -> list[list[int]]:
    """The batches of one epoch, as numbers of images.

    Args:
        count: images that there are.
        batch: images in a batch, over all processes.
        seed: of the run.
        epoch: from 0.
        repeats: how often an image comes in an epoch, each time augmented anew. An epoch does not grow by it: it draws
            so many fewer images.

    Returns:
        count // batch lists of `batch` numbers each. What is left over comes in other epochs.

    Raises:
        ValueError: if the images do not fill one batch.
    """
    if count < batch:
        raise ValueError(f"{count} images do not fill a batch of {batch}; take a smaller batch, or more images")
    order = torch.randperm(count, generator=generator(seed, epoch)).repeat_interleave(repeats)
    whole = order[: count // batch * batch].view(-1, batch)
    return whole.tolist()


class Share(NamedTuple):
    """One of several processes that share the images; `ALONE` is the only one."""

    process: int
    processes: int

    def of(self, numbers: Sequence[int]) -> Sequence[int]:
        """What this process takes of some images."""
        return numbers[self.process :: self.processes]

    def of_batch(self, batch: Sequence[int]) -> Sequence[int]:
        """What it takes of a batch. Raises ValueError if the batch cannot be shared equally."""
        if len(batch) % self.processes:
            raise ValueError(f"a batch of {len(batch)} cannot be shared by {self.processes} processes; take a multiple")
        return self.of(batch)


ALONE = Share(0, 1)
