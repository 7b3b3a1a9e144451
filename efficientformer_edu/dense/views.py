"""From an image to the square that a network sees, and what was found there back to the image.

To train: resized at random, mirrored or not, and put or cut out at a random place (Ghiasi et al., *Simple Copy-Paste*,
2021, call it scale jittering). To evaluate: as large as it fits, in the upper left corner. What the image leaves free
is ImageNet's mean colour, 0 once normalised, and has no class.

Comes: `Example`s. Goes: `View`s: image (3, size, size), `Target`, and the `Placement` that leads back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from efficientformer_edu import config_values as values
from efficientformer_edu.config import SMALLEST_INPUT
from efficientformer_edu.dense.examples import IGNORED, Example, Target
from efficientformer_edu.weights.images import MEAN, STD

LEAST_PART = 0.1  # of a box: where less is left of it, nobody can tell what it was
LEAST_SIDE = 1.0  # of what is left of a box, in pixels


@dataclass(frozen=True)
class Placement:
    """Where an image stands on the square: resized, put with its upper left corner somewhere, and then mirrored.

    Attributes:
        height: of the image, in its own pixels.
        width: of the image, in its own pixels.
        size: side of the square.
        down: the image's height on the square.
        across: the image's width on the square.
        top: row of its upper left corner, negative where the image is cut.
        left: column of this corner.
        flip: whether the whole square is mirrored, left and right changed.
    """

    height: int
    width: int
    size: int
    down: int
    across: int
    top: int = 0
    left: int = 0
    flip: bool = False

    def image(self, image: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "3 size size"]:
        """The image on the square, normalised as ImageNet is."""
        mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
        pixels = image[None].float()
        if (self.down, self.across) != (self.height, self.width):
            pixels = F.interpolate(pixels, size=(self.down, self.across), mode="bilinear", antialias=True)
        return self._on_square(((pixels / 255 - mean) / std)[0], 0.0)

    def semantic(self, classes: UInt8[Tensor, "H W"]) -> UInt8[Tensor, "size size"]:
        """A map of classes on the square: of each pixel the class at its centre."""
        rows, columns = _centres(self.height, self.down), _centres(self.width, self.across)
        return self._on_square(classes[rows[:, None], columns], IGNORED)

    def boxes(self, boxes: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
        """Boxes on the square, whole: they may stand out of it."""
        moved = boxes * self._scale(boxes) + boxes.new_tensor([self.left, self.top] * 2)
        return self._mirrored(moved) if self.flip else moved

    def boxes_back(self, boxes: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
        """Boxes of the square in the image's own pixels, clipped to it."""
        moved = self._mirrored(boxes) if self.flip else boxes
        found = (moved - boxes.new_tensor([self.left, self.top] * 2)) / self._scale(boxes)
        return found.clamp(min=0).minimum(boxes.new_tensor([self.width, self.height] * 2))

    def semantic_back(self, classes: UInt8[Tensor, "size size"]) -> UInt8[Tensor, "H W"]:
        """A map of classes of the square in the image's own pixels, `IGNORED` where the square did not show it."""
        if self.flip:
            classes = classes.flip(1)
        rows = _centres(self.down, self.height) + self.top  # (H,): where each row of the image is on the square
        columns = _centres(self.across, self.width) + self.left
        shown = ((rows >= 0) & (rows < self.size))[:, None] & (columns >= 0) & (columns < self.size)  # (H, W)
        last = self.size - 1
        found = classes[rows.clamp(0, last)[:, None], columns.clamp(0, last)]
        return found.masked_fill(~shown, IGNORED)

    def target(self, example: Example, pixels: bool = True) -> Target:
        """The objects and, with `pixels`, the classes of the pixels that the square shows.

        Boxes are clipped to the part of the image that the square shows. Crowds are left out, and boxes of which less
        than a tenth, or less than one pixel in width or height, remains.
        """
        own = ~example.crowd
        whole = self.boxes(example.boxes[own])
        left, top = max(0, self.left), max(0, self.top)
        right, bottom = min(self.size, self.left + self.across), min(self.size, self.top + self.down)
        if self.flip:
            left, right = self.size - right, self.size - left
        corners = whole.new_tensor([[left, top], [right, bottom]])
        clipped = whole.unflatten(1, (2, 2)).clamp(corners[0], corners[1]).flatten(1)  # (n, 4)
        sides, before = clipped[:, 2:] - clipped[:, :2], whole[:, 2:] - whole[:, :2]  # (n, 2)
        kept = (sides >= LEAST_SIDE).all(dim=1) & (sides.prod(dim=1) >= LEAST_PART * before.prod(dim=1))
        semantic = self.semantic(example.semantic) if pixels else None
        return Target(clipped[kept], example.labels[own][kept], semantic)

    def _scale(self, like: Tensor) -> Tensor:
        """Pixels of the square over pixels of the image, for each of the four numbers of a box."""
        return like.new_tensor([self.across / self.width, self.down / self.height] * 2)

    def _mirrored(self, boxes: Tensor) -> Tensor:
        left, top, right, bottom = boxes.unbind(1)
        return torch.stack([self.size - right, top, self.size - left, bottom], dim=1)

    def _on_square(self, pixels: Tensor, fill: float | int) -> Tensor:
        """(…, down, across) to (…, size, size); negative padding cuts."""
        right, bottom = self.size - self.left - self.across, self.size - self.top - self.down
        square = F.pad(pixels, (self.left, right, self.top, bottom), value=fill)
        return square.flip(-1) if self.flip else square


