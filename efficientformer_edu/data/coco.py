"""COCO's format: one JSON file with the boxes, outlines and classes of the objects in a folder of images.

Source: Lin et al., *Microsoft COCO: Common Objects in Context*, 2014; cocodataset.org, "Data format"; cocoapi's
`maskApi.c`. The file has three lists. `images`: id, file_name, height, width. `categories`: id, name. `annotations`:
image_id, category_id, bbox (x, y, width, height) in pixels, segmentation, iscrowd.

A segmentation is a list of polygons x₁, y₁, x₂, y₂, …, or run lengths. Run lengths traverse the image column by column
and alternate between pixels outside and inside the object; they are a list of integers, or packed into a string.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import torch
from jaxtyping import Bool
from torch import Tensor

from efficientformer_edu.data.examples import BACKGROUND, Example, Examples
from efficientformer_edu.data.images import check_image, read_image, warn_left_out
from efficientformer_edu.utils.files import fingerprint_files

LISTS = ("images", "annotations", "categories")
LARGEST = 1e9  # pixels, of a coordinate; NaN and infinity are not below it either

Id = int | float | str
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class CocoObject:
    """One annotation.

    Attributes:
        box: corners (x₁, y₁, x₂, y₂) in pixels, clipped to the image.
        label: index of its class.
        crowd: whether the box contains many objects.
        outline: its segmentation; None if it has none that can be decoded.
    """

    box: Box
    label: int
    crowd: bool
    outline: Any


@dataclass(frozen=True)
class CocoImage:
    """One image and its objects."""

    path: Path
    height: int
    width: int
    objects: list[CocoObject] = field(default_factory=list)


class Masks(Sequence[Bool[Tensor, "H W"] | None]):
    """The masks of an image's objects, each decoded when it is indexed; None for an object without an outline."""

    def __init__(self, image: CocoImage) -> None:
        self.image = image

    def __len__(self) -> int:
        return len(self.image.objects)

    def __getitem__(self, index: int) -> Bool[Tensor, "H W"] | None:  # type: ignore[override]  # no slices
        outline = self.image.objects[index].outline
        return None if outline is None else decode(outline, self.image.height, self.image.width)


class Coco(Examples):
    """Images with their objects, as `read_coco` reads them."""

    def __init__(
        self, images: list[CocoImage], classes: tuple[str, ...], description: str, skipped: int, digest: str
    ) -> None:
        self.images, self.classes, self.description, self.skipped, self.digest = (
            images,
            classes,
            description,
            skipped,
            digest,
        )
        outlined = any(item.outline is not None for image in images for item in image.objects)
        self.pixel_classes = (BACKGROUND, *classes) if outlined else ()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        """One image.

        Raises:
            ValueError: naming the file, if it can no longer be read, or is broken in a way that `read_coco` overlooks.
        """
        image = self.images[index]
        boxes = torch.tensor([item.box for item in image.objects], dtype=torch.float32).reshape(-1, 4)
        labels = torch.tensor([item.label for item in image.objects], dtype=torch.int64)
        crowd = torch.tensor([item.crowd for item in image.objects], dtype=torch.bool)
        return Example(read_image(image.path), boxes, labels, crowd, Masks(image))

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_files([image.path for image in self.images], self.digest)


