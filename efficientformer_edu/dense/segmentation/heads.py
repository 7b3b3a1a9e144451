"""Segmentation heads: SemanticFPN, the paper's, and ALLMLPDecoder, SegFormer's.

Paper: section 5.2 and Table 2. Sources: Kirillov et al., *Panoptic Feature Pyramid Networks*, 2019, section 3,
implemented like mmsegmentation's `FPNHead`, which the released configurations use after an FPN of 256 channels; Xie et
al., *SegFormer*, 2021, section 3.2; NetsPresso Trainer's `AllMLPDecoder`.

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

from efficientformer_edu import _validation as values
from efficientformer_edu.dense.layers import ConvNormAct


@dataclass(frozen=True)
class SemanticFPNConfig:
    """Fields of mmsegmentation's head, named in the style of NetsPresso.

    Attributes:
        intermediate_channels: channels of the sum.
        classifier_dropout_prob: dropout of entire channels before the classifier.
    """

    intermediate_channels: int = 128
    classifier_dropout_prob: float = 0.1

    def __post_init__(self) -> None:
        values.positive_int("intermediate_channels", self.intermediate_channels)
        values.probability("classifier_dropout_prob", self.classifier_dropout_prob)


class SemanticFPN(nn.Module):
    """All feature maps of a pyramid are upsampled to the finest and summed. Arguments as for `ALLMLPDecoder`.

    Each feature map has half the height and width of the previous one, and the same width C. A map that is 2ᵏ times as
    coarse as the finest passes through k convolutions, and is upsampled by 2 after each; the finest passes through one.
    """

    def __init__(self, in_dims: Sequence[int], num_classes: int, config: SemanticFPNConfig) -> None:
        super().__init__()
        self.config, dim = config, config.intermediate_channels
        self.scale_heads = nn.ModuleList(
            nn.ModuleList(ConvNormAct(dim if k else in_dim, dim, kernel=3) for k in range(max(1, level)))
            for level, in_dim in enumerate(in_dims)
        )
        self.dropout = nn.Dropout2d(config.classifier_dropout_prob)
        self.classifier = nn.Conv2d(dim, num_classes, kernel_size=1)

    def forward(self, maps: Sequence[Float[Tensor, "B C _ _"]]) -> Float[Tensor, "B num_classes H1 W1"]:
        sizes = [(x.shape[2], x.shape[3]) for x in maps]
        enlarged = []
        for level, (convs, x) in enumerate(zip(self.scale_heads, maps, strict=True)):
            for k, conv in enumerate(convs.children(), start=1):
                x = conv(x)
                if level > 0:
                    x = F.interpolate(x, size=sizes[level - k], mode="bilinear", align_corners=False)
            enlarged.append(x)  # (B, dim, H₁, W₁)
        return self.classifier(self.dropout(sum(enlarged)))


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
        values.positive_int("intermediate_channels", self.intermediate_channels)
        values.probability("classifier_dropout_prob", self.classifier_dropout_prob)


class ALLMLPDecoder(nn.Module):
    """A layer for each feature map, and a layer that fuses all of them; a layer is a 1×1 convolution, norm and ReLU.

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
