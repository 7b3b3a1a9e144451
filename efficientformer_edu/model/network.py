"""The network: stem and stages of `backbone`, and two heads.

Paper: section 4.1, and for the second head, which learns from a teacher, section 5.1. Released code: `EfficientFormer`
in `models/efficientformer.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model.backbone import Backbone
from efficientformer_edu.model.mlp import init_linear


class Heads(NamedTuple):
    """The logits of both heads; `dist` is None in a network with one head."""

    cls: Float[Tensor, "B num_classes"]
    dist: Float[Tensor, "B num_classes"] | None


class EfficientFormer(Backbone):
    """EfficientFormer for any input size from 32×32, square or not.

    Args:
        config: the network's configuration; the default is L1.

    Attributes:
        class_names: names of the classes by label if known; they are stored with the weights.
    """

    class_names: tuple[str, ...] | None = None

    def __init__(self, config: EfficientFormerConfig | None = None) -> None:
        config = config or EfficientFormerConfig()
        super().__init__(config)
        self.head_drop = nn.Dropout(config.drop_rate)
        self.head = nn.Linear(config.embed_dims[-1], config.num_classes)
        self.head_dist = nn.Linear(config.embed_dims[-1], config.num_classes) if config.distillation else None
        for head in filter(None, (self.head, self.head_dist)):
            init_linear(head)

    def forward(self, images: Float[Tensor, "B in_channels H W"]) -> Float[Tensor, "B num_classes"]:
        """Logits: the mean of both heads, in training and in evaluation.

        Raises:
            ValueError: if the images are not a float tensor (B, in_channels, H, W) with H and W at least 32.
        """
        heads = self.forward_heads(images)
        return heads.cls if heads.dist is None else (heads.cls + heads.dist) / 2

    def forward_heads(self, images: Float[Tensor, "B in_channels H W"]) -> Heads:
        """The logits of each head, (B, num_classes): `cls` learns from labels, `dist` from a teacher."""
        (pooled,) = self.extract_feat(images)
        pooled = self.head_drop(pooled)
        return Heads(self.head(pooled), None if self.head_dist is None else self.head_dist(pooled))
