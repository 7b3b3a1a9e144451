"""Small models of the three Hugging Face classes, with random weights."""

from __future__ import annotations

import torch

from efficientformer_edu import hf

CONFIG = hf.EfficientFormerConfig(
    depths=(1, 2, 1, 3),
    hidden_sizes=(8, 12, 16, 24),
    num_attention_heads=2,
    key_dim=4,
    resolution=2,
    num_meta3d_blocks=2,
    num_labels=5,
)
CLASSES = [
    hf.EfficientFormerModel,
    hf.EfficientFormerForImageClassification,
    hf.EfficientFormerForImageClassificationWithTeacher,
]
IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))  # the last feature map is 2×3


def filled(model, make_network):
    """The model with random tensors, including the statistics."""
    network = make_network(CONFIG.network(distillation=True))
    model.network.load_state_dict({n: v for n, v in network.state_dict().items() if n in model.network.state_dict()})
    return model.eval()
