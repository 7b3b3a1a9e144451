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
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pooch
import torch
from jaxtyping import UInt8
from torch import Tensor

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SPLITS = {"train": "training", "test": "test"}
SIDE = 28  # pixels
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # folder of Debian's package dataset-fashion-mnist
ADDRESS = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"

GZIP = b"\x1f\x8b"
KINDS = {2051: "images", 2049: "labels"}  # by the magic number at the start of a file


@dataclass(frozen=True)
class File:
    """One of the four files.

    Attributes:
        name: file name without `.gz`.
        kind: content, a value of `KINDS`.
        count: number of images or labels.
        sha256: hash of the uncompressed content.
        md5_gz: hash of the archive, from the authors' README.
    """

    name: str
    kind: str
    count: int
    sha256: str
    md5_gz: str

    @property
    def size(self) -> int:
        """Bytes of the content: a 32-bit number for the kind and for each dimension, then one byte per value."""
        return 16 + self.count * SIDE**2 if self.kind == "images" else 8 + self.count


FILES: Mapping[str, tuple[File, File]] = {
    "train": (
        File(
            name="train-images-idx3-ubyte",
            kind="images",
            count=60_000,
            sha256="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            md5_gz="8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        ),
        File(
            name="train-labels-idx1-ubyte",
            kind="labels",
            count=60_000,
            sha256="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            md5_gz="25c81989df183df01b3e8a0aad5dffbe",
        ),
    ),
    "test": (
        File(
            name="t10k-images-idx3-ubyte",
            kind="images",
            count=10_000,
            sha256="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            md5_gz="bef4ecab320f06d8554ea6380940ec79",
        ),
        File(
            name="t10k-labels-idx1-ubyte",
            kind="labels",
            count=10_000,
            sha256="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            md5_gz="bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
}


def full(
    split: str, data_dir: Path | None = None, download: bool = False
) -> tuple[UInt8[Tensor, "N 1 28 28"], list[int]]:
    """Load the full data set: 60,000 training images or 10,000 test images.

    The files, compressed or not, are searched in `data_dir`, in the folder of Debian's package, and in the download
    cache. The first file of the right name is used: if it is wrong, the other folders are not searched.

    Args:
        split: a key of `SPLITS`.
        data_dir: a folder with the files.
        download: download missing files into the cache of pooch.

    Returns:
        The images and their labels.

    Raises:
        ValueError: if a file is damaged, truncated or not what its name says; the message names it.
        OSError: if a file cannot be read or downloaded, or does not exist; the message says how to get it.
    """
    images, labels = (_read(_find(file, data_dir, download), file) for file in FILES[split])
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


def _find(file: File, data_dir: Path | None, download: bool) -> Path:
    cache_dir = Path(pooch.os_cache("efficientformer-edu"))
    for folder in (data_dir, DEBIAN, cache_dir):
        for name in (f"{file.name}.gz", file.name):
            if folder and (folder / name).exists():
                return folder / name
    if download:
        return _download(file, cache_dir)
    raise FileNotFoundError(
        f"{file.name}.gz of Fashion-MNIST is not on this machine. Install Debian's package dataset-fashion-mnist; or "
        f"put the files of {ADDRESS} into a folder and give it as data_dir (--data-dir); or have them fetched with "
        "download=True (--download). 'fashion-mnist-small' comes with the package and needs nothing"
    )


def _download(file: File, folder: Path) -> Path:
    address = f"{ADDRESS}{file.name}.gz"
    by_hand = f"To do it by hand, fetch {address} on any machine and put it into {folder}"
    try:
        # pooch reports the download, and renames the file once its hash is verified.
        return Path(pooch.retrieve(address, f"md5:{file.md5_gz}", f"{file.name}.gz", folder))
    except ValueError as error:
        raise ValueError(f"what came is not the published file, or only a part of it: {error}. {by_hand}") from error
    except OSError as error:
        raise OSError(f"{file.name}.gz could not be fetched: {error}. {by_hand}") from error


def _read(path: Path, file: File) -> np.ndarray:
    """Read and verify a file; returns its content, (bytes,)."""
    content = path.read_bytes()
    if content.startswith(GZIP):
        try:
            content = gzip.decompress(content)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is damaged or cut short: {error}") from error
    kind = KINDS.get(int.from_bytes(content[:4], "big"))
    if kind != file.kind:
        raise ValueError(f"{path} holds {kind or 'something else'}; expected are the {file.kind} of Fashion-MNIST")
    count = int.from_bytes(content[4:8], "big")
    if count != file.count:
        raise ValueError(f"{path} holds {count:,} {kind}; this split has {file.count:,}. Is it the file of the other?")
    if len(content) != file.size:
        raise ValueError(f"{path} has {len(content):,} bytes of content instead of {file.size:,}: it is cut short")
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise ValueError(f"{path} is not Fashion-MNIST's: it is damaged, or of another set with the same file names")
    return np.frombuffer(bytearray(content), np.uint8)  # torch requires a writable buffer
