"""Batch normalization whose statistics are those of the whole batch when several processes share it.

Released code: `SyncBatchNorm` in `main.py`. torch's own works on GPUs only; this one works on CPUs, too, so that two
processes on a laptop can be compared with one. All other communication between processes is in `trainer`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm whose mean and variance are those of all processes' images together, on any device."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        if not self.training:
            return super().forward(x)
        places = _sum(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
        mean = _sum(x.sum((0, 2, 3))) / places  # (C,)
        centred = x - mean[:, None, None]
        variance = _sum(centred.square().sum((0, 2, 3))) / places  # (C,)
        with torch.no_grad():
            kept = self.running_mean, self.running_var, self.num_batches_tracked, self.momentum
            running_mean, running_var, batches, momentum = kept
            assert running_mean is not None and running_var is not None and batches is not None and momentum is not None
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * places / (places - 1), momentum)
            batches.add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]


class _Sum(torch.autograd.Function):
    """Over all processes. What each makes of the sum, it makes of every part: so the gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        summed = x.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient)


def _sum(x: Tensor) -> Tensor:
    """Over all processes; gradients go back to each of them."""
    summed: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return summed


def synchronize(network: nn.Module, device: torch.device) -> None:
    """Replace each batch norm in the network by one that is synchronised over the processes; weights are kept."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                norm: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(child)
                if device.type == "cpu":
                    norm = SynchronizedBatchNorm2d(child.num_features, child.eps, child.momentum)
                    norm.load_state_dict(child.state_dict())
                setattr(module, name, norm)
