"""Random numbers of many kinds out of one torch generator, so that a run that is resumed goes on as it would have.

torch's distributions take no generator; numpy's do. So the state of the run is torch's generator alone, and whoever
needs numbers that are not uniform or normal takes a seed from it.
"""

from __future__ import annotations

import math

import numpy as np
import torch

TRIES = 10  # as in timm and torchvision

Range = tuple[float, float]


def dice(generator: torch.Generator) -> np.random.Generator:
    """A numpy generator whose seed is the next number of a torch generator, which thereby moves on by one."""
    return np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device)))


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
