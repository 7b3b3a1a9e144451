"""The backbone for dense tasks: four feature maps, each with its own norm.

Paper: section 5.2. Released code: `detection/backbone.py` and `segmentation/backbone.py`, which apply a GroupNorm with
one group to each of the four outputs; the classification network has none of them, but a LayerNorm before its mean.

Why: the residual stream inside the network is not normalized, so the four feature maps have different scales. The
classifier's norm normalizes the last one; necks and heads use all four.

Input: images (B, in_channels, H, W). Output: feature maps (B, C_j, ⌈H/2^(j+1)⌉, ⌈W/2^(j+1)⌉) for j = 1 to 4.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model.backbone import Backbone

STRIDES = (4, 8, 16, 32)  # of the four feature maps, if every stage except the first downsamples


class DenseBackbone(Backbone):
    """Four feature maps for a neck or a head.

    The weights of a classification network fit: `load_state_dict(load(path, head=False), strict=False)`. The norms of
    the outputs are then new, with scale 1 and shift 0. The norm before the classifier's mean remains a parameter, as in
    the released backbones, but is not used; nor is the norm of a feature map that the neck does not use.

    Args:
        config: network configuration; fields of the classification heads are ignored.
        norms: whether each output has a norm; without it the outputs are those of `features`.
    """

    def __init__(self, config: EfficientFormerConfig, norms: bool = True) -> None:
        super().__init__(config)
        self.norms = nn.ModuleList(nn.GroupNorm(1, dim) if norms else nn.Identity() for dim in config.embed_dims)

    def forward(self, images: Float[Tensor, "B in_channels H W"]) -> list[Tensor]:
        """The four feature maps, the finest first. Raises ValueError as `EfficientFormer` does."""
        return [norm(x) for norm, x in zip(self.norms, self.features(images), strict=True)]
