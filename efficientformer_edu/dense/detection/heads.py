"""Detection heads: AnchorDecoupledHead, as in RetinaNet, and AnchorFreeDecoupledHead, as in YOLOX.

Sources: Lin et al., *Focal Loss for Dense Object Detection*, 2017, section 4, after torchvision's RetinaNet; Ge et al.,
*YOLOX*, 2021, section 2.1; NetsPresso Trainer's heads of these names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu import _validation as values
from efficientformer_edu.dense.detection.priors import Sizes, anchors_at
from efficientformer_edu.dense.layers import NORMS, ConvNormAct, conv3x3, set_yolox_norms

PRIOR = 0.01  # initial probabilities
DEPTH = 2  # 3×3 convolutions before each prediction


@dataclass(frozen=True)
class AnchorFreeDecoupledHeadConfig:
    """Fields, named as in NetsPresso.

    Attributes:
        depthwise: whether 3×3 convolutions are depthwise separable.
        act_type: name of the activation.
    """

    depthwise: bool = False
    act_type: str = "silu"

    def __post_init__(self) -> None:
        values.boolean("depthwise", self.depthwise)
        values.activation("act_type", self.act_type)


class AnchorFreeDecoupledHead(nn.Module):
    """YOLOX's head: each position of each feature map predicts a box, its objectness and its class.

    Each feature map has its own weights: a 1×1 convolution to a common width, two 3×3 convolutions for the class and
    two for the box, and 1×1 convolutions that predict. Arguments as for `AnchorDecoupledHead`, but feature maps may
    have different widths.

    Input: feature maps (B, C_j, H_j, W_j). Output: for each of them (B, 4 + 1 + num_classes, H_j, W_j): four box
    values, one objectness logit, one logit per class.

    Attributes:
        strides: strides of the feature maps in pixels of the image.
    """

    def __init__(
        self, in_dims: Sequence[int], strides: Sequence[int], num_classes: int, config: AnchorFreeDecoupledHeadConfig
    ) -> None:
        super().__init__()
        self.config, self.strides, dim = config, tuple(strides), in_dims[0]

        def conv() -> nn.Module:
            return conv3x3(dim, dim, depthwise=config.depthwise, act=config.act_type)

        def convs() -> nn.ModuleList:
            return nn.ModuleList(nn.Sequential(*(conv() for _ in range(DEPTH))) for _ in in_dims)

        def predict(out: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(dim, out, kernel_size=1) for _ in in_dims)

        self.stems = nn.ModuleList(ConvNormAct(in_dim, dim, kernel=1, act=config.act_type) for in_dim in in_dims)
        self.cls_convs, self.reg_convs = convs(), convs()
        self.cls_preds, self.reg_preds, self.obj_preds = predict(num_classes), predict(4), predict(1)
        for last in (*self.cls_preds, *self.obj_preds):
            nn.init.constant_(last.bias, -math.log((1 - PRIOR) / PRIOR))
        set_yolox_norms(self)

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Tensor]:
        outputs = []
        for j, x in enumerate(maps):
            x = self.stems[j](x)  # (B, dim, H, W)
            class_features, box_features = self.cls_convs[j](x), self.reg_convs[j](x)
            predictions = [
                self.reg_preds[j](box_features),
                self.obj_preds[j](box_features),
                self.cls_preds[j](class_features),
            ]
            outputs.append(torch.cat(predictions, dim=1))  # (B, 4 + 1 + num_classes, H, W)
        return outputs


torch.fx.wrap("anchors_at")  # a leaf for torch.fx: the number of anchors depends on the feature map sizes


@dataclass(frozen=True)
class AnchorDecoupledHeadConfig:
    """Fields, named as in NetsPresso.

    Attributes:
        anchor_sizes: anchor sizes in pixels for each feature map.
        aspect_ratios: height / width.
        num_layers: convolutions per tower; RetinaNet has 4.
        norm_type: norm of these convolutions, a key of `layers.NORMS`. Instance norm needs feature maps with more than
            one position, and so images with more than 32 pixels on one side.
    """

    anchor_sizes: Sizes = ((32.0,), (64.0,), (128.0,), (256.0,))
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    num_layers: int = 1
    norm_type: str = "batch_norm"

    def __post_init__(self) -> None:
        allowed = "a list of sizes in pixels per feature map, of equal length, such as [[32], [64], [128], [256]]"
        sizes = _rows(self.anchor_sizes)
        if not sizes or len({len(map_sizes) for map_sizes in sizes}) != 1 or not sizes[0]:
            raise values.invalid_value("anchor_sizes", self.anchor_sizes, allowed)
        object.__setattr__(
            self,
            "anchor_sizes",
            tuple(tuple(values.positive_float("anchor_sizes", value) for value in map_sizes) for map_sizes in sizes),
        )
        ratios = self.aspect_ratios
        if isinstance(ratios, str) or not isinstance(ratios, Sequence) or not ratios:
            raise values.invalid_value("aspect_ratios", ratios, "a list of heights over widths, such as [0.5, 1, 2]")
        object.__setattr__(
            self, "aspect_ratios", tuple(values.positive_float("aspect_ratios", value) for value in ratios)
        )
        values.non_negative_int("num_layers", self.num_layers)
        if self.norm_type not in tuple(NORMS):  # a value from a file may not be hashable
            raise values.invalid_value("norm_type", self.norm_type, ", ".join(NORMS))


class AnchorPredictions(NamedTuple):
    """Output of the head.

    Attributes:
        classes: logits.
        boxes: offsets (dx, dy, dw, dh) from the anchors: centre offsets relative to the anchor's width and height,
            sizes as logarithms of ratios.
        anchors: corners (x₁, y₁, x₂, y₂) in pixels.
    """

    classes: Float[Tensor, "B anchors num_classes"]
    boxes: Float[Tensor, "B anchors 4"]
    anchors: Float[Tensor, "anchors 4"]


class Tower(nn.Module):
    """Convolutions, and one that predicts `out` values per anchor: (B, C, H, W) to (B, H·W·A, out)."""

    def __init__(self, dim: int, anchors: int, out: int, bias: float, config: AnchorDecoupledHeadConfig) -> None:
        super().__init__()
        self.out = out
        self.conv = nn.Sequential(
            *(ConvNormAct(dim, dim, kernel=3, norm=config.norm_type) for _ in range(config.num_layers))
        )
        self.predict = nn.Conv2d(dim, anchors * out, kernel_size=3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
        nn.init.constant_(self.predict.bias, bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B anchors out"]:
        x = self.predict(self.conv(x))  # (B, A·out, H, W)
        return x.unflatten(1, (-1, self.out)).permute(0, 3, 4, 1, 2).flatten(1, 3)


class AnchorDecoupledHead(nn.Module):
    """RetinaNet's head: a class tower and a box tower for all anchors, shared by all feature maps.

    Input: feature maps (B, C, H_j, W_j). Output: `AnchorPredictions`, for sizes × ratios at each position.

    Args:
        in_dims: channels of the feature maps.
        strides: strides of the feature maps in pixels of the image.
        num_classes: number of logits per anchor.
        config: configuration.

    Raises:
        ValueError: if the feature maps have different numbers of channels, and if the number of size lists differs from
            the number of feature maps.
    """

    def __init__(
        self, in_dims: Sequence[int], strides: Sequence[int], num_classes: int, config: AnchorDecoupledHeadConfig
    ) -> None:
        super().__init__()
        if len(set(in_dims)) > 1:
            channels = ", ".join(map(str, in_dims))
            raise ValueError(f"feature maps with {channels} channels; the towers are shared and need equal widths")
        if len(config.anchor_sizes) != len(in_dims):
            raise values.invalid_value(
                "anchor_sizes", config.anchor_sizes, f"{len(in_dims)} lists, one per feature map"
            )
        self.config, self.strides = config, tuple(strides)
        num_anchors = len(config.anchor_sizes[0]) * len(config.aspect_ratios)
        prior = -math.log((1 - PRIOR) / PRIOR)
        self.classification_head = Tower(in_dims[0], num_anchors, num_classes, prior, config)
        self.regression_head = Tower(in_dims[0], num_anchors, 4, 0.0, config)

    def forward(self, maps: Sequence[Float[Tensor, "B C _ _"]]) -> AnchorPredictions:
        grids = [(x.shape[2], x.shape[3]) for x in maps]
        anchors = anchors_at(grids, self.strides, self.config.anchor_sizes, self.config.aspect_ratios, maps[0])
        classes = torch.cat([self.classification_head(x) for x in maps], dim=1)
        boxes = torch.cat([self.regression_head(x) for x in maps], dim=1)
        return AnchorPredictions(classes, boxes, anchors)


def _rows(value: Any) -> tuple[tuple[Any, ...], ...]:
    """A list of lists as tuples; empty if the value is not a list of lists."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return ()
    return tuple(tuple(row) if isinstance(row, Sequence) and not isinstance(row, str) else () for row in value)
