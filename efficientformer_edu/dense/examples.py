"""Images with what is in them: objects with their boxes and masks, and the class of each pixel.

Comes: nothing; every source of data makes these. Goes: `Example`, as large as the photograph is, and `Target`, the part
of it that a loss needs, in the pixels of the square that the network sees.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

IGNORED = 255  # in a map of classes: a pixel that is neither learned from nor judged
BACKGROUND = "background"  # what a pixel shows that belongs to no object


@dataclass(frozen=True)
class Example:
    """One image.

    Attributes:
        image: red, green and blue.
        boxes: corners (x₁, y₁, x₂, y₂) in pixels, one box an object.
        labels: places in `Examples.classes`.
        crowd: whether a box holds many objects at once; such boxes are not learned from, and finding them is not wrong.
        masks: the pixels that show each object.
        semantic: places in `Examples.pixel_classes`, `IGNORED` where a pixel has no class.
    """

    image: UInt8[Tensor, "3 H W"]
    boxes: Float[Tensor, "objects 4"]
    labels: Int[Tensor, " objects"]
    crowd: Bool[Tensor, " objects"]
    masks: Bool[Tensor, "objects H W"]
    semantic: UInt8[Tensor, "H W"]


class Examples(ABC):
    """Images of one split, each made when it is asked for.

    Attributes:
        classes: names of the objects; none where only pixels have classes.
        pixel_classes: names of what a pixel can show. Where there are objects, the background comes first.
        words: what they are, without a path.
        skipped: broken entries that were left out.
    """

    classes: tuple[str, ...]
    pixel_classes: tuple[str, ...]
    words: str
    skipped: int = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Example: ...

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.words}"


class Target(NamedTuple):
    """What a loss needs of one image, in the pixels of the network's square. Crowds are left out.

    Attributes:
        boxes: corners (x₁, y₁, x₂, y₂).
        labels: of the boxes.
        semantic: class of each pixel.
    """

    boxes: Float[Tensor, "objects 4"]
    labels: Int[Tensor, " objects"]
    semantic: UInt8[Tensor, "size size"]
