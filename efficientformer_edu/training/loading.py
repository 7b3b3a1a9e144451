"""Data loading: sample the images of a batch, read, augment and mix them.

A batch is a function of the seed, the epoch and its index, independent of the number of worker processes. Therefore an
item of the data sets here is a complete batch, a run that was killed continues with the same batches, and several
processes share the batches that a single process would use.

Paper: section 5.1 follows DeiT's recipe. Released code: `build_transform` in `util/datasets.py` and, for repeated
augmentation, `RASampler` in `util/samplers.py`. Both transforms take all samples of a batch at once, like a
`collate_fn` of torch's loaders. Small images in memory are then cropped and mirrored together, which is many times
faster than separately.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from efficientformer_edu import _validation as values
from efficientformer_edu.config import SMALLEST_INPUT
from efficientformer_edu.data.datasets import Images, LoadedImage, Sample
from efficientformer_edu.data.fashion_mnist import SIDE, statistics
from efficientformer_edu.data.images import BICUBIC, MEAN, STD, center_crop, get_crop_rule, resize_shorter
from efficientformer_edu.data.transforms import color_jitter, mix, rand_augment, random_resized_crop
from efficientformer_edu.training.recipe import Recipe
from efficientformer_edu.utils.rng import generator, numpy_generator, rectangle


def epoch_batches(count: int, batch: int, *, seed: int, epoch: int, repeated_aug: int = 1) -> list[list[int]]:
    """The batches of one epoch, as lists of image indices.

    Args:
        count: number of images in the data set.
        batch: number of images in a batch, over all processes.
        seed: of the run.
        epoch: from 0.
        repeated_aug: how often an image occurs in an epoch, with a different augmentation each time. The length of an
            epoch does not change: it samples fewer distinct images.

    Returns:
        count // batch lists of `batch` indices each. Images that are left over occur in other epochs.

    Raises:
        ValueError: if there are fewer images than one batch needs.
    """
    if count < batch:
        raise ValueError(f"{count} images do not fill a batch of {batch}; take a smaller batch, or more images")
    order = torch.randperm(count, generator=generator(seed, epoch)).repeat_interleave(repeated_aug)
    complete = order[: count // batch * batch].view(-1, batch)
    return complete.tolist()


class Shard(NamedTuple):
    """The part of the images that one of several processes handles; `UNSHARDED` stands for a single process."""

    rank: int
    world_size: int

    def select(self, indices: Sequence[int]) -> Sequence[int]:
        """This process's part of some images."""
        return indices[self.rank :: self.world_size]

    def split_batch(self, batch: Sequence[int]) -> Sequence[int]:
        """This process's part of a batch. Raises ValueError if the batch cannot be divided equally."""
        if len(batch) % self.world_size:
            raise ValueError(
                f"a batch of {len(batch)} cannot be shared by {self.world_size} processes; take a multiple"
            )
        return self.select(batch)


UNSHARDED = Shard(0, 1)


BORDER = (SMALLEST_INPUT - SIDE) // 2  # black pixels around Fashion-MNIST's images: 28 + 2 · 2 = 32
MODES = {1: "L", 3: "RGB"}
ERASED_AREA = (0.02, 1 / 3)  # relative to the area of the image
ERASED_ASPECT = (0.3, 1 / 0.3)

LabeledBatch = tuple[Float[Tensor, "B C size size"], Int[Tensor, " B"]]


class EvalTransform:
    """Preprocess samples for evaluation.

    Images from files are cropped by a rule. A Fashion-MNIST image is padded with 2 black pixels on each side to 32×32,
    and enlarged if the network's input size is larger. Both are normalized with the mean and standard deviation of
    Fashion-MNIST (one channel) or ImageNet (three channels). Grey images are repeated for three channels; color images
    are converted to grey for one.

    Args:
        size: height and width in pixels, at least 32.
        channels: number of input channels of the network, 1 or 3.
        rule: crop rule for images from files, a name in `data.images.RULES`.

    Raises:
        ValueError: if the size, the number of channels or the rule is not allowed.
    """

    def __init__(self, size: int, channels: int, rule: str = "official") -> None:
        self.size, self.channels = _shape(size, channels)
        self.rule = get_crop_rule(rule)

    def __call__(self, samples: Sequence[Sample]) -> LabeledBatch:
        """The images, (B, channels, size, size), and their labels, (B,)."""
        pictures, labels = _stack_labels(samples)
        frames = _frames(pictures, self.channels, lambda picture: self.rule.cut(picture, self.size))
        return _normalize(frames, self.size, self.channels), labels


