"""Photographs from files, as `Example` has them.

Comes: the path of an image. Goes: its pixels, or its size alone; both the right way up, as its EXIF data say.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image
from torch import Tensor

from efficientformer_edu.training.folders import fault
from efficientformer_edu.weights.images import open_image, to_rgb

LYING = 5  # EXIF's orientations from here on are turned by a quarter


def read_photo(path: Path) -> UInt8[Tensor, "3 H W"]:
    """Red, green and blue. Raises ValueError naming a file that is broken."""
    return torch.from_numpy(np.array(to_rgb(open_image(path)))).permute(2, 0, 1).contiguous()


def check_photo(path: Path) -> tuple[int, int]:
    """Height and width of an image, which is not decoded where its file can be seen to be whole without.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is broken.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    if text := fault(path):
        raise ValueError(text)
    with Image.open(path) as image:
        lying = image.getexif().get(ExifTags.Base.Orientation, 1) >= LYING
        return image.size if lying else image.size[::-1]
