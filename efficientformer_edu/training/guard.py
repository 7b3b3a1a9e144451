"""Stop a run whose numbers are no longer numbers, and say where it began."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class NotFiniteError(ArithmeticError):
    """A loss, a gradient or a weight became infinite or no number; the message names the step and the culprit."""


def check_loss(loss: Tensor, network: nn.Module, images: Tensor, step: int) -> None:
    """Raise `NotFiniteError` unless the loss is a number.

    Args:
        loss: of this step.
        network: asked once more on the same images, to find the first module whose output is no number.
        images: of this step, (B, C, H, W).
        step: its number, from 0.
    """
    if not loss.isfinite():
        raise NotFiniteError(f"step {step}: the loss is {float(loss.detach()):g}; {_culprit(network, images)}")


def check_gradients(named: Iterable[tuple[str, nn.Parameter]], step: int) -> None:
    """Raise `NotFiniteError` unless every gradient is a number, before the optimizer takes them."""
    found = [(name, parameter.grad) for name, parameter in named if parameter.grad is not None]
    norms = torch._foreach_norm([grad for _, grad in found])  # one call, not one for each of hundreds
    if not torch.stack(norms).isfinite().all():
        name = next(name for (name, _), norm in zip(found, norms, strict=True) if not norm.isfinite())
        raise NotFiniteError(f"step {step}: the gradient of {name} is no number; the learning rate may be too high")


def _culprit(network: nn.Module, images: Tensor) -> str:
    """The first thing on the way to the loss that is no number."""
    if not images.isfinite().all():
        return "an image of the batch is no number already"
    for name, parameter in network.named_parameters():
        if not parameter.isfinite().all():
            return f"the weights {name} are no numbers; the step before was too large"
    found: list[str] = []

    def look(name: str) -> object:
        def hook(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, Tensor) and not output.isfinite().all():
                found.append(name)

        return hook

    handles = [
        module.register_forward_hook(look(name))
        for name, module in network.named_modules()
        if not list(module.children())
    ]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return f"it begins in the output of {found[0]}" if found else "all logits are numbers: it begins in the loss itself"
