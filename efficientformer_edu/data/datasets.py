"""Labelled images for training and evaluation: full Fashion-MNIST, its embedded subset, or a folder of images.

Paper: section 5.1 trains on ImageNet-1K, which is read as a folder here. Fashion-MNIST can be learned on a laptop in
minutes, and a subset of it comes with this package.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from efficientformer_edu.data import fashion_mnist, folders
from efficientformer_edu.data.folders import Split
from efficientformer_edu.data.images import open_image, to_rgb
from efficientformer_edu.utils.files import fingerprint_files, fingerprint_tensors

FULL, SMALL = "fashion-mnist", "fashion-mnist-small"

Picture = Image.Image | Tensor  # an RGB image, or uint8 (1, 28, 28)
Sample = tuple[Picture, int]


class Images(Dataset[Sample]):
    """Images and their labels; `images[i]` is an image without augmentation and its label.

    Fashion-MNIST is kept in memory as tensors, because a network processes 60,000 small images faster than their files
    could be opened. Images from files are read on access.

    Attributes:
        classes: class names; a label is an index into this list.
        labels: labels of all images, in order.
        channels: 1 for grey images, 3 for color images.
        words: description of the images.
        skipped: number of broken files that were left out.
    """

    def __init__(
        self,
        pictures: UInt8[Tensor, "N 1 28 28"] | Sequence[Path],
        labels: Sequence[int],
        classes: tuple[str, ...],
        words: str,
        skipped: int = 0,
    ) -> None:
        if len(pictures) != len(labels):
            raise ValueError(f"{len(pictures)} pictures and {len(labels)} labels; each picture needs one")
        self._pictures = pictures
        self.labels, self.classes, self.words, self.skipped = list(labels), classes, words, skipped
        self.channels = 1 if isinstance(pictures, Tensor) else 3

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        """One image and its label.

        Raises:
            ValueError: if the file has become unreadable, or is broken in a way that `load_data` does not detect; the
                message names the file.
        """
        picture = self._pictures[index]
        return to_rgb(open_image(picture)) if isinstance(picture, Path) else picture, self.labels[index]

    def part(self, places: Sequence[int], words: str) -> Images:
        """The images at these indices, in this order, with their own description."""
        held, labels = self._pictures, [self.labels[index] for index in places]
        pictures = held[list(places)] if isinstance(held, Tensor) else [held[index] for index in places]
        return Images(pictures, labels, self.classes, words)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the images and labels, used to verify the data of a resumed run; see `checkpoints`."""
        labels = " ".join([*self.classes, *map(str, self.labels)])
        if isinstance(self._pictures, Tensor):
            return fingerprint_tensors({labels: self._pictures})
        return fingerprint_files(self._pictures, labels)

    def __repr__(self) -> str:
        return f"Images: {self.words}"


def first_of_each(images: Images, per_class: int) -> Images:
    """The first `per_class` images of each class, in their order.

    Raises:
        ValueError: if a class has fewer images.
    """
    return apart(images, per_class)[0]


def apart(images: Images, per_class: int) -> tuple[Images, Images]:
    """The first `per_class` images of each class, and all others; both in their order.

    Raises:
        ValueError: if a class has fewer images.
    """
    positions: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(images.labels):
        positions[label].append(index)
    fewest = min(len(positions[label]) for label in range(len(images.classes)))
    if fewest < per_class:
        raise ValueError(f"{per_class} images of each class are asked for, and one has {fewest}: {images.words}")
    first = sorted(index for of_class in positions.values() for index in of_class[:per_class])
    others = sorted(index for of_class in positions.values() for index in of_class[per_class:])
    text = f"{images.words}, {{}} {per_class:,} of each class"
    return images.part(first, text.format("the first")), images.part(others, text.format("all but the first"))


def load_data(
    data: str | Path,
    split: Split,
    *,
    data_dir: Path | None = None,
    download: bool = False,
    strict: bool = False,
) -> Images:
    """The images of one split.

    Args:
        data: `"fashion-mnist"`, the full set; `"fashion-mnist-small"`, the subset that comes with the package; or a
            folder with one sub-folder per class, or, as in ImageNet, with such folders below `train` and below `val` or
            `test`.
        split: `"train"` or `"test"`. If a folder of classes is not split, all images are used for both.
        data_dir: folder that is searched first for the files of the full set.
        download: download the full set if it is not on this machine.
        strict: raise an error for a broken image. If False, broken images are left out and counted.

    Raises:
        ValueError: if a file is damaged, truncated or not what its name says (the message names it); if the split is
            unknown; if an option does not apply to these data.
        OSError: if the data do not exist; the message says how to get them.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r} is unknown; use 'train' or 'test'")
    if data != FULL and (data_dir is not None or download):
        raise ValueError(f"data_dir and download are for {FULL!r} alone, and these data are {str(data)!r}")
    if data == FULL:
        pictures, labels = fashion_mnist.full(split, data_dir, download)
        return _fashion_mnist(pictures, labels, f"Fashion-MNIST, {{}} {fashion_mnist.SPLITS[split]} images")
    if data == SMALL:
        pictures, labels = fashion_mnist.small(split)
        return _fashion_mnist(pictures, labels, f"Fashion-MNIST, {{}} of its {fashion_mnist.SPLITS[split]} images")
    if not Path(data).is_dir():
        raise FileNotFoundError(f"{data} is no folder; use {FULL!r}, {SMALL!r} or a folder of class sub-folders")
    folder = folders.find(Path(data), split, strict)
    return Images(folder.files, folder.labels, folder.classes, folder.words, folder.skipped)


def _fashion_mnist(pictures: Tensor, labels: list[int], description: str) -> Images:
    return Images(pictures, labels, fashion_mnist.CLASSES, description.format(f"{len(labels):,}"))
