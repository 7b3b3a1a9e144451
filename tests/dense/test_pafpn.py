"""YOLOPAFPN: hand-computed with constant weights, with three and four maps, at any size."""

from __future__ import annotations

import pytest
import torch
from dense_networks import SMALL, assert_close, constant, full, table
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from efficientformer_edu.dense import YOLOPAFPN, YOLOPAFPNConfig
from efficientformer_edu.dense.layers import ConvNormAct, SeparableConvNormAct
from efficientformer_edu.dense.necks import CSPLayer

STRIDES = (4, 8, 16, 32)


def halving(**fields) -> YOLOPAFPN:
    """Two channels per map, one within a CSP layer; every weight is ½, so a 1×1 convolution of two channels sums."""
    return constant(YOLOPAFPN((2, 2, 2), STRIDES[1:], YOLOPAFPNConfig(act_type="relu", **fields)), 0.5)


@torch.no_grad()
def test_by_hand_on_single_positions():
    outs = halving()([full(2, 1, 1, 1.0), full(2, 1, 1, 2.0), full(2, 1, 1, 3.0)])
    # A CSP layer of maps x and y: both halves are ½·(2x + 2y) = x + y; the bottleneck takes a quarter of the first,
    # ½ by its 1×1 and ½ by its 3×3 convolution, which gives ½·(¼ + 1)·(x + y).
    between = 0.625 * (3 + 2)
    fine = 0.625 * (between + 1)
    middle = 0.625 * (fine + between)
    coarse = 0.625 * (middle + 3)
    assert (between, fine, middle, coarse) == (3.125, 2.578125, 3.564453125, 4.102783203125)
    for out, expected in zip(outs, (fine, middle, coarse), strict=True):
        assert_close(out, full(2, 1, 1, expected))


@torch.no_grad()
def test_by_hand_with_depthwise_convolutions():
    outs = halving(depthwise=True)([full(2, 1, 1, 1.0), full(2, 1, 1, 2.0), full(2, 1, 1, 3.0)])
    # Depthwise separable, the bottleneck's 3×3 is ½ and ½ again, so a CSP layer gives ½·(⅛ + 1)·(x + y); on the way
    # down the depthwise 3×3 is ½, and the 1×1 after it sums ½ of two channels.
    between = 0.5625 * (3 + 2)
    fine = 0.5625 * (between + 1)
    middle = 0.5625 * (fine / 2 + between)
    coarse = 0.5625 * (middle / 2 + 3)
    assert (between, fine) == (2.8125, 2.14453125)
    for out, expected in zip(outs, (fine, middle, coarse), strict=True):
        assert_close(out, full(2, 1, 1, expected))


@torch.no_grad()
def test_which_map_comes_first_where_two_are_concatenated():
    neck = halving()
    for part in (neck.C3_p4, neck.C3_p3, neck.C3_n3, neck.C3_n4):
        for conv in (part.conv1.conv, part.conv2.conv):
            conv.weight[:, 2:] = 0.0
    outs = neck([full(2, 1, 1, 100.0), full(2, 1, 1, 200.0), full(2, 1, 1, 1024.0)])
    # Of x and y only x, the resized map, is used: each CSP layer on the way multiplies by 0.625.
    for out, power in zip(outs, (2, 3, 4), strict=True):
        assert_close(out, full(2, 1, 1, 1024 * 0.625**power))


@torch.no_grad()
def test_the_half_of_a_csp_layer_that_passes_bottlenecks_comes_first():
    layer = constant(CSPLayer(2, 2, YOLOPAFPNConfig(act_type="relu")), 0.5)
    layer.conv1.conv.weight.fill_(1.0)
    layer.conv3.conv.weight[:, 0] = 1.0
    layer.conv3.conv.weight[:, 1] = 10.0
    # One half is twice the map, a quarter of it after the bottleneck; the other half is the map.
    assert_close(layer(full(2, 1, 1, 4.0)), full(2, 1, 1, 2 * 4 / 4 + 10 * 4))


@torch.no_grad()
def test_by_hand_on_odd_maps():
    neck = halving(dep_mul=0.1)  # no bottleneck: a CSP layer of x and y is x + y, elementwise
    coarse = table([1.0, 2.0]).repeat(1, 2, 1, 1)
    middle = table([0.0, 10.0, 0.0], [0.0, 0.0, 0.0]).repeat(1, 2, 1, 1)
    fine = table([0.0] * 5, [0.0] * 5, [0.0, 0.0, 0.0, 0.0, 5.0]).repeat(1, 2, 1, 1)
    outs = neck([fine, middle, coarse])
    # Up: coarse becomes 1 1 2, twice, and with the middle map 1 11 2 over 1 1 2; that becomes, with the fine map:
    up = table([1.0, 1.0, 11.0, 11.0, 2.0], [1.0, 1.0, 11.0, 11.0, 2.0], [1.0, 1.0, 1.0, 1.0, 7.0])
    # Down: windows of 3×3 around every second pixel of it are 4 46 26 over 4 26 21; added to 1 11 2 over 1 1 2:
    down = table([5.0, 57.0, 28.0], [5.0, 27.0, 23.0])
    # The same again, windows of 94 and 135, added to 1 2.
    last = table([95.0, 137.0])
    for out, expected in zip(outs, (up, down, last), strict=True):
        assert_close(out, expected.repeat(1, 2, 1, 1))


