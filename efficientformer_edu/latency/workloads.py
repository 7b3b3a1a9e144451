"""The workloads of the four observations: small networks of standard modules, each with its input.

Paper: section 3. A feature map is (B, C, H, W), tokens are (B, N, C) with N = H·W. All weights are random, because
latency does not depend on them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from efficientformer_edu.audit import deit
from efficientformer_edu.audit.counters import run
from efficientformer_edu.config import PRESETS
from efficientformer_edu.model import ConvMlp, EfficientFormer, Mlp, Pooling, Stem
from efficientformer_edu.model.mixers import Grid

DEPTH = 4  # equal layers in sequence, so that most reshapes run between two of them
HEAD_DIM = 32  # channels per head, the key dimension of every published EfficientFormer

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU,
    "GELU": nn.GELU,  # x·Φ(x), with the error function
    "GELU-tanh": lambda: nn.GELU(approximate="tanh"),  # its approximation
    "HardSwish": nn.Hardswish,
    "SiLU": nn.SiLU,
}


@dataclass(frozen=True)
class Workload:
    """A network in evaluation mode and its input; a call runs it once.

    Attributes:
        network: any module.
        inputs: its input, with a batch size of one.
    """

    network: nn.Module
    inputs: Tensor

    def __call__(self) -> Tensor:
        return self.network(self.inputs)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one call: convolutions and matrix products, from torch's FLOP counter."""
        return run("flop_counter", self.network, self.inputs).macs // 2  # it counts 2 operations per MAC

    def to(self, device: str) -> Workload:
        """Move the network, in place as `nn.Module.to` does, and return it with its input on the device."""
        return replace(self, network=self.network.to(device), inputs=self.inputs.to(device))


def with_inputs(networks: Mapping[str, nn.Module], *shape: int) -> dict[str, Workload]:
    """A workload per network, all with the same random input of this shape."""
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return {name: Workload(network.eval(), inputs) for name, network in networks.items()}


# Observation 1: stems and patch embeddings


