"""Segmentation heads: hand-computed outputs with constant weights, and their sizes."""

from __future__ import annotations

import pytest
import torch
from dense_networks import assert_close, centred, constant, full, table
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from efficientformer_edu.dense import FPN, ALLMLPDecoder, ALLMLPDecoderConfig, FPNConfig, SemanticFPN, SemanticFPNConfig


def doubling(levels: int) -> SemanticFPN:
    """One channel; each 3×3 convolution doubles its centre pixel, and the classifier triples and adds 1."""
    head = constant(SemanticFPN((1,) * levels, 1, SemanticFPNConfig(intermediate_channels=1)), 3.0, bias=1.0)
    for convs in head.scale_heads:
        for layer in convs:
            centred(layer.conv, 2.0)
    return head


@torch.no_grad()
def test_a_map_goes_through_a_convolution_per_doubling():
    maps = [full(1, 8 // 2**j, 8 // 2**j, 10.0**j) for j in range(4)]
    total = 2 * 1 + 2 * 10 + 4 * 100 + 8 * 1000  # the finest map has one convolution, too
    assert_close(doubling(4)(maps), full(1, 8, 8, 3 * total + 1))
    assert [len(convs) for convs in doubling(5).scale_heads] == [1, 1, 2, 3, 4]


@torch.no_grad()
def test_enlarging_by_hand():
    logits = doubling(2)([table([1.0, 1.0, 1.0, 1.0]), table([0.0, 4.0])])
    # Twice 0 1 3 4, with twice 1 added: 2 4 8 10.
    assert_close(logits, table([7.0, 13.0, 25.0, 31.0]))


@torch.no_grad()
def test_a_sum_below_zero_is_not_cut():
    head = doubling(2)
    head.classifier.weight.fill_(-1.0)
    assert_close(head([full(1, 2, 2, -5.0), full(1, 1, 1, 3.0)]), full(1, 2, 2, -5.0))  # ReLU of each, then -6 + 1


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (64, 8)])
@torch.no_grad()
def test_as_mmsegmentation_at_even_sizes(size):
    """Its `FPNHead` enlarges by a factor of two, regardless of the size of the next map."""
    torch.manual_seed(0)
    head = SemanticFPN((6, 6, 6, 6), 3, SemanticFPNConfig(intermediate_channels=4)).double().eval()
    maps = [torch.randn(2, 6, size[0] // 2**j, size[1] // 2**j, dtype=torch.float64) for j in range(4)]
    total = torch.zeros(2, 4, *size, dtype=torch.float64)
    for level, (convs, x) in enumerate(zip(head.scale_heads, maps, strict=True)):
        for layer in convs:
            x = F.conv2d(x, layer.conv.weight, padding=1) / (1 + 1e-5) ** 0.5
            x = x.clamp(min=0)
            if level > 0:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        total += x
    expected = torch.einsum("kc,bchw->bkhw", head.classifier.weight[:, :, 0, 0], total)
    assert_close(head(maps), expected + head.classifier.bias[:, None, None])


@given(st.integers(1, 33), st.integers(1, 33))
@settings(max_examples=20)
@torch.no_grad()
def test_logits_have_the_finest_map_s_size(height, width):
    head = SemanticFPN((2, 2, 2, 2), 5, SemanticFPNConfig(intermediate_channels=4)).eval()
    maps = []
    grid = (height, width)
    for _ in range(4):
        maps.append(torch.zeros(2, 2, *grid))
        grid = ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
    assert head(maps).shape == (2, 5, height, width)


def test_the_paper_s_head():
    """An FPN of 256 channels, a sum of 128, dropout of a tenth of the channels, 150 classes."""
    with torch.device("meta"):
        neck = FPN((48, 96, 224, 448), (4, 8, 16, 32), FPNConfig(out_channels=256))
        head = SemanticFPN(neck.out_dims, 150, SemanticFPNConfig())
    convolutions = [[layer.conv.weight.shape[:2] for layer in convs] for convs in head.scale_heads]
    first, further = (128, 256), (128, 128)
    assert convolutions == [[first], [first], [first, further], [first, further, further]]
    assert isinstance(head.dropout, nn.Dropout2d) and head.dropout.p == 0.1
    assert sum(p.numel() for p in head.parameters()) == 9 * 128 * (4 * 256 + 3 * 128) + 7 * 2 * 128 + 129 * 150


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"intermediate_channels": 0}, "^intermediate_channels=0 is not possible; allowed: a whole number, at least 1"),
        ({"classifier_dropout_prob": 1.0}, r"^classifier_dropout_prob=1.0 is not possible; allowed: a number from 0"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SemanticFPNConfig(**fields)


@torch.no_grad()
def test_by_hand():
    head = constant(ALLMLPDecoder((1, 2), 3, ALLMLPDecoderConfig(intermediate_channels=2)), 0.5, bias=1.0)
    head.linear_fuse.conv.weight[:, :2] = 1.0  # for the coarse map, which is first
    head.linear_fuse.conv.weight[:, 2:] = 10.0
    logits = head([full(1, 2, 4, 2.0), table([0.0, 4.0]).repeat(1, 2, 1, 1)])
    # The fine map: ½·2 = 1. The coarse map: ½·(0 + 0) and ½·(4 + 4), interpolated at one and three quarters, which
    # is 0 1 3 4. Together 2·1·(0 1 3 4) + 2·10·1, and the classifier takes ½ of both channels and adds 1.
    assert_close(logits, table([21.0, 23.0, 27.0, 29.0], [21.0, 23.0, 27.0, 29.0]).repeat(1, 3, 1, 1))


@torch.no_grad()
def test_negative_values_are_cut_before_and_after_the_fusion():
    head = constant(ALLMLPDecoder((1, 1), 1, ALLMLPDecoderConfig(intermediate_channels=1)), 1.0)
    assert_close(head([full(1, 2, 2, -5.0), full(1, 1, 1, 3.0)]), full(1, 2, 2, 3.0))
    head.linear_fuse.conv.weight[:, 1] = -1.0  # for the fine map
    assert_close(head([full(1, 2, 2, 5.0), full(1, 1, 1, 3.0)]), full(1, 2, 2, 0.0))


@given(st.integers(1, 33), st.integers(1, 33))
@settings(max_examples=20)
@torch.no_grad()
def test_logits_of_the_mlp_decoder_have_the_finest_map_s_size(height, width):
    head = ALLMLPDecoder((2, 3, 4), 5, ALLMLPDecoderConfig(intermediate_channels=4)).eval()
    maps = [torch.zeros(2, dim, -(-height // 2**j), -(-width // 2**j)) for j, dim in enumerate((2, 3, 4))]
    assert head(maps).shape == (2, 5, height, width)


def test_fields():
    head = ALLMLPDecoder((2, 3), 5, ALLMLPDecoderConfig(intermediate_channels=6, classifier_dropout_prob=0.3))
    assert isinstance(head.dropout, nn.Dropout) and head.dropout.p == 0.3
    assert head.linear_fuse.conv.weight.shape == (6, 12, 1, 1)
    with pytest.raises(ValueError, match=r"^intermediate_channels=None is not possible; allowed: a whole number"):
        ALLMLPDecoderConfig(intermediate_channels=None)
    with pytest.raises(ValueError, match=r"^classifier_dropout_prob=-0.1 is not possible; allowed: a number from 0"):
        ALLMLPDecoderConfig(classifier_dropout_prob=-0.1)
