"""Layers of necks and heads: convolution with norm and activation, and its depthwise separable version.

Source: NetsPresso Trainer's `ConvLayer` and `SeparableConvLayer`; YOLOX's `BaseConv` and `DWConv`.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu.model.mlp import activation

NORMS = {"batch_norm": nn.BatchNorm2d, "instance_norm": nn.InstanceNorm2d}


class ConvNormAct(nn.Module):
    """Convolution without bias, norm, activation. Stride 1 keeps height and width, stride 2 halves them, rounded up.

    Args:
        in_dim: input channels.
        out_dim: output channels.
        kernel: height and width of the kernel, odd.
        stride: 1 or 2.
        groups: number of channel groups of the convolution.
        norm: a key of `NORMS`.
        act: name of the activation.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        norm: str = "batch_norm",
        act: str = "relu",
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, out_dim, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.norm = NORMS[norm](out_dim)
        self.act = activation(act)

    def forward(self, x: Float[Tensor, "B in_dim H W"]) -> Float[Tensor, "B out_dim h w"]:
        return self.act(self.norm(self.conv(x)))


class SeparableConvNormAct(nn.Module):
    """A depthwise convolution, then a 1×1 convolution. Arguments as for `ConvNormAct`."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int, stride: int = 1, act: str = "relu") -> None:
        super().__init__()
        self.depthwise = ConvNormAct(in_dim, in_dim, kernel, stride, groups=in_dim, act=act)
        self.pointwise = ConvNormAct(in_dim, out_dim, kernel=1, act=act)

    def forward(self, x: Float[Tensor, "B in_dim H W"]) -> Float[Tensor, "B out_dim h w"]:
        return self.pointwise(self.depthwise(x))


def conv3x3(in_dim: int, out_dim: int, *, stride: int = 1, depthwise: bool, act: str) -> nn.Module:
    """A 3×3 convolution with norm and activation, depthwise separable if `depthwise`."""
    if depthwise:
        return SeparableConvNormAct(in_dim, out_dim, kernel=3, stride=stride, act=act)
    return ConvNormAct(in_dim, out_dim, kernel=3, stride=stride, act=act)


def set_yolox_norms(module: nn.Module) -> None:
    """Set epsilon 1e-3 and momentum 0.03 of all batch norms, as in YOLOX; torch's defaults are 1e-5 and 0.1."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps, norm.momentum = 1e-3, 0.03
