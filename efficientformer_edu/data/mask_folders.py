"""Folders of images and masks: for each image a PNG of the same size that contains the class of each pixel.

Two layouts are supported. Simple: `images/train` and `masks/train`, `images/val` and `masks/val`, class names in
`classes.txt`, one per line; a mask contains indices into that list, and 255 for pixels without a class. ADE20K's, as
published by Zhou et al., *Scene Parsing through ADE20K Dataset*, 2017: `images/training` and `annotations/training`,
likewise `validation`, class names in `objectInfo150.txt`. There the classes start at 1; 0 and 255 mean no class.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from efficientformer_edu.data.examples import IGNORED, Example, Examples
from efficientformer_edu.data.images import (
    Split,
    check_image,
    find_images,
    open_image,
    read_image,
    upright,
    warn_left_out,
)
from efficientformer_edu.utils.files import fingerprint_files

SPLITS = {"train": ("train", "training"), "test": ("val", "validation", "test")}
MASKS, ANNOTATIONS = "masks", "annotations"  # folder of the masks, which identifies the layout
NAMES = {MASKS: "classes.txt", ANNOTATIONS: "objectInfo150.txt"}
SINGLE_CHANNEL = ("1", "L", "P")  # Pillow's modes whose pixels are integers of at most eight bits
SHOWN = 5  # names in a message, at most
BLACK_AND_WHITE = (
    "the masks hold only 0 and 255, and 255 means no class, so that only the first class is left. To make 255 the "
    "second class, write 0 and 1: Image.fromarray((mask > 0).astype(numpy.uint8))"
)


@dataclass(frozen=True)
class Pair:
    """An image and its mask.

    Attributes:
        image: path of the image.
        mask: path of the mask.
        first: value of the first class in the mask.
    """

    image: Path
    mask: Path
    first: int

    def ids(self) -> NDArray[np.uint8]:
        """(H, W): the class of each pixel, from 0, or `IGNORED`."""
        mask = upright(open_image(self.mask))
        if mask.mode not in SINGLE_CHANNEL:
            raise ValueError(
                f"{self.mask} has the mode {mask.mode}; a mask has one channel that holds the class of each pixel. "
                "Look up the class of each colour, and save the classes with Image.fromarray(ids.astype(numpy.uint8))"
            )
        numbers = np.array(mask).astype(np.uint8)
        no_class = (numbers < self.first) | (numbers == IGNORED)
        return np.where(no_class, np.uint8(IGNORED), numbers - np.uint8(self.first))


class MaskFolder(Examples):
    """Images with the class of each pixel, as `read_mask_folder` reads them."""

    classes = ()

    def __init__(self, pairs: list[Pair], pixel_classes: tuple[str, ...], description: str, skipped: int) -> None:
        self.pairs, self.pixel_classes, self.description, self.skipped = pairs, pixel_classes, description, skipped

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Example:
        """One image, without objects.

        Raises:
            ValueError: naming the file, if it can no longer be read, or is broken in a way that `read_mask_folder`
                overlooks.
        """
        pair = self.pairs[index]
        classes = torch.from_numpy(pair.ids())  # (H, W)
        no_label = torch.zeros(0, dtype=torch.int64)
        no_mask = torch.zeros(0, *classes.shape, dtype=torch.bool)
        return Example(read_image(pair.image), torch.zeros(0, 4), no_label, no_label.bool(), no_mask, classes)

    @cached_property
    def fingerprint(self) -> str:
        files = [file for pair in self.pairs for file in (pair.image, pair.mask)]
        return fingerprint_files(files, "\n".join(self.pixel_classes))


def read_mask_folder(root: Path, split: Split, strict: bool = False) -> MaskFolder:
    """The images and masks of one split.

    Warns of pairs that are left out, of classes that never occur in training, and of training masks of a single class.

    Without a file of class names, the number of classes is that of the training masks, and classes are named by number.

    Args:
        root: contains `images` and `masks`, or `images` and `annotations`.
        split: `"train"` or `"test"`.
        strict: reject pairs that cannot be used instead of leaving them out: an image that is broken or has no mask,
            and a mask that is broken, has several channels or a size different from its image, or contains a value that
            is not a class.

    Raises:
        FileNotFoundError: if a folder is missing; with `strict`, for the first missing mask.
        ValueError: if the file of names is broken, or no pair can be used; if there is only one class to train on; with
            `strict`, for the first pair that cannot be used.
    """
    layout = MASKS if (root / MASKS).is_dir() else ANNOTATIONS
    pairs = _pairs(root, layout, split)
    names = _names(root / NAMES[layout], layout) or _numbers(_pairs(root, layout, "train"))
    with ThreadPoolExecutor() as pool:  # most of the time is spent waiting for files
        results = list(pool.map(lambda pair: _classes(pair, len(names)), pairs))
    errors = [result for result in results if not isinstance(result, frozenset)]
    if strict and errors:
        raise errors[0]
    usable = [pair for pair, result in zip(pairs, results, strict=True) if isinstance(result, frozenset)]
    occurring = frozenset[int]().union(*(result for result in results if isinstance(result, frozenset)))
    if not usable or not occurring - {IGNORED}:
        reason = f"; first reason: {errors[0]}" if errors else ", because no pixel has a class" if usable else ""
        raise ValueError(f"{root.name}: none of {len(pairs)} images can be used{reason}")
    _check_classes(root.name, names, occurring, split, layout, len(usable))
    warn_left_out(root.name, [str(error) for error in errors], len(pairs))
    description = f"{root.name}, {len(usable):,} {'training' if split == 'train' else 'test'} images, pixels of "
    description += f"{len(names)} classes" + f", {len(errors):,} left out" * bool(errors)
    return MaskFolder(usable, names, description, len(errors))


def _pairs(root: Path, layout: str, split: Split) -> list[Pair]:
    """The images of a split with the paths where their masks should be."""
    images, masks = (_split_folder(root / name, split) for name in ("images", layout))
    first = 1 if layout == ANNOTATIONS else 0
    return [Pair(path, (masks / path.relative_to(images)).with_suffix(".png"), first) for path in find_images(images)]


def _split_folder(folder: Path, split: Split) -> Path:
    for name in SPLITS[split]:
        if (folder / name).is_dir():
            return folder / name
    raise FileNotFoundError(f"{folder} has no folder {' or '.join(SPLITS[split])}")


def _classes(pair: Pair, count: int) -> frozenset[int] | ValueError | OSError:
    """The classes that occur in a mask, including `IGNORED`; or the error of the pair, naming the file."""
    try:
        size = check_image(pair.image)
        if not pair.mask.is_file():
            return FileNotFoundError(f"{pair.mask} is missing, the mask of {pair.image.name}")
        ids = pair.ids()
    except (ValueError, OSError) as error:
        return error
    if ids.shape != size:
        return ValueError(f"{pair.mask} has {ids.shape[0]}×{ids.shape[1]} pixels, its image has {size[0]}×{size[1]}")
    classes = frozenset(np.unique(ids).tolist())
    if beyond := sorted(number for number in classes if number >= count and number != IGNORED):
        least, most = pair.first, pair.first + count - 1
        return ValueError(f"{pair.mask} holds {beyond[0] + pair.first}; its {count} classes are {least} to {most}")
    return classes


def _check_classes(
    root: str, names: tuple[str, ...], occurring: frozenset[int], split: Split, layout: str, count: int
) -> None:
    """Warn of classes that never occur in `count` training masks, and reject data with one class in total."""
    black_and_white = layout == MASKS and len(names) <= 2 and occurring == {0, IGNORED}
    missing = [names[number] for number in range(len(names)) if number not in occurring]
    if split == "train" and len(names) == 1:
        reason = BLACK_AND_WHITE if black_and_white else f"{names[0]!r} is the only class"
        raise ValueError(f"{root}: there is one class of pixels, and so nothing to learn: {reason}")
    if split == "train" and len(occurring - {IGNORED}) == 1:
        (only,) = occurring - {IGNORED}
        hint = f": {BLACK_AND_WHITE}" if black_and_white else ""
        message = f"{root}: the only class in the training masks is {names[only]!r} (masks: {count:,}){hint}"
        warnings.warn(message, stacklevel=3)
    elif black_and_white:
        warnings.warn(f"{root}: {BLACK_AND_WHITE}", stacklevel=3)
    elif split == "train" and missing:
        remaining = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        listed = ", ".join(missing[:SHOWN]) + remaining
        warnings.warn(f"{root}: these classes never occur in the training masks: {listed}", stacklevel=3)


def _names(path: Path, layout: str) -> tuple[str, ...]:
    """The class names in a file; empty if the file does not exist."""
    if not path.is_file():
        return ()
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if layout == ANNOTATIONS:  # columns Idx, Ratio, Train, Val and Name; a name has its synonyms after commas
        lines = [line.split("\t")[-1].split(",")[0].strip() for line in lines[1:]]
    if not 0 < len(lines) <= IGNORED:
        raise ValueError(f"{path} names {len(lines)} classes; allowed: 1 to {IGNORED}")
    return tuple(lines)


def _numbers(pairs: list[Pair]) -> tuple[str, ...]:
    """A name with a number for each class up to the largest one in usable masks."""
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda pair: _classes(pair, IGNORED), pairs)
        numbers = (number for result in results if isinstance(result, frozenset) for number in result - {IGNORED})
        return tuple(f"class {number}" for number in range(max(numbers, default=-1) + 1))
