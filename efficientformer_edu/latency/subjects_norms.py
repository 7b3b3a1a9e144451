"""The subjects of observations 3 and 4: norms and activations, alone and inside networks.

Paper: section 3. Each norm is paired with a convolution or linear layer of the same width, because the observation
compares the pairs CONV-BN and LN (GN)-Linear. The networks are L1 and DeiT-S, each with and without norms.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu.audit import deit
from efficientformer_edu.config import PRESETS
from efficientformer_edu.latency.subjects import BLOCKS, Subject, TokenAttention, folded, patch_embedding, subjects
from efficientformer_edu.model import ConvMlp, EfficientFormer, Mlp
from efficientformer_edu.model.mixers import Grid

# Observation 3


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels at each position of a feature map, (B, C, H, W) to (B, C, H, W)."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def conv_norm(dim: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """1×1 convolutions on a feature map (B, dim, H, W), each followed by a norm. Batch norms have random statistics."""
    layers = nn.Sequential()
    for _ in range(BLOCKS):
        layers += nn.Sequential(nn.Conv2d(dim, dim, kernel_size=1), norm(dim))
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = 0.1 * torch.randn(dim)
            layer.running_var = 0.5 + torch.rand(dim)
    return layers


def linear_norm(dim: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """Linear layers on tokens (B, N, dim), each preceded by a norm, as in a transformer."""
    return nn.Sequential(*(layer for _ in range(BLOCKS) for layer in (norm(dim), nn.Linear(dim, dim))))


def group_norm(dim: int) -> nn.GroupNorm:
    """Group norm with one group, over all channels and positions, as in PoolFormer."""
    return nn.GroupNorm(1, dim)


def identity(_: int) -> nn.Identity:
    """No norm."""
    return nn.Identity()


def norms(dim: int, grid: Grid) -> dict[str, Subject]:
    """Four pairs of a layer and a norm in sequence, on a feature map (1, dim, H, W) or its tokens (1, H·W, dim)."""
    height, width = grid
    conv_bn = conv_norm(dim, nn.BatchNorm2d)
    on_maps = {
        "Conv-BN, folded": folded(conv_bn),
        "Conv-BN": conv_bn,
        "Conv-LN": conv_norm(dim, ChannelNorm),
        "Conv-GN": conv_norm(dim, group_norm),
    }
    on_tokens = {"LN-Linear": linear_norm(dim, nn.LayerNorm), "Linear alone": linear_norm(dim, identity)}
    return subjects(on_maps, 1, dim, height, width) | subjects(on_tokens, 1, height * width, dim)


class Block(nn.Module):
    """A transformer block on tokens (B, N, dim): attention, then an MLP, each after a norm and with a residual."""

    def __init__(self, dim: int, head: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(dim), TokenAttention(dim, head)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim, 4 * dim, "gelu", drop=0.0)

    def forward(self, x: Float[Tensor, "B N dim"]) -> Float[Tensor, "B N dim"]:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """DeiT-S in PyTorch, (B, 3, 224, 224) to (B, 1000): patches, a class token, 12 blocks, a norm, a head.

    The weights are random, so only its latency corresponds to DeiT-S.
    """

    def __init__(self, dim: int = deit.WIDTH, depth: int = deit.DEPTH, head: int = 64) -> None:
        super().__init__()
        self.patches = patch_embedding(dim, deit.PATCH, deit.PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.places = nn.Parameter(torch.zeros(1, deit.PATCHES + 1, dim))
        self.blocks = nn.Sequential(*(Block(dim, head) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.classes = nn.Linear(dim, deit.CLASSES)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B classes"]:
        tokens = self.patches(images).flatten(2).transpose(1, 2)  # (B, N, dim)
        tokens = torch.cat((self.token.expand(len(tokens), -1, -1), tokens), dim=1) + self.places  # (B, N + 1, dim)
        return self.classes(self.norm(self.blocks(tokens))[:, 0])  # (B, classes)


def without_norms(network: nn.Module) -> nn.Module:
    """A copy in which every batch norm and layer norm is the identity, to measure the cost of everything else."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.LayerNorm):
                setattr(module, name, nn.Identity())
    return network


def networks_and_norms() -> dict[str, Subject]:
    """L1 and DeiT-S on an image (1, 3, 224, 224), each with and without norms."""
    l1, transformer = EfficientFormer(PRESETS["l1"]), Transformer()
    networks = {
        "L1": l1,
        "L1 without norms": without_norms(l1),
        "DeiT-S": transformer,
        "DeiT-S without norms": without_norms(transformer),
    }
    return subjects(networks, 1, 3, deit.IMAGE, deit.IMAGE)


# Observation 4

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU,
    "GELU": nn.GELU,  # x·Φ(x), with the error function
    "GELU-tanh": lambda: nn.GELU(approximate="tanh"),  # its approximation
    "HardSwish": nn.Hardswish,
    "SiLU": nn.SiLU,
}


def activations() -> dict[str, Subject]:
    """Each activation alone, on the hidden feature map of L1's first block, (1, 192, 56, 56)."""
    config = PRESETS["l1"]
    height, width = config.grids(deit.IMAGE)[0]
    return subjects({name: make() for name, make in ACTIVATIONS.items()}, 1, config.hidden_dim(0), height, width)


def networks_and_activations() -> dict[str, Subject]:
    """L1 on an image (1, 3, 224, 224) with each activation in its blocks; the stem keeps its ReLU."""
    l1 = EfficientFormer(PRESETS["l1"])
    return subjects(
        {name: with_activation(l1, make) for name, make in ACTIVATIONS.items()}, 1, 3, deit.IMAGE, deit.IMAGE
    )


def with_activation(network: EfficientFormer, make: Callable[[], nn.Module]) -> EfficientFormer:
    """A copy with the same weights and a different activation in the blocks' MLPs."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, ConvMlp | Mlp):
            module.act = make()
    return network
