"""From pictures to what the network sees: at random to train, always alike to evaluate.

Paper: section 5.1 follows DeiT's recipe. Released code: `build_transform` in `util/datasets.py`. Both classes take the
samples of a batch at once, as torch's loaders hand them to a `collate_fn`: tiny images in memory are then cropped and
mirrored together, which is many times as fast as one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from efficientformer_edu import config_values as values
from efficientformer_edu.config import SMALLEST_INPUT
from efficientformer_edu.training.data import Picture, Sample
from efficientformer_edu.training.dice import dice, rectangle
from efficientformer_edu.training.fashion_mnist import SIDE, statistics
from efficientformer_edu.training.photographs import color_jitter, rand_augment, random_part
from efficientformer_edu.training.recipe import Recipe
from efficientformer_edu.weights.crops import BICUBIC, center_crop, get_rule, resize_shorter
from efficientformer_edu.weights.images import MEAN, STD

BORDER = (SMALLEST_INPUT - SIDE) // 2  # black pixels around Fashion-MNIST's images: 28 + 2 · 2 = 32
MODES = {1: "L", 3: "RGB"}
ERASED_AREA = (0.02, 1 / 3)  # over that of the image
ERASED_ASPECT = (0.3, 1 / 0.3)

Batch = tuple[Float[Tensor, "B C size size"], Int[Tensor, " B"]]


class Evaluation:
    """Samples as the network sees them in evaluation.

    A photograph is cut by a rule. An image of Fashion-MNIST gets a border of 2 black pixels, to 32×32, and is enlarged
    if the network's size is larger. Both are normalised: with one channel by Fashion-MNIST's mean and deviation, with
    three by ImageNet's. Grey images are repeated for three channels, photographs turned grey for one.

    Args:
        size: height and width in pixels, at least 32.
        channels: 1 or 3, as the network has them.
        rule: how photographs are cut, a name in `weights.crops.RULES`.

    Raises:
        ValueError: for another size, number of channels or rule.
    """

    def __init__(self, size: int, channels: int, rule: str = "official") -> None:
        self.size, self.channels = _shape(size, channels)
        self.rule = get_rule(rule)

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """The images, (B, channels, size, size), and their labels, (B,)."""
        pictures, labels = _apart(samples)
        frames = _framed(pictures, self.channels, lambda picture: self.rule.cut(picture, self.size))
        return _normalised(frames, self.size, self.channels), labels


class Training:
    """Samples as the network sees them in training: other ones each time, as a recipe wants them.

    With `recipe.crop` the pictures are framed as in evaluation (photographs: the largest square in the middle), moved
    by up to so many pixels and mirrored, all of a batch at once. Without it, each is a random part, resized, mirrored,
    and changed by RandAugment and jittered colours. Then come the normalisation and random erasing. Mixup and cutmix
    need the targets, and are in `mixing`.

    Args:
        size: height and width in pixels, at least 32.
        channels: 1 or 3, as the network has them.
        recipe: of which `crop`, `flip`, `rand_augment`, `color_jitter` and `erasing` matter here.

    Raises:
        ValueError: for another size or number of channels; for a recipe that asks for padding together with RandAugment
            or jittered colours, which belong to the random part.
    """

    def __init__(self, size: int, channels: int, recipe: Recipe) -> None:
        self.size, self.channels = _shape(size, channels)
        if recipe.crop is not None and (recipe.rand_augment is not None or recipe.color_jitter):
            raise ValueError(
                f"crop={recipe.crop} moves whole batches, RandAugment and jittered colours change single pictures; "
                "take crop=None, or rand_augment=None and color_jitter=0"
            )
        self.recipe = recipe

    def __call__(self, samples: Sequence[Sample], generator: torch.Generator) -> Batch:
        """The images, (B, channels, size, size), and their labels, (B,); all that is random comes from `generator`."""
        pictures, labels = _apart(samples)
        random = dice(generator)
        if self.recipe.crop is None:
            frames = torch.stack([_pixels(self._view(picture, random)) for picture in pictures])
        else:
            frames = _framed(pictures, self.channels, lambda picture: cover(picture, self.size))
            frames = _moved(frames, self.recipe.crop, self.recipe.flip, random)
        images = _normalised(frames, self.size, self.channels)
        if self.recipe.erasing:
            _erase(images, self.recipe.erasing, generator, random)
        return images, labels

    def _view(self, picture: Picture, random: np.random.Generator) -> Image.Image:
        """One picture at random."""
        if isinstance(picture, Tensor):
            picture = Image.fromarray(F.pad(picture[0], [BORDER] * 4).numpy())
        image = random_part(picture.convert(MODES[self.channels]), self.size, random)
        if self.recipe.flip and random.random() < 0.5:
            image = ImageOps.mirror(image)
        if self.recipe.rand_augment is not None:
            fill = tuple(round(255 * mean) for mean in _statistics(self.channels)[0])
            image = rand_augment(image, self.recipe.rand_augment, fill, random)
        if self.recipe.color_jitter:
            image = color_jitter(image, self.recipe.color_jitter, random)
        return image


def cover(image: Image.Image, size: int) -> Image.Image:
    """The largest square in the middle of a picture, resized to so many pixels."""
    return center_crop(resize_shorter(image, size, BICUBIC), size)


def _shape(size: int, channels: int) -> tuple[int, int]:
    if channels not in MODES:
        raise values.wrong("channels", channels, "1 or 3")
    return values.natural("size", size, least=SMALLEST_INPUT), channels


def _apart(samples: Sequence[Sample]) -> tuple[tuple[Picture, ...], Tensor]:
    pictures, labels = zip(*samples, strict=True)
    return pictures, torch.tensor(labels)


def _framed(
    pictures: Sequence[Picture], channels: int, cut: Callable[[Image.Image], Image.Image]
) -> UInt8[Tensor, "B C side side"]:
    """Pictures of one size: photographs as they are cut, Fashion-MNIST's images with their border."""
    frames = torch.stack(
        [
            picture if isinstance(picture, Tensor) else _pixels(cut(picture).convert(MODES[channels]))
            for picture in pictures
        ]
    )
    return F.pad(frames, [BORDER] * 4) if frames.shape[-1] == SIDE else frames


