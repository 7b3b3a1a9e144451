"""Labelled images to train and evaluate on: Fashion-MNIST, whole or embedded, or a folder of photographs.

Paper: section 5.1 trains on ImageNet-1K, which has the form of a folder here. Fashion-MNIST is what a laptop can learn
in minutes and what this package carries with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from efficientformer_edu.training import fashion_mnist, folders
from efficientformer_edu.training.checkpoints import fingerprint_files, fingerprint_tensors
from efficientformer_edu.weights.images import open_image, to_rgb

FULL, SMALL = "fashion-mnist", "fashion-mnist-small"

Split = Literal["train", "test"]
Picture = Image.Image | Tensor  # a photograph in RGB, or uint8 (1, 28, 28)
Sample = tuple[Picture, int]


class Images(Dataset[Sample]):
    """Pictures and their labels; `images[i]` is one of each, untouched by augmentation.

    Fashion-MNIST is held in memory, and its pictures are tensors: 60,000 tiny images go through a network faster than
    files open. A photograph is read when it is asked for.

    Attributes:
        classes: their names; a label is a place in this list.
        labels: of all images, in order.
        channels: 1 for grey images, 3 for photographs.
        words: what these images are.
        skipped: broken files that were found and left out.
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
        """One picture and its label.

        Raises:
            ValueError: naming the file, if it has become unreadable, or is broken in a way that `load_data` overlooks.
        """
        picture = self._pictures[index]
        return to_rgb(open_image(picture)) if isinstance(picture, Path) else picture, self.labels[index]

    def part(self, places: Sequence[int], words: str) -> Images:
        """The images at these places, in this order, under words of their own."""
        held, labels = self._pictures, [self.labels[place] for place in places]
        pictures = held[list(places)] if isinstance(held, Tensor) else [held[place] for place in places]
        return Images(pictures, labels, self.classes, words)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the images and labels, by which a resumed run knows its data; see `checkpoints`."""
        labels = " ".join([*self.classes, *map(str, self.labels)])
        if isinstance(self._pictures, Tensor):
            return fingerprint_tensors({labels: self._pictures})
        return fingerprint_files(self._pictures, labels)

    def __repr__(self) -> str:
        return f"Images: {self.words}"


def first_of_each(images: Images, per_class: int) -> Images:
    """So many images of each class, the first that there are, in their order.

    Raises:
        ValueError: if a class has fewer.
    """
    return apart(images, per_class)[0]


def apart(images: Images, per_class: int) -> tuple[Images, Images]:
    """The first images of each class, so many, and all others; both in their order.

    Raises:
        ValueError: if a class has fewer.
    """
    places: dict[int, list[int]] = defaultdict(list)
    for place, label in enumerate(images.labels):
        places[label].append(place)
    fewest = min(len(places[label]) for label in range(len(images.classes)))
    if fewest < per_class:
        raise ValueError(f"{per_class} images of each class are asked for, and one has {fewest}: {images.words}")
    first = sorted(place for of_class in places.values() for place in of_class[:per_class])
    others = sorted(place for of_class in places.values() for place in of_class[per_class:])
    said = f"{images.words}, {{}} {per_class:,} of each class"
    return images.part(first, said.format("the first")), images.part(others, said.format("all but the first"))


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
        data: `"fashion-mnist"`, the full set; `"fashion-mnist-small"`, the part of it that the package carries; or a
            folder with one sub-folder for each class, as ImageNet's, where there are such below `train` and below `val`
            or `test`.
        split: `"train"` or `"test"`. A folder of classes that is not split is used whole for either.
        data_dir: where the files of the full set are looked for first.
        download: fetch the full set if it is not on this machine.
        strict: refuse a folder with a broken image; otherwise it is left out and counted.

    Raises:
        ValueError: for a wrong file, damaged, cut short or another one than its name says, naming it; for another
            split; for an option that has no meaning for these data.
        OSError: if there are no such data, with how to get them.
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
    found = folders.find(Path(data), split, strict)
    return Images(found.files, found.labels, found.classes, found.words, found.skipped)


def _fashion_mnist(pictures: Tensor, labels: list[int], words: str) -> Images:
    return Images(pictures, labels, fashion_mnist.CLASSES, words.format(f"{len(labels):,}"))
