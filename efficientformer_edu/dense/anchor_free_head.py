"""AnchorFreeDecoupledHead, as in YOLOX: each position of each feature map predicts a box, its objectness and its class.

Source: Ge et al., *YOLOX*, 2021, section 2.1; NetsPresso Trainer's head. Each feature map has its own weights: a 1×1
convolution to a common width, two 3×3 convolutions for the class and two for the box, and 1×1 convolutions that
predict.

Input: feature maps (B, C_j, H_j, W_j). Output: for each of them (B, 4 + 1 + num_classes, H_j, W_j): four box values,
one objectness logit, one logit per class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu import config_values as values
from efficientformer_edu.dense.layers import ConvNormAct, as_in_yolox, conv3x3

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
        values.flag("depthwise", self.depthwise)
        values.activation("act_type", self.act_type)


class AnchorFreeDecoupledHead(nn.Module):
    """The anchor-free detection head. Arguments as for `AnchorDecoupledHead`; feature maps may have different widths.

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
        as_in_yolox(self)

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
