"""Replacement modules for ablations: another stem, token mixer or normalization, or no attention bias.

Paper: section 3 and Appendix B. Each function changes a network in place before it is trained. The network is built
first and changed afterwards, so every remaining module has the same initial weights as without the change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu.latency.subjects_norms import ChannelNorm, group_norm, identity
from efficientformer_edu.model import MB3D, MB4D, EfficientFormer
from efficientformer_edu.model.mixers import Attention, Grid

Block = TypeVar("Block", MB3D, MB4D)


class PatchEmbedding(nn.Module):
    """Replacement for the stem: 4×4 patches and a batch norm, (B, in_channels, H, W) to (B, dim, H/4, W/4).

    Sizes that are not a multiple of 4 are padded at the end, so that the feature map is as large as the stem's.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, kernel_size=4, stride=4)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Float[Tensor, "B in_channels H W"]) -> Float[Tensor, "B dim H4 W4"]:
        right, bottom = -x.shape[3] % 4, -x.shape[2] % 4
        x = nn.functional.pad(x, (0, right, 0, bottom))
        return self.norm(self.proj(x))  # (B, dim, ⌈H/4⌉, ⌈W/4⌉)


class NoMixer(nn.Module):
    """No token mixing: the branch adds 0 at each position."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return torch.zeros_like(x)


class DepthwiseMixer(nn.Sequential):
    """A depthwise 3×3 convolution and a batch norm: a learned weighted sum per channel instead of the mean."""

    def __init__(self, dim: int) -> None:
        super().__init__(nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim), nn.BatchNorm2d(dim))


class UnbiasedAttention(Attention):
    """Attention without position information, with the weights of another attention module: Eq. 6 without b."""

    def __init__(self, attention: Attention) -> None:
        key_dim, _, value_dim = attention.head_parts
        dim, grid, drop = attention.qkv.in_features, attention.bias_grid, attention.drop.p
        super().__init__(dim, attention.num_heads, key_dim, value_dim, grid, drop)
        self.qkv, self.proj = attention.qkv, attention.proj
        del self.attention_biases

    def scores(
        self, q: Float[Tensor, "B heads N key"], k: Float[Tensor, "B heads N key"], grid: Grid
    ) -> Float[Tensor, "B heads N N"]:
        return q @ k.transpose(-2, -1) * self.scale

    def bias(self, grid: Grid) -> Float[Tensor, "heads 1 1"]:
        """The bias of the folded form: 0 for every pair of tokens."""
        return self.proj.weight.new_zeros(self.num_heads, 1, 1)


def patch_embedding(network: EfficientFormer) -> None:
    """Replace the stem's two 3×3 convolutions by 4×4 patches."""
    network.add_module("stem", PatchEmbedding(network.config.in_channels, network.config.embed_dims[0]))


def no_mixer(network: EfficientFormer) -> None:
    """Remove the pooling."""
    for block in _blocks(network, MB4D):
        block.add_module("token_mixer", NoMixer())


def depthwise_mixer(network: EfficientFormer) -> None:
    """Replace pooling by a depthwise convolution."""
    for block in _blocks(network, MB4D):
        block.add_module("token_mixer", DepthwiseMixer(block.mlp.fc2.out_channels))


def no_bias(network: EfficientFormer) -> None:
    """Remove the table of offset biases from the attention."""
    for block in _blocks(network, MB3D):
        block.token_mixer = UnbiasedAttention(block.token_mixer)


def group_norms(network: EfficientFormer) -> None:
    """Replace each batch norm by a group norm with one group."""
    _replace_norms(network, group_norm)


def channel_norms(network: EfficientFormer) -> None:
    """Replace each batch norm by a layer norm over the channels."""
    _replace_norms(network, ChannelNorm)


def no_norms(network: EfficientFormer) -> None:
    """Remove each batch norm. The layer norms on tokens are kept."""
    _replace_norms(network, identity)


def _blocks(network: EfficientFormer, kind: type[Block]) -> list[Block]:
    return [module for module in network.modules() if isinstance(module, kind)]


def _replace_norms(network: EfficientFormer, make: Callable[[int], nn.Module]) -> None:
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                module.add_module(name, make(child.num_features))
