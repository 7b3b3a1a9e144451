"""The shapes in the signatures, checked at every call for all kinds of networks."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import warnings
from jaxtyping import install_import_hook, TypeCheckError

with install_import_hook("efficientformer_edu.model", "beartype.beartype"):
    import efficientformer_edu.model as model

import torch
from efficientformer_edu import EfficientFormerConfig

for fields in ({}, {"num_vit": (0, 1, 1, 0)}, {"distillation": False}, {"layer_scale_init": None}):
    config = EfficientFormerConfig(depths=(1, 1, 2, 2), embed_dims=(8, 12, 16, 20), num_classes=5, **fields)
    network = model.EfficientFormer(config).eval()
    for size in ((64, 64), (33, 50)):
        images = torch.zeros(2, 3, *size)
        network(images), network.forward_heads(images), network.attention_maps(images)
        model.fold(network, size)(images)

for wrong in (torch.zeros(2, 8, 4), torch.zeros(2, 8, 4, 4, dtype=torch.int64)):
    try:
        network.stages[0].mb4d[0](wrong)
    except TypeCheckError:
        print("refused")
"""


def test_every_signature_holds():
    # -B: modules imported along with the instrumented ones would be cached as if they were checked as well.
    run = subprocess.run(
        [sys.executable, "-B", "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert run.stderr == ""
    assert run.stdout.split() == ["refused", "refused"]
