"""How accurate a slimmed supernet is with the weights that it inherits, and how it recovers from a step.

Paper: section 4.2, step 3 asks for the accuracy drop of each action; it does not say how the network is prepared for
it. Ours: the batch norms are measured anew, for their statistics belong to the network before the step; the accuracy is
that on images that nothing learns from, and that are not the test images. The network learns a little before the first
step, as its blocks never ran alone, and after each step that is taken, or soon all accuracies would say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from efficientformer_edu.slimming.supernet import Supernet
from efficientformer_edu.training.batches import generator
from efficientformer_edu.training.data import Images
from efficientformer_edu.training.evaluation import evaluate
from efficientformer_edu.training.loading import TestBatches, TrainBatches, loader
from efficientformer_edu.training.loop import Loop
from efficientformer_edu.training.recipe import Recipe
from efficientformer_edu.training.run import Run

GENTLER = 4  # a network that recovers takes steps so much smaller than one that begins


@dataclass(frozen=True)
class Judge:
    """Accuracy and recovery, on given images.

    Attributes:
        learn: images that the network recovers with, and that its batch norms are measured on.
        held_out: images that it is judged by; none of `learn`.
        recipe: of the supernet, whose batches and augmentation are used.
        size: height and width in pixels that the network sees.
        seed: of all that is random.
        measuring: batches that the batch norms are measured on.
        recovery: steps of training before the first step of the slimming, and after each.
    """

    learn: Images
    held_out: Images
    recipe: Recipe
    size: int
    seed: int = 0
    measuring: int = 2
    recovery: int = 12

    def accuracy(self, supernet: Supernet) -> float:
        """Top-1 on the images held out, from 0 to 1.

        Afterwards the statistics of the batch norms are new, and the supernet is on the GPU if there is one.
        """
        config, recipe = supernet.config, self.recipe
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        supernet.to(device)
        batches = TrainBatches(self.learn, recipe, self.size, config.in_channels, seed=self.seed, epoch=0)
        measure_norms(supernet, [batch.images.to(device) for batch in islice(loader(batches), self.measuring)])
        asked = TestBatches(self.held_out, self.size, config.in_channels, recipe.batch)
        return evaluate(supernet, loader(asked), self.held_out.classes, device).top1

    def recover(self, supernet: Supernet, number: int) -> None:
        """Train the supernet as it stands, in place; with the number of the step it draws its images."""
        count = self.recovery * self.recipe.batch
        order = torch.randperm(len(self.learn), generator=generator(self.seed, number)).tolist()
        places = (order * -(-count // len(order)))[:count]
        recipe = self.recipe.replace(
            epochs=1, warm_up_epochs=0, learning_rate=self.recipe.learning_rate / GENTLER, min_rate=0
        )
        images = self.learn.part(places, f"{self.learn.words}, {count:,} at random")
        run = Run(
            supernet.config, images, self.held_out, recipe, self.size, self.seed + number, build=lambda _: supernet
        )
        for _ in Loop(run).steps():
            pass
        supernet.eval()


@torch.no_grad()
def measure_norms(network: nn.Module, batches: list[torch.Tensor]) -> None:
    """Replace the statistics of all batch norms by those of these images, each batch weighing the same.

    A norm that does not run, in a block that was not chosen, has mean 0 and variance 1 afterwards.

    Args:
        network: is put back into the mode it had.
        batches: images, (B, C, H, W) each.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta, was_training = [norm.momentum for norm in norms], network.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    network.eval()  # no dropout and no stochastic depth: the same statistics whatever the dice
    for norm in norms:
        norm.train()
    for images in batches:
        network(images)
    network.train(was_training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
