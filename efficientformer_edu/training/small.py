"""A small EfficientFormer for small images, and the minimum size of an image.

The published networks end in a feature map of 1/32 of the image size. At 32 pixels this is a single token: its softmax
is always 1, so attention, its bias and any comparison of token mixers are meaningless. Small networks therefore keep a
grid of at least 4×4 tokens in the last stage: this one downsamples once between its stages instead of three times.
"""

from __future__ import annotations

from itertools import count

from efficientformer_edu.config import SMALLEST_INPUT, EfficientFormerConfig

LEAST_GRID = 4  # tokens along each side of the last stage

SMALL = EfficientFormerConfig(
    depths=(1, 1, 1, 1),
    embed_dims=(16, 64, 64, 64),
    downsamples=(False, True, False, False),
    num_vit=1,
    num_classes=10,
    in_channels=1,
    num_heads=4,
    key_dim=16,
    attn_ratio=2.0,
    bias_grid=(4, 4),
    layer_scale_init=0.1,
)
"""For images of 32×32 pixels, such as padded Fashion-MNIST: 8×8 positions in the first stage, then 4×4."""


def smallest_size(config: EfficientFormerConfig) -> int:
    """The smallest image size, a multiple of 32, with a grid of at least 4×4 tokens in the last stage."""
    return next(size for size in count(SMALLEST_INPUT, SMALLEST_INPUT) if config.grids(size)[-1][0] >= LEAST_GRID)