class Viewed(NamedTuple):
    """What `View` makes of one image.

    Attributes:
        image: normalised.
        target: for the loss.
        placement: leads back to the image's own pixels.
    """

    image: Float[Tensor, "3 size size"]
    target: Target
    placement: Placement


class View:
    """Images as a network of one size sees them.

    Args:
        size: height and width of the square in pixels, at least 32.
        scale: least and largest longer side of an image in training, over the square's; drawn evenly on a scale of
            ratios.
        flip: whether half of the images are mirrored in training.
        pixels: whether targets have the class of each pixel, which detection does not need.

    Raises:
        ValueError: for another size or scale.
    """

    def __init__(
        self, size: int, scale: tuple[float, float] = (1.0, 1.0), flip: bool = False, pixels: bool = True
    ) -> None:
        self.size = values.natural("size", size, least=SMALLEST_INPUT)
        least, most = (values.positive("scale", number) for number in scale)
        if least > most:
            raise values.wrong("scale", scale, "the least first, then the largest")
        self.scale, self.flip, self.pixels = (least, most), values.flag("flip", flip), pixels

    def __call__(self, example: Example, generator: torch.Generator | None = None) -> Viewed:
        """One image: at random as in training with a generator, as in evaluation without."""
        placement = self.placement(example.image.shape[1], example.image.shape[2], generator)
        return Viewed(placement.image(example.image), placement.target(example, self.pixels), placement)

    def placement(self, height: int, width: int, generator: torch.Generator | None = None) -> Placement:
        """Where an image of this height and width goes; at random with a generator."""
        if generator is None:
            return Placement(height, width, self.size, *self._resized(height, width, 1.0))
        least, most = map(math.log, self.scale)
        numbers = torch.rand(4, generator=generator).tolist()
        down, across = self._resized(height, width, math.exp(least + (most - least) * numbers[0]))
        top, left = _between(0, self.size - down, numbers[1]), _between(0, self.size - across, numbers[2])
        return Placement(height, width, self.size, down, across, top, left, self.flip and numbers[3] < 0.5)

    def _resized(self, height: int, width: int, scale: float) -> tuple[int, int]:
        factor = self.size * scale / max(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))


def _between(one: int, other: int, number: float) -> int:
    """A whole number from one to the other, both among them, from a random number below 1."""
    least, most = sorted((one, other))
    return least + int(number * (most - least + 1))


def _centres(source: int, result: int) -> Int[Tensor, " result"]:
    """For each of `result` pixels along a line that was resized from `source`: the one that its centre lies in."""
    return (2 * torch.arange(result) + 1) * source // (2 * result)