class TrainTransform:
    """Preprocess samples for training with the random augmentation of a recipe.

    With `recipe.crop`, images are framed as in evaluation (images from files: the largest centered square), shifted by
    up to `recipe.crop` pixels and mirrored, for the whole batch at once. Without it, each image is randomly cropped,
    resized and mirrored, followed by RandAugment and color jitter. Normalization and random erasing come last. Mixup
    and cutmix also change the targets; see `mixing`.

    Args:
        size: height and width in pixels, at least 32.
        channels: number of input channels of the network, 1 or 3.
        recipe: only `crop`, `flip`, `rand_augment`, `color_jitter` and `erasing` are used.

    Raises:
        ValueError: if the size or the number of channels is not allowed, or if the recipe combines `crop` with
            RandAugment or color jitter, which require random cropping.
    """

    def __init__(self, size: int, channels: int, recipe: Recipe) -> None:
        self.size, self.channels = _shape(size, channels)
        if recipe.crop is not None and (recipe.rand_augment is not None or recipe.color_jitter):
            raise ValueError(
                f"crop={recipe.crop} moves whole batches, RandAugment and jittered colours change single pictures; "
                "take crop=None, or rand_augment=None and color_jitter=0"
            )
        self.recipe = recipe

    def __call__(self, samples: Sequence[Sample], generator: torch.Generator) -> LabeledBatch:
        """The images, (B, channels, size, size), and their labels, (B,). All randomness comes from `generator`."""
        pictures, labels = _stack_labels(samples)
        random = numpy_generator(generator)
        if self.recipe.crop is None:
            frames = torch.stack([_pixels(self._view(picture, random)) for picture in pictures])
        else:
            frames = _frames(pictures, self.channels, lambda picture: cover(picture, self.size))
            frames = _shift_and_flip(frames, self.recipe.crop, self.recipe.flip, random)
        images = _normalize(frames, self.size, self.channels)
        if self.recipe.erasing:
            _erase(images, self.recipe.erasing, generator, random)
        return images, labels

    def _view(self, picture: LoadedImage, random: np.random.Generator) -> Image.Image:
        """A randomly augmented view of one image."""
        if isinstance(picture, Tensor):
            picture = Image.fromarray(F.pad(picture[0], [BORDER] * 4).numpy())
        image = random_resized_crop(picture.convert(MODES[self.channels]), self.size, random)
        if self.recipe.flip and random.random() < 0.5:
            image = ImageOps.mirror(image)
        if self.recipe.rand_augment is not None:
            fill = tuple(round(255 * mean) for mean in _statistics(self.channels)[0])
            image = rand_augment(image, self.recipe.rand_augment, fill, random)
        if self.recipe.color_jitter:
            image = color_jitter(image, self.recipe.color_jitter, random)
        return image


def cover(image: Image.Image, size: int) -> Image.Image:
    """The largest centered square of an image, resized to `size` × `size` pixels."""
    return center_crop(resize_shorter(image, size, BICUBIC), size)


def _shape(size: int, channels: int) -> tuple[int, int]:
    if channels not in MODES:
        raise values.invalid_value("channels", channels, "1 or 3")
    return values.non_negative_int("size", size, minimum=SMALLEST_INPUT), channels


def _stack_labels(samples: Sequence[Sample]) -> tuple[tuple[LoadedImage, ...], Tensor]:
    pictures, labels = zip(*samples, strict=True)
    return pictures, torch.tensor(labels)


def _frames(
    pictures: Sequence[LoadedImage], channels: int, cut: Callable[[Image.Image], Image.Image]
) -> UInt8[Tensor, "B C side side"]:
    """Images of equal size: images from files are cropped with `cut`, Fashion-MNIST images are padded."""
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


def _normalize(frames: Tensor, size: int, channels: int) -> Float[Tensor, "B channels size size"]:
    images = frames.float() / 255
    if images.shape[-1] != size:  # Fashion-MNIST's, enlarged
        images = F.interpolate(images, size=(size, size), mode="bilinear")
    mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in _statistics(channels))  # (channels, 1, 1)
    return (images - mean) / std  # one grey channel is broadcast to the number of means


