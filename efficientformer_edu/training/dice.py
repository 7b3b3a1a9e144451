"""Random numbers that depend on given seeds alone, so that a resumed run continues as it would have without the stop.

torch's distributions accept no generator, NumPy's do. So the state of a run is a torch generator, and code that needs
numbers that are neither uniform nor normal draws a NumPy seed from it. Layers such as dropout accept no generator
either: `seeded` seeds the global state for them and restores it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from efficientformer_edu.training.batches import mixed

TRIES = 10  # as in timm and torchvision

Range = tuple[float, float]


def dice(generator: torch.Generator) -> np.random.Generator:
    """A numpy generator whose seed is the next number of a torch generator, which thereby moves on by one."""
    return np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device)))


@contextmanager
def seeded(device: torch.device, *numbers: int) -> Iterator[None]:
    """Seed torch's global random state for a block of code, and restore it afterwards.

    For code that accepts no generator: initialization, dropout and stochastic depth. Python's and NumPy's global states
    are not touched.

    Args:
        device: its generator is seeded as well as the CPU's.
        numbers: the seed is a function of these, such as seed, step and process.
    """
    seed, on_cpu = mixed(*numbers), device.type == "cpu"
    with torch.random.fork_rng([] if on_cpu else [device], device_type=None if on_cpu else device.type):
        torch.default_generator.manual_seed(seed)
        if not on_cpu:
            torch.get_device_module(device).manual_seed(seed)
        yield


def rectangle(
    width: int, height: int, area: Range, aspect: Range, random: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """A rectangle anywhere in an image, in whole pixels.

    Args:
        width: of the image.
        height: of the image.
        area: least and largest area, over that of the image; drawn evenly.
        aspect: least and largest width over height; drawn evenly on a scale of ratios.
        random: where the numbers come from.

    Returns:
        Left, top, right and bottom; None if no rectangle fitted into the image in `TRIES` draws.
    """
    for _ in range(TRIES):
        pixels = width * height * random.uniform(*area)
        ratio = math.exp(random.uniform(math.log(aspect[0]), math.log(aspect[1])))
        across, down = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = int(random.integers(width - across + 1)), int(random.integers(height - down + 1))
            return left, top, left + across, top + down
    return None
