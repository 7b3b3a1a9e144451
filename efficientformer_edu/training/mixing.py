"""Mixup and cutmix: combine pairs of images and their labels.

Paper: section 5.1 follows DeiT's recipe. Released code: `timm.data.Mixup`, set up in `main.py`: one of the
two per batch, with equal probability; the partner of image i is image B − 1 − i. Mixup: Zhang et al., 2018. Cutmix:
Yun et al., 2019.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from efficientformer_edu.training.dice import numpy_generator


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
