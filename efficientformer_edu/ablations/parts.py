"""What stands in for a part of the network in an ablation: other stems, token mixers and norms.

Paper: section 3 and Appendix B. Each function changes a network in place, before it is trained.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu.latency.subjects_norms import ChannelNorm, group_norm, identity
from efficientformer_edu.model import MB4D, EfficientFormer
from efficientformer_edu.model.mixers import Attention, Pooling


class PatchEmbedding(nn.Sequential):
    """Non-overlapping 4×4 patches and a batch norm, (B, in_channels, H, W) to (B, dim, H/4, W/4), in place of the stem.

    A size that 4 does not divide is padded at the end, so that the map is as large as the stem's.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__(nn.Conv2d(in_channels, dim, kernel_size=4, stride=4), nn.BatchNorm2d(dim))

    def forward(self, x: Float[Tensor, "B in_channels H W"]) -> Float[Tensor, "B dim H4 W4"]:
        right, bottom = -x.shape[3] % 4, -x.shape[2] % 4
        return super().forward(nn.functional.pad(x, (0, right, 0, bottom)))


class NoMixer(nn.Module):
    """Mixes nothing: the branch adds 0 to each place."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return torch.zeros_like(x)


class DepthwiseMixer(nn.Sequential):
    """A depthwise 3×3 convolution and a batch norm: a learned neighbourhood for each channel in place of the mean."""

    def __init__(self, dim: int) -> None:
        super().__init__(nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim), nn.BatchNorm2d(dim))


def patch_embedding(network: EfficientFormer) -> None:
    """4×4 patches in place of the stem's two 3×3 convolutions."""
    network.stem = PatchEmbedding(network.config.in_channels, network.config.embed_dims[0])


def no_mixer(network: EfficientFormer) -> None:
    """Nothing in place of pooling."""
    _replace(network, Pooling, lambda block: NoMixer())


def depthwise_mixer(network: EfficientFormer) -> None:
    """A depthwise convolution in place of pooling."""
    _replace(network, Pooling, lambda block: DepthwiseMixer(block.mlp.fc2.out_channels))


def group_norms(network: EfficientFormer) -> None:
    """Group norm with one group in place of each batch norm."""
    _replace_norms(network, group_norm)


def channel_norms(network: EfficientFormer) -> None:
    """Layer norm over the channels in place of each batch norm."""
    _replace_norms(network, ChannelNorm)


def no_norms(network: EfficientFormer) -> None:
    """Nothing in place of each batch norm."""
    _replace_norms(network, identity)


def no_bias(network: EfficientFormer) -> None:
    """Attention that does not know where a token is: its table stays 0."""
    for module in network.modules():
        if isinstance(module, Attention):
            module.attention_biases.requires_grad_(False)


def _replace(network: EfficientFormer, mixer: type[nn.Module], make: Callable[[MB4D], nn.Module]) -> None:
    for block in network.modules():
        if isinstance(block, MB4D) and isinstance(block.token_mixer, mixer):
            block.token_mixer = make(block)


def _replace_norms(network: EfficientFormer, make: Callable[[int], nn.Module]) -> None:
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, make(child.num_features))
