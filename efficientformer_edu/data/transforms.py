"""Augmentation: random resized crop, color jitter and RandAugment of single images; mixup and cutmix of a batch.

Paper: section 5.1 follows DeiT's recipe. Released code: timm's `create_transform`, called in `util/datasets.py`, with
RandAugment (Cubuk et al., 2020) as `rand-m9-mstd0.5-inc1`; and `timm.data.Mixup`, set up in `main.py`: one of mixup
(Zhang et al., 2018) and cutmix (Yun et al., 2019) per batch; the partner of image i is image B − 1 − i.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from efficientformer_edu.utils.rng import numpy_generator, rectangle

BICUBIC = Image.Resampling.BICUBIC

AREA = (0.08, 1.0)  # of the crop, relative to the area of the image
ASPECT = (3 / 4, 4 / 3)  # width / height of the crop

NUM_OPERATIONS = 2  # sampled for each image,
PROBABILITY = 0.5  # of applying each of them
DEVIATION = 0.5  # of the magnitude
LARGEST = 10.0  # magnitude

Fill = tuple[int, ...]  # color of the pixels outside the image, one value per channel


def random_resized_crop(image: Image.Image, size: int, random: np.random.Generator) -> Image.Image:
    """Random resized crop: a random rectangle of the image, resized to a square of `size` pixels."""
    part = rectangle(*image.size, AREA, ASPECT, random) or _middle(*image.size)
    return image.crop(part).resize((size, size), BICUBIC)


def color_jitter(image: Image.Image, strength: float, random: np.random.Generator) -> Image.Image:
    """Scale brightness, contrast and saturation, in random order, by factors from 1 − strength to 1 + strength."""
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for index in random.permutation(len(enhancers)):
        image = enhancers[index](image).enhance(random.uniform(1 - strength, 1 + strength))
    return image


def rand_augment(image: Image.Image, magnitude: float, fill: Fill, random: np.random.Generator) -> Image.Image:
    """Sample two operations and apply each with probability ½, at about the given magnitude."""
    for name in random.choice(list(OPERATIONS), NUM_OPERATIONS):
        if random.random() < PROBABILITY:
            strength = np.clip(random.normal(magnitude, DEVIATION), 0, LARGEST) / LARGEST
            sign = random.choice((-1.0, 1.0))
            image = OPERATIONS[name](image, float(strength), float(sign), fill)
    return image


def _middle(width: int, height: int) -> tuple[int, int, int, int]:
    """The largest centered rectangle with an allowed aspect ratio."""
    across, down = min(width, round(height * ASPECT[1])), min(height, round(width / ASPECT[0]))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def _rotate(image: Image.Image, strength: float, sign: float, fill: Fill) -> Image.Image:
    return image.rotate(sign * strength * 30, BICUBIC, fillcolor=fill)  # degrees


def _posterize(image: Image.Image, strength: float, sign: float, fill: Fill) -> Image.Image:
    # Number of bits that are kept. At the largest magnitude the released code keeps none, which leaves a black image.
    return ImageOps.posterize(image, max(1, 4 - int(strength * 4)))


def _solarize(image: Image.Image, strength: float, sign: float, fill: Fill) -> Image.Image:
    return ImageOps.solarize(image, 256 - int(strength * 256))  # inverts pixels at or above the threshold


def _solarize_add(image: Image.Image, strength: float, sign: float, fill: Fill) -> Image.Image:
    added = int(strength * 110)
    return image.point([value + added * (value < 128) for value in range(256)] * len(image.getbands()))


Operation = Callable[[Image.Image, float, float, Fill], Image.Image]


def _enhance(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda image, strength, sign, fill: enhancer(image).enhance(max(0.1, 1 + sign * strength * 0.9))


def _shift(row: Callable[[Image.Image, float], tuple[float, ...]], most: float) -> Operation:
    """An affine transform: the output pixel (x, y) is read from (ax + by + c, dx + ey + f)."""
    return lambda image, strength, sign, fill: image.transform(
        image.size, Image.Transform.AFFINE, row(image, sign * strength * most), BICUBIC, fillcolor=fill
    )


OPERATIONS: Mapping[str, Operation] = {
    "auto contrast": lambda image, strength, sign, fill: ImageOps.autocontrast(image),
    "equalize": lambda image, strength, sign, fill: ImageOps.equalize(image),
    "invert": lambda image, strength, sign, fill: ImageOps.invert(image),
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize add": _solarize_add,
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear x": _shift(lambda image, part: (1, part, 0, 0, 1, 0), 0.3),
    "shear y": _shift(lambda image, part: (1, 0, 0, part, 1, 0), 0.3),
    "translate x": _shift(lambda image, part: (1, 0, part * image.width, 0, 1, 0), 0.45),
    "translate y": _shift(lambda image, part: (1, 0, 0, 0, 1, part * image.height), 0.45),
}
"""Functions of an image, a strength from 0 to 1, a sign and a fill color. The first three ignore the strength."""


def mix(
    images: Float[Tensor, "B C H W"],
    labels: Int[Tensor, " B"],
    num_classes: int,
    mixup_alpha: float,
    cutmix_alpha: float,
    smoothing: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B num_classes"]]:
    """Mix each image of a batch with its partner, image i with image B − 1 − i, and compute the targets.

    Args:
        images: preprocessed images.
        labels: class labels.
        num_classes: number of classes, the length of a target.
        mixup_alpha: α of the distribution Beta(α, α) of an image's weight in mixup; 0 disables mixup.
        cutmix_alpha: α of the distribution of the area that an image keeps in cutmix; 0 disables cutmix. If neither is
            0, one of the two is applied per batch, each with probability ½.
        smoothing: fraction of a target that is spread evenly over all classes.
        generator: source of the random numbers.

    Returns:
        The mixed images, a new tensor if anything was mixed, and the targets, each summing to 1.

    Raises:
        ValueError: if a label is not a valid class.
    """
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"labels from {labels.min()} to {labels.max()}; {num_classes} classes allow 0 to {num_classes - 1}"
        )
    random = numpy_generator(generator)
    kept = 1.0
    if cutmix_alpha and (not mixup_alpha or random.random() < 0.5):
        images, kept = _cutmix(images, random.beta(cutmix_alpha, cutmix_alpha), random)
    elif mixup_alpha:
        kept = random.beta(mixup_alpha, mixup_alpha)
        images = kept * images + (1 - kept) * images.flip(0)
    targets = smooth(labels, num_classes, smoothing).to(images.dtype)
    return images, kept * targets + (1 - kept) * targets.flip(0)


def smooth(labels: Int[Tensor, " B"], num_classes: int, smoothing: float) -> Float[Tensor, "B num_classes"]:
    """Label smoothing: spread `smoothing` evenly over all classes, and add 1 − `smoothing` to the true class."""
    targets = torch.full((len(labels), num_classes), smoothing / num_classes, device=labels.device)
    return targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / num_classes)


def _cutmix(images: Tensor, kept: float, random: np.random.Generator) -> tuple[Tensor, float]:
    """Replace the same rectangle in every image by its partner's; also returns the fraction of the area that is kept.

    The sides of the rectangle are those of the image times √(1 − kept). Its center is uniform over the image, and the
    part beyond the edge is cut off, so the fraction that is kept can be larger than `kept`.
    """
    height, width = images.shape[-2:]
    (top, bottom), (left, right) = (_span(length, math.sqrt(1 - kept), random) for length in (height, width))
    images, partners = images.clone(), images.flip(0)
    images[..., top:bottom, left:right] = partners[..., top:bottom, left:right]
    return images, 1 - (bottom - top) * (right - left) / (height * width)


def _span(length: int, part: float, random: np.random.Generator) -> tuple[int, int]:
    middle, half = int(random.integers(length)), int(length * part) // 2
    return max(middle - half, 0), min(middle + half, length)
