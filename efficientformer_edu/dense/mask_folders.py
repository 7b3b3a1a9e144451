"""Folders of images and of masks: beside each image a PNG of the same size that holds the class of each pixel.

Two layouts. A plain one: `images/train` and `masks/train`, `images/val` and `masks/val`, names of the classes in
`classes.txt`, one a line; a mask holds places in that list, and 255 where a pixel has no class. And ADE20K's, as Zhou
et al., *Scene Parsing through ADE20K Dataset*, 2017, publish it: `images/training` and `annotations/training`,
`validation` likewise, names in `objectInfo150.txt`; there 0 is a pixel without a class, and the classes count from 1.

Comes: a folder. Goes: `Example`s without objects, each read when it is asked for.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from efficientformer_edu.dense.examples import IGNORED, Example, Examples
from efficientformer_edu.dense.photos import check_photo, read_photo
from efficientformer_edu.training.data import Split
from efficientformer_edu.training.folders import SUFFIXES
from efficientformer_edu.weights.images import open_image

SPLITS = {"train": ("train", "training"), "test": ("val", "validation", "test")}
PLAIN, ADE20K = "masks", "annotations"  # folder of the masks; it tells which layout it is
NAMES = {PLAIN: "classes.txt", ADE20K: "objectInfo150.txt"}
ONE_CHANNEL = ("1", "L", "P")  # Pillow's modes whose pixels are whole numbers of at most eight bits


@dataclass(frozen=True)
class Pair:
    """An image and its mask.

    Attributes:
        image: its file.
        mask: its file.
        first: the number in the mask that stands for the first class.
    """

    image: Path
    mask: Path
    first: int

    def ids(self) -> NDArray[np.uint8]:
        """(H, W): the class of each pixel, from 0, or `IGNORED`."""
        picture = open_image(self.mask)
        if picture.mode not in ONE_CHANNEL:
            raise ValueError(
                f"{self.mask} has the mode {picture.mode}; a mask has one channel that holds the class of each pixel. "
                "Look up the class of each colour, and save the classes with Image.fromarray(ids.astype(numpy.uint8))"
            )
        return np.array(picture).astype(np.uint8) - np.uint8(self.first)  # with ADE20K's, 0 wraps to 255


class MaskFolder(Examples):
    """Images with the class of each pixel, as `read_mask_folder` finds them."""

    classes = ()

    def __init__(self, pairs: list[Pair], pixel_classes: tuple[str, ...], words: str, skipped: int) -> None:
        self.pairs, self.pixel_classes, self.words, self.skipped = pairs, pixel_classes, words, skipped

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Example:
        """One image, without objects.

        Raises:
            ValueError: naming the file, if it has become unreadable, or is broken in a way that `read_mask_folder`
                overlooks.
        """
        pair = self.pairs[index]
        semantic = torch.from_numpy(pair.ids())  # (H, W)
        none = torch.zeros(0, dtype=torch.int64)
        masks = torch.zeros(0, *semantic.shape, dtype=torch.bool)
        return Example(read_photo(pair.image), torch.zeros(0, 4), none, none.bool(), masks, semantic)


def read_mask_folder(root: Path, split: Split, strict: bool = False) -> MaskFolder:
    """The images and masks of one split.

    Where no file names the classes, they are as many as the masks of training have, and are called by their numbers.

    Args:
        root: holds `images` and `masks`, or `images` and `annotations`.
        split: `"train"` or `"test"`.
        strict: refuse broken pairs; otherwise they are left out and counted. Those are an image that is broken or has
            no mask, and a mask that is broken, is no picture of one channel, has another size than its image, or holds
            a number that is no class.

    Raises:
        FileNotFoundError: if a folder is missing; with `strict`, for the first missing mask.
        ValueError: if the file of names is broken, or no pair is left; with `strict`, for the first broken pair.
    """
    kind = PLAIN if (root / PLAIN).is_dir() else ADE20K
    pairs = _pairs(root, kind, split)
    names = _names(root / NAMES[kind], kind) or _numbers(_pairs(root, kind, "train"))
    with ThreadPoolExecutor() as pool:  # most of the time is spent waiting for files
        errors = list(pool.map(lambda pair: _error(pair, len(names)), pairs))
    first = next((error for error in errors if error is not None), None)
    if strict and first is not None:
        raise first
    whole = [pair for pair, error in zip(pairs, errors, strict=True) if error is None]
    if not whole or not names:
        reason = "no pixel has a class" if first is None else str(first)
        raise ValueError(f"{root.name}: of {len(pairs)} images none is whole and has a mask; such as: {reason}")
    skipped = len(pairs) - len(whole)
    words = f"{root.name}, {len(whole):,} {'training' if split == 'train' else 'test'} images, pixels of "
    words += f"{len(names)} classes" + f", {skipped:,} broken left out" * bool(skipped)
    return MaskFolder(whole, names, words, skipped)


def _pairs(root: Path, kind: str, split: Split) -> list[Pair]:
    """The images of a split with the places where their masks should be."""
    images, masks = (_split_folder(root / name, split) for name in ("images", kind))
    paths = [path for path in sorted(images.rglob("*")) if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    first = 1 if kind == ADE20K else 0
    return [Pair(path, (masks / path.relative_to(images)).with_suffix(".png"), first) for path in paths]


def _split_folder(folder: Path, split: Split) -> Path:
    for name in SPLITS[split]:
        if (folder / name).is_dir():
            return folder / name
    raise FileNotFoundError(f"{folder} has no folder {' or '.join(SPLITS[split])}")


def _error(pair: Pair, classes: int) -> ValueError | FileNotFoundError | None:
    """What is wrong with a pair, naming the file."""
    try:
        height, width = check_photo(pair.image)
        if not pair.mask.is_file():
            return FileNotFoundError(f"{pair.mask} is missing, the mask of {pair.image.name}")
        ids = pair.ids()
    except (ValueError, FileNotFoundError) as error:
        return error
    if ids.shape != (height, width):
        return ValueError(f"{pair.mask} has {ids.shape[0]}×{ids.shape[1]} pixels, its image has {height}×{width}")
    if len(beyond := np.unique(ids[(ids >= classes) & (ids != IGNORED)])):
        least, most = pair.first, pair.first + classes - 1
        return ValueError(
            f"{pair.mask} holds {int(beyond[0]) + pair.first}; its {classes} classes are the numbers {least} to {most}"
        )
    return None


def _names(path: Path, kind: str) -> tuple[str, ...]:
    """The names that a file gives to the classes; none if there is no file."""
    if not path.is_file():
        return ()
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if kind == ADE20K:  # Idx, Ratio, Train, Val and Name below each other; a name has its synonyms after commas
        lines = [line.split("\t")[-1].split(",")[0].strip() for line in lines[1:]]
    if not 0 < len(lines) <= IGNORED:
        raise ValueError(f"{path} names {len(lines)} classes; possible are 1 to {IGNORED}")
    return tuple(lines)


def _numbers(pairs: list[Pair]) -> tuple[str, ...]:
    """A number for each class up to the largest one in masks that can be read."""
    with ThreadPoolExecutor() as pool:
        largest = max(pool.map(_largest, pairs), default=-1)
    return tuple(f"class {number}" for number in range(largest + 1))


def _largest(pair: Pair) -> int:
    if _error(pair, IGNORED) is not None:
        return -1
    return max((int(number) for number in np.unique(pair.ids()) if number != IGNORED), default=-1)
