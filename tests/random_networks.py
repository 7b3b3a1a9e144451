"""Fixtures of `weights` and `hf`: small networks with random weights, and an empty cache folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from efficientformer_edu import EfficientFormer, EfficientFormerConfig

SMALL = EfficientFormerConfig(
    depths=(1, 2, 1, 3), embed_dims=(8, 8, 12, 16), num_vit=2, num_classes=5, num_heads=2, key_dim=4, bias_grid=3
)


def random_network(config: EfficientFormerConfig) -> EfficientFormer:
    """A network whose tensors are all random, including the statistics of the batch norms."""
    torch.manual_seed(0)
    network = EfficientFormer(config)
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(7)
        elif value.ndim == 1:
            value.uniform_(0.5, 1.5)  # variances and norms' weights above 0
        else:
            value.normal_(std=0.3)
    return network.eval()


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """An empty cache folder that replaces the user's own, which may contain the published weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
    return Path(torch.hub.get_dir(), "checkpoints")


@pytest.fixture
def network() -> EfficientFormer:
    return random_network(SMALL)


@pytest.fixture
def make_network():
    return random_network