def read_coco(annotations: Path, images: Path, strict: bool = False) -> Coco:
    """A data set in COCO's format. Warnings count what is left out, and the outlines that cannot be used.

    Classes get labels from 0 in the order of their ids. Ids may be numbers or text, a missing image size is read from
    the image file, and `file_name` may contain folders, with either slash, from the folder of the images or the one
    above it. Files without `file_name`, such as LVIS's, have the end of `coco_url` instead. A box that extends over the
    border of its image is clipped. An image without objects is kept. An object whose outline cannot be decoded keeps
    its box and has no mask.

    Args:
        annotations: the JSON file.
        images: the folder of the images.
        strict: refuse entries that cannot be used instead of leaving them out: images whose file is missing, broken or
            of a different size than the JSON file says; objects of an unknown image or class, or whose box has no area
            in the image; and outlines that cannot be decoded.

    Raises:
        FileNotFoundError: if the file or the folder does not exist; with `strict`, for the first image without a file.
        ValueError: if the file is not JSON in this format, has no classes, or several images have the same id; if no
            image or no object can be used, with the first reason; with `strict`, for the first entry that cannot be
            used. The message names the file and the entry.
    """
    data = annotations.read_bytes()
    content = _content(data, annotations)
    if not images.is_dir():
        raise FileNotFoundError(f"{images} is not a folder; it should hold the images of {annotations.name}")
    classes = _classes(content["categories"], annotations)
    labels = {category: label for label, category in enumerate(classes)}
    ids = [_id(entry) for entry in content["images"]]
    times = Counter(ids)
    if repeated := [number for number in times if number is not None and times[number] > 1]:
        raise ValueError(f"{annotations}: several of its images have the id {repeated[0]}")

    def read(entry: Any) -> CocoImage | ValueError | OSError:
        try:
            return _image(entry, images)
        except (ValueError, OSError) as error:
            return error

    with ThreadPoolExecutor() as pool:  # most of the time is spent waiting for files
        results = list(pool.map(read, content["images"]))
    usable: dict[Id | None, CocoImage] = {
        number: result for number, result in zip(ids, results, strict=True) if isinstance(result, CocoImage)
    }
    errors = [(f"images[{n}]", result) for n, result in enumerate(results) if not isinstance(result, CocoImage)]
    outline_errors: list[tuple[str, ValueError | OSError]] = []
    for index, entry in enumerate(content["annotations"]):
        try:
            outline_error = _add(entry, times, usable, labels)
        except ValueError as error:
            errors.append((f"annotations[{index}]", error))
        else:
            outline_errors += [(f"annotations[{index}]", outline_error)] if outline_error else []
    if strict and (errors or outline_errors):
        name, first = (errors or outline_errors)[0]
        raise type(first)(f"{annotations}: {name}: {first}") from first

    reasons = [f"{name}: {error}" for name, error in errors]
    because = f"; first reason: {reasons[0]}" if reasons else ""
    if not usable:
        raise ValueError(f"{annotations}: none of its {len(ids)} images can be used{because}")
    objects = [item for image in usable.values() for item in image.objects]
    if all(item.crowd for item in objects):
        have = f"all its {len(objects)} usable objects are crowds" if objects else "it has no object that can be used"
        raise ValueError(f"{annotations}: {have}{because}")
    warn_left_out(annotations.name, reasons, len(ids) + len(content["annotations"]), "entries")
    if outline_errors:
        text = f"{len(outline_errors):,} of {len(objects):,} objects have an outline that cannot be used"
        text += f"; they keep their box and have no mask. First reason: {': '.join(map(str, outline_errors[0]))}"
        warnings.warn(f"{annotations.name}: {text}", stacklevel=2)
    description = f"{annotations.stem}, {len(usable):,} images with {len(objects):,} objects of {len(classes)} classes"
    description += f", {len(errors):,} entries left out" * bool(errors)
    digest = hashlib.sha256(data).hexdigest()
    return Coco(list(usable.values()), tuple(classes.values()), description, len(errors), digest)


def check_outline(segmentation: Any, height: int, width: int) -> None:
    """Refuse what `decode` cannot decode.

    Raises:
        ValueError: for a polygon with fewer than three points, an odd number of coordinates, or a coordinate that is
            not finite or farther outside than the image is large; for run lengths that do not fill the image.
    """
    if isinstance(segmentation, dict):
        _run_lengths(segmentation, height, width)
    elif not isinstance(segmentation, list):
        raise ValueError("its segmentation is neither a list of polygons nor run lengths with size and counts")
    else:
        for polygon in segmentation:
            if not isinstance(polygon, list) or len(polygon) % 2 or len(polygon) < 6:
                problem = f"has {len(polygon)} numbers" if isinstance(polygon, list) else f"is {polygon!r}"
                raise ValueError(f"a polygon of its segmentation {problem}; allowed: x and y of at least three points")
            limit = max(height, width)  # pycocotools walks along each edge, however far it leads
            if not all(type(number) in (int, float) and -limit <= number <= 2 * limit for number in polygon):
                raise ValueError("a polygon of its segmentation has coordinates that are not finite, or far outside")


def decode(segmentation: Any, height: int, width: int) -> Bool[Tensor, "height width"]:
    """The pixels inside an outline that `check_outline` accepts."""
    if isinstance(segmentation, list):  # pycocotools decides which pixels on the border of a polygon belong to it
        segmentation = pycocotools.mask.merge(pycocotools.mask.frPyObjects(segmentation, height, width))
    # Not pycocotools.mask.decode: it reads beyond run lengths that are too short, and warns with NumPy 2.
    lengths = _run_lengths(segmentation, height, width)
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)  # (W·H,)
    return torch.from_numpy(inside).view(width, height).T


