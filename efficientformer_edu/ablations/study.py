"""The runs of the ablation study. Runs with the same seed differ only in the named change.

The base is small: its accuracy says nothing about ImageNet, and a study is only about differences. Its last stage has a
grid of 4×4 tokens, because a smaller grid would leave almost nothing to mix. Its layer scales start at 0.1, because
with only a few hundred training steps and a small layer scale the blocks would contribute almost nothing; the released
value 1e-5 is a separate variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from efficientformer_edu.ablations.variants import Variant
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.data import datasets
from efficientformer_edu.data.datasets import Images, load_data, stratified_split
from efficientformer_edu.training.classification import Run
from efficientformer_edu.training.distillation import Indices, StoredLogits, network_teacher
from efficientformer_edu.training.loading import EvalBatches, loader
from efficientformer_edu.training.recipe import LAPTOP, Recipe
from efficientformer_edu.training.small import SMALL, smallest_size, trained_description, trained_network

ABLATED = SMALL.replace(depths=(1, 1, 1, 4))
"""The base: the small network with four blocks in its last stage; one of them is MB3D."""


@dataclass(frozen=True)
class AblationProtocol:
    """Settings that all runs of a study share.

    Attributes:
        description: hardware and time that the protocol is meant for.
        data: name of a Fashion-MNIST data set for `load_data`.
        per_class: number of training images per class, the first ones in the set; None for all.
        recipe: recipe of the base.
        config: configuration of the base.
        size: height and width of the network's input in pixels.
    """

    description: str
    data: str
    per_class: int | None
    recipe: Recipe
    config: EfficientFormerConfig = ABLATED
    size: int = 32


PROTOCOLS: Mapping[str, AblationProtocol] = MappingProxyType(
    {
        "laptop": AblationProtocol("two cores, two hours", datasets.FASHION_MNIST, 1_500, LAPTOP.replace(epochs=5)),
        "embedded": AblationProtocol(
            "what comes with the package", datasets.FASHION_MNIST_SMALL, None, LAPTOP.replace(epochs=20)
        ),
    }
)
"""Protocols by name. The embedded images are few and get more epochs: both protocols take about as many steps."""


def get_protocol(name: str | None = None, data_dir: Path | None = None) -> str:
    """The name of a protocol; None selects the one for the available images. Raises ValueError for an unknown name."""
    if name is None:
        try:
            load_data(datasets.FASHION_MNIST, "test", data_dir=data_dir)
        except FileNotFoundError:
            return "embedded"
        return "laptop"
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}; allowed: {', '.join(PROTOCOLS)}")
    return name


@cache
def load_images(protocol: AblationProtocol, data_dir: Path | None = None) -> tuple[Images, Images]:
    """The training and the test images of a protocol, read once per process. Raises as `load_data` does."""
    train, test = (load_data(protocol.data, split, data_dir=data_dir) for split in ("train", "test"))
    return (train if protocol.per_class is None else stratified_split(train, protocol.per_class)[0]), test


@cache
def teacher_logits(protocol: AblationProtocol, data_dir: Path | None = None) -> StoredLogits:
    """Logits of the package's trained network for the training images without augmentation, computed once per process.

    Unlike the paper's teacher, it does not see the student's augmentations. It was trained on all 60,000 images, so its
    logits carry information beyond the labels.
    """
    train, _ = load_images(protocol, data_dir)
    network = trained_network()
    batches = EvalBatches(train, smallest_size(network.config), network.config.in_channels, protocol.recipe.batch)
    return StoredLogits.collect(network_teacher(network), (batch for batch, _ in loader(batches)))


def run_of(
    name: str,
    seed: int,
    *,
    protocol: AblationProtocol,
    variants: Mapping[str, Variant],
    data_dir: Path | None = None,
) -> Run:
    """The run of a variant with a seed: the protocol's settings with the change applied.

    `Study(folder, partial(run_of, protocol=protocol, variants=variants), tuple(variants), seeds)` trains all variants.

    Args:
        name: name of the variant.
        seed: random seed.
        protocol: settings that the runs share.
        variants: variants by name.
        data_dir: folder with the files of Fashion-MNIST.
    """
    variant, (train, test) = variants[name], load_images(protocol, data_dir)
    recipe = protocol.recipe.replace(**variant.recipe(protocol.recipe))
    distils = recipe.distillation is not None
    return Run(
        config=protocol.config.replace(**variant.fields(protocol.config)),
        train=train,
        test=test,
        recipe=recipe,
        size=protocol.size,
        seed=seed,
        teacher=partial(_teach, protocol, data_dir) if distils else None,
        teacher_description=f"the package's network, {trained_description()}" if distils else "",
        build=variant.network,
        variant=f"{name}: {variant.description}",
    )


def _teach(protocol: AblationProtocol, data_dir: Path | None, images: Tensor, indices: Indices) -> Tensor:
    return teacher_logits(protocol, data_dir)(images, indices)
