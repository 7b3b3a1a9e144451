"""AnchorFreeDecoupledHead: hand-computed outputs with constant weights, initial values, and invalid input."""

from __future__ import annotations

import pytest
import torch
from dense_networks import assert_close, constant, full
from torch import nn

from efficientformer_edu.dense import AnchorFreeDecoupledHead, AnchorFreeDecoupledHeadConfig

STRIDES = (8, 16)


def small_head(**fields) -> AnchorFreeDecoupledHead:
    """Maps of two and of four channels, two classes; every weight is ½, and every output has a different bias."""
    config = AnchorFreeDecoupledHeadConfig(act_type="relu", **fields)
    head = constant(AnchorFreeDecoupledHead((2, 4), STRIDES, 2, config), 0.5)
    for preds, bias in ((head.reg_preds, [1, 2, 3, 4]), (head.obj_preds, [5]), (head.cls_preds, [6, 7])):
        for conv in preds:
            conv.bias.data = torch.tensor(bias, dtype=torch.float64)
    return head


def column(numbers: list[float]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64).view(1, -1, 1, 1)


@torch.no_grad()
def test_by_hand():
    head = small_head()
    for conv in head.cls_convs.modules():
        if isinstance(conv, nn.Conv2d):
            conv.weight.fill_(1.0)
    outs = head([full(2, 1, 1, 10.0), full(4, 1, 1, 20.0)])
    # ½ of two channels changes nothing, ½ of four doubles; for the class, both convolutions double again.
    assert_close(outs[0], column([11.0, 12.0, 13.0, 14.0, 15.0, 46.0, 47.0]))
    assert_close(outs[1], column([41.0, 42.0, 43.0, 44.0, 45.0, 166.0, 167.0]))


@torch.no_grad()
def test_by_hand_with_depthwise_convolutions():
    outs = small_head(depthwise=True)([full(2, 1, 1, 16.0), full(4, 1, 1, -16.0)])
    # Each channel is halved separately, twice in two convolutions; negative values become 0.
    assert_close(outs[0], column([5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]))
    assert_close(outs[1], column([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]))


@torch.no_grad()
def test_windows_by_hand():
    outs = small_head()([full(2, 2, 3, 1.0), full(4, 1, 1, 0.0)])
    # Convolutions of 3×3 on 2×3 pixels sum their inputs: 4 6 4 over the same, then 20 28 20 over the same.
    assert outs[0][0, :, 0, 0].tolist() == [21, 22, 23, 24, 25, 26, 27]
    assert outs[0][0, :, 1, 1].tolist() == [29, 30, 31, 32, 33, 34, 35]
    assert torch.equal(outs[0].flip(3), outs[0]) and torch.equal(outs[0].flip(2), outs[0])


@torch.no_grad()
def test_maps_have_weights_of_their_own():
    torch.manual_seed(0)
    head = AnchorFreeDecoupledHead((4, 4), STRIDES, 3, AnchorFreeDecoupledHeadConfig()).eval()
    x = torch.randn(2, 4, 5, 3)
    first, second = head([x, x])
    assert first.shape == second.shape == (2, 4 + 1 + 3, 5, 3)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("depthwise", [False, True])
def test_first_values(depthwise):
    head = AnchorFreeDecoupledHead((8, 16, 24), (8, 16, 32), 3, AnchorFreeDecoupledHeadConfig(depthwise=depthwise))
    for conv in (*head.cls_preds, *head.obj_preds):
        torch.testing.assert_close(conv.bias.sigmoid(), torch.full((conv.out_channels,), 0.01))
    norms = [part for part in head.modules() if isinstance(part, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.03)}
    assert len(norms) == 3 * (1 + 2 * 2 * (1 + depthwise))
    assert {norm.num_features for norm in norms} == {8}  # the first map's width
    assert head.strides == (8, 16, 32)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depthwise": "no"}, "^depthwise='no' is not possible; allowed: True or False$"),
        ({"act_type": None}, "^act_type=None is not possible; allowed: gelu, relu, .*, silu, hard_swish$"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        AnchorFreeDecoupledHeadConfig(**fields)
