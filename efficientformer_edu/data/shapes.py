"""Synthetic scenes: simple shapes drawn on crops of an image, with complete annotations.

They replace COCO where it is not available: a small network learns them in minutes. Only the shape determines the
class: colours are independent of it, sizes are similar, and occlusion is random. Stars are not a class, because the
flag in the background image contains some. The colour channels of the backgrounds are permuted, because a network
would memorize the few original ones.

Input: only a seed and indices. Output: `Example`s. Scene i depends only on the seed, the split and i.
"""

from __future__ import annotations

import colorsys
import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from efficientformer_edu import _validation as values
from efficientformer_edu.config import SMALLEST_INPUT
from efficientformer_edu.data.examples import BACKGROUND, Example, Examples
from efficientformer_edu.data.images import Split

PARTS = {"train": ((0, 0, 512, 200), (0, 400, 512, 600)), "test": ((0, 200, 512, 400),)}
"""Crops of the background image (512 pixels wide, 600 high): left, top, right, bottom. Each shows flag and wall."""
MOST = 5  # objects in a scene
SIZES = (1 / 4, 1 / 2)  # of an object, relative to the scene's shorter side,
LEAST = 12  # smallest size in pixels: smaller shapes cannot be distinguished
VISIBLE = 1 / 2  # smallest visible fraction of an object: less of a ring could be a disc
CONTRAST = 50  # distance of two RGB colours, 0 to 255 per channel, below which they look the same
ALIKE = 0.15  # largest fraction of an object that looks like what it covers, so that objects are visible
TURN = math.radians(20)  # largest rotation of an object, in either direction
BLUR = 1 / 48  # blur radius of the background (not the objects), relative to the scene's shorter side
FINER = 4  # supersampling factor, across and down, for drawing a shape before averaging to pixels

BILINEAR = Image.Resampling.BILINEAR

Outline = list[tuple[float, float]]
Random = np.random.Generator


def regular(times: int, *points: tuple[float, float]) -> Outline:
    """An outline with rotational symmetry of order `times`, from the points of one segment."""
    angles = [math.tau * turn / times for turn in range(times)]
    return [(x * math.cos(a) - y * math.sin(a), x * math.sin(a) + y * math.cos(a)) for a in angles for x, y in points]


OUTLINES: dict[str, tuple[Outline, ...]] = {
    "disc": (regular(48, (0.92, 0.0)),),
    "square": (regular(4, (1.1, 0.0)),),
    "triangle": (regular(3, (1.15, 0.0)),),
    "cross": (regular(4, (0.36, -1.02), (0.36, -0.36), (1.02, -0.36)),),
    "ring": (regular(48, (0.98, 0.0)), regular(48, (0.5, 0.0))),
}
"""Each shape around (0, 0): an outline and, if any, a hole. The unit is half its size; all look equally large."""

REACH = max(math.hypot(x, y) for outlines in OUTLINES.values() for x, y in outlines[0])


