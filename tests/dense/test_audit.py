"""The audit of complete dense networks: hand-computed MACs, and what fvcore adds to them."""

from __future__ import annotations

import pytest
import torch
from dense_networks import ALLOWED, SMALL, dense_network

from efficientformer_edu.audit.modules import audit_module
from efficientformer_edu.dense import (
    ALLMLPDecoderConfig,
    AnchorDecoupledHeadConfig,
    DenseConfig,
    DenseNetwork,
    FPNConfig,
)

# SMALL at 64×64: maps of 16, 32, 48, 64 channels and 16², 8², 4², 2² pixels; 5 classes.
IMAGES = torch.zeros(1, 3, 64, 64)
POSITIONS = 256 + 64 + 16 + 4
NUMBERS = 16 * 256 + 32 * 64 + 48 * 16 + 64 * 4  # of the four maps together

CONVOLUTIONS = (
    3 * 8 * 9 * 1024 + 8 * 16 * 9 * 256  # stem
    + 2 * 16 * 64 * 256 + 2 * 32 * 128 * 64 + 2 * 48 * 192 * 16  # an MB4D in each of the first three stages
    + 16 * 32 * 9 * 64 + 32 * 48 * 9 * 16 + 48 * 64 * 9 * 4  # embeddings
)  # fmt: skip
LINEARS = 4 * (64 * 2 * (4 + 4 + 16) + 2 * 16 * 64 + 2 * 64 * 256)  # the MB3D: 4 tokens, 2 heads of 4, 4 and 16
PRODUCTS = 2 * 4 * 4 * (4 + 16)
BATCH_NORMS = (
    8 * 1024 + 16 * 256  # stem
    + 5 * 16 * 256 + 5 * 32 * 64 + 5 * 48 * 16  # after both convolutions of an MB4D
    + 32 * 64 + 48 * 16 + 64 * 4  # embeddings
)  # fmt: skip
LAYER_NORMS = 2 * 4 * 64  # the classifier's norm before the mean is not used


def test_detection_by_hand():
    config = DenseConfig(SMALL, AnchorDecoupledHeadConfig(), FPNConfig(out_channels=8), num_classes=5)
    audit = audit_module(DenseNetwork(config), IMAGES)
    laterals, smoothing = NUMBERS * 8, 8 * 8 * 9 * POSITIONS
    towers = 2 * 8 * 8 * 9 * POSITIONS
    predictions = 8 * 9 * 3 * (5 + 4) * POSITIONS  # three anchors per position
    convolutions = CONVOLUTIONS + laterals + smoothing + towers + predictions
    assert audit.flop_counter == {"convolution": convolutions, "addmm": LINEARS, "bmm": PRODUCTS}
    assert audit.macs == audit.written_out == convolutions + LINEARS + PRODUCTS
    assert audit.fvcore == {
        "conv": convolutions,
        "linear": LINEARS,
        "matmul": PRODUCTS,
        "batch_norm": 2 * (BATCH_NORMS + 2 * 8 * POSITIONS),
        "layer_norm": 5 * LAYER_NORMS,
        "group_norm": 5 * NUMBERS,
        "upsample_nearest2d": 8 * (256 + 64 + 16),
    }
    assert audit.params == sum(parameter.numel() for parameter in DenseNetwork(config).parameters())


def test_segmentation_by_hand():
    config = DenseConfig(SMALL, ALLMLPDecoderConfig(intermediate_channels=8), num_classes=5)
    audit = audit_module(DenseNetwork(config), IMAGES)
    convolutions = CONVOLUTIONS + NUMBERS * 8 + 4 * 8 * 8 * 256 + 8 * 5 * 256
    assert audit.flop_counter == {"convolution": convolutions, "addmm": LINEARS, "bmm": PRODUCTS}
    assert audit.fvcore == {
        "conv": convolutions,
        "linear": LINEARS,
        "matmul": PRODUCTS,
        "batch_norm": 2 * (BATCH_NORMS + 8 * POSITIONS + 8 * 256),
        "layer_norm": 5 * LAYER_NORMS,
        "group_norm": 5 * NUMBERS,
        "upsample_bilinear2d": 4 * 4 * 8 * 256,  # of all four maps, including the finest
    }


@pytest.mark.parametrize("pair", ALLOWED, ids=" ".join)
def test_both_agree_on_what_multiplies(pair):
    audit = audit_module(dense_network(pair), torch.zeros(1, 3, 65, 96))
    products = {"conv", "linear", "matmul"}
    assert not audit.failure and not audit.unseen
    assert sum(macs for name, macs in audit.fvcore.items() if name in products) == audit.macs == audit.written_out
