"""AnchorDecoupledHead, RetinaNet's: one tower for the class and one for the box of every anchor, shared by all maps.

Source: Lin et al., *Focal Loss for Dense Object Detection*, 2017, section 4; NetsPresso Trainer's head, after
torchvision's RetinaNet. RetinaNet has `num_layers` 4.

Comes: maps (B, C, H_j, W_j), all of one width. Goes: class logits (B, anchors, num_classes), offsets of the boxes
(B, anchors, 4), and the anchors (anchors, 4), of which there are sizes × ratios at each place of each map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu import config_values as values
from efficientformer_edu.dense.anchors import Sizes, anchors_at
from efficientformer_edu.dense.layers import NORMS, ConvNormAct

torch.fx.wrap("anchors_at")  # a leaf for torch.fx: how many there are hangs on the maps' sizes

PRIOR = 0.01  # what each class's probability starts at


@dataclass(frozen=True)
class AnchorDecoupledHeadConfig:
    """Fields as NetsPresso names them.

    Attributes:
        anchor_sizes: for each map the sizes of its anchors in pixels.
        aspect_ratios: heights over widths.
        num_layers: convolutions of each tower.
        norm_type: their norm, one of `layers.NORMS`. An instance norm wants maps of more than one place, and so images
            of more than 32 pixels on one side.
    """

    anchor_sizes: Sizes = ((32.0,), (64.0,), (128.0,), (256.0,))
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    num_layers: int = 1
    norm_type: str = "batch_norm"

    def __post_init__(self) -> None:
        allowed = "for each map a list of sizes in pixels, as many in each, such as [[32], [64], [128], [256]]"
        sizes = _rows(self.anchor_sizes)
        if not sizes or len({len(some) for some in sizes}) != 1 or not sizes[0]:
            raise values.wrong("anchor_sizes", self.anchor_sizes, allowed)
        object.__setattr__(
            self, "anchor_sizes", tuple(tuple(values.positive("anchor_sizes", one) for one in some) for some in sizes)
        )
        ratios = self.aspect_ratios
        if isinstance(ratios, str) or not isinstance(ratios, Sequence) or not ratios:
            raise values.wrong("aspect_ratios", ratios, "a list of heights over widths, such as [0.5, 1, 2]")
        object.__setattr__(self, "aspect_ratios", tuple(values.positive("aspect_ratios", one) for one in ratios))
        values.natural("num_layers", self.num_layers)
        if self.norm_type not in tuple(NORMS):  # what comes from a file need not be hashable
            raise values.wrong("norm_type", self.norm_type, ", ".join(NORMS))


class AnchorPredictions(NamedTuple):
    """What comes out.

    Attributes:
        classes: logits.
        boxes: offsets (dx, dy, dw, dh) from the anchors: of the centre in their widths and heights, of the size as
            logarithms.
        anchors: corners (x₁, y₁, x₂, y₂) in pixels.
    """

    classes: Float[Tensor, "B anchors num_classes"]
    boxes: Float[Tensor, "B anchors 4"]
    anchors: Float[Tensor, "anchors 4"]


class Tower(nn.Module):
    """Convolutions, and one that predicts some numbers for each anchor: (B, C, H, W) to (B, H·W·A, out)."""

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
    """The head.

    Args:
        in_dims: widths of the maps.
        strides: pixels of the image between two places of each map.
        num_classes: logits of an anchor.
        config: its fields.

    Raises:
        ValueError: for maps of different widths, and if the sizes are for another number of maps.
    """

    def __init__(
        self, in_dims: Sequence[int], strides: Sequence[int], num_classes: int, config: AnchorDecoupledHeadConfig
    ) -> None:
        super().__init__()
        if len(set(in_dims)) > 1:
            raise ValueError(
                f"maps of {', '.join(map(str, in_dims))} channels; the towers are shared and need one width"
            )
        if len(config.anchor_sizes) != len(in_dims):
            raise values.wrong("anchor_sizes", config.anchor_sizes, f"{len(in_dims)} lists, one for each map")
        self.config, self.strides = config, tuple(strides)
        each = len(config.anchor_sizes[0]) * len(config.aspect_ratios)
        prior = -math.log((1 - PRIOR) / PRIOR)
        self.classification_head = Tower(in_dims[0], each, num_classes, prior, config)
        self.regression_head = Tower(in_dims[0], each, 4, 0.0, config)

    def forward(self, maps: Sequence[Float[Tensor, "B C _ _"]]) -> AnchorPredictions:
        grids = [(x.shape[2], x.shape[3]) for x in maps]
        anchors = anchors_at(grids, self.strides, self.config.anchor_sizes, self.config.aspect_ratios, maps[0])
        classes = torch.cat([self.classification_head(x) for x in maps], dim=1)
        boxes = torch.cat([self.regression_head(x) for x in maps], dim=1)
        return AnchorPredictions(classes, boxes, anchors)


def _rows(value: Any) -> tuple[tuple[Any, ...], ...]:
    """A list of lists as tuples; empty if it is none."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return ()
    return tuple(tuple(one) if isinstance(one, Sequence) and not isinstance(one, str) else () for one in value)
