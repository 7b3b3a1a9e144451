"""The layers that reduce the resolution: the stem, and the embedding between two stages.

Paper: section 4.1, X₁ ∈ R^{B×C₁×H/4×W/4} from two 3×3 convolutions of stride 2, "an Embedding between stages", and
observation 1: a patch embedding with a large kernel and stride is slow on mobile devices. Released code: `stem()` and
`Embedding` in `models/efficientformer.py`. The paper does not name the stem's activation; the released code uses ReLU
here and GELU everywhere else.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu.model.mlp import activation


class Stem(nn.Module):
    """Twice: 3×3 convolution with stride 2, batch norm, activation. The feature map has a quarter of the image's size.

    Args:
        in_channels: channels of the image.
        width: channels between the two convolutions, half of `dim` in every published network.
        dim: channels C₁ of the first stage.
        act: name of the activation.
    """

    def __init__(self, in_channels: int, width: int, dim: int, act: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=3, stride=2, padding=1)
        self.norm1 = nn.BatchNorm2d(width)
        self.act1 = activation(act)
        self.conv2 = nn.Conv2d(width, dim, kernel_size=3, stride=2, padding=1)
        self.norm2 = nn.BatchNorm2d(dim)
        self.act2 = activation(act)

    def forward(self, x: Float[Tensor, "B in_channels H W"]) -> Float[Tensor, "B dim H4 W4"]:
        x = self.act1(self.norm1(self.conv1(x)))  # (B, C₁/2, ⌈H/2⌉, ⌈W/2⌉)
        return self.act2(self.norm2(self.conv2(x)))  # (B, C₁, ⌈H/4⌉, ⌈W/4⌉)


class Embedding(nn.Module):
    """3×3 convolution with stride 2 and batch norm, without activation. Odd sizes are rounded up."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, kernel_size=3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Float[Tensor, "B in_dim H W"]) -> Float[Tensor, "B dim H2 W2"]:
        return self.norm(self.conv(x))  # (B, C_{j+1}, ⌈H/2⌉, ⌈W/2⌉)
