"""Annotated images: boxes and masks of objects, and the class of each pixel.

All data sources return `Example`s, in pixels of the image file. `letterbox` converts them into `Target`s for the loss,
in pixels of the network's square input.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

IGNORED = 255  # in a map of classes: a pixel without a class, which neither training nor evaluation uses
BACKGROUND = "background"  # the class of a pixel that belongs to no object


@dataclass(frozen=True)
class Example:
    """One image and its annotations.

    Attributes:
        image: red, green and blue.
        boxes: corners (x₁, y₁, x₂, y₂) in pixels, one box per object.
        labels: indices into `Examples.classes`.
        crowd: whether a box contains many objects; training skips such boxes, and detections in them are not counted.
        masks: the pixels of each object: a tensor (objects, H, W), or a sequence that decodes a mask when it is indexed
            and gives None for an object of which only the box is known.
        class_map: the class of each pixel, if the data contains it; None if `semantic` has to draw it from the masks.
    """

    image: UInt8[Tensor, "3 H W"]
    boxes: Float[Tensor, "objects 4"]
    labels: Int[Tensor, " objects"]
    crowd: Bool[Tensor, " objects"]
    masks: Bool[Tensor, "objects H W"] | Sequence[Bool[Tensor, "H W"] | None]
    class_map: UInt8[Tensor, "H W"] | None = None

    @cached_property
    def semantic(self) -> UInt8[Tensor, "H W"]:
        """The class of each pixel, (H, W): an index into `Examples.pixel_classes`, or `IGNORED`.

        Drawn from the masks, one at a time, on first access. A pixel in several objects has the class of the smallest.
        The pixels of a crowd, and the box of an object without a mask, have no class.

        Raises:
            ValueError: if a label is too large for a map of bytes.
        """
        if self.class_map is not None:
            return self.class_map
        if len(self.labels) and int(self.labels.max()) + 1 >= IGNORED:
            raise ValueError(f"label {int(self.labels.max())} does not fit a map of pixels; it needs to be below 254")
        classes = np.zeros(self.image.shape[1:], np.uint8)  # (H, W)
        smallest = np.full(classes.shape, np.inf, np.float32)  # (H, W): area of the object shown by each pixel so far
        for box, label, crowd, mask in zip(self.boxes, self.labels, self.crowd, self.masks, strict=True):
            pixels = None if mask is None else mask.numpy()
            if pixels is not None and pixels.any():
                rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
                top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
            else:
                pixels = None
                (left, top), (right, bottom) = map(math.floor, box[:2].tolist()), map(math.ceil, box[2:].tolist())
            area = np.inf if pixels is None or crowd else np.count_nonzero(pixels)
            window = slice(top, bottom), slice(left, right)
            replaced = smallest[window] >= area
            if pixels is not None:
                replaced &= pixels[window]
            classes[window][replaced] = int(label) + 1 if area < np.inf else IGNORED
            smallest[window][replaced] = area
        return torch.from_numpy(classes)


class Examples(ABC):
    """Images of one split, each read when it is indexed.

    Attributes:
        classes: names of the objects; empty if only pixels have classes.
        pixel_classes: names of the classes of pixels. In data with objects, the background comes first.
        description: a description without a path.
        skipped: entries that were left out because they cannot be used.
    """

    classes: tuple[str, ...]
    pixel_classes: tuple[str, ...]
    description: str
    skipped: int = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Example: ...

    @property
    def fingerprint(self) -> str:
        """A hash of images and annotations, to verify the data of a resumed run; empty if `description` suffices."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.description}"


class Target(NamedTuple):
    """Training target of one image, in pixels of the network's square input. Crowds are left out.

    Attributes:
        boxes: corners (x₁, y₁, x₂, y₂).
        labels: labels of the boxes.
        semantic: class of each pixel; None for detection, which does not need it.
    """

    boxes: Float[Tensor, "objects 4"]
    labels: Int[Tensor, " objects"]
    semantic: UInt8[Tensor, "size size"] | None

    def to(self, device: torch.device) -> Target:
        """A copy on the given device."""
        return Target(*(value if value is None else value.to(device) for value in self))  # type: ignore[arg-type]