def _shift_and_flip(frames: Tensor, most: int, flip: bool, random: np.random.Generator) -> Tensor:
    """Shift each image by up to `most` pixels in both directions, fill with black, and mirror half of the images."""
    count, channels, side, _ = frames.shape
    padded = F.pad(frames, [most] * 4)
    rows = random.integers(2 * most + 1, size=(count, 1)) + np.arange(side)  # (B, side)
    columns = random.integers(2 * most + 1, size=(count, 1)) + np.arange(side)
    if flip:
        columns = np.where(random.random((count, 1)) < 0.5, columns[:, ::-1], columns)
    rows_of, columns_of = torch.from_numpy(rows)[:, None, :, None], torch.from_numpy(columns)[:, None, None, :]
    return padded[torch.arange(count)[:, None, None, None], torch.arange(channels)[:, None, None], rows_of, columns_of]


def _erase(images: Tensor, probability: float, generator: torch.Generator, random: np.random.Generator) -> None:
    """Random erasing: fill a random rectangle with noise, in `images`. Zhong et al., 2017; timm `RandomErasing`."""
    channels, side = images.shape[1], images.shape[-1]
    for index in np.flatnonzero(random.random(len(images)) < probability):
        if box := rectangle(side, side, ERASED_AREA, ERASED_ASPECT, random):
            left, top, right, bottom = box
            noise = torch.randn(channels, bottom - top, right - left, generator=generator)
            images[index, :, top:bottom, left:right] = noise


class Batch(NamedTuple):
    """The input of one process in one step: preprocessed images, their targets, and their indices in the data set."""

    images: Float[Tensor, "B C size size"]
    targets: Float[Tensor, "B num_classes"]
    indices: Int[Tensor, " B"]


class TrainBatches(Dataset[Batch]):
    """The batches of one epoch, or one process's shard of each batch.

    Args:
        images: images to sample from.
        recipe: determines batch size, augmentation, mixing and label smoothing.
        size: input height and width of the network, in pixels.
        channels: number of input channels of the network.
        seed: seed of the run.
        epoch: epoch, from 0.
        shard: this process's shard.

    Raises:
        ValueError: if there are fewer images than one batch needs, or a batch cannot be divided equally.
    """

    def __init__(
        self,
        images: Images,
        recipe: Recipe,
        size: int,
        channels: int,
        *,
        seed: int,
        epoch: int,
        shard: Shard = UNSHARDED,
    ) -> None:
        self.images, self.recipe = images, recipe
        self.numbers = seed, epoch, shard.rank  # with the batch index, these seed the randomness in a batch
        self.augment = TrainTransform(size, channels, recipe)
        index_batches = epoch_batches(
            len(images), recipe.batch, seed=seed, epoch=epoch, repeated_aug=recipe.repeated_aug
        )
        self.batches = [shard.split_batch(batch) for batch in index_batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Batch:
        random = generator(*self.numbers, number)
        indices, recipe = self.batches[number], self.recipe
        images, labels = self.augment([self.images[index] for index in indices], random)
        classes = len(self.images.classes)
        mixed = mix(images, labels, classes, recipe.mixup, recipe.cutmix, recipe.label_smoothing, random)
        return Batch(*mixed, torch.tensor(indices))


class EvalBatches(Dataset[tuple[Tensor, Tensor]]):
    """Batches of preprocessed images and labels for evaluation, in order; all images or one process's shard.

    Args:
        images: images to evaluate on.
        size: input height and width of the network, in pixels.
        channels: number of input channels of the network.
        batch: number of images per batch.
        rule: crop rule for images from files.
        shard: this process's shard.
    """

    __test__ = False  # not a test class, despite its name

    def __init__(
        self,
        images: Images,
        size: int,
        channels: int,
        batch: int,
        rule: str = "official",
        shard: Shard = UNSHARDED,
    ) -> None:
        self.images, self.crop = images, EvalTransform(size, channels, rule)
        indices = shard.select(range(len(images)))
        self.batches = [indices[first : first + batch] for first in range(0, len(indices), batch)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.crop([self.images[index] for index in self.batches[number]])


def loader(batches: Dataset[Any], workers: int = 0) -> DataLoader[Any]:
    """A loader that yields the batches in order.

    Args:
        batches: one of the two data sets above.
        workers: number of processes that prepare batches in advance; 0 prepares them in this process.
    """
    pinned = torch.cuda.is_available()
    # Without its own generator, a loader uses the global random state when an epoch starts.
    return DataLoader(batches, batch_size=None, num_workers=workers, pin_memory=pinned, generator=torch.Generator())
