"""Folders of images: one sub-folder per class, as in ImageNet and for torchvision's ImageFolder.

Released code: `build_dataset` in `util/datasets.py`, which reads `train` and `val`. There a broken file stops the run
when it is read; here all files are checked before training.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from efficientformer_edu.data.images import check_image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
Split = Literal["train", "test"]
SPLITS = {"train": ("train",), "test": ("val", "test")}


@dataclass(frozen=True)
class Found:
    """The images of a folder.

    Attributes:
        files: paths of the images that can be read.
        labels: labels of these images, indices into `classes`.
        classes: names of the sub-folders, sorted.
        skipped: number of images that cannot be read and were left out.
        words: a description without the path.
    """

    files: list[Path]
    labels: list[int]
    classes: tuple[str, ...]
    skipped: int
    words: str


def find(root: Path, split: str, strict: bool) -> Found:
    """Find the images of a folder. A warning reports how many are left out.

    The classes are those of `train` if it exists, so that a label means the same in both splits.

    Args:
        root: contains the class folders, or `train`, `val` or `test` with the class folders.
        split: `"train"` or `"test"`. Without `train`, `val` and `test`, all images are used for both.
        strict: raise an error for an image that cannot be read, instead of leaving it out.

    Raises:
        ValueError: if the folder has no classes, a class has no readable image, or a class does not occur in training;
            with `strict`, for the first image that cannot be read. Each message gives the first reason.
        FileNotFoundError: if the folder only has the other split.
    """
    top = _split_folder(root, split)
    classes = _classes(root / "train") if (root / "train").is_dir() else _classes(top)
    if unknown := sorted(set(_classes(top)) - set(classes)):
        raise ValueError(f"{top / unknown[0]}: there is no class of this name in {root / 'train'}")
    images = [(path, label) for label, name in enumerate(classes) for path in image_files(top / name)]
    with ThreadPoolExecutor() as pool:  # most of the time is spent waiting for files
        errors = list(pool.map(lambda image: _error(image[0]), images))
    reasons = [error for error in errors if error]
    if strict and reasons:
        raise ValueError(f"{reasons[0]} (and {len(reasons) - 1} more)" if len(reasons) > 1 else reasons[0])
    usable = [image for image, error in zip(images, errors, strict=True) if not error]
    readable = {label for _, label in usable}
    for label, name in enumerate(classes):
        if label not in readable and (top / name).is_dir():
            errors_of_class = (error for (_, other), error in zip(images, errors, strict=True) if other == label)
            first = next(errors_of_class, "it is empty")
            raise ValueError(f"{top / name} has no readable image ({first}); remove the folder if it is not a class")
    warn_left_out(root.name, reasons, len(images))
    kind = "training" if split == "train" else "test"
    description = f"{root.name}, {len(usable):,} {kind} images of {len(classes)} classes"
    description += f", {len(reasons):,} left out" * bool(reasons)
    return Found([path for path, _ in usable], [label for _, label in usable], classes, len(reasons), description)


def image_files(folder: Path) -> Iterator[Path]:
    """All image files below a folder, sorted by path.

    Linked folders are followed, except back to a folder above, which would never end. Hidden files and folders are
    skipped, such as the `._name.jpg` that macOS writes.
    """
    return _image_files(folder, frozenset(parent.resolve() for parent in folder.absolute().parents))


def warn_left_out(name: str, reasons: Sequence[str], count: int, what: str = "images") -> None:
    """Warn how many of `count` images, or of other entries, are left out, with the first reason."""
    if reasons:
        text = f"{name}: {len(reasons):,} of {count:,} {what} left out; first reason: {reasons[0]}"
        warnings.warn(text, stacklevel=3)


def _image_files(folder: Path, parents: frozenset[Path]) -> Iterator[Path]:
    if (real := folder.resolve()) in parents or not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _image_files(path, parents | {real})
        elif path.suffix.lower() in SUFFIXES:
            yield path


def _error(path: Path) -> str:
    """Why an image cannot be read; empty if it can."""
    try:
        check_image(path)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def _split_folder(root: Path, split: str) -> Path:
    names = [name for several in SPLITS.values() for name in several]
    existing = [name for name in names if (root / name).is_dir()]
    if not existing:
        return root
    usable = [name for name in SPLITS[split] if name in existing]
    if not usable:
        expected = " or ".join(SPLITS[split])
        raise FileNotFoundError(f"{root} has {' and '.join(existing)}, but no {expected} for the {split} images")
    return root / usable[0]


def _classes(folder: Path) -> tuple[str, ...]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise ValueError(f"{folder} has no sub-folders; expected is one for each class, with its images")
    return tuple(names)