class Shapes(Examples):
    """Scenes with 1 to 5 objects. No object is cut by the border, and at least half of each is visible.

    The background image is matplotlib's portrait of Grace Hopper, cut into strips. Training and test scenes use
    different strips, so no pixel is in both.

    Args:
        count: number of scenes.
        size: height and width in pixels, at least 32; a single number sets both.
        split: `"train"` or `"test"`.
        seed: random seed of the scenes.

    Raises:
        ValueError: for an invalid number, size or split.
    """

    classes = tuple(OUTLINES)
    pixel_classes = (BACKGROUND, *OUTLINES)

    def __init__(self, count: int, size: int | tuple[int, int] = 96, split: Split = "train", seed: int = 0) -> None:
        if split not in PARTS:
            raise values.unknown_name(split, PARTS, "split")
        self.count, self.seed, self.split = (
            values.non_negative_int("count", count),
            values.non_negative_int("seed", seed),
            split,
        )
        height, width = (
            values.non_negative_int("size", side, minimum=SMALLEST_INPUT) for side in values.pair("size", size)
        )
        self.height, self.width = height, width
        with Image.open(Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg") as image:
            self._backgrounds = [image.convert("RGB").crop(part) for part in PARTS[split]]
        kind = "training" if split == "train" else "test"
        self.description = f"drawn shapes, {count:,} {kind} scenes of {height}×{width} pixels"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        """Return one scene.

        Raises:
            IndexError: if the index is out of range.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        random = np.random.default_rng((self.seed, list(PARTS).index(self.split), index))
        paints = random.spawn(1)[0]  # separate: differences between JPEG decoders must not move objects
        scene = self._background(random)
        labels: list[int] = []
        full_areas: list[int] = []  # pixels of each object, including hidden ones
        masks = np.zeros((0, self.height, self.width), bool)  # (objects, H, W)
        for _ in range(random.integers(1, MOST + 1)):
            label = int(random.integers(len(self.classes)))
            stencil, corner = self._stencil(self.classes[label], random)
            covered = Image.new("L", scene.size)
            covered.paste(stencil, corner)
            mask = np.asarray(covered) >= 128  # (H, W): pixels at least half covered by the object
            visible = masks & ~mask
            if any(mask_left.sum() < VISIBLE * pixels for mask_left, pixels in zip(visible, full_areas, strict=True)):
                continue  # it would hide too much of another object
            below = scene.crop((*corner, corner[0] + stencil.width, corner[1] + stencil.height))
            scene.paste(self._paint(below, stencil, paints), corner, stencil)
            masks = np.concatenate([visible, mask[None]])
            labels.append(label)
            full_areas.append(int(mask.sum()))
        return _example(scene, labels, torch.from_numpy(masks))

    def _background(self, random: Random) -> Image.Image:
        """A crop of the image with the scene's aspect ratio, blurred, randomly mirrored, colour channels permuted."""
        image = self._backgrounds[random.integers(len(self._backgrounds))]
        largest = min(image.width / self.width, image.height / self.height)
        zoom = largest * random.uniform(0.4, 1)
        crop = _part(image, self.width * zoom, self.height * zoom, random)
        crop = crop.resize((self.width, self.height), BILINEAR)
        crop = ImageOps.mirror(crop) if random.random() < 0.5 else crop
        crop = crop.filter(ImageFilter.GaussianBlur(BLUR * min(crop.size)))
        crop = Image.merge("RGB", [crop.getchannel(int(band)) for band in random.permutation(3)])
        return ImageEnhance.Brightness(crop).enhance(random.uniform(0.75, 1.15))

    def _stencil(self, name: str, random: Random) -> tuple[Image.Image, tuple[int, int]]:
        """Coverage of each pixel by a shape, 0 to 255, in the square around it; and the square's left and top.

        The shape's size, position and rotation are random.
        """
        shorter = min(self.height, self.width)
        radius = math.exp(random.uniform(math.log(max(LEAST, shorter * SIZES[0])), math.log(shorter * SIZES[1]))) / 2
        reach = radius * REACH
        x, y = random.uniform(reach, self.width - reach), random.uniform(reach, self.height - reach)
        turn = random.uniform(-TURN, TURN)
        left, top = math.floor(x - reach), math.floor(y - reach)
        side = math.ceil(2 * reach) + 1
        fine = Image.new("L", (side * FINER, side * FINER))
        cos, sin = radius * math.cos(turn), radius * math.sin(turn)
        for outline, fill in zip(OUTLINES[name], (255, 0), strict=False):  # a hole is erased
            points = [(x + u * cos - v * sin - left, y + u * sin + v * cos - top) for u, v in outline]
            ImageDraw.Draw(fine).polygon([(u * FINER, v * FINER) for u, v in points], fill=fill)
        return fine.reduce(FINER), (left, top)

    def _paint(self, below: Image.Image, stencil: Image.Image, random: Random) -> Image.Image:
        """A random fill that contrasts with the pixels it covers."""
        inside, covered = np.asarray(stencil) >= 128, np.asarray(below, np.float32)  # (side, side), (side, side, 3)
        while True:
            paint = self._random_paint(stencil.width, random)
            distance = np.linalg.norm(np.asarray(paint) - covered, axis=2)  # (side, side)
            if (distance[inside] < CONTRAST).mean() <= ALIKE:
                return paint

    def _random_paint(self, side: int, random: Random) -> Image.Image:
        """A random colour with a brightness gradient in a random direction."""
        colour = colorsys.hsv_to_rgb(random.random(), random.uniform(0.3, 0.95), random.uniform(0.4, 1))
        ramp, turn = np.linspace(-0.1, 0.1, side), random.uniform(0, math.tau)
        light = 0.85 + ramp[:, None] * math.sin(turn) + ramp * math.cos(turn)  # (side, side), at most 1
        return Image.fromarray(np.round(255 * light[:, :, None] * colour).astype(np.uint8))


def boxes_around(masks: Bool[Tensor, "objects H W"]) -> Float[Tensor, "objects 4"]:
    """The smallest box around each mask, as corners (x₁, y₁, x₂, y₂) in pixels. No mask may be empty."""
    corners = []
    for mask in masks:
        rows, columns = (mask.any(dim=axis).nonzero().flatten().tolist() for axis in (1, 0))
        corners.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)


def _part(image: Image.Image, width: float, height: float, random: Random) -> Image.Image:
    """A random crop of an image, in whole pixels."""
    across, down = max(1, int(width)), max(1, int(height))
    left = int(random.integers(image.width - across + 1))
    top = int(random.integers(image.height - down + 1))
    return image.crop((left, top, left + across, top + down))


def _example(scene: Image.Image, labels: list[int], masks: Bool[Tensor, "objects H W"]) -> Example:
    image = torch.from_numpy(np.array(scene)).permute(2, 0, 1).contiguous()  # (3, H, W)
    crowd = torch.zeros(len(labels), dtype=torch.bool)
    return Example(image, boxes_around(masks), torch.tensor(labels), crowd, masks)
