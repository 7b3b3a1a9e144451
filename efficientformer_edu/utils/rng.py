"""Random numbers that depend only on given seeds, so that a resumed run gives the same result as an uninterrupted one.

torch's distributions do not accept a generator, NumPy's do. The state of a run is therefore a torch generator, and code
that needs other than uniform or normal numbers draws a NumPy seed from it. Layers such as dropout do not accept a
generator either: for them, `seeded` seeds the global state and restores it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

TRIES = 10  # as in timm and torchvision

Range = tuple[float, float]


def generator(*numbers: int) -> torch.Generator:
    """A random generator that depends only on these numbers, such as seed, epoch and step."""
    return torch.Generator().manual_seed(derive_seed(*numbers))


def derive_seed(*numbers: int) -> int:
    """Derive a 63-bit seed from several non-negative numbers. Similar numbers give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def numpy_generator(generator: torch.Generator) -> np.random.Generator:
    """A NumPy generator seeded with the next number of a torch generator."""
    return np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device)))


@contextmanager
def seeded(device: torch.device, *numbers: int) -> Iterator[None]:
    """Seed torch's global random state for a block of code, and restore it afterwards.

    For code that does not accept a generator: initialization, dropout and stochastic depth. Python's and NumPy's global
    states are not changed.

    Args:
        device: its generator is seeded as well as the CPU's.
        numbers: the numbers that the seed is derived from, such as seed, step and process.
    """
    seed, on_cpu = derive_seed(*numbers), device.type == "cpu"
    with torch.random.fork_rng([] if on_cpu else [device], device_type=None if on_cpu else device.type):
        torch.default_generator.manual_seed(seed)
        if not on_cpu:
            torch.get_device_module(device).manual_seed(seed)
        yield


def rectangle(
    width: int, height: int, area: Range, aspect: Range, random: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """A random rectangle in an image, in integer pixels.

    Args:
        width: width of the image.
        height: height of the image.
        area: smallest and largest area, relative to that of the image; sampled uniformly.
        aspect: smallest and largest ratio of width to height; sampled log-uniformly.
        random: source of the random numbers.

    Returns:
        Left, top, right and bottom; None if no rectangle fits into the image in `TRIES` attempts.
    """
    for _ in range(TRIES):
        pixels = width * height * random.uniform(*area)
        ratio = math.exp(random.uniform(math.log(aspect[0]), math.log(aspect[1])))
        across, down = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = int(random.integers(width - across + 1)), int(random.integers(height - down + 1))
            return left, top, left + across, top + down
    return None
