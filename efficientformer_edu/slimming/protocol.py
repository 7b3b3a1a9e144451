"""Settings of a slimming besides targets and engine: supernet, images and recipes. All of them are our own.

The supernet halves its feature map between stages three times, because only an embedding lets stages differ in width.
So it is trained on images of 128 pixels: with smaller images, its last stage would have fewer than 4×4 tokens. It is
timed at 224 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.slimming.evaluator import Evaluator
from efficientformer_edu.slimming.metapath import Noise
from efficientformer_edu.slimming.supernet import Supernet
from efficientformer_edu.training import data
from efficientformer_edu.training.data import Images, apart, first_of_each, load_data
from efficientformer_edu.training.recipe import LAPTOP, Recipe
from efficientformer_edu.training.run import Run
from efficientformer_edu.training.small import SMALL

SUPERNET = SMALL.replace(
    depths=(2, 2, 4, 4),  # MetaPaths
    embed_dims=(32, 48, 80, 128),
    downsamples=(False, True, True, True),
    num_vit=0,
)
WIDTHS = ((16, 32), (16, 32, 48), (16, 48, 80), (16, 48, 96, 128))  # widths in the lookup table, up to the supernet's
SIZE = 128  # pixels: 8×8 and 4×4 tokens in the last two stages


@dataclass(frozen=True)
class Protocol:
    """Images and recipe.

    Attributes:
        words: hardware and time that the protocol is meant for.
        data: name of the data for `load_data`.
        per_class: number of training images used per class; None for all.
        held_out: how many of them, per class, are held out for evaluating actions; they are never trained on.
        recipe: recipe of the supernet and of each network that is later trained from scratch.
        compared: training images per class for the networks that are compared at the end; None for all.
        tested: test images per class for evaluating these networks; None for all.
    """

    words: str
    data: str
    per_class: int | None
    held_out: int
    recipe: Recipe
    compared: int | None = None
    tested: int | None = None


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        data.SMALL: Protocol(
            "two cores, a quarter of an hour", data.SMALL, 200, 30, LAPTOP.replace(epochs=6, batch=64)
        ),
        data.FULL: Protocol("two cores, two hours", data.FULL, 1_000, 100, LAPTOP.replace(epochs=5), 600, 250),
    }
)
"""Protocols by the name of their data."""


def get_protocol(name: str) -> Protocol:
    """The protocol for some data; of a folder of images, all are used. Raises ValueError for other data."""
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    if not Path(name).is_dir():
        raise ValueError(f"data {name!r} are unknown; there are {', '.join(PROTOCOLS)}, or a folder of class folders")
    return Protocol("as long as the images take", name, None, 50, LAPTOP.replace(epochs=6))


@dataclass(frozen=True)
class Material:
    """The images of a slimming.

    Attributes:
        learn: images for training and fine-tuning the supernet.
        held_out: images for evaluating actions.
        train: images for training the compared networks: both of the above, or the number set by the protocol.
        test: images for evaluating the compared networks.
    """

    learn: Images
    held_out: Images
    train: Images
    test: Images


@cache
def material(protocol: Protocol, data_dir: Path | None = None) -> Material:
    """The images of a protocol, read once per process.

    Raises as `load_data` does, and ValueError if a class has too few images.
    """
    available, test = (load_data(protocol.data, split, data_dir=data_dir) for split in ("train", "test"))
    train = _some(available, protocol.per_class)
    held_out, learn = apart(train, protocol.held_out)
    compared = train if protocol.compared is None else _some(available, protocol.compared)
    return Material(learn, held_out, compared, _some(test, protocol.tested))


def _some(images: Images, per_class: int | None) -> Images:
    return images if per_class is None else first_of_each(images, per_class)


def get_supernet(images: Material) -> EfficientFormerConfig:
    """The supernet's configuration for the classes and channels of the images."""
    return SUPERNET.replace(num_classes=len(images.train.classes), in_channels=images.train.channels)


def supernet_run(protocol: Protocol, images: Material, seed: int = 0, noise: Noise = "uniform") -> Run:
    """The run that trains the supernet, for `SupernetLoop`."""
    return Run(
        config=get_supernet(images),
        train=images.learn,
        test=images.held_out,
        recipe=protocol.recipe,
        size=SIZE,
        seed=seed,
        build=partial(Supernet, noise=noise),
        variant=f"supernet, {noise} noise",
    )


def get_evaluator(protocol: Protocol, images: Material, seed: int = 0) -> Evaluator:
    """The evaluator of the search: it fine-tunes with `learn` and measures accuracy on `held_out`."""
    return Evaluator(images.learn, images.held_out, protocol.recipe, SIZE, seed)
