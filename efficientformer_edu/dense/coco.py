"""COCO's format: one JSON file of boxes, outlines and classes for a folder of images.

Source: Lin et al., *Microsoft COCO: Common Objects in Context*, 2014, and cocodataset.org, "Data format". The file has
three lists. `images`: id, file_name, height, width. `categories`: id, name. `annotations`: image_id, category_id, bbox
(x, y, width, height) in pixels, segmentation (see `outlines`), iscrowd.

Comes: the file and the folder. Goes: `Example`s, each read when it is asked for.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from efficientformer_edu import config_values as values
from efficientformer_edu.dense import outlines
from efficientformer_edu.dense.examples import BACKGROUND, IGNORED, Example, Examples
from efficientformer_edu.dense.photos import check_photo, read_photo

LISTS = ("images", "annotations", "categories")
MOST_CLASSES = IGNORED - 1  # in a map of uint8, beside the background and what is ignored
FARTHEST = 1e9  # pixels; what is no finite number is not below it either

Result = TypeVar("Result")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Thing:
    """One object as it is written down.

    Attributes:
        box: corners (x₁, y₁, x₂, y₂) in pixels, within the image.
        label: place of its class.
        crowd: whether it is many at once.
        outline: as `outlines` reads it; None if there is none.
    """

    box: Box
    label: int
    crowd: bool
    outline: Any


@dataclass(frozen=True)
class Photo:
    """One image and what is in it."""

    path: Path
    height: int
    width: int
    things: list[Thing] = field(default_factory=list)


class Coco(Examples):
    """Images with their objects, as `read_coco` finds them."""

    def __init__(self, photos: list[Photo], classes: tuple[str, ...], words: str, skipped: int) -> None:
        self.photos, self.classes, self.pixel_classes = photos, classes, (BACKGROUND, *classes)
        self.words, self.skipped = words, skipped

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Example:
        """One image.

        An object without an outline has its box as mask, and its pixels have no class. Where objects overlap, a pixel
        has the class of the smallest.

        Raises:
            ValueError: naming the file, if it has become unreadable, or is broken in a way that `read_coco` overlooks.
        """
        photo = self.photos[index]
        things = photo.things
        masks = torch.zeros(len(things), photo.height, photo.width, dtype=torch.bool)  # (objects, H, W)
        for mask, thing in zip(masks, things, strict=True):
            if thing.outline is None:
                left, top, right, bottom = thing.box
                mask[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)] = True
            else:
                mask.copy_(outlines.mask(thing.outline, photo.height, photo.width))
        boxes = torch.tensor([thing.box for thing in things], dtype=torch.float32).reshape(-1, 4)
        labels = torch.tensor([thing.label for thing in things], dtype=torch.int64)
        crowd = torch.tensor([thing.crowd for thing in things], dtype=torch.bool)
        unclear = torch.tensor([thing.crowd or thing.outline is None for thing in things], dtype=torch.bool)
        return Example(read_photo(photo.path), boxes, labels, crowd, masks, _painted(masks, labels, unclear))


def read_coco(annotations: Path, images: Path, strict: bool = False) -> Coco:
    """A data set in COCO's format.

    Classes get labels from 0 in the order of their ids. A box that stands out of its image is cut at the border. An
    image without objects stays: all of it is background.

    Args:
        annotations: the JSON file.
        images: the folder of the images.
        strict: refuse broken entries; otherwise they are left out and counted. Those are images whose file is missing,
            broken or of another size than is written down, and objects of an image or class that is not listed, with a
            box that has no area in the image, or with a broken outline.

    Raises:
        FileNotFoundError: if the file or the folder is not there; with `strict`, for the first image without a file.
        ValueError: if the file is no JSON in this format, has no classes or too many, several images have the
            same id, or no image is left; with `strict`, for the first broken entry. The file and the entry are named.
    """
    content = _content(annotations)
    if not images.is_dir():
        raise FileNotFoundError(f"{images} is no folder; it should hold the images of {annotations.name}")
    classes = _classes(content["categories"], annotations)
    labels = {category: label for label, category in enumerate(classes)}

    def attempt(name: str, place: int, read: Callable[[], Result]) -> Result | None:
        """What `read` gives; None for a broken entry, which `strict` refuses."""
        try:
            return read()
        except (ValueError, FileNotFoundError) as error:
            if strict:
                raise type(error)(f"{annotations}: {name}[{place}]: {error}") from error
            return None

    entries = list(enumerate(content["images"]))
    listed = Counter(_id(entry) for _, entry in entries)
    if twice := [number for number, times in listed.items() if number is not None and times > 1]:
        raise ValueError(f"{annotations}: several of its images have the id {twice[0]}")
    with ThreadPoolExecutor() as pool:  # most of the time is spent waiting for files
        read = list(pool.map(lambda one: attempt("images", one[0], partial(_photo, one[1], images)), entries))
    photos = {_id(entry): photo for (_, entry), photo in zip(entries, read, strict=True)}
    added = [
        attempt("annotations", place, partial(_add, entry, photos, labels))
        for place, entry in enumerate(content["annotations"])
    ]
    kept = [photo for photo in read if photo is not None]
    skipped = read.count(None) + added.count(None)
    if not kept:
        raise ValueError(f"{annotations}: none of its {len(read)} images is whole in {images}")
    objects = sum(len(photo.things) for photo in kept)
    words = f"{annotations.stem}, {len(kept):,} images with {objects:,} objects of {len(classes)} classes"
    words += f", {skipped:,} broken entries left out" * bool(skipped)
    return Coco(kept, tuple(classes.values()), words, skipped)


def _content(path: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of the JSON, or of its letters
        raise ValueError(f"{path}: this is no JSON file: {error}") from error
    for name in LISTS:
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise ValueError(f"{path}: it has no list {name!r}; COCO's format has the lists {', '.join(LISTS)}")
    return content


def _classes(categories: list[Any], path: Path) -> dict[Any, str]:
    """Names of the classes by their ids, in the order of the ids."""
    names = {_id(entry): entry["name"] for entry in categories if isinstance(entry, dict) and "name" in entry}
    if None in names or len(names) != len(categories) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{path}: each of its categories needs a name, and a whole number as id that no other one has")
    if not 0 < len(names) <= MOST_CLASSES:
        raise ValueError(f"{path}: it has {len(names)} categories; possible are 1 to {MOST_CLASSES}")
    return dict(sorted(names.items()))


def _id(entry: Any, name: str = "id") -> int | None:
    """A whole number that stands for something; None if there is none."""
    found = entry.get(name) if isinstance(entry, dict) else None
    return found if type(found) is int else None


def _photo(entry: Any, folder: Path) -> Photo:
    """An image whose file is as it is written down, still without objects; or ValueError, or FileNotFoundError."""
    if _id(entry) is None or not isinstance(name := entry.get("file_name"), str):
        raise ValueError("an image needs a whole number as id, and a file_name")
    height, width = (values.count(side, entry.get(side)) for side in ("height", "width"))
    path = folder / name
    if (real := check_photo(path)) != (height, width):
        raise ValueError(f"{path} has {real[0]}×{real[1]} pixels; written down are {height}×{width}")
    return Photo(path, height, width)


def _add(entry: Any, photos: Mapping[int | None, Photo | None], labels: Mapping[Any, int]) -> bool:
    """Put an object into its image; or ValueError. With an image that was left out it goes without a word."""
    image, category = _id(entry, "image_id"), _id(entry, "category_id")
    if image is None or image not in photos:
        raise ValueError("its image_id is none of the images")
    if category not in labels:
        raise ValueError("its category_id is none of the categories")
    if entry.get("iscrowd", 0) not in (0, 1):
        raise ValueError(f"its iscrowd is {entry['iscrowd']!r}; allowed: 0, 1")
    if (photo := photos[image]) is not None:
        box = _box(entry.get("bbox"), photo)
        outline = entry.get("segmentation") or None  # an empty list where boxes are all there is
        if outline is not None:
            outlines.check(outline, photo.height, photo.width)
        photo.things.append(Thing(box, labels[category], entry.get("iscrowd", 0) == 1, outline))
    return True


def _box(written: Any, photo: Photo) -> Box:
    four = isinstance(written, list) and len(written) == 4
    if not four or not all(type(number) in (int, float) and abs(number) < FARTHEST for number in written):
        raise ValueError(f"its bbox is {written!r}; it needs to be [x, y, width, height] in pixels")
    x, y, width, height = map(float, written)
    left, right = max(0.0, x), min(float(photo.width), x + width)
    top, bottom = max(0.0, y), min(float(photo.height), y + height)
    if left >= right or top >= bottom:
        raise ValueError(f"its bbox {written} has no area in its image of {photo.height}×{photo.width} pixels")
    return left, top, right, bottom


def _painted(
    masks: Bool[Tensor, "objects H W"], labels: Int[Tensor, " objects"], unclear: Bool[Tensor, " objects"]
) -> UInt8[Tensor, "H W"]:
    """The class of each pixel: what is unclear first, as `IGNORED`, and then objects, the largest first."""
    semantic = torch.zeros(masks.shape[1:], dtype=torch.uint8)
    areas = masks.flatten(1).sum(dim=1)
    for place in sorted(range(len(labels)), key=lambda place: (not unclear[place], -int(areas[place]))):
        semantic[masks[place]] = IGNORED if unclear[place] else int(labels[place]) + 1
    return semantic