def _pixels(image: Image.Image) -> UInt8[Tensor, "C height width"]:
    return torch.from_numpy(np.atleast_3d(np.array(image))).permute(2, 0, 1)


def _statistics(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, black 0 and white 1."""
    if channels == 3:
        return MEAN, STD
    mean, std = statistics()
    return (mean,), (std,)


def _normalised(frames: Tensor, size: int, channels: int) -> Float[Tensor, "B channels size size"]:
    images = frames.float() / 255
    if images.shape[-1] != size:  # Fashion-MNIST's, enlarged
        images = F.interpolate(images, size=(size, size), mode="bilinear")
    mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in _statistics(channels))  # (channels, 1, 1)
    return (images - mean) / std  # one grey channel becomes as many as there are means


def _moved(frames: Tensor, most: int, flip: bool, random: np.random.Generator) -> Tensor:
    """Each image moved by up to `most` pixels in both directions, black coming in, and half of them mirrored."""
    count, channels, side, _ = frames.shape
    padded = F.pad(frames, [most] * 4)
    rows = random.integers(2 * most + 1, size=(count, 1)) + np.arange(side)  # (B, side)
    columns = random.integers(2 * most + 1, size=(count, 1)) + np.arange(side)
    if flip:
        columns = np.where(random.random((count, 1)) < 0.5, columns[:, ::-1], columns)
    rows_of, columns_of = torch.from_numpy(rows)[:, None, :, None], torch.from_numpy(columns)[:, None, None, :]
    return padded[torch.arange(count)[:, None, None, None], torch.arange(channels)[:, None, None], rows_of, columns_of]


def _erase(images: Tensor, probability: float, generator: torch.Generator, random: np.random.Generator) -> None:
    """A random rectangle of some of the images becomes noise, in place. Zhong et al., 2017; in timm `RandomErasing`."""
    channels, side = images.shape[1], images.shape[-1]
    for place in np.flatnonzero(random.random(len(images)) < probability):
        if found := rectangle(side, side, ERASED_AREA, ERASED_ASPECT, random):
            left, top, right, bottom = found
            noise = torch.randn(channels, bottom - top, right - left, generator=generator)
            images[place, :, top:bottom, left:right] = noise
