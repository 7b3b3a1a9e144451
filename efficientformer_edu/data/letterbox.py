"""Letterbox: transform an image to the network's square input, and map predictions back to the image.

Training: random resizing, mirroring, and padding or cropping at a random position (scale jittering in Ghiasi et al.,
*Simple Copy-Paste*, 2021). Evaluation: as large as possible, in the upper left corner. The padding has ImageNet's mean
colour, which is 0 after normalization, and no class.

Input: `Example`s. Output: `LetterboxedExample`s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from efficientformer_edu import _validation as values
from efficientformer_edu.config import SMALLEST_INPUT
from efficientformer_edu.data.examples import IGNORED, Example, Target
from efficientformer_edu.data.images import MEAN, STD

LEAST_PART = 0.1  # fraction of a box's area: with less visible, the object cannot be recognized
LEAST_SIDE = 1.0  # of the visible part of a box, in pixels


@dataclass(frozen=True)
class LetterboxParams:
    """Position of an image on the square: resized, shifted to its upper left corner, and then mirrored.

    Attributes:
        height: height of the image in its original pixels.
        width: width of the image in its original pixels.
        size: side length of the square.
        new_height: the image's height on the square.
        new_width: the image's width on the square.
        top: row of its upper left corner, negative if the image is cropped.
        left: column of this corner.
        flip: whether the entire square is mirrored horizontally.
    """

    height: int
    width: int
    size: int
    new_height: int
    new_width: int
    top: int = 0
    left: int = 0
    flip: bool = False

    def image(self, image: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "3 size size"]:
        """The image on the square, normalized with ImageNet's mean and standard deviation."""
        mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
        pixels = image[None].float()
        if (self.new_height, self.new_width) != (self.height, self.width):
            pixels = F.interpolate(pixels, size=(self.new_height, self.new_width), mode="bilinear", antialias=True)
        return self._on_square(((pixels / 255 - mean) / std)[0], 0.0)

    def semantic(self, classes: UInt8[Tensor, "H W"]) -> UInt8[Tensor, "size size"]:
        """A class map on the square: for each pixel the class at its centre."""
        rows, columns = _centres(self.height, self.new_height), _centres(self.width, self.new_width)
        return self._on_square(classes[rows[:, None], columns], IGNORED)

    def boxes(self, boxes: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
        """Boxes on the square, without clipping: they may extend beyond it."""
        moved = boxes * self._scale(boxes) + boxes.new_tensor([self.left, self.top] * 2)
        return self._mirrored(moved) if self.flip else moved

    def restore_boxes(self, boxes: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
        """Boxes of the square in the image's original pixels, clipped to the image."""
        moved = self._mirrored(boxes) if self.flip else boxes
        boxes_on_image = (moved - boxes.new_tensor([self.left, self.top] * 2)) / self._scale(boxes)
        return boxes_on_image.clamp(min=0).minimum(boxes.new_tensor([self.width, self.height] * 2))

    def restore_semantic(self, classes: UInt8[Tensor, "size size"]) -> UInt8[Tensor, "H W"]:
        """A class map of the square in the image's original pixels; `IGNORED` for pixels outside the square."""
        if self.flip:
            classes = classes.flip(1)
        rows = _centres(self.new_height, self.height) + self.top  # (H,): row on the square for each row of the image
        columns = _centres(self.new_width, self.width) + self.left
        visible = ((rows >= 0) & (rows < self.size))[:, None] & (columns >= 0) & (columns < self.size)  # (H, W)
        last = self.size - 1
        classes_on_image = classes[rows.clamp(0, last)[:, None], columns.clamp(0, last)]
        return classes_on_image.masked_fill(~visible, IGNORED)

    def target(self, example: Example, pixels: bool = True) -> Target:
        """The objects and, with `pixels`, the classes of the pixels that are visible on the square.

        Boxes are clipped to the part of the image that is visible on the square. Crowds are left out, and boxes of
        which less than a tenth, or less than one pixel in width or height, remains.
        """
        not_crowd = ~example.crowd
        moved = self.boxes(example.boxes[not_crowd])
        left, top = max(0, self.left), max(0, self.top)
        right, bottom = min(self.size, self.left + self.new_width), min(self.size, self.top + self.new_height)
        if self.flip:
            left, right = self.size - right, self.size - left
        corners = moved.new_tensor([[left, top], [right, bottom]])
        clipped = moved.unflatten(1, (2, 2)).clamp(corners[0], corners[1]).flatten(1)  # (n, 4)
        sides, full_sides = clipped[:, 2:] - clipped[:, :2], moved[:, 2:] - moved[:, :2]  # (n, 2)
        kept = (sides >= LEAST_SIDE).all(dim=1) & (sides.prod(dim=1) >= LEAST_PART * full_sides.prod(dim=1))
        semantic = self.semantic(example.semantic) if pixels else None
        return Target(clipped[kept], example.labels[not_crowd][kept], semantic)

    def _scale(self, like: Tensor) -> Tensor:
        """Pixels of the square per pixel of the image, for the four values of a box."""
        return like.new_tensor([self.new_width / self.width, self.new_height / self.height] * 2)

    def _mirrored(self, boxes: Tensor) -> Tensor:
        left, top, right, bottom = boxes.unbind(1)
        return torch.stack([self.size - right, top, self.size - left, bottom], dim=1)

    def _on_square(self, pixels: Tensor, fill: float | int) -> Tensor:
        """(…, new_height, new_width) to (…, size, size); negative padding crops."""
        right, bottom = self.size - self.left - self.new_width, self.size - self.top - self.new_height
        square = F.pad(pixels, (self.left, right, self.top, bottom), value=fill)
        return square.flip(-1) if self.flip else square


class LetterboxedExample(NamedTuple):
    """Output of `Letterbox` for one image.

    Attributes:
        image: normalized image.
        target: target for the loss.
        params: maps predictions back to the image's original pixels.
    """

    image: Float[Tensor, "3 size size"]
    target: Target
    params: LetterboxParams


class Letterbox:
    """Transform images to the square input of a network.

    Args:
        size: height and width of the square in pixels, at least 32.
        scale: smallest and largest length of the image's longer side in training, relative to the square; sampled
            uniformly on a logarithmic scale.
        flip: whether half of the images are mirrored in training.
        pixels: whether targets have the class of each pixel, which detection does not need.

    Raises:
        ValueError: for an invalid size or scale.
    """

    def __init__(
        self, size: int, scale: tuple[float, float] = (1.0, 1.0), flip: bool = False, pixels: bool = True
    ) -> None:
        self.size = values.non_negative_int("size", size, minimum=SMALLEST_INPUT)
        least, most = (values.positive_float("scale", number) for number in scale)
        if least > most:
            raise values.invalid_value("scale", scale, "the least first, then the largest")
        self.scale, self.flip, self.pixels = (least, most), values.boolean("flip", flip), pixels

    def __call__(self, example: Example, generator: torch.Generator | None = None) -> LetterboxedExample:
        """Transform one image: randomly as in training with a generator, as in evaluation without."""
        params = self.params(example.image.shape[1], example.image.shape[2], generator)
        return LetterboxedExample(params.image(example.image), params.target(example, self.pixels), params)

    def params(self, height: int, width: int, generator: torch.Generator | None = None) -> LetterboxParams:
        """Position of an image of this height and width; random with a generator."""
        if generator is None:
            return LetterboxParams(height, width, self.size, *self._resized(height, width, 1.0))
        least, most = map(math.log, self.scale)
        numbers = torch.rand(4, generator=generator).tolist()
        new_height, new_width = self._resized(height, width, math.exp(least + (most - least) * numbers[0]))
        top, left = _between(0, self.size - new_height, numbers[1]), _between(0, self.size - new_width, numbers[2])
        return LetterboxParams(
            height, width, self.size, new_height, new_width, top, left, self.flip and numbers[3] < 0.5
        )

    def _resized(self, height: int, width: int, scale: float) -> tuple[int, int]:
        factor = self.size * scale / max(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))


def _between(bound: int, other_bound: int, fraction: float) -> int:
    """An integer between two bounds, both included, from a random number in [0, 1)."""
    least, most = sorted((bound, other_bound))
    return least + int(fraction * (most - least + 1))


def _centres(source: int, result: int) -> Int[Tensor, " result"]:
    """For each of `result` pixels of a line resized from `source` pixels: index of the source pixel at its centre."""
    return (2 * torch.arange(result) + 1) * source // (2 * result)
