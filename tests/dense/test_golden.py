"""Names, shapes and totals of the four networks that NetsPresso Trainer builds for L1 and 20 classes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from efficientformer_edu.config import PRESETS
from efficientformer_edu.dense import (
    ALLMLPDecoderConfig,
    AnchorDecoupledHeadConfig,
    AnchorFreeDecoupledHeadConfig,
    DenseConfig,
    DenseNetwork,
    FCConfig,
    FPNConfig,
)

GOLDEN = Path(__file__).parents[1] / "golden/dense"
L1 = PRESETS["l1"]

NETWORKS = {
    "classification_fc": (DenseConfig(L1, FCConfig(), num_classes=20), 11_400_908),
    "segmentation_allmlpdecoder": (DenseConfig(L1, ALLMLPDecoderConfig(), num_classes=20), 11_872_300),
    "detection_fpn_anchordecoupled": (
        DenseConfig(L1, AnchorDecoupledHeadConfig(), FPNConfig(), num_classes=20),
        22_892_896,
    ),
    "detection_fpn_anchorfree": (
        DenseConfig(L1, AnchorFreeDecoupledHeadConfig(), FPNConfig(), num_classes=20),
        48_755_068,
    ),
}

RENAMED = [  # NetsPresso's name, our name
    (r"^backbone\.encoder\.norm([0246])\.", lambda match: f"backbone.norms.{int(match[1]) // 2}."),
    (r"\.block\.(conv|norm)\.", r".\1."),
    (r"\.cls_logits\.|\.bbox_reg\.", ".predict."),
]


def package_name(name: str) -> str:
    for pattern, here in RENAMED:
        name = re.sub(pattern, here, name)
    return name


@pytest.fixture(params=list(NETWORKS))
def golden(request):
    """The recorded state and our network, as shapes without values."""
    config, total = NETWORKS[request.param]
    with torch.device("meta"):
        network = DenseNetwork(config)
    seen = json.loads((GOLDEN / f"{request.param}.json").read_text(encoding="utf-8"))
    assert seen["total"] == total
    return seen, network


def test_names_and_shapes(golden):
    """Of everything except the stem and the stages, whose names `tests/weights` compares in every published layout."""
    seen, network = golden
    match = {
        name: list(value.shape)
        for name, value in network.named_parameters()
        if not name.startswith(("backbone.stem.", "backbone.stages."))
    }
    assert match == {package_name(name): shape for name, shape in seen["parameters"].items()}


def test_totals(golden):
    seen, network = golden
    assert sum(parameter.numel() for parameter in network.parameters()) == seen["total"]
    assert sum(parameter.numel() for parameter in network.backbone.parameters()) == seen["backbone"]
