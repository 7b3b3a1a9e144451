"""Fashion-MNIST: 70,000 grey images of clothes, 28×28 pixels, ten classes: find, download and check its files.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
2017; MIT licence, © 2017 Zalando SE. A small subset, `fashion_mnist_small.npz`, comes with the package, together with
the licence; it is created by `tools/fashion_subset.py`.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from efficientformer_edu.utils.files import download as download_file
from efficientformer_edu.utils.optional import import_optional

CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
SIDE = 28  # pixels
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # folder of Debian's package dataset-fashion-mnist
URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"

GZIP = b"\x1f\x8b"
KINDS = {2051: "images", 2049: "labels"}  # by the magic number at the start of a file


@dataclass(frozen=True)
class DataFile:
    """One of the four files: its name without `.gz`, a value of `KINDS`, the count, and the content's SHA-256."""

    name: str
    kind: str
    count: int
    sha256: str

    @property
    def size(self) -> int:
        """Bytes of the content: a 32-bit number for the kind and for each dimension, then one byte per value."""
        return 16 + self.count * SIDE**2 if self.kind == "images" else 8 + self.count


def _split_files(prefix: str, count: int, images_sha256: str, labels_sha256: str) -> tuple[DataFile, DataFile]:
    return (
        DataFile(f"{prefix}-images-idx3-ubyte", "images", count, images_sha256),
        DataFile(f"{prefix}-labels-idx1-ubyte", "labels", count, labels_sha256),
    )


FILES: Mapping[str, tuple[DataFile, DataFile]] = {
    "train": _split_files(
        "train",
        60_000,
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "test": _split_files(
        "t10k",
        10_000,
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
"""The images and the labels of each split."""


def full(
    split: str, data_dir: Path | None = None, download: bool = False
) -> tuple[UInt8[Tensor, "N 1 28 28"], list[int]]:
    """Load the full data set: 60,000 training images or 10,000 test images.

    The files, compressed or not, are searched in `data_dir`, in the folder of Debian's package, and in the download
    cache. The first file of the right name is used, even if it is damaged.

    Args:
        split: `"train"` or `"test"`.
        data_dir: a folder with the files.
        download: download missing files into the cache folder.

    Returns:
        The images and their labels.

    Raises:
        ValueError: if a file is damaged, truncated or not what its name says; the message names it.
        OSError: if a file cannot be read or downloaded, or does not exist; the message says how to get it.
    """
    images, labels = (_read(file, _find(file, data_dir, download)) for file in FILES[split])
    return torch.from_numpy(images[16:].reshape(-1, 1, SIDE, SIDE)), labels[8:].tolist()


def small(split: str) -> tuple[UInt8[Tensor, "N 1 28 28"], list[int]]:
    """Load the subset that comes with the package, with equally many images per class. See `full` for `split`."""
    images, labels = _embedded(f"{split}_images", f"{split}_labels")
    return torch.from_numpy(images)[:, None], labels.tolist()


@cache
def statistics() -> tuple[float, float]:
    """Mean and standard deviation of all pixels of the 60,000 training images, scaled to [0, 1]."""
    mean, std = _embedded("mean", "std")
    return float(mean), float(std)


def _embedded(*names: str) -> list[np.ndarray]:
    with (resources.files(__package__) / "fashion_mnist_small.npz").open("rb") as file:
        content = np.load(file)  # arrays are read lazily
        return [content[name] for name in names]


def _find(file: DataFile, data_dir: Path | None, download: bool) -> Path:
    names = (f"{file.name}.gz", file.name)
    folders = [folder for folder in (data_dir, DEBIAN) if folder and any((folder / name).exists() for name in names)]
    # Only if the file is in neither of them, pooch has to be installed.
    folder = folders[0] if folders else Path(import_optional("pooch").os_cache("efficientformer-edu"))
    for name in names:
        if (folder / name).exists():
            return folder / name
    if download:
        path = folder / names[0]
        download_file(f"{URL}{path.name}", path, partial(_read, file))
        return path
    raise FileNotFoundError(
        f"{file.name}.gz of Fashion-MNIST is not on this machine. Install Debian's package dataset-fashion-mnist; or "
        f"put the files of {URL} into a folder and pass it as data_dir (--data-dir); or download them with "
        "download=True (--download). 'fashion-mnist-small' comes with the package"
    )


def _read(file: DataFile, path: Path) -> np.ndarray:
    """Read and verify a file; returns its content, (bytes,)."""
    content = path.read_bytes()
    if content.startswith(GZIP):
        try:
            content = gzip.decompress(content)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is damaged or truncated: {error}") from error
    kind, count = KINDS.get(int.from_bytes(content[:4], "big")), int.from_bytes(content[4:8], "big")
    if (kind, count) != (file.kind, file.count):
        expected = f"expected the {file.count:,} {file.kind} of Fashion-MNIST"
        raise ValueError(f"{path} contains {f'{count:,} {kind}' if kind else 'something else'}; {expected}")
    if len(content) != file.size:
        raise ValueError(f"{path} has {len(content):,} bytes of content instead of {file.size:,}: it is truncated")
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise ValueError(f"{path} is not Fashion-MNIST's: it is damaged, or belongs to another data set")
    return np.frombuffer(bytearray(content), np.uint8)  # torch requires a writable buffer
