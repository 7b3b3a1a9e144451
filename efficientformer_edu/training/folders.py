"""Folders of photographs: one sub-folder for each class, as ImageNet has them.

Released code: `build_dataset` in `util/datasets.py`, which reads `train` and `val`. There a broken file ends the run
when its turn comes; here it is found before.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from efficientformer_edu.weights.images import open_image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
SPLITS = {"train": ("train",), "test": ("val", "test")}
JPEG_END, TAIL = b"\xff\xd9", 1024


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        files: of the images that are whole.
        labels: of these; places in `classes`.
        classes: names of the sub-folders, sorted.
        skipped: broken images that were left out.
        words: what it is, without its path.
    """

    files: list[Path]
    labels: list[int]
    classes: tuple[str, ...]
    skipped: int
    words: str


def find(root: Path, split: str, strict: bool) -> Found:
    """The images of a folder.

    Classes are those of `train`, where it is there, so that a label means the same in both splits.

    Args:
        root: holds the class folders, or `train`, `val` or `test` with the class folders.
        split: `"train"` or `"test"`; a folder without `train`, `val` and `test` is taken whole.
        strict: refuse broken images instead of leaving them out.

    Raises:
        ValueError: if there are no classes, a class has no whole image, or a class is not among those of training; with
            `strict`, naming the first image that is broken.
        FileNotFoundError: if the folder has the other split alone.
    """
    top = _split_folder(root, split)
    classes = _classes(root / "train") if (root / "train").is_dir() else _classes(top)
    if unknown := sorted(set(_classes(top)) - set(classes)):
        raise ValueError(f"{top / unknown[0]}: there is no class of this name in {root / 'train'}")
    places = [(path, label) for label, name in enumerate(classes) for path in _images(top / name)]
    with ThreadPoolExecutor() as pool:  # most of the time is spent waiting for files
        faults = list(pool.map(lambda place: fault(place[0]), places))
    broken = [text for text in faults if text]
    if strict and broken:
        raise ValueError(f"{broken[0]} (and {len(broken) - 1} more)" if len(broken) > 1 else broken[0])
    whole = [place for place, text in zip(places, faults, strict=True) if not text]
    filled = {classes[label] for _, label in whole}
    if empty := [name for name in classes if name not in filled and (top / name).is_dir()]:
        raise ValueError(f"{top / empty[0]} holds no whole image; remove the folder if the class is not meant")
    words = f"{root.name}, {len(whole):,} {'training' if split == 'train' else 'test'} images of {len(classes)} classes"
    words += f", {len(broken):,} broken left out" * bool(broken)
    return Found([path for path, _ in whole], [label for _, label in whole], classes, len(broken), words)


def fault(path: Path) -> str:
    """What is wrong with an image file, naming it; empty if nothing is.

    To decode a large folder would take as long as an epoch. So a JPEG whose end is there is taken to be whole, as a
    JPEG that is cut short or empty has none; everything else is decoded.
    """
    try:
        if not _is_whole_jpeg(path):
            open_image(path)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def _is_whole_jpeg(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            if image.format != "JPEG":
                return False
    except Exception:  # what decoders raise for broken files has no common class; `open_image` says what it was
        return False
    with path.open("rb") as file:
        file.seek(-min(TAIL, path.stat().st_size), 2)
        return JPEG_END in file.read()


def _split_folder(root: Path, split: str) -> Path:
    names = [name for several in SPLITS.values() for name in several]
    there = [name for name in names if (root / name).is_dir()]
    if not there:
        return root
    wanted = [name for name in SPLITS[split] if name in there]
    if not wanted:
        expected = " or ".join(SPLITS[split])
        raise FileNotFoundError(f"{root} has {' and '.join(there)}, but no {expected} to take {split} images from")
    return root / wanted[0]


def _classes(folder: Path) -> tuple[str, ...]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise ValueError(f"{folder} has no sub-folders; expected is one for each class, with its images")
    return tuple(names)


def _images(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):  # macOS leaves ._name.jpg
            yield path
