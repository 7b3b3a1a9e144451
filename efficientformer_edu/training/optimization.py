"""What an optimizer step is made of besides the gradient: decay, learning rate, clipping, average.

Paper: section 5.1, AdamW, warm-up and cosine. Released code: `main.py`, which takes all four from timm
(`create_optimizer`, `create_scheduler`, `adaptive_clip_grad`, `ModelEma`). Where ours differs, its docstring says so.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from efficientformer_edu import config_values as values
from efficientformer_edu.training.recipe import CHECKS, Recipe

SMALLEST_NORM = 1e-3  # a unit with smaller weights is clipped as if they had this norm, so that zeros can learn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters for AdamW: first those that decay, then those that are exempt.

    Exempt is what has one dimension: biases, the scale and shift of every norm, layer scales. They are few, and pulled
    towards 0 they would switch off a channel or a branch rather than make the function smoother. That is the released
    code's rule. Its tables of attention biases have two dimensions, so they decay; timm's port of the network exempts
    them.

    Args:
        model: a network.
        weight_decay: of the first group; the second has 0.

    Returns:
        Two groups. Under `params` each has pairs of name and parameter, which every optimizer of torch takes.

    Raises:
        ValueError: for a negative weight decay.
    """
    decay = CHECKS["weight_decay"]("weight_decay", weight_decay)
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [
        {"params": [(name, parameter) for name, parameter in named if parameter.ndim > 1], "weight_decay": decay},
        {"params": [(name, parameter) for name, parameter in named if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of one step: linear warm-up, a cosine to the lowest rate, which the cooldown keeps.

    The cosine counts from the start of the run, not from the end of the warm-up, so there the rate steps from almost
    `recipe.peak` down to where the cosine already is. At the start of each epoch the rate is what timm's scheduler says
    for that epoch. timm keeps it until the next one; here it changes with every step, which a run of few epochs needs.
    (`main.py` asks its scheduler one epoch late, so its first two epochs both have the warm-up's first rate.)

    Args:
        recipe: the recipe.
        step: number of the step in the whole run, from 0.
        steps_per_epoch: steps in one epoch.

    Raises:
        ValueError: for a negative step, or an epoch without one.
    """
    epoch = values.natural("step", step) / values.count("steps_per_epoch", steps_per_epoch)
    if epoch < recipe.warm_up_epochs:
        return recipe.warm_up_rate + (recipe.peak - recipe.warm_up_rate) * epoch / recipe.warm_up_epochs
    if epoch >= recipe.epochs:
        return recipe.min_rate
    return recipe.min_rate + (recipe.peak - recipe.min_rate) * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2


@torch.no_grad()
def clip_adaptive_(parameters: Iterable[nn.Parameter], factor: float) -> None:
    """Shorten, in place, the gradient of each unit that is long for the unit's weights.

    A unit is what makes one output: a row of a linear layer's weight, a filter of a convolution, one head's row in a
    table of attention biases; a vector is one unit as a whole. Its gradient may be `factor` times as long as its
    weights. What is longer keeps its direction. Source: Brock et al., *High-Performance Large-Scale Image Recognition
    Without Normalization*, section 4; like the released code, and unlike them, we clip the heads too.

    Args:
        parameters: those without a gradient are passed over.
        factor: the largest quotient of the norms.

    Raises:
        ValueError: for a factor that is not above 0.
    """
    factor = values.positive("factor", factor)
    for parameter in parameters:
        if parameter.grad is not None:
            longest = factor * unit_norms(parameter).clamp(min=SMALLEST_NORM)
            # A gradient of 0 gives a quotient of infinity here, and stays 0.
            parameter.grad.mul_((longest / unit_norms(parameter.grad)).clamp(max=1))


def unit_norms(x: Tensor) -> Tensor:
    """The norm of each unit of a weight or its gradient, (units, 1, …); for a vector or a number, one norm."""
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)) if x.ndim > 1 else None, keepdim=True)


class WeightAverage:
    """An exponential moving average of a network's weights and running statistics.

    It starts as a copy of the network. torch's own `AveragedModel` would start with the first update and, asked to
    average statistics too, cut the count of batches, a whole number, down to 1.

    Args:
        model: the network to follow.
        decay: what an update keeps of the average; the rest is the network's.

    Attributes:
        network: the averaged network, in evaluation mode, without gradients.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = values.rate("decay", decay)
        self.network = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Average in the network as it is now, after each optimizer step."""
        for mean, now in zip(_tensors(self.network), _tensors(model), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - self.decay)
            else:
                mean.copy_(now)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights, named as the network's."""
        return self.network.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from stored averages. Raises RuntimeError as `nn.Module.load_state_dict` does."""
        self.network.load_state_dict(state)


def _tensors(model: nn.Module) -> Iterable[Tensor]:
    return chain(model.parameters(), model.buffers())