def patch_embedding(dim: int, kernel: int, stride: int) -> nn.Conv2d:
    """A convolution from an image (B, 3, H, W) to patches (B, dim, H/stride, W/stride); PoolFormer's overlap."""
    return nn.Conv2d(3, dim, kernel, stride, padding=(kernel - stride + 1) // 2)


class ConvStem(nn.Sequential):
    """3×3 convolutions of stride 2, each with batch norm and ReLU: (B, 3, H, W) to (B, dim, H/2ⁿ, W/2ⁿ).

    Args:
        widths: channels after each of the n convolutions; the last is `dim`.
    """

    def __init__(self, *widths: int) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise((3, *widths)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        super().__init__(*layers)


def fold_batch_norms(network: nn.Sequential) -> nn.Sequential:
    """The same function without batch norm: each norm is folded into the convolution directly before it."""
    layers: list[nn.Module] = []
    for layer in network.eval():
        if isinstance(layer, nn.BatchNorm2d) and isinstance(layers[-1], nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


def stride4_stems(resolution: int = 224) -> dict[str, Workload]:
    """From an image to L1's first feature map, (1, 3, 224, 224) to (1, 48, 56, 56)."""
    dim = PRESETS["l1"].embed_dims[0]
    networks = {
        "3×3 stem": fold_batch_norms(nn.Sequential(*Stem(3, dim // 2, dim, "relu").children())),
        "3×3 stem, norms apart": Stem(3, dim // 2, dim, "relu"),
        "4×4/4 patches": patch_embedding(dim, kernel=4, stride=4),
        "7×7/4 patches": patch_embedding(dim, kernel=7, stride=4),  # PoolFormer's
    }
    return with_inputs(networks, 1, 3, resolution, resolution)


def stride16_stems(resolution: int = 224) -> dict[str, Workload]:
    """From an image to DeiT-S's patches, (1, 3, 224, 224) to (1, 384, 14, 14)."""
    dim = deit.WIDTH
    widths = (dim // 8, dim // 4, dim // 2, dim)  # doubled when height and width are halved, as in LeViT's stem
    networks = {
        "3×3 stem": fold_batch_norms(ConvStem(*widths)),
        "3×3 stem, norms apart": ConvStem(*widths),
        "16×16/16 patches": patch_embedding(dim, kernel=deit.PATCH, stride=deit.PATCH),  # DeiT's
    }
    return with_inputs(networks, 1, 3, resolution, resolution)


# Observation 2: token mixers, with and without reshapes


class TokenAttention(nn.Module):
    """Multi-head self-attention on tokens, (B, N, C) to (B, N, C); C is a multiple of the channels per head."""

    def __init__(self, dim: int, head_dim: int = HEAD_DIM) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        qkv = self.qkv(x).chunk(3, dim=-1)  # 3 × (B, N, C)
        q, k, v = (tokens.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for tokens in qkv)  # 3 × (B, heads, N, d)
        mixed = (q @ k.transpose(-2, -1) * self.head_dim**-0.5).softmax(-1) @ v  # (B, heads, N, d)
        return self.proj(mixed.transpose(1, 2).flatten(2))  # (B, N, C)


class OnMaps(nn.Module):
    """Apply a token mixer to a feature map, (B, C, H, W) to (B, C, H, W), with two reshapes that each copy.

    Args:
        mixer: maps tokens (B, N, C) to tokens (B, N, C).
    """

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        tokens = x.flatten(2).transpose(1, 2).contiguous()  # (B, N, C)
        return self.mixer(tokens).transpose(1, 2).contiguous().unflatten(2, x.shape[2:])  # (B, C, H, W)


def token_mixers(dim: int, grid: Grid) -> dict[str, Workload]:
    """Four mixers in sequence, and the layers they are compared with, at one width and grid.

    Both attention workloads have the same weights and compute the same function.
    """
    attentions = [TokenAttention(dim) for _ in range(DEPTH)]
    on_maps = {
        "pooling": nn.Sequential(*(Pooling() for _ in range(DEPTH))),
        "attention on maps": nn.Sequential(*(OnMaps(attention) for attention in attentions)),
        "reshapes alone": nn.Sequential(*(OnMaps(nn.Identity()) for _ in range(DEPTH))),
    }
    on_tokens = {
        "attention on tokens": nn.Sequential(*attentions),
        "MLP on tokens": nn.Sequential(*(Mlp(dim, 4 * dim, "gelu", drop=0.0) for _ in range(DEPTH))),
    }
    maps = with_inputs(on_maps, 1, dim, *grid)
    tokens = maps["pooling"].inputs.flatten(2).transpose(1, 2).contiguous()  # (1, N, dim), the same values
    return maps | {name: Workload(network.eval(), tokens) for name, network in on_tokens.items()}


# Observation 3: normalization layers, next to convolutions and linear layers and inside networks


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels at each position of a feature map, (B, C, H, W) to (B, C, H, W)."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def conv_norm(dim: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """1×1 convolutions on a feature map (B, dim, H, W), each followed by a norm. Batch norms have random statistics."""
    layers = nn.Sequential()
    for _ in range(DEPTH):
        layers += nn.Sequential(nn.Conv2d(dim, dim, kernel_size=1), norm(dim))
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = 0.1 * torch.randn(dim)
            layer.running_var = 0.5 + torch.rand(dim)
    return layers


def linear_norm(dim: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """Linear layers on tokens (B, N, dim), each preceded by a norm, as in a transformer."""
    return nn.Sequential(*(layer for _ in range(DEPTH) for layer in (norm(dim), nn.Linear(dim, dim))))


def group_norm(dim: int) -> nn.GroupNorm:
    """Group norm with one group, over all channels and positions, as in PoolFormer."""
    return nn.GroupNorm(1, dim)


def identity(_: int) -> nn.Identity:
    """No norm."""
    return nn.Identity()


def norm_layers(dim: int, grid: Grid) -> dict[str, Workload]:
    """Pairs of a layer and a norm in sequence, on a feature map (1, dim, H, W) or its tokens (1, H·W, dim)."""
    conv_bn = conv_norm(dim, nn.BatchNorm2d)
    on_maps = {
        "Conv-BN, folded": fold_batch_norms(conv_bn),
        "Conv-BN": conv_bn,
        "Conv-LN": conv_norm(dim, ChannelNorm),
        "Conv-GN": conv_norm(dim, group_norm),
    }
    on_tokens = {"LN-Linear": linear_norm(dim, nn.LayerNorm), "Linear alone": linear_norm(dim, identity)}
    return with_inputs(on_maps, 1, dim, *grid) | with_inputs(on_tokens, 1, grid[0] * grid[1], dim)


class DeiTBlock(nn.Module):
    """A transformer block on tokens (B, N, dim): attention, then an MLP, each after a norm and with a residual."""

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(dim), TokenAttention(dim, head_dim)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim, 4 * dim, "gelu", drop=0.0)

    def forward(self, x: Float[Tensor, "B N dim"]) -> Float[Tensor, "B N dim"]:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class DeiT(nn.Module):
    """DeiT-S, (B, 3, 224, 224) to (B, 1000): patches, a class token, 12 blocks, a norm, a head."""

    def __init__(self, dim: int = deit.WIDTH, depth: int = deit.DEPTH, head_dim: int = 64) -> None:
        super().__init__()
        self.patch_embed = patch_embedding(dim, deit.PATCH, deit.PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, deit.PATCHES + 1, dim))
        self.blocks = nn.Sequential(*(DeiTBlock(dim, head_dim) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, deit.CLASSES)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B classes"]:
        tokens = self.patch_embed(images).flatten(2).transpose(1, 2)  # (B, N, dim)
        tokens = (
            torch.cat((self.cls_token.expand(len(tokens), -1, -1), tokens), dim=1) + self.pos_embed
        )  # (B, N+1, dim)
        return self.head(self.norm(self.blocks(tokens))[:, 0])  # (B, classes)


def without_norms(network: nn.Module) -> nn.Module:
    """A copy in which every batch norm and layer norm is the identity, to measure the cost of everything else."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.LayerNorm):
                setattr(module, name, nn.Identity())
    return network


def networks_with_norms() -> dict[str, Workload]:
    """L1 and DeiT-S on an image (1, 3, 224, 224), each with and without norms."""
    networks = {"L1": EfficientFormer(PRESETS["l1"]), "DeiT-S": DeiT()}
    pairs = {
        name: {name: network, f"{name} without norms": without_norms(network)} for name, network in networks.items()
    }
    return with_inputs(pairs["L1"] | pairs["DeiT-S"], 1, 3, deit.IMAGE, deit.IMAGE)


# Observation 4: activations, alone and inside a network


def activations() -> dict[str, Workload]:
    """Each activation alone, on the hidden feature map of L1's first block, (1, 192, 56, 56)."""
    config = PRESETS["l1"]
    layers = {name: activation() for name, activation in ACTIVATIONS.items()}
    return with_inputs(layers, 1, config.hidden_dim(0), *config.grids(deit.IMAGE)[0])


def networks_with_activations() -> dict[str, Workload]:
    """L1 on an image (1, 3, 224, 224) with each activation in its blocks; the stem keeps its ReLU."""
    l1 = EfficientFormer(PRESETS["l1"])
    networks = {name: with_activation(l1, activation) for name, activation in ACTIVATIONS.items()}
    return with_inputs(networks, 1, 3, deit.IMAGE, deit.IMAGE)


def with_activation(network: EfficientFormer, activation: Callable[[], nn.Module]) -> EfficientFormer:
    """A copy with the same weights and a different activation in the blocks' MLPs."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, ConvMlp | Mlp):
            module.act = activation()
    return network
