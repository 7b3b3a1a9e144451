"""Dense networks small enough to run, modules with weights that can be computed by hand, and all pairs of modules."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.dense import (
    ALLMLPDecoderConfig,
    AnchorDecoupledHeadConfig,
    AnchorFreeDecoupledHeadConfig,
    DenseConfig,
    DenseNetwork,
    FCConfig,
    FPNConfig,
    SemanticFPNConfig,
    YOLOPAFPNConfig,
)
from efficientformer_edu.dense.network import MATRIX, NO_NECK

Module = TypeVar("Module", bound=nn.Module)

SMALL = EfficientFormerConfig(depths=(1, 1, 1, 1), embed_dims=(16, 32, 48, 64), num_heads=2, key_dim=4, bias_grid=2)

NECKS = {NO_NECK: None, "fpn": FPNConfig(), "yolopafpn": YOLOPAFPNConfig()}
HEADS = {
    "fc": FCConfig(),
    "all_mlp_decoder": ALLMLPDecoderConfig(intermediate_channels=8),
    "semantic_fpn": SemanticFPNConfig(intermediate_channels=8),
    "anchor_decoupled_head": AnchorDecoupledHeadConfig(),
    "anchor_free_decoupled_head": AnchorFreeDecoupledHeadConfig(),
}
ALLOWED = [pair for pair, reason in MATRIX.items() if not reason]
REFUSED = [pair for pair, reason in MATRIX.items() if reason]


def dense_config(pair: tuple[str, str], backbone: EfficientFormerConfig = SMALL, num_classes: int = 3) -> DenseConfig:
    neck, head = pair
    return DenseConfig(backbone, HEADS[head], NECKS[neck], num_classes)


def dense_network(pair: tuple[str, str], seed: int = 0) -> DenseNetwork:
    """A network in evaluation mode whose norms, layer scales and attention biases all have an effect."""
    torch.manual_seed(seed)
    network = DenseNetwork(dense_config(pair)).eval()
    for name, value in network.state_dict().items():
        if (value.ndim == 1 and name.split(".")[-1] != "bias") or "attention_biases" in name:
            value.uniform_(0.5, 1.5)
    return network


def images(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def constant(module: Module, weight: float, bias: float = 0.0) -> Module:
    """In double precision and evaluation mode, with the same value for all weights of convolutions and linear layers.

    Batch norms are the identity: their variance plus epsilon is 1.
    """
    for part in module.double().eval().modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            part.weight.fill_(weight)
            if part.bias is not None:
                part.bias.fill_(bias)
        elif isinstance(part, nn.BatchNorm2d):
            part.running_var.fill_(1 - part.eps)
    return module


@torch.no_grad()
def centred(conv: nn.Conv2d, weight: float = 1.0) -> None:
    """A 3×3 convolution that only uses its own position."""
    conv.weight.zero_()
    conv.weight[:, :, 1, 1] = weight


def full(channels: int, height: int, width: int, value: float) -> torch.Tensor:
    """A feature map of one channel with the same value at every position."""
    return torch.full((1, channels, height, width), value, dtype=torch.float64)


def table(*rows: list[float]) -> torch.Tensor:
    """A feature map of one channel with the given rows."""
    return torch.tensor([[rows]], dtype=torch.float64)


def assert_close(actual: object, expected: object) -> None:
    """Compare up to rounding in double precision."""
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
