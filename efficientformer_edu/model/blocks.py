"""The two blocks, called MetaBlocks: MB4D on feature maps and MB3D on tokens.

4D is a feature map (B, C, H, W), 3D is a sequence of tokens (B, N, C) with N = H·W. Paper: section 4.1, Eq. 4 and 5.
Released code: `Meta4D` and `Meta3D` in `models/efficientformer.py`. Both multiply each branch by a layer scale γ, one
factor per channel initialized to 1e-5, so a new block is almost the identity. Instead of Pool(x) + x in Eq. 4, MB4D
computes x + γ₁ ⊙ (Pool(x) − x).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model.mixers import Attention, Grid, Pooling
from efficientformer_edu.model.mlp import ConvMlp, Mlp


class LayerScale(nn.Module):
    """γ ⊙ x, one learned factor per channel. On a feature map γ is broadcast over height and width."""

    def __init__(self, dim: int, init: float, on_map: bool) -> None:
        super().__init__()
        self.shape = (dim, 1, 1) if on_map else (dim,)
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.view(self.shape)

    def extra_repr(self) -> str:
        return f"{self.gamma.numel()} channels"


class DropPath(nn.Module):
    """Stochastic depth: in training, the branch is dropped per sample with probability `rate`, else scaled up."""

    def __init__(self, rate: float, on_map: bool) -> None:
        super().__init__()
        self.rate = rate
        self.shape = (-1, 1, 1, 1) if on_map else (-1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = F.dropout(x.new_ones(x.shape[0]), self.rate)  # (B,), each 0 or 1 / (1 − rate)
        return x * keep.view(self.shape)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.4g}"


class MB4D(nn.Module):
    """A block on feature maps, Eq. 4: pooling mixes neighbours, 1×1 convolutions mix channels.

    Neither branch starts with a norm. Batch norms follow the convolutions and are folded into them at inference.

    Args:
        config: the network's configuration.
        stage: 0, 1, 2 or 3; it determines the width.
        drop_path: stochastic depth of this block.
    """

    def __init__(self, config: EfficientFormerConfig, stage: int, drop_path: float) -> None:
        super().__init__()
        dim = config.embed_dims[stage]
        self.token_mixer = Pooling(config.pool_size)
        self.layer_scale_1 = layer_scale(config, dim, on_map=True)
        self.mlp = ConvMlp(dim, config.hidden_dim(stage), config.act, config.proj_drop_rate)
        self.layer_scale_2 = layer_scale(config, dim, on_map=True)
        self.drop_path = DropPath(drop_path, on_map=True)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        x = x + self.drop_path(self.layer_scale_1(self.token_mixer(x)))  # I = x + γ₁ ⊙ (Pool(x) − x)
        return x + self.drop_path(self.layer_scale_2(self.mlp(x)))  # I + γ₂ ⊙ Conv_B(Conv_{B,G}(I))


class MB3D(nn.Module):
    """A block on tokens, Eq. 5: attention mixes all tokens, linear layers mix channels. Arguments as for `MB4D`."""

    def __init__(self, config: EfficientFormerConfig, stage: int, drop_path: float) -> None:
        super().__init__()
        dim = config.embed_dims[stage]
        self.norm1 = nn.LayerNorm(dim)
        self.token_mixer = Attention(
            dim, config.num_heads, config.key_dim, config.value_dim, config.bias_grid, config.attn_drop_rate
        )
        self.layer_scale_1 = layer_scale(config, dim, on_map=False)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, config.hidden_dim(stage), config.act, config.proj_drop_rate)
        self.layer_scale_2 = layer_scale(config, dim, on_map=False)
        self.drop_path = DropPath(drop_path, on_map=False)

    def forward(self, x: Float[Tensor, "B N C"], grid: Grid) -> Float[Tensor, "B N C"]:
        x = x + self.drop_path(self.layer_scale_1(self.token_mixer(self.norm1(x), grid)))  # I = x + γ₁ ⊙ MHSA(LN(x))
        return x + self.drop_path(self.layer_scale_2(self.mlp(self.norm2(x))))  # I + γ₂ ⊙ MLP(LN(I))


def layer_scale(config: EfficientFormerConfig, dim: int, on_map: bool) -> nn.Module:
    """The layer scale of the configuration; the identity if there is none."""
    if config.layer_scale_init is None:
        return nn.Identity()
    return LayerScale(dim, config.layer_scale_init, on_map)