@torch.no_grad()
def test_of_four_maps_the_last_three_are_used():
    maps = [torch.randn(1, dim, 16 // 2**j, 16 // 2**j) for j, dim in enumerate(SMALL.embed_dims)]
    neck = YOLOPAFPN(SMALL.embed_dims, STRIDES, YOLOPAFPNConfig()).eval()
    assert neck.out_dims == SMALL.embed_dims[1:] and neck.strides == (8, 16, 32)
    expected = neck(maps[1:])
    maps[0].fill_(torch.nan)
    for out, same, x in zip(neck(maps), expected, maps[1:], strict=True):
        assert torch.equal(out, same) and out.shape == x.shape


@given(st.integers(1, 40), st.integers(1, 40), st.booleans())
@settings(max_examples=20)
@torch.no_grad()
def test_maps_keep_their_shapes_at_any_size(height, width, depthwise):
    neck = YOLOPAFPN((2, 3, 4), STRIDES[1:], YOLOPAFPNConfig(depthwise=depthwise)).eval()
    maps = []
    for dim in (2, 3, 4):
        maps.append(torch.randn(2, dim, height, width))
        height, width = (height + 1) // 2, (width + 1) // 2
    assert [out.shape for out in neck(maps)] == [x.shape for x in maps]


@pytest.mark.parametrize(("dep_mul", "bottlenecks"), [(0.1, 0), (0.33, 1), (0.67, 2), (1, 3), (1.33, 4)])
def test_the_depth_of_a_csp_layer(dep_mul, bottlenecks):
    neck = YOLOPAFPN((4, 4, 4), STRIDES[1:], YOLOPAFPNConfig(dep_mul=dep_mul))
    assert [len(part.m) for part in (neck.C3_p4, neck.C3_p3, neck.C3_n3, neck.C3_n4)] == [bottlenecks] * 4


@pytest.mark.parametrize("depthwise", [False, True])
def test_parameters_by_hand(depthwise):
    neck = YOLOPAFPN((4, 8, 16), STRIDES[1:], YOLOPAFPNConfig(depthwise=depthwise))

    def conv(come: int, go: int, kernel: int = 1) -> int:
        if depthwise and kernel == 3:
            return 9 * come + 2 * come + come * go + 2 * go  # depthwise, then 1×1; each with its norm
        return kernel**2 * come * go + 2 * go

    def csp(come: int, go: int) -> int:
        half = go // 2
        return 2 * conv(come, half) + conv(2 * half, go) + conv(half, half) + conv(half, half, 3)

    up = conv(16, 8) + csp(16, 8) + conv(8, 4) + csp(8, 4)
    down = conv(4, 4, 3) + csp(8, 8) + conv(8, 8, 3) + csp(16, 16)
    assert sum(parameter.numel() for parameter in neck.parameters()) == up + down


def test_norms_as_in_yolox():
    neck = YOLOPAFPN((4, 4, 4), STRIDES[1:], YOLOPAFPNConfig(depthwise=True, act_type="hard_swish"))
    norms = [part for part in neck.modules() if isinstance(part, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.03)}
    acts = [part.act for part in neck.modules() if isinstance(part, ConvNormAct)]
    assert len(acts) == len(norms) and {type(act) for act in acts} == {nn.Hardswish}


def test_two_maps_are_refused():
    with pytest.raises(ValueError, match="^2 maps are not enough; YOLOPAFPN takes the last 3$"):
        YOLOPAFPN((8, 8), STRIDES[2:], YOLOPAFPNConfig())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dep_mul": 0}, "^dep_mul=0 is not possible; allowed: a finite number above 0$"),
        ({"depthwise": 1}, "^depthwise=1 is not possible; allowed: True or False$"),
        ({"act_type": "mish"}, "^act_type='mish' is not possible; allowed: gelu, relu, .*, silu, hard_swish$"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        YOLOPAFPNConfig(**fields)


@torch.no_grad()
def test_convolution_norm_activation_in_that_order():
    layer = constant(ConvNormAct(2, 1, kernel=1, act="relu"), 0.5)
    layer.norm.running_mean.fill_(1.0)
    layer.norm.running_var.fill_(4 - layer.norm.eps)
    layer.norm.weight.fill_(3.0)
    layer.norm.bias.fill_(-1.0)
    for value, expected in ((5.0, 5.0), (1.0, 0.0), (-3.0, 0.0)):  # 3·(v - 1) / 2 - 1, and negative values become 0
        assert_close(layer(full(2, 1, 2, value)), full(1, 1, 2, expected))
    assert layer.conv.bias is None


@pytest.mark.parametrize("kind", [ConvNormAct, SeparableConvNormAct])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@torch.no_grad()
def test_stride_1_keeps_a_map_and_stride_2_halves_it_rounded_up(kind, kernel):
    for stride, size in ((1, (7, 10)), (2, (4, 5))):
        assert kind(3, 5, kernel, stride).eval()(torch.zeros(1, 3, 7, 10)).shape == (1, 5, *size)
