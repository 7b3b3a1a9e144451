"""Necks: FPN, the feature pyramid network, and YOLOPAFPN, which adds a path back from fine to coarse feature maps.

Sources: Lin et al., *Feature Pyramid Networks for Object Detection*, 2017, implemented like mmdetection's `FPN`; Ge et
al., *YOLOX*, 2021, `YOLOPAFPN`, after Liu et al., *Path Aggregation Network*, 2018. Names are NetsPresso's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu import _validation as values
from efficientformer_edu.dense.layers import ConvNormAct, conv3x3, set_yolox_norms

Extra = bool | Literal["on_input", "on_lateral", "on_output"]
EXTRA = (False, "on_input", "on_lateral", "on_output")


@dataclass(frozen=True)
class FPNConfig:
    """Fields, named as in NetsPresso and mmdetection.

    Attributes:
        num_outs: number of output feature maps.
        start_level: the first backbone feature map that is used, from 0.
        end_level: the last one; -1 for the backbone's last.
        add_extra_convs: input of the first extra feature map: the backbone's last feature map, its lateral, or the last
            output, through a 3×3 convolution of stride 2; True means the first. False subsamples the last output with
            stride 2.
        relu_before_extra_convs: whether a ReLU is applied before further extra convolutions.
        out_channels: channels of all outputs; None for those of the backbone's last feature map, as in NetsPresso.
    """

    num_outs: int = 4
    start_level: int = 0
    end_level: int = -1
    add_extra_convs: Extra = False
    relu_before_extra_convs: bool = False
    out_channels: int | None = None

    def __post_init__(self) -> None:
        values.positive_int("num_outs", self.num_outs)
        values.non_negative_int("start_level", self.start_level)
        values.non_negative_int("end_level", self.end_level, minimum=-1)
        values.boolean("relu_before_extra_convs", self.relu_before_extra_convs)
        if self.out_channels is not None:
            values.positive_int("out_channels", self.out_channels)
        if self.add_extra_convs is True:  # as in mmdetection and NetsPresso
            object.__setattr__(self, "add_extra_convs", "on_input")
        if not isinstance(self.add_extra_convs, (bool, str)) or self.add_extra_convs not in EXTRA:
            raise values.invalid_value("add_extra_convs", self.add_extra_convs, ", ".join(map(repr, EXTRA)))


class FPN(nn.Module):
    """A feature pyramid: information from coarse feature maps is added to the fine ones.

    A 1×1 convolution brings each feature map to a common width; starting from the coarsest, each is upsampled to the
    next one's size and added; a 3×3 convolution smooths the sum. All convolutions have a bias; no norms are used.

    Input: feature maps (B, C_j, H_j, W_j). Output: `num_outs` feature maps (B, out_dim, H_j, W_j); extra ones after the
    coarsest halve height and width each.

    Args:
        in_dims: channels of the backbone's feature maps.
        strides: strides of the feature maps in pixels of the image.
        config: configuration.

    Attributes:
        out_dims: channels of the output feature maps.
        strides: strides of the output feature maps.

    Raises:
        ValueError: for levels that the backbone does not have, for fewer outputs than levels, and for extra outputs
            after a level that is not the backbone's last.
    """

    def __init__(self, in_dims: Sequence[int], strides: Sequence[int], config: FPNConfig) -> None:
        super().__init__()
        self.config = config
        last = len(in_dims) - 1 if config.end_level == -1 else config.end_level
        self.levels = _levels(config, last, len(in_dims))
        dim = config.out_channels or in_dims[-1]
        self.lateral_convs = nn.ModuleList(nn.Conv2d(in_dims[j], dim, kernel_size=1) for j in self.levels)
        self.fpn_convs = nn.ModuleList(nn.Conv2d(dim, dim, kernel_size=3, padding=1) for _ in self.levels)
        self.extra = config.num_outs - len(self.levels)
        self.extra_convs = nn.ModuleList()
        if config.add_extra_convs:
            dims = [in_dims[last] if config.add_extra_convs == "on_input" else dim, *[dim] * self.extra]
            self.extra_convs.extend(nn.Conv2d(dims[i], dim, 3, stride=2, padding=1) for i in range(self.extra))
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):  # initialization as in mmdetection
                nn.init.xavier_uniform_(conv.weight)
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.out_dims = (dim,) * config.num_outs
        self.strides = tuple(strides[self.levels[0]] * 2**i for i in range(config.num_outs))

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Tensor]:
        laterals = [conv(maps[j]) for conv, j in zip(self.lateral_convs, self.levels, strict=True)]
        for i in range(len(laterals) - 1, 0, -1):
            finer = laterals[i - 1]  # (B, out_dim, H, W): twice the height and width, or one less
            laterals[i - 1] = finer + F.interpolate(laterals[i], size=(finer.shape[2], finer.shape[3]), mode="nearest")
        outs = [conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals, strict=True)]
        if not self.extra_convs:
            for _ in range(self.extra):
                outs.append(F.max_pool2d(outs[-1], kernel_size=1, stride=2))  # subsample with stride 2
            return outs
        source = {"on_input": maps[self.levels[-1]], "on_lateral": laterals[-1], "on_output": outs[-1]}
        outs.append(self.extra_convs[0](source[str(self.config.add_extra_convs)]))
        for conv in list(self.extra_convs)[1:]:
            outs.append(conv(F.relu(outs[-1]) if self.config.relu_before_extra_convs else outs[-1]))
        return outs


def _levels(config: FPNConfig, last: int, count: int) -> tuple[int, ...]:
    """Indices of the backbone's feature maps that are used."""
    if last >= count or config.start_level > last:
        raise ValueError(
            f"start_level={config.start_level}, end_level={config.end_level} is not possible; "
            f"allowed: levels from 0 to {count - 1}, start_level no later than end_level"
        )
    levels = tuple(range(config.start_level, last + 1))
    if config.num_outs < len(levels) or (config.num_outs > len(levels) and last != count - 1):
        allowed = f"{len(levels)}, one for each level" + (", or more" if last == count - 1 else "")
        raise values.invalid_value("num_outs", config.num_outs, allowed)
    return levels


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
        values.positive_float("dep_mul", self.dep_mul)
        values.boolean("depthwise", self.depthwise)
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
    """YOLOX's neck: a top-down path from coarse to fine feature maps, then a bottom-up path back.

    NetsPresso's version takes exactly three feature maps and fails on EfficientFormer's four; this one uses the last
    three. Before two feature maps are concatenated, the coarser one is upsampled to the exact size of the finer one.

    Input: at least three feature maps (B, C_j, H_j, W_j). Output: three, with the shapes of the last three. Arguments
    and attributes as for `FPN`. Raises ValueError for fewer than three feature maps.
    """

    def __init__(self, in_dims: Sequence[int], strides: Sequence[int], config: YOLOPAFPNConfig) -> None:
        super().__init__()
        if len(in_dims) < LEVELS:
            raise ValueError(f"{len(in_dims)} feature maps are not enough; YOLOPAFPN takes the last {LEVELS}")
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
        set_yolox_norms(self)

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Tensor]:
        fine, middle, coarse = (maps[i - LEVELS] for i in range(LEVELS))
        top = self.lateral_conv0(coarse)  # (B, C_middle, H_coarse, W_coarse)
        between = self.reduce_conv1(self.C3_p4(_concat_upsampled(middle, top)))  # (B, C_fine, H_middle, W_middle)
        out_fine = self.C3_p3(_concat_upsampled(fine, between))
        out_middle = self.C3_n3(torch.cat([self.bu_conv2(out_fine), between], dim=1))
        out_coarse = self.C3_n4(torch.cat([self.bu_conv1(out_middle), top], dim=1))
        return [out_fine, out_middle, out_coarse]


def _concat_upsampled(finer: Tensor, coarser: Tensor) -> Tensor:
    """Upsample the coarser feature map to the size of the finer one and concatenate: coarser first, then finer."""
    enlarged = F.interpolate(coarser, size=(finer.shape[2], finer.shape[3]), mode="nearest")
    return torch.cat([enlarged, finer], dim=1)
