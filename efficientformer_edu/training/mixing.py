"""Mixup and cutmix: pairs of images become one, and so do their labels.

Paper: section 5.1 follows DeiT's recipe. Released code: `timm.data.Mixup`, set up in `main.py`: for each batch one of
the two, chosen evenly; the second image of a pair is its mirror place in the batch. Mixup: Zhang et al., 2018. Cutmix:
Yun et al., 2019.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from efficientformer_edu.training.dice import dice


def mix(
    images: Float[Tensor, "B C H W"],
    labels: Int[Tensor, " B"],
    num_classes: int,
    mixup_alpha: float,
    cutmix_alpha: float,
    smoothing: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B num_classes"]]:
    """A batch in which each image is mixed with its partner, image i with image B − 1 − i, and the targets for it.

    Args:
        images: as the network sees them.
        labels: their classes.
        num_classes: length of a target.
        mixup_alpha: of the distribution Beta(α, α) of the part that an image keeps in mixup; 0 for no mixup.
        cutmix_alpha: the same for the area that it keeps in cutmix; 0 for no cutmix. If neither is 0, each batch has
            one of them, as a coin decides.
        smoothing: part of a target that is spread evenly over all classes.
        generator: where the random numbers come from.

    Returns:
        The mixed images, new if anything was mixed; and the targets, each summing to 1.

    Raises:
        ValueError: if a label is no class.
    """
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"labels from {labels.min()} to {labels.max()}; {num_classes} classes allow 0 to {num_classes - 1}"
        )
    random = dice(generator)
    kept = 1.0
    if cutmix_alpha and (not mixup_alpha or random.random() < 0.5):
        images, kept = _cutmix(images, random.beta(cutmix_alpha, cutmix_alpha), random)
    elif mixup_alpha:
        kept = random.beta(mixup_alpha, mixup_alpha)
        images = kept * images + (1 - kept) * images.flip(0)
    targets = smooth(labels, num_classes, smoothing).to(images.dtype)
    return images, kept * targets + (1 - kept) * targets.flip(0)


def smooth(labels: Int[Tensor, " B"], num_classes: int, smoothing: float) -> Float[Tensor, "B num_classes"]:
    """Targets that give `smoothing` to all classes evenly, and the rest to the right one."""
    targets = torch.full((len(labels), num_classes), smoothing / num_classes, device=labels.device)
    return targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / num_classes)


def _cutmix(images: Tensor, kept: float, random: np.random.Generator) -> tuple[Tensor, float]:
    """The same rectangle of every image comes from its partner; returned with the part of the area that is kept.

    Its edges are those of the image times √(1 − kept). Its middle lies anywhere, and what hangs over the image's edge
    is cut off: hence the second return value.
    """
    height, width = images.shape[-2:]
    (top, bottom), (left, right) = (_span(length, math.sqrt(1 - kept), random) for length in (height, width))
    images, partners = images.clone(), images.flip(0)
    images[..., top:bottom, left:right] = partners[..., top:bottom, left:right]
    return images, 1 - (bottom - top) * (right - left) / (height * width)


def _span(length: int, part: float, random: np.random.Generator) -> tuple[int, int]:
    middle, half = int(random.integers(length)), int(length * part) // 2
    return max(middle - half, 0), min(middle + half, length)
