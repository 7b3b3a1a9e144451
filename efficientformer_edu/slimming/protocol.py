"""Training and evaluation in a slimming: the supernet, its accuracy after each action, and the resulting networks.

Paper: section 4.2. It gives no recipe, number of epochs or temperature schedule, and does not say how a network is
prepared before its accuracy drop is measured. The choices here are our own:

* Batch-norm statistics are recalibrated, because they belong to the network before the action. Accuracy is measured on
  held-out training images, which are used neither for training nor as test images.
* The network is fine-tuned briefly before the first step, because its blocks never ran alone, and after each step.
  Without it the drops of all steps would accumulate.
* The supernet is trained on images of 128 pixels: it halves its feature map between stages three times, because only an
  embedding lets stages differ in width, and its last stage should have 4×4 tokens. It is timed at 224 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.data import datasets
from efficientformer_edu.data.datasets import Images, load_data, stratified_split
from efficientformer_edu.slimming.subnet import Noise
from efficientformer_edu.slimming.supernet import Supernet
from efficientformer_edu.training.classification import ClassificationTrainer, Run
from efficientformer_edu.training.loading import Batch, EvalBatches, TrainBatches, loader
from efficientformer_edu.training.recipe import LAPTOP, Recipe
from efficientformer_edu.training.small import SMALL
from efficientformer_edu.utils.rng import generator

SUPERNET = SMALL.replace(
    depths=(2, 2, 4, 4),  # MetaPaths
    embed_dims=(32, 48, 80, 128),
    downsamples=(False, True, True, True),
    num_vit=0,
)
WIDTHS = ((16, 32), (16, 32, 48), (16, 48, 80), (16, 48, 96, 128))  # widths in the lookup table, up to the supernet's
SIZE = 128  # pixels: 8×8 and 4×4 tokens in the last two stages


@dataclass(frozen=True)
class SlimmingProtocol:
    """Images and recipe.

    Attributes:
        description: hardware and time that the protocol is meant for.
        data: name of the data for `load_data`.
        per_class: number of training images used per class; None for all.
        held_out: how many of them, per class, are held out for evaluating actions; they are never trained on.
        recipe: recipe of the supernet and of each network that is later trained from scratch.
        compared: training images per class for the networks that are compared at the end; None for all.
        tested: test images per class for evaluating these networks; None for all.
    """

    description: str
    data: str
    per_class: int | None
    held_out: int
    recipe: Recipe
    compared: int | None = None
    tested: int | None = None


PROTOCOLS: Mapping[str, SlimmingProtocol] = MappingProxyType(
    {
        datasets.FASHION_MNIST_SMALL: SlimmingProtocol(
            "two cores, a quarter of an hour", datasets.FASHION_MNIST_SMALL, 200, 30, LAPTOP.replace(epochs=6, batch=64)
        ),
        datasets.FASHION_MNIST: SlimmingProtocol(
            "two cores, two hours", datasets.FASHION_MNIST, 1_000, 100, LAPTOP.replace(epochs=5), 600, 250
        ),
    }
)
"""Protocols by the name of their data."""


def get_protocol(name: str) -> SlimmingProtocol:
    """The protocol for some data; of a folder of images, all are used. Raises ValueError for other data."""
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    if not Path(name).is_dir():
        raise ValueError(f"unknown data {name!r}; allowed: {', '.join(PROTOCOLS)}, or a folder of class folders")
    return SlimmingProtocol("the time depends on the images", name, None, 50, LAPTOP.replace(epochs=6))


@dataclass(frozen=True)
class SlimmingImages:
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
def load_slimming_images(protocol: SlimmingProtocol, data_dir: Path | None = None) -> SlimmingImages:
    """The images of a protocol, read once per process.

    Raises as `load_data` does, and ValueError if a class has too few images.
    """
    available, test = (load_data(protocol.data, split, data_dir=data_dir) for split in ("train", "test"))
    train = _some(available, protocol.per_class)
    held_out, learn = stratified_split(train, protocol.held_out)
    compared = train if protocol.compared is None else _some(available, protocol.compared)
    return SlimmingImages(learn, held_out, compared, _some(test, protocol.tested))


def _some(images: Images, per_class: int | None) -> Images:
    return images if per_class is None else stratified_split(images, per_class)[0]


def get_supernet(images: SlimmingImages) -> EfficientFormerConfig:
    """The supernet's configuration for the classes and channels of the images."""
    return SUPERNET.replace(num_classes=len(images.train.classes), in_channels=images.train.channels)


def supernet_run(protocol: SlimmingProtocol, images: SlimmingImages, seed: int = 0, noise: Noise = "uniform") -> Run:
    """The run that trains the supernet, for `SupernetTrainer`."""
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


def run_of(
    name: str,
    seed: int,
    *,
    protocol: SlimmingProtocol,
    configs: Mapping[str, EfficientFormerConfig],
    data_dir: Path | None = None,
) -> Run:
    """The run that trains a network of `configs` from scratch, for a `Study`."""
    images = load_slimming_images(protocol, data_dir)
    return Run(configs[name], images.train, images.test, protocol.recipe, SIZE, seed, variant=name)


