"""The backbone for dense tasks: four maps, each with a norm of its own.

Paper: section 5.2. Released code: `detection/backbone.py` and `segmentation/backbone.py`, which put a GroupNorm of one
group on each of the four outputs; the classification network has none of them, and a LayerNorm before its mean instead.

Why: nothing inside the network norms what runs along its residual connections, so the four maps differ in size by
whatever the blocks have added. The classifier's norm takes care of the last one; necks and heads read all four.

Comes: images (B, in_channels, H, W). Goes: maps (B, C_j, ⌈H/2^(j+1)⌉, ⌈W/2^(j+1)⌉) for j = 1 to 4.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model.backbone import Backbone

STRIDES = (4, 8, 16, 32)  # of the four maps, where every stage but the first downsamples


class DenseBackbone(Backbone):
    """Four maps for a neck or a head.

    The weights of a classification network fit: `load_state_dict(load(path, head=False), strict=False)`. The norms of
    the outputs are new then, and start as plain norms. The norm before the classifier's mean stays among the
    parameters, as in the released backbones, and is not used; nor is the norm of a map that the neck leaves out.

    Args:
        config: the network's shape; what belongs to its heads says nothing here.
        norms: whether each output has a norm; without it the maps are those of `features`.
    """

    def __init__(self, config: EfficientFormerConfig, norms: bool = True) -> None:
        super().__init__(config)
        self.norms = nn.ModuleList(nn.GroupNorm(1, dim) if norms else nn.Identity() for dim in config.embed_dims)

    def forward(self, images: Float[Tensor, "B in_channels H W"]) -> list[Tensor]:
        """The four maps, the finest first. Raises ValueError as `EfficientFormer` does."""
        return [norm(x) for norm, x in zip(self.norms, self.features(images), strict=True)]
