"""The two token mixers: pooling on feature maps, multi-head self-attention on tokens.

Paper: section 4.1. Pool of Eq. 4 is the token mixer of an MB4D; MHSA of Eq. 5 and Eq. 6 that of an MB3D. Released
code: `Pooling` and `Attention` in `models/efficientformer.py`. It differs from the paper in two points, and this module
follows it: pooling returns Pool(x) − x, to which MB4D adds x again, and scores are divided by √key_dim, not √C.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu.model.mlp import init_linear

Grid = tuple[int, int]


class Pooling(nn.Module):
    """Pool(x) − x: the mean over a neighbourhood minus the value at each position. No parameters.

    At the border the mean excludes the padding (`count_include_pad=False`).
    """

    def __init__(self, pool_size: int = 3) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(pool_size, stride=1, padding=pool_size // 2, count_include_pad=False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return self.pool(x) - x  # (B, C, H, W)


class Attention(nn.Module):
    """Multi-head self-attention with a learned bias per offset between two tokens, Eq. 6.

    Softmax(Q·Kᵀ / √key_dim + b)·V, where b has one value per head and offset (|Δy|, |Δx|) on the grid that the network
    is trained for. The bias is the only position information in an MB3D.

    Args:
        dim: channels C of a token.
        num_heads: number of heads.
        key_dim: channels of one head's query and key.
        value_dim: channels of one head's value.
        bias_grid: height and width of the token grid for which the table of offsets is trained.
        drop: dropout of the attention probabilities.
    """

    def __init__(self, dim: int, num_heads: int, key_dim: int, value_dim: int, bias_grid: Grid, drop: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_parts = [key_dim, key_dim, value_dim]
        self.scale = key_dim**-0.5
        self.bias_grid = bias_grid
        self.qkv = nn.Linear(dim, num_heads * sum(self.head_parts))
        self.softmax = nn.Softmax(dim=-1)
        self.drop = nn.Dropout(drop)
        self.proj = nn.Linear(num_heads * value_dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, bias_grid[0] * bias_grid[1]))
        for linear in (self.qkv, self.proj):
            init_linear(linear)

    def forward(self, x: Float[Tensor, "B N C"], grid: Grid) -> Float[Tensor, "B N C"]:
        heads = self.qkv(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, N, 32 + 32 + 128)
        q, k, v = heads.split(self.head_parts, dim=-1)  # (B, heads, N, 32), the same, (B, heads, N, 128)
        mixed = self.drop(self.softmax(self.scores(q, k, grid))) @ v  # (B, heads, N, 128)
        return self.proj(mixed.transpose(1, 2).flatten(2))  # (B, N, C)

    def scores(
        self, q: Float[Tensor, "B heads N key"], k: Float[Tensor, "B heads N key"], grid: Grid
    ) -> Float[Tensor, "B heads N N"]:
        """Q·Kᵀ / √key_dim + b of Eq. 6, before the softmax."""
        return q @ k.transpose(-2, -1) * self.scale + self.bias(grid)  # (B, heads, N, N)

    def bias(self, grid: Grid) -> Float[Tensor, "heads N N"]:
        """b of Eq. 6 for tokens on this grid."""
        return offset_bias(self.attention_biases, self.bias_grid, grid)


@torch.fx.wrap  # a leaf for torch.fx, which cannot trace the condition below
def offset_bias(table: Float[Tensor, "heads offsets"], bias_grid: Grid, grid: Grid) -> Float[Tensor, "heads N N"]:
    """The bias between each pair of tokens, looked up in the table of offsets.

    If the grid differs from the trained one, the table is first resized as a 2-D table, bilinearly with aligned
    corners: the biases of the zero offset and of the largest offset do not change. On the trained grid the table is
    used directly.

    Args:
        table: one value per head and offset; the offsets (|Δy|, |Δx|) are in row-major order.
        bias_grid: height and width of the grid of the table.
        grid: height and width h, w of the token grid; N = h·w.

    Returns:
        (heads, N, N); the entry [:, i, j] belongs to query i and key j.
    """
    if tuple(grid) != tuple(bias_grid):
        maps = table.unflatten(1, bias_grid)[None]  # (1, heads, h₀, w₀)
        table = F.interpolate(maps, size=grid, mode="bilinear", align_corners=True)[0].flatten(1)  # (heads, h·w)
    return table[:, offset_index(grid, table.device)]  # (heads, N, N)


def offset_index(grid: Grid, device: torch.device | None = None) -> Int[Tensor, "N N"]:
    """Index of the bias of each pair of tokens in the table of offsets: |Δy|·w + |Δx|."""
    height, width = grid
    y = torch.arange(height, device=device).repeat_interleave(width)  # (N,), row of each token
    x = torch.arange(width, device=device).repeat(height)  # (N,), column of each token
    return (y[:, None] - y).abs() * width + (x[:, None] - x).abs()  # (N, N)
