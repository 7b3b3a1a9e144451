"""ALLMLPDecoder, SegFormer's head: a layer for each feature map, and a layer that fuses all of them.

Source: Xie et al., *SegFormer*, 2021, section 3.2; NetsPresso Trainer's `AllMLPDecoder`, where each linear layer is a
1×1 convolution with batch norm and ReLU.

Input: feature maps (B, C_j, H_j, W_j). Output: logits (B, num_classes, H_1, W_1), a quarter of the image's height and
width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu import config_values as values
from efficientformer_edu.dense.layers import ConvNormAct


@dataclass(frozen=True)
class ALLMLPDecoderConfig:
    """Fields, named as in NetsPresso.

    Attributes:
        intermediate_channels: channels to which each feature map is projected.
        classifier_dropout_prob: dropout before the classifier.
    """

    intermediate_channels: int = 256
    classifier_dropout_prob: float = 0.0

    def __post_init__(self) -> None:
        values.count("intermediate_channels", self.intermediate_channels)
        values.rate("classifier_dropout_prob", self.classifier_dropout_prob)


class ALLMLPDecoder(nn.Module):
    """The segmentation head.

    Args:
        in_dims: channels of the feature maps.
        num_classes: number of logits per position.
        config: configuration.
    """

    def __init__(self, in_dims: Sequence[int], num_classes: int, config: ALLMLPDecoderConfig) -> None:
        super().__init__()
        self.config, dim = config, config.intermediate_channels
        self.linear_c = nn.ModuleList(ConvNormAct(in_dim, dim, kernel=1) for in_dim in in_dims)
        self.linear_fuse = ConvNormAct(len(in_dims) * dim, dim, kernel=1)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = nn.Conv2d(dim, num_classes, kernel_size=1)

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B num_classes H1 W1"]:
        size = (maps[0].shape[2], maps[0].shape[3])
        resized = [
            F.interpolate(linear(x), size=size, mode="bilinear", align_corners=False)  # (B, dim, H₁, W₁)
            for linear, x in zip(self.linear_c, maps, strict=True)
        ]
        fused = self.linear_fuse(torch.cat(resized[::-1], dim=1))  # the coarsest first, as in SegFormer
        return self.classifier(self.dropout(fused))