def _content(data: bytes, path: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except ValueError as error:  # from the JSON parser or the decoder of the text
        raise ValueError(f"{path}: not a JSON file: {error}") from error
    for name in LISTS:
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise ValueError(f"{path}: it has no list {name!r}; COCO's format has the lists {', '.join(LISTS)}")
    return content


def _classes(categories: list[Any], path: Path) -> dict[Id, str]:
    """Names of the classes by id, in the order of the ids, numbers before text."""
    names = {number: entry["name"] for entry in categories if (number := _id(entry)) is not None and "name" in entry}
    if len(names) != len(categories) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{path}: each of its categories needs a name, and an id that no other one has")
    if not names:
        raise ValueError(f"{path}: it has no categories")
    return dict(sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _id(entry: Any, name: str = "id") -> Id | None:
    """A number or a string (1 and 1.0 are equal); None for everything else."""
    value = entry.get(name) if isinstance(entry, dict) else None
    return value if type(value) in (int, float, str) and value == value else None


def _image(entry: Any, folder: Path) -> CocoImage:
    """An image whose file matches the entry, without objects yet; raises ValueError or OSError."""
    name = entry.get("file_name") or entry.get("coco_url") if isinstance(entry, dict) else None
    if _id(entry) is None or not isinstance(name, str):
        raise ValueError("an image needs an id, a number or text, and a file_name")
    if "://" in name:
        name = "/".join(name.split("/")[-2:])  # such as train2017/000000391895.jpg
    posix_name = name.replace("\\", "/")
    candidates = (folder / name, folder / posix_name, folder.parent / posix_name)
    path = next((path for path in candidates if path.is_file()), candidates[0])
    height, width = check_image(path)
    if any(entry.get(side) not in (None, actual) for side, actual in (("height", height), ("width", width))):
        raise ValueError(f"{path} has {height}×{width} pixels; expected {entry.get('height')}×{entry.get('width')}")
    return CocoImage(path, height, width)


def _add(
    entry: Any, listed: Collection[Id | None], images: Mapping[Id | None, CocoImage], labels: Mapping[Id, int]
) -> ValueError | None:
    """Add an object to its image, unless that image was left out.

    Returns:
        The error of an outline that cannot be decoded, or None.

    Raises:
        ValueError: if the object cannot be used.
    """
    image, category = _id(entry, "image_id"), _id(entry, "category_id")
    if image is None or image not in listed:
        raise ValueError("its image_id is none of the images")
    if category is None or category not in labels:
        raise ValueError("its category_id is none of the categories")
    if (crowd := entry.get("iscrowd")) not in (None, 0, 1, "0", "1"):
        raise ValueError(f"its iscrowd is {crowd!r}; allowed: 0, 1")
    if image not in images:
        return None
    box = _box(entry.get("bbox"), images[image])
    outline = entry.get("segmentation") or None  # an empty list where there are only boxes
    outline_error = None
    if outline is not None:
        try:
            check_outline(outline, images[image].height, images[image].width)
        except ValueError as error:
            outline, outline_error = None, error
    images[image].objects.append(CocoObject(box, labels[category], crowd in (1, "1"), outline))
    return outline_error


def _box(bbox: Any, image: CocoImage) -> Box:
    has_four = isinstance(bbox, list) and len(bbox) == 4
    if not has_four or not all(type(number) in (int, float) and abs(number) < LARGEST for number in bbox):
        raise ValueError(f"its bbox is {bbox!r}; it needs to be [x, y, width, height] in pixels")
    x, y, width, height = map(float, bbox)
    left, right = max(0.0, x), min(float(image.width), x + width)
    top, bottom = max(0.0, y), min(float(image.height), y + height)
    if left >= right or top >= bottom:
        raise ValueError(f"its bbox {bbox} has no area in its image of {image.height}×{image.width} pixels")
    return left, top, right, bottom


def _run_lengths(encoded: Mapping[str, Any], height: int, width: int) -> Sequence[int]:
    """Run lengths that fill the image; raises ValueError for others."""
    if encoded.get("size") != [height, width]:
        raise ValueError(f"its run lengths are for the size {encoded.get('size')}, its image has [{height}, {width}]")
    counts = encoded.get("counts")
    if isinstance(counts, bytes):
        counts = counts.decode("ascii")
    lengths = _unpack(counts) if isinstance(counts, str) else counts
    if not isinstance(lengths, list) or not all(type(length) is int and length >= 0 for length in lengths):
        raise ValueError("its run lengths are not a list of integers, at least 0, nor a string of them")
    if sum(lengths) != height * width:
        raise ValueError(f"its run lengths add up to {sum(lengths):,} pixels, its image has {height * width:,}")
    return lengths


def _unpack(counts: str) -> list[int]:
    """Decode run lengths from COCO's packed string; raises ValueError.

    A character holds five bits of a number, lowest first, offset by "0"; its sixth bit is set if more characters
    follow. The fifth bit of the last character is the sign. From the fourth number on, each is stored as the difference
    to the second number before it.
    """
    lengths: list[int] = []
    number = bits = 0
    for character in counts:
        code = ord(character) - ord("0")
        if not 0 <= code < 64:
            raise ValueError(f"its run lengths contain {character!r}")
        number |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            number -= 1 << bits
        lengths.append(number + lengths[-2] if len(lengths) > 2 else number)
        number = bits = 0
    if bits:
        raise ValueError("its run lengths end within a number")
    return lengths
