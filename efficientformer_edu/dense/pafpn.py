"""YOLOPAFPN, YOLOX's neck: a top-down path from coarse to fine feature maps, then a bottom-up path back.

Source: Ge et al., *YOLOX*, 2021, `YOLOPAFPN`, after Liu et al., *Path Aggregation Network*, 2018; NetsPresso's names.
NetsPresso's version takes exactly three feature maps and fails on EfficientFormer's four; this one uses the last three.
Before two feature maps are concatenated, the coarser one is upsampled to the exact size of the finer one.

Input: at least three feature maps (B, C_j, H_j, W_j). Output: three, with the shapes of the last three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu import config_values as values
from efficientformer_edu.dense.layers import ConvNormAct, as_in_yolox, conv3x3

LEVELS = 3
DEPTH = 3  # bottlenecks of a CSP layer if `dep_mul` is 1


@dataclass(frozen=True)
class YOLOPAFPNConfig:
    """Fields, named as in NetsPresso.

    Attributes:
        dep_mul: each CSP layer has round(3 · dep_mul) bottlenecks.
        depthwise: whether 3×3 convolutions are depthwise separable.
        act_type: name of the activation.
    """

    dep_mul: float = 0.33
    depthwise: bool = False
    act_type: str = "silu"

    def __post_init__(self) -> None:
        values.positive("dep_mul", self.dep_mul)
        values.flag("depthwise", self.depthwise)
        values.activation("act_type", self.act_type)


class Bottleneck(nn.Module):
    """A 1×1 and a 3×3 convolution, without a shortcut. The output has the shape of the input."""

    def __init__(self, dim: int, config: YOLOPAFPNConfig) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(dim, dim, kernel=1, act=config.act_type)
        self.conv2 = conv3x3(dim, dim, depthwise=config.depthwise, act=config.act_type)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return self.conv2(self.conv1(x))


class CSPLayer(nn.Module):
    """Half of the channels pass through bottlenecks, the other half does not; a 1×1 convolution mixes both.

    Source: Wang et al., *CSPNet*, 2020.
    """

    def __init__(self, in_dim: int, out_dim: int, config: YOLOPAFPNConfig) -> None:
        super().__init__()
        hidden = out_dim // 2
        self.conv1 = ConvNormAct(in_dim, hidden, kernel=1, act=config.act_type)
        self.conv2 = ConvNormAct(in_dim, hidden, kernel=1, act=config.act_type)
        self.conv3 = ConvNormAct(2 * hidden, out_dim, kernel=1, act=config.act_type)
        self.m = nn.Sequential(*(Bottleneck(hidden, config) for _ in range(round(DEPTH * config.dep_mul))))

    def forward(self, x: Float[Tensor, "B in_dim H W"]) -> Float[Tensor, "B out_dim H W"]:
        return self.conv3(torch.cat([self.m(self.conv1(x)), self.conv2(x)], dim=1))


class YOLOPAFPN(nn.Module):
    """The neck. Arguments and attributes as for `FPN`. Raises ValueError for fewer than three feature maps."""

    def __init__(self, in_dims: Sequence[int], strides: Sequence[int], config: YOLOPAFPNConfig) -> None:
        super().__init__()
        if len(in_dims) < LEVELS:
            raise ValueError(f"{len(in_dims)} maps are not enough; YOLOPAFPN takes the last {LEVELS}")
        self.config = config
        self.out_dims, self.strides = tuple(in_dims[-LEVELS:]), tuple(strides[-LEVELS:])
        fine, middle, coarse = self.out_dims
        depthwise, act = config.depthwise, config.act_type
        self.lateral_conv0 = ConvNormAct(coarse, middle, kernel=1, act=act)
        self.C3_p4 = CSPLayer(2 * middle, middle, config)
        self.reduce_conv1 = ConvNormAct(middle, fine, kernel=1, act=act)
        self.C3_p3 = CSPLayer(2 * fine, fine, config)
        self.bu_conv2 = conv3x3(fine, fine, stride=2, depthwise=depthwise, act=act)
        self.C3_n3 = CSPLayer(2 * fine, middle, config)
        self.bu_conv1 = conv3x3(middle, middle, stride=2, depthwise=depthwise, act=act)
        self.C3_n4 = CSPLayer(2 * middle, coarse, config)
        as_in_yolox(self)

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Tensor]:
        fine, middle, coarse = (maps[i - LEVELS] for i in range(LEVELS))
        top = self.lateral_conv0(coarse)  # (B, C_middle, H_coarse, W_coarse)
        between = self.reduce_conv1(self.C3_p4(_on_top_of(middle, top)))  # (B, C_fine, H_middle, W_middle)
        out_fine = self.C3_p3(_on_top_of(fine, between))
        out_middle = self.C3_n3(torch.cat([self.bu_conv2(out_fine), between], dim=1))
        out_coarse = self.C3_n4(torch.cat([self.bu_conv1(out_middle), top], dim=1))
        return [out_fine, out_middle, out_coarse]


def _on_top_of(finer: Tensor, coarser: Tensor) -> Tensor:
    """Upsample the coarser feature map to the size of the finer one and concatenate: coarser first, then finer."""
    enlarged = F.interpolate(coarser, size=(finer.shape[2], finer.shape[3]), mode="nearest")
    return torch.cat([enlarged, finer], dim=1)
