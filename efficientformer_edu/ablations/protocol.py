"""Settings that all runs of a study share: the base network, the recipe and the images.

The base is small: its accuracy says nothing about ImageNet, and a study is only about differences. Its last stage has a
grid of 4×4 tokens, because a smaller grid would leave almost nothing to mix. Its layer scales start at 0.1, because
with only a few hundred training steps and a small layer scale the blocks would contribute almost nothing; the released
value 1e-5 is a separate variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.training import data
from efficientformer_edu.training.data import Images, first_of_each, load_data
from efficientformer_edu.training.distillation import StoredLogits, network_teacher
from efficientformer_edu.training.loading import TestBatches, loader
from efficientformer_edu.training.recipe import LAPTOP, Recipe
from efficientformer_edu.training.small import SMALL, smallest_size
from efficientformer_edu.training.trained import trained_network

ABLATED = SMALL.replace(depths=(1, 1, 1, 4))
"""The base: the small network with four blocks in its last stage; one of them is MB3D."""


@dataclass(frozen=True)
class Protocol:
    """Settings that all runs of a study share.

    Attributes:
        words: hardware and time that the protocol is meant for.
        data: name of a Fashion-MNIST data set for `load_data`.
        per_class: number of training images per class, the first ones in the set; None for all.
        recipe: recipe of the base.
        config: configuration of the base.
        size: height and width of the network's input in pixels.
    """

    words: str
    data: str
    per_class: int | None
    recipe: Recipe
    config: EfficientFormerConfig = ABLATED
    size: int = 32


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "laptop": Protocol("two cores, two hours", data.FULL, 1_500, LAPTOP.replace(epochs=5)),
        "embedded": Protocol("what comes with the package", data.SMALL, None, LAPTOP.replace(epochs=20)),
    }
)
"""Protocols by name. The embedded images are few and get more epochs: both protocols take about as many steps."""


def get_protocol(name: str | None = None, data_dir: Path | None = None) -> str:
    """The name of a protocol; None selects the one for the available images. Raises ValueError for an unknown name."""
    if name is None:
        try:
            load_data(data.FULL, "test", data_dir=data_dir)
        except FileNotFoundError:
            return "embedded"
        return "laptop"
    if name not in PROTOCOLS:
        raise ValueError(f"protocol {name!r} is unknown; there are {', '.join(PROTOCOLS)}")
    return name


@cache
def load_images(protocol: Protocol, data_dir: Path | None = None) -> tuple[Images, Images]:
    """The training and the test images of a protocol, read once per process. Raises as `load_data` does."""
    train, test = (load_data(protocol.data, split, data_dir=data_dir) for split in ("train", "test"))
    return (train if protocol.per_class is None else first_of_each(train, protocol.per_class)), test


@cache
def teacher_logits(protocol: Protocol, data_dir: Path | None = None) -> StoredLogits:
    """Logits of the package's trained network for the training images without augmentation, computed once per process.

    Unlike the paper's teacher, it does not see the student's augmentations. It was trained on all 60,000 images, so its
    logits carry information beyond the labels.
    """
    train, _ = load_images(protocol, data_dir)
    network = trained_network()
    batches = TestBatches(train, smallest_size(network.config), network.config.in_channels, protocol.recipe.batch)
    return StoredLogits.collect(network_teacher(network), (batch for batch, _ in loader(batches)))
