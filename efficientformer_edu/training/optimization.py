"""The parts of an optimizer step other than the gradient: weight decay, learning rate, clipping, weight average.

Paper: section 5.1, AdamW, warm-up and cosine. Released code: `main.py`, which takes all four from timm
(`create_optimizer`, `create_scheduler`, `adaptive_clip_grad`, `ModelEma`). Differences are stated in the docstrings.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from efficientformer_edu import _validation as values
from efficientformer_edu.training.recipe import CHECKS, Recipe

SMALLEST_NORM = 1e-3  # lower bound on the norm of a unit's weights in clipping, so that zero weights can learn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group the trainable parameters for AdamW: first those with weight decay, then those without.

    Parameters with one dimension have no weight decay: biases, scale and shift of normalization layers, layer scales.
    They are few, and pulling them towards 0 would disable a channel or a branch rather than make the function smoother.
    This is the rule of the released code. Its tables of attention biases have two dimensions, so they decay; timm's
    port of the network exempts them.

    Args:
        model: a network.
        weight_decay: weight decay of the first group; the second has 0.

    Returns:
        Two groups. `params` of each contains (name, parameter) pairs, which all optimizers of torch accept.

    Raises:
        ValueError: if the weight decay is negative.
    """
    decay = CHECKS["weight_decay"]("weight_decay", weight_decay)
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [
        {"params": [(name, parameter) for name, parameter in named if parameter.ndim > 1], "weight_decay": decay},
        {"params": [(name, parameter) for name, parameter in named if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of one step: linear warm-up, cosine decay to the minimum rate, and cooldown at that rate.

    The cosine starts with the run, not at the end of the warm-up. At that point, the rate therefore drops from almost
    `recipe.max_lr` to the current value of the cosine. At the start of each epoch, the rate equals that of timm's
    scheduler. timm keeps it for the epoch; here it changes with every step, which matters for runs of few epochs.
    (`main.py` updates its scheduler one epoch late, so its first two epochs both have the initial warm-up rate.)

    Args:
        recipe: the recipe.
        step: index of the step in the run, from 0.
        steps_per_epoch: number of steps in one epoch.

    Raises:
        ValueError: if `step` is negative or `steps_per_epoch` is not positive.
    """
    epoch = values.non_negative_int("step", step) / values.positive_int("steps_per_epoch", steps_per_epoch)
    if epoch < recipe.warmup_epochs:
        return recipe.warmup_lr + (recipe.max_lr - recipe.warmup_lr) * epoch / recipe.warmup_epochs
    if epoch >= recipe.epochs:
        return recipe.min_lr
    return recipe.min_lr + (recipe.max_lr - recipe.min_lr) * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2


@torch.no_grad()
def clip_adaptive_(parameters: Iterable[nn.Parameter], factor: float) -> None:
    """Adaptive gradient clipping (AGC): limit each unit's gradient norm relative to its weight norm, in-place.

    A unit computes one output: a row of a linear layer's weight, a filter of a convolution, or one head's row in a
    table of attention biases. A vector is one unit. The norm of its gradient may be at most `factor` times the norm of
    its weights. A longer gradient is scaled down and keeps its direction. Source: Brock et al., *High-Performance
    Large-Scale Image Recognition Without Normalization*, section 4. Like the released code and unlike that paper, the
    heads are clipped too.

    Args:
        parameters: parameters to clip; those without a gradient are skipped.
        factor: maximum ratio of the norms.

    Raises:
        ValueError: if the factor is not positive.
    """
    factor = values.positive_float("factor", factor)
    for parameter in parameters:
        if parameter.grad is not None:
            longest = factor * unit_norms(parameter).clamp(min=SMALLEST_NORM)
            # A gradient of 0 gives an infinite ratio here, and stays 0.
            parameter.grad.mul_((longest / unit_norms(parameter.grad)).clamp(max=1))


def unit_norms(x: Tensor) -> Tensor:
    """The norm of each unit of a weight or its gradient, (units, 1, …); one norm for a vector or a scalar."""
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)) if x.ndim > 1 else None, keepdim=True)


class WeightAverage:
    """An exponential moving average of a network's weights and running statistics.

    The average starts as a copy of the network. torch's `AveragedModel` would start with the first update and, if it
    also averages the statistics, would reduce the integer count of batches to 1.

    Args:
        model: the network to average.
        decay: weight of the average in an update; the network has weight 1 − decay.

    Attributes:
        network: the averaged network, in evaluation mode, without gradients.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = values.probability("decay", decay)
        self.network = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average with the current network. Call it after each optimizer step."""
        for mean, current in zip(_tensors(self.network), _tensors(model), strict=True):
            if mean.is_floating_point():
                mean.lerp_(current, 1 - self.decay)
            else:
                mean.copy_(current)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights, with the same names as in the network."""
        return self.network.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a stored average. Raises RuntimeError as `nn.Module.load_state_dict` does."""
        self.network.load_state_dict(state)


def _tensors(model: nn.Module) -> Iterable[Tensor]:
    return chain(model.parameters(), model.buffers())
