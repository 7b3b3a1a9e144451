"""Drawn scenes: simple shapes on parts of a photograph, with everything that there is to know about them.

They stand for COCO where there is none: a small network learns them in minutes. Shape alone tells a class: every colour
goes with each of them, their sizes are alike, and what hides what is random. No class is a star, for the flag in the
photograph shows some. The backgrounds are in wrong colours, for a network would learn the few right ones by heart.

Comes: nothing but numbers. Goes: `Example`s. Scene i depends on the seed, the split and i alone.
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

from efficientformer_edu import config_values as values
from efficientformer_edu.config import SMALLEST_INPUT
from efficientformer_edu.dense.examples import BACKGROUND, Example, Examples
from efficientformer_edu.training.data import Split

PARTS = {"train": ((0, 0, 512, 200), (0, 400, 512, 600)), "test": ((0, 200, 512, 400),)}
"""Of the photograph, 512 pixels wide and 600 high: left, top, right, bottom. Each has flag and wall."""
MOST = 5  # objects in a scene
SIZES = (1 / 4, 1 / 2)  # of an object, over the scene's shorter side,
LEAST = 12  # but never fewer pixels: they would not tell one shape from another
VISIBLE = 1 / 2  # of an object, at least: less of a ring could be a disc
CONTRAST = 50  # distance of two colours, red, green and blue from 0 to 255, below which they look alike
ALIKE = 0.15  # so much of an object, at most, looks like what it covers: what nobody can see is no fair question
TURN = math.radians(20)  # by which an object is turned at most, to either side
BLUR = 1 / 48  # of the background, over the scene's shorter side: it is out of focus, the objects are not
FINER = 4  # times as fine, across and down, as a shape is drawn before it is averaged down to pixels

BILINEAR = Image.Resampling.BILINEAR

Outline = list[tuple[float, float]]
Random = np.random.Generator


def regular(times: int, *points: tuple[float, float]) -> Outline:
    """An outline that is the same after each of so many turns, from the points of one of them."""
    angles = [math.tau * turn / times for turn in range(times)]
    return [(x * math.cos(a) - y * math.sin(a), x * math.sin(a) + y * math.cos(a)) for a in angles for x, y in points]


OUTLINES: dict[str, tuple[Outline, ...]] = {
    "disc": (regular(48, (0.92, 0.0)),),
    "square": (regular(4, (1.1, 0.0)),),
    "triangle": (regular(3, (1.15, 0.0)),),
    "cross": (regular(4, (0.36, -1.02), (0.36, -0.36), (1.02, -0.36)),),
    "ring": (regular(48, (0.98, 0.0)), regular(48, (0.5, 0.0))),
}
"""Each shape around (0, 0), an outline and perhaps a hole. The unit is half its size; all look about as large."""

REACH = max(math.hypot(x, y) for outlines in OUTLINES.values() for x, y in outlines[0])


class Shapes(Examples):
    """So many scenes of 1 to 5 objects, none of them cut by the border, at least half of each visible.

    The photograph is matplotlib's portrait of Grace Hopper, cut into strips. Training scenes lie on some of them, test
    scenes on another, so no pixel is in both.

    Args:
        count: number of scenes.
        size: height and width in pixels, at least 32; one number for both.
        split: `"train"` or `"test"`.
        seed: another one gives other scenes.

    Raises:
        ValueError: for another number, size or split.
    """

    classes = tuple(OUTLINES)
    pixel_classes = (BACKGROUND, *OUTLINES)

    def __init__(self, count: int, size: int | tuple[int, int] = 96, split: Split = "train", seed: int = 0) -> None:
        if split not in PARTS:
            raise values.unknown(split, PARTS, "split")
        self.count, self.seed, self.split = values.natural("count", count), values.natural("seed", seed), split
        height, width = (values.natural("size", side, least=SMALLEST_INPUT) for side in values.pair("size", size))
        self.height, self.width = height, width
        with Image.open(Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg") as photograph:
            self._photographs = [photograph.convert("RGB").crop(part) for part in PARTS[split]]
        kind = "training" if split == "train" else "test"
        self.words = f"drawn shapes, {count:,} {kind} scenes of {height}×{width} pixels"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        """One scene.

        Raises:
            IndexError: if there are fewer.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        random = np.random.default_rng((self.seed, list(PARTS).index(self.split), index))
        paints = random.spawn(1)[0]  # its own: photographs, decoded a little differently elsewhere, move no object
        scene = self._background(random)
        labels: list[int] = []
        whole: list[int] = []  # pixels of each object, hidden ones too
        masks = np.zeros((0, self.height, self.width), bool)  # (objects, H, W)
        for _ in range(random.integers(1, MOST + 1)):
            label = int(random.integers(len(self.classes)))
            stencil, corner = self._stencil(self.classes[label], random)
            covered = Image.new("L", scene.size)
            covered.paste(stencil, corner)
            mask = np.asarray(covered) >= 128  # (H, W): pixels that show more of the object than of what is below
            left = masks & ~mask
            if any(one.sum() < VISIBLE * pixels for one, pixels in zip(left, whole, strict=True)):
                continue  # it would hide another one
            below = scene.crop((*corner, corner[0] + stencil.width, corner[1] + stencil.height))
            scene.paste(self._paint(below, stencil, paints), corner, stencil)
            masks = np.concatenate([left, mask[None]])
            labels.append(label)
            whole.append(int(mask.sum()))
        return _example(scene, labels, torch.from_numpy(masks))

    def _background(self, random: Random) -> Image.Image:
        """A part of the photograph in the scene's shape, out of focus, mirrored or not, in any colours."""
        photograph = self._photographs[random.integers(len(self._photographs))]
        largest = min(photograph.width / self.width, photograph.height / self.height)
        zoom = largest * random.uniform(0.4, 1)
        part = _part(photograph, self.width * zoom, self.height * zoom, random)
        part = part.resize((self.width, self.height), BILINEAR)
        part = ImageOps.mirror(part) if random.random() < 0.5 else part
        part = part.filter(ImageFilter.GaussianBlur(BLUR * min(part.size)))
        part = Image.merge("RGB", [part.getchannel(int(band)) for band in random.permutation(3)])
        return ImageEnhance.Brightness(part).enhance(random.uniform(0.75, 1.15))

    def _stencil(self, name: str, random: Random) -> tuple[Image.Image, tuple[int, int]]:
        """How much of each pixel a shape covers, 0 to 255, in the square around it; and the square's left and top.

        Its size, its place and how it is turned are random.
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
        for outline, fill in zip(OUTLINES[name], (255, 0), strict=False):  # a hole is taken out again
            points = [(x + u * cos - v * sin - left, y + u * sin + v * cos - top) for u, v in outline]
            ImageDraw.Draw(fine).polygon([(u * FINER, v * FINER) for u, v in points], fill=fill)
        return fine.reduce(FINER), (left, top)

    def _paint(self, below: Image.Image, stencil: Image.Image, random: Random) -> Image.Image:
        """A random paint that stands out from what it is to cover."""
        inside, covered = np.asarray(stencil) >= 128, np.asarray(below, np.float32)  # (side, side), (side, side, 3)
        while True:
            paint = self._random_paint(stencil.width, random)
            distance = np.linalg.norm(np.asarray(paint) - covered, axis=2)  # (side, side)
            if (distance[inside] < CONTRAST).mean() <= ALIKE:
                return paint

    def _random_paint(self, side: int, random: Random) -> Image.Image:
        """A colour that gets darker to one side."""
        colour = colorsys.hsv_to_rgb(random.random(), random.uniform(0.3, 0.95), random.uniform(0.4, 1))
        ramp, turn = np.linspace(-0.1, 0.1, side), random.uniform(0, math.tau)
        light = 0.85 + ramp[:, None] * math.sin(turn) + ramp * math.cos(turn)  # (side, side), at most 1
        return Image.fromarray(np.round(255 * light[:, :, None] * colour).astype(np.uint8))


def boxes_around(masks: Bool[Tensor, "objects H W"]) -> Float[Tensor, "objects 4"]:
    """The smallest box around each mask, as corners (x₁, y₁, x₂, y₂) in pixels. No mask may be empty."""
    corners = []
    for mask in masks:
        rows, columns = (mask.any(dim=other).nonzero().flatten().tolist() for other in (1, 0))
        corners.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)


def _part(photograph: Image.Image, width: float, height: float, random: Random) -> Image.Image:
    """A random part of a photograph, in whole pixels."""
    across, down = max(1, int(width)), max(1, int(height))
    left = int(random.integers(photograph.width - across + 1))
    top = int(random.integers(photograph.height - down + 1))
    return photograph.crop((left, top, left + across, top + down))


def _example(scene: Image.Image, labels: list[int], masks: Bool[Tensor, "objects H W"]) -> Example:
    image = torch.from_numpy(np.array(scene)).permute(2, 0, 1).contiguous()  # (3, H, W)
    crowd = torch.zeros(len(labels), dtype=torch.bool)
    return Example(image, boxes_around(masks), torch.tensor(labels), crowd, masks)
