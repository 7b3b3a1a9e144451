"""Accuracy of a slimmed supernet with the weights that it inherits, and fine-tuning between the steps.

Paper: section 4.2, step 3 needs the accuracy drop of each action and does not say how the network is prepared for it.
Our choices: batch-norm statistics are recalibrated, because they belong to the network before the action; accuracy is
measured on held-out training images, which are used neither for training nor as test images. The network is fine-tuned
briefly before the first step, because its blocks never ran alone, and after each step that is taken. Without it the
drops of all steps would accumulate.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from efficientformer_edu.slimming.supernet import Supernet
from efficientformer_edu.training.data import Images
from efficientformer_edu.training.dice import generator
from efficientformer_edu.training.loading import TestBatches, TrainBatches, loader
from efficientformer_edu.training.loop import Loop
from efficientformer_edu.training.recipe import Recipe
from efficientformer_edu.training.run import Run

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
            for images, labels in loader(TestBatches(self.held_out, self.size, config.in_channels, recipe.batch)):
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
            epochs=1, warm_up_epochs=0, learning_rate=FINETUNE_RATE * self.recipe.learning_rate, min_rate=0
        )
        images = self.learn.part(indices, f"{self.learn.words}, {count:,} at random")
        run = Run(supernet.config, images, self.held_out, recipe, self.size, self.seed + step, build=lambda _: supernet)
        for _ in Loop(run).steps():
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
