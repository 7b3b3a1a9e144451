"""ALLMLPDecoder: hand-computed outputs with constant weights, arbitrary sizes, and invalid input."""

from __future__ import annotations

import pytest
import torch
from dense_networks import assert_close, constant, full, table
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from efficientformer_edu.dense import ALLMLPDecoder, ALLMLPDecoderConfig


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
def test_logits_have_the_finest_map_s_size(height, width):
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
