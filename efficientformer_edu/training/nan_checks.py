"""Stop a run if its loss, weights or gradients are not finite, and report the first cause."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class NotFiniteError(ArithmeticError):
    """A loss, a gradient or a weight became NaN or infinite; the message names the step and the cause."""


def check_loss(loss: Tensor, network: nn.Module, images: Tensor, step: int) -> None:
    """Raise `NotFiniteError` unless the loss is finite.

    Nothing is communicated between processes, and neither the network nor the random state changes.

    Args:
        loss: loss of this step.
        network: the network. If the loss is not finite, it is run again on the images in evaluation mode to find the
            first module whose output is not finite.
        images: images of this step, (B, C, H, W).
        step: index of the step, from 0.
    """
    if not loss.isfinite():
        raise NotFiniteError(f"step {step}: the loss is {float(loss.detach()):g}; {_cause(network, images)}")


def check_gradients(named: Iterable[tuple[str, nn.Parameter]], step: int) -> None:
    """Raise `NotFiniteError` unless every gradient is finite, before the optimizer uses them."""
    gradients = [(name, parameter.grad) for name, parameter in named if parameter.grad is not None]
    norms = torch._foreach_norm([grad for _, grad in gradients])  # one call for all gradients
    if not torch.stack(norms).isfinite().all():
        name = next(name for (name, _), norm in zip(gradients, norms, strict=True) if not norm.isfinite())
        raise NotFiniteError(f"step {step}: the gradient of {name} is not finite; the learning rate may be too high")


def _cause(network: nn.Module, images: Tensor) -> str:
    """The first value that is not finite: an image, a weight, the output of a module, or only the loss."""
    if not images.isfinite().all():
        return "an image of the batch is not finite"
    for name, parameter in network.named_parameters():
        if not parameter.isfinite().all():
            return f"the weights {name} are not finite; the step before was too large"
    outputs: list[str] = []

    def record(name: str) -> object:
        def hook(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, Tensor) and not output.isfinite().all():
                outputs.append(name)

        return hook

    handles = [
        module.register_forward_hook(record(name))
        for name, module in network.named_modules()
        if not list(module.children())
    ]
    # In training mode the forward pass would update the running statistics, draw random numbers and, where the batch
    # norms are synchronized, wait for processes whose loss is finite.
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            network(images)
    finally:
        for module, mode in modes:
            module.training = mode
        for handle in handles:
            handle.remove()
    if outputs:
        return f"it begins in the output of {outputs[0]}"
    return "in evaluation mode all outputs are finite: it begins in the loss, or in the statistics of the batch"
