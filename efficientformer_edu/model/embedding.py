"""The embedding between two stages: halves height and width and changes the number of channels.

Paper: section 4.1, "an Embedding between stages". Released code: `Embedding` in `models/efficientformer.py`.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class Embedding(nn.Module):
    """3×3 convolution with stride 2 and batch norm, without activation. Odd sizes are rounded up."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, kernel_size=3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Float[Tensor, "B in_dim H W"]) -> Float[Tensor, "B dim H2 W2"]:
        return self.norm(self.conv(x))  # (B, C_{j+1}, ⌈H/2⌉, ⌈W/2⌉)
