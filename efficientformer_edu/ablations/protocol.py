"""What all runs of a study have in common: the base network, the recipe, the images. Stated here, and nowhere else.

The base is small: its accuracy says nothing about ImageNet, and differences are all that a study is about. Its last
stage has a grid of 4×4 tokens: on a smaller one there would be nothing left to mix. Its layer scales start at 0.1, lest
the blocks of a network that learns for some hundred steps hardly be there; the released 1e-5 is a variant of its own.
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
"""The base: the small network with four blocks in its last stage, of which one is MB3D."""


@dataclass(frozen=True)
class Protocol:
    """What all runs of a study have in common.

    Attributes:
        words: for whom it is.
        data: a data set of Fashion-MNIST, as `load_data` names it.
        per_class: training images of each class, the first in the set; None for all.
        recipe: of the base.
        config: of the base.
        size: height and width in pixels that the network sees.
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
"""By name. The embedded images are few, so they come more often: both protocols take about as many steps."""


def get_protocol(name: str | None = None, data_dir: Path | None = None) -> str:
    """The name of a protocol; of the one for the images at hand where none is given. Raises ValueError for another."""
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
def images(protocol: Protocol, data_dir: Path | None = None) -> tuple[Images, Images]:
    """The training and the test images of a protocol, read once in each process. Raises as `load_data` does."""
    train, test = (load_data(protocol.data, split, data_dir=data_dir) for split in ("train", "test"))
    return (train if protocol.per_class is None else first_of_each(train, protocol.per_class)), test


@cache
def teacher_logits(protocol: Protocol, data_dir: Path | None = None) -> StoredLogits:
    """What the trained network of the package answers to the training images as they are, asked once in each process.

    It does not see how an image is moved and mirrored for the learner, as the paper's teacher does; and it has seen all
    60,000 images, so that what it adds is not in the labels alone.
    """
    train, _ = images(protocol, data_dir)
    network = trained_network()
    batches = TestBatches(train, smallest_size(network.config), network.config.in_channels, protocol.recipe.batch)
    return StoredLogits.collect(network_teacher(network), (batch for batch, _ in loader(batches)))
