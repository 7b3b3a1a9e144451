"""Create the Fashion-MNIST subset of the package from the full data set: `python -m tools.fashion_subset`.

It contains the first 400 training and the first 100 test images of each class, in the (shuffled) order of the full set,
and the mean and standard deviation of all training pixels, which are used to normalize grayscale images.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np
from torch import Tensor

from efficientformer_edu.data.fashion_mnist import CLASSES, full
from efficientformer_edu.utils.files import atomic_write
from tools import ROOT

TARGET = ROOT / "efficientformer_edu" / "data" / "fashion_mnist_small.npz"
OF_EACH_CLASS = {"train": 400, "test": 100}


def first_per_class(labels: list[int], count: int) -> np.ndarray:
    """Return the indices of the first `count` images of each class, ascending."""
    array = np.array(labels)
    return np.sort(np.concatenate([np.flatnonzero(array == label)[:count] for label in range(len(CLASSES))]))


def pixel_statistics(images: Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of uint8 pixels, scaled to [0, 1], from their histogram.

    Integer arithmetic up to the last step makes them identical on every machine.
    """
    counts = images.flatten().bincount(minlength=256).tolist()
    pixels, first, second = (sum(count * value**power for value, count in enumerate(counts)) for power in (0, 1, 2))
    return first / (255 * pixels), math.sqrt(pixels * second - first**2) / (255 * pixels)


def make(target: Path = TARGET) -> None:
    """Write the file. Raises OSError if the full data set is missing, with instructions to get it."""
    arrays: dict[str, np.ndarray] = {}
    for split, count in OF_EACH_CLASS.items():
        images, labels = full(split)
        kept = first_per_class(labels, count)
        arrays[f"{split}_images"] = images[kept, 0].numpy()
        arrays[f"{split}_labels"] = np.array(labels, np.uint8)[kept]
        if split == "train":
            mean, std = pixel_statistics(images)
            arrays |= {"mean": np.array(mean), "std": np.array(std)}
    # An .npz is a zip archive. LZMA makes it a seventh smaller than numpy's compression, and numpy can read it.
    with atomic_write(target) as path, zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_LZMA)  # dated 1980
    print(f"{target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    make()
