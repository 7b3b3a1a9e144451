"""Several processes that share a batch: sums over processes, and synchronized batch normalization.

Released code: `SyncBatchNorm` in `main.py`. torch's version only works on GPUs. This one works on CPUs too, so that two
processes on a laptop can be compared with one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn


def sum_over_processes(sums: Mapping[str, Tensor], accelerator: Accelerator) -> dict[str, Tensor]:
    """Sum tensors over all processes. All processes must call this function.

    Gradients only flow back to the local process, multiplied by the number of processes. If all processes compute
    the same loss from these sums, the mean of their gradients therefore equals the gradient of a single process.
    """
    processes = accelerator.num_processes
    if processes == 1:
        return dict(sums)
    flat = torch.cat([value.detach().reshape(-1).double() for value in sums.values()])
    totals = accelerator.reduce(flat).split([value.numel() for value in sums.values()])
    return {
        name: total.view_as(value).to(value.dtype) + processes * (value - value.detach())
        for (name, value), total in zip(sums.items(), totals, strict=True)
    }


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with mean and variance over the images of all processes, on any device."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        if not self.training:
            return super().forward(x)
        count = _sum(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
        mean = _sum(x.sum((0, 2, 3))) / count  # (C,)
        centred = x - mean[:, None, None]
        variance = _sum(centred.square().sum((0, 2, 3))) / count  # (C,)
        with torch.no_grad():
            state = self.running_mean, self.running_var, self.num_batches_tracked, self.momentum
            running_mean, running_var, batches, momentum = state
            assert running_mean is not None and running_var is not None and batches is not None and momentum is not None
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * count / (count - 1), momentum)
            batches.add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]


class _Sum(torch.autograd.Function):
    """Sum over all processes. Every process uses the sum, so the backward pass sums the gradients over processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        summed = x.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient)


def _sum(x: Tensor) -> Tensor:
    """Sum over all processes, differentiable for each of them."""
    summed: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return summed


def synchronize(network: nn.Module, device: torch.device) -> None:
    """Replace each batch norm in the network by one synchronized over the processes. Weights are kept."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                norm: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(child)
                if device.type == "cpu":
                    norm = SynchronizedBatchNorm2d(child.num_features, child.eps, child.momentum)
                    norm.load_state_dict(child.state_dict())
                setattr(module, name, norm)