def get_evaluator(protocol: SlimmingProtocol, images: SlimmingImages, seed: int = 0) -> Evaluator:
    """The evaluator of the search: it fine-tunes with `learn` and measures accuracy on `held_out`."""
    return Evaluator(images.learn, images.held_out, protocol.recipe, SIZE, seed)


HOTTEST, COLDEST = 1.0, 0.1


def temperature(progress: float) -> float:
    """Temperature τ at a training progress from 0 to 1: exponential decay from 1 to 0.1. The schedule is our own.

    At τ = 1 every candidate contributes to every step and learns. At τ = 0.1 a mixture is close to a single candidate,
    which is what the slimming extracts.
    """
    return HOTTEST * (COLDEST / HOTTEST) ** progress


class SupernetTrainer(ClassificationTrainer):
    """Trains a `Supernet`; the temperature is a function of the step."""

    network: Supernet

    def step(self, batch: Batch, step: int) -> Tensor:
        """Set the temperature of this step and take the step. Returns the loss."""
        self.network.set_temperature(temperature(step / (self.steps_per_epoch * self.run.recipe.total_epochs)))
        return super().step(batch, step)

    def save_weights(self, state: Mapping[str, Tensor], path: Path) -> None:
        """Nothing: the weights are only in the checkpoint, because no layout supports MetaPaths."""


FINETUNE_RATE = 1 / 4  # learning rate of fine-tuning, relative to that of the supernet's training


@dataclass(frozen=True)
class Evaluator:
    """Evaluation and fine-tuning on fixed sets of images.

    Attributes:
        learn: images for fine-tuning and for recalibrating the batch norms.
        held_out: images on which the accuracy is measured; none of `learn`.
        recipe: recipe of the supernet, whose batches and augmentation are used.
        size: height and width of the network's input in pixels.
        seed: seed of everything that is random.
        norm_batches: number of batches for recalibrating the batch norms.
        finetune_steps: training steps before the first step of the slimming, and after each.
    """

    learn: Images
    held_out: Images
    recipe: Recipe
    size: int
    seed: int = 0
    norm_batches: int = 2
    finetune_steps: int = 12

    def correct(self, supernet: Supernet) -> list[bool]:
        """Whether each held-out image is classified correctly, in their order, after recalibrating the batch norms.

        All networks are evaluated on the same images, so two of them can be compared image by image. Afterwards the
        supernet is on the GPU if there is one.

        Raises:
            ValueError: if a logit is NaN or infinite.
        """
        config, recipe = supernet.config, self.recipe
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        supernet.to(device)
        batches = TrainBatches(self.learn, recipe, self.size, config.in_channels, seed=self.seed, epoch=0)
        recalibrate_batch_norm(
            supernet, [batch.images.to(device) for batch in islice(loader(batches), self.norm_batches)]
        )
        was_training, answers = supernet.training, list[bool]()
        supernet.eval()
        with torch.inference_mode():
            for images, labels in loader(EvalBatches(self.held_out, self.size, config.in_channels, recipe.batch)):
                logits = supernet(images.to(device)).float().cpu()  # (B, classes)
                if not logits.isfinite().all():
                    raise ValueError("logits of the slimmed network are NaN or infinite; train the supernet again")
                answers += (logits.argmax(1) == labels).tolist()
        supernet.train(was_training)
        return answers

    def accuracy(self, supernet: Supernet) -> float:
        """Top-1 accuracy on the held-out images, from 0 to 1. Side effects and errors are those of `correct`."""
        answers = self.correct(supernet)
        return sum(answers) / len(answers)

    def finetune(self, supernet: Supernet, step: int) -> None:
        """Train the supernet with its current choices, in place; `step` determines which images are used."""
        count = self.finetune_steps * self.recipe.batch
        order = torch.randperm(len(self.learn), generator=generator(self.seed, step)).tolist()
        indices = (order * -(-count // len(order)))[:count]
        recipe = self.recipe.replace(
            epochs=1, warmup_epochs=0, learning_rate=FINETUNE_RATE * self.recipe.learning_rate, min_lr=0
        )
        images = self.learn.subset(indices, f"{self.learn.description}, {count:,} at random")
        run = Run(supernet.config, images, self.held_out, recipe, self.size, self.seed + step, build=lambda _: supernet)
        for _ in ClassificationTrainer(run).steps():
            pass
        supernet.eval()


@torch.no_grad()
def recalibrate_batch_norm(network: nn.Module, batches: list[torch.Tensor]) -> None:
    """Replace the statistics of all batch norms by their mean over some batches, each batch with equal weight.

    A batch norm that does not run, because its block is not selected, has mean 0 and variance 1 afterwards.

    Args:
        network: the network; its training mode is restored.
        batches: images, (B, C, H, W) each.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta, was_training = [norm.momentum for norm in norms], network.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean over all batches
    network.eval()  # without dropout and stochastic depth, the statistics do not depend on the random state
    for norm in norms:
        norm.train()
    for images in batches:
        network(images)
    network.train(was_training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
