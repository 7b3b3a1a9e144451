"""FPN and YOLOPAFPN: hand-computed with constant weights, at odd sizes, and invalid input."""

from __future__ import annotations

import re

import pytest
import torch
from dense_networks import SMALL, assert_close, centred, constant, full, table
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from efficientformer_edu.dense import FPN, YOLOPAFPN, FPNConfig, YOLOPAFPNConfig
from efficientformer_edu.dense.layers import ConvNormAct, SeparableConvNormAct
from efficientformer_edu.dense.necks import CSPLayer

STRIDES = (4, 8, 16, 32)


def weighted(in_dims=(1, 1), **fields) -> FPN:
    """One channel, laterals that double, output convolutions that triple: without neighbours."""
    neck = constant(FPN(in_dims, STRIDES, FPNConfig(num_outs=fields.pop("num_outs", len(in_dims)), **fields)), 2.0)
    for conv in neck.fpn_convs:
        centred(conv, 3.0)
    return neck


@torch.no_grad()
def test_by_hand():
    neck = FPN((1, 2, 3, 4), STRIDES, FPNConfig(out_channels=2))
    constant(neck, 0.5, 0.25)
    for conv in neck.fpn_convs:
        conv.weight.fill_(0.125)
        conv.bias.fill_(-1.0)
    outs = neck([full(1, 8, 8, 1.0), full(2, 4, 4, 2.0), full(3, 2, 2, 3.0), full(4, 1, 1, 4.0)])
    # Laterals are C·v / 2 + ¼ = 0.75, 2.25, 4.75, 8.25; they are summed from the coarsest on.
    sums = (16.0, 15.25, 13.0, 8.25)
    # A window of n pixels gives 2 channels · n · sum / 8 - 1: at a corner 4, at an edge 6, else 9.
    seen = ([2, 3, 3, 3, 3, 3, 3, 2], [2, 3, 3, 2], [2, 2], [1])
    for out, total, size in zip(outs, sums, seen, strict=True):
        side = torch.tensor(size, dtype=torch.float64)
        assert_close(out, (side[:, None] * side * total / 4 - 1).expand(1, 2, -1, -1))
    assert outs[0][0, 0, 0].tolist() == [15.0, 23.0, 23.0, 23.0, 23.0, 23.0, 23.0, 15.0]
    assert outs[3].flatten().tolist() == [1.0625, 1.0625]


@torch.no_grad()
def test_a_coarse_map_is_enlarged_to_an_odd_finer_map():
    fine, coarse = table([10.0] * 5, [20.0] * 5, [30.0] * 5), table([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    fine_out, coarse_out = weighted()([fine, coarse])
    assert_close(coarse_out, 6 * coarse)
    assert_close(
        fine_out,
        6 * table([11.0, 11.0, 12.0, 12.0, 13.0], [21.0, 21.0, 22.0, 22.0, 23.0], [34.0, 34.0, 35.0, 35.0, 36.0]),
    )


@given(st.integers(1, 70), st.integers(1, 70), st.integers(2, 4))
@torch.no_grad()
def test_any_pyramid_against_python_indexing(height, width, levels):
    grids = [(height, width)]
    while len(grids) < levels:
        grids.append(((grids[-1][0] + 1) // 2, (grids[-1][1] + 1) // 2))
    generator = torch.Generator().manual_seed(height * 71 + width)
    maps = [torch.randn(1, 1, *grid, dtype=torch.float64, generator=generator) for grid in grids]
    outs = weighted((1,) * levels)(maps)
    above = None
    for (h, w), output, x in zip(grids[::-1], outs[::-1], maps[::-1], strict=True):
        expected = 2 * x[0, 0]
        if above is not None:
            rows = [y * above.shape[0] // h for y in range(h)]
            columns = [x * above.shape[1] // w for x in range(w)]
            expected = expected + above[rows][:, columns]
        above = expected
        assert_close(output[0, 0], 3 * expected)


@torch.no_grad()
def test_extra_maps_without_convolutions_take_every_second_position():
    coarse = torch.arange(15, dtype=torch.float64).view(1, 1, 5, 3)
    neck = weighted(num_outs=5)
    _, last, *extra = neck([full(1, 10, 6, 0.0), coarse])
    assert_close(last, 6 * coarse)
    first, second, third = (out / 6 for out in extra)
    assert_close(first, table([0.0, 2.0], [6.0, 8.0], [12.0, 14.0]))
    assert_close(second, table([0.0], [12.0]))
    assert_close(third, table([0.0]))
    assert neck.strides == (4, 8, 16, 32, 64) and neck.out_dims == (1,) * 5
    assert not neck.extra_convs


@pytest.mark.parametrize(("mode", "factor"), [("on_input", 1), (True, 1), ("on_lateral", 2), ("on_output", 6)])
@torch.no_grad()
def test_extra_convolutions_start_from_their_map(mode, factor):
    neck = weighted(num_outs=4, add_extra_convs=mode)
    for conv in neck.extra_convs:
        conv.weight.fill_(1.0)
        conv.bias.fill_(0.5)
    outs = neck([full(1, 10, 6, 0.0), full(1, 5, 3, 1.0)])
    assert [tuple(out.shape) for out in outs] == [(1, 1, 10, 6), (1, 1, 5, 3), (1, 1, 3, 2), (1, 1, 2, 1)]
    # Windows around rows 0, 2, 4 and columns 0, 2 of the 5×3 map cover 2·2, 3·2 and 2·2 pixels.
    edge, inner = 4 * factor + 0.5, 6 * factor + 0.5
    assert_close(outs[2], table([edge, edge], [inner, inner], [edge, edge]))
    # Windows around rows 0, 2 of the 3×2 map cover one row of each kind, both pixels of it.
    assert_close(outs[3], table([2 * (edge + inner) + 0.5], [2 * (edge + inner) + 0.5]))


@pytest.mark.parametrize(("relu", "expected"), [(False, -5.0), (True, -3.0)])
@torch.no_grad()
def test_relu_before_further_extra_convolutions(relu, expected):
    neck = weighted(num_outs=4, add_extra_convs="on_input", relu_before_extra_convs=relu)
    for conv in neck.extra_convs:
        conv.weight.fill_(1.0)
        conv.bias.fill_(-5.0)
    first, second = neck([full(1, 10, 6, 0.0), full(1, 5, 3, 1.0)])[2:]
    assert_close(first, table([-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]))  # 4 and 6 pixels, less 5: no ReLU before it
    # Two pixels of -1 and two of 1, less 5; after a ReLU the -1 are gone.
    assert_close(second, table([expected], [expected]))


def test_the_first_extra_convolution_has_its_source_s_width():
    for mode, width in (("on_input", 7), ("on_lateral", 4), ("on_output", 4)):
        neck = FPN((3, 5, 7), STRIDES[1:], FPNConfig(num_outs=5, add_extra_convs=mode, out_channels=4))
        assert [conv.in_channels for conv in neck.extra_convs] == [width, 4]


@pytest.mark.parametrize(
    ("fields", "used", "strides"),
    [
        ({"num_outs": 4}, [0, 1, 2, 3], (4, 8, 16, 32)),
        ({"num_outs": 4, "end_level": 3}, [0, 1, 2, 3], (4, 8, 16, 32)),
        ({"num_outs": 3, "start_level": 1}, [1, 2, 3], (8, 16, 32)),
        ({"num_outs": 5, "start_level": 1}, [1, 2, 3], (8, 16, 32, 64, 128)),
        ({"num_outs": 3, "end_level": 2}, [0, 1, 2], (4, 8, 16)),
        ({"num_outs": 2, "start_level": 1, "end_level": 2}, [1, 2], (8, 16)),
        ({"num_outs": 1, "start_level": 3}, [3], (32,)),
        ({"num_outs": 1, "end_level": 0}, [0], (4,)),
    ],
)
@torch.no_grad()
def test_levels(fields, used, strides):
    neck = weighted((1, 1, 1, 1), **fields)
    values = [1.0, 10.0, 100.0, 1000.0]
    sizes = [(13, 9), (7, 5), (4, 3), (2, 2)]
    outs = neck([full(1, *size, value) for size, value in zip(sizes, values, strict=True)])
    assert neck.strides == strides and len(outs) == len(neck.out_dims) == fields["num_outs"]
    for i, j in enumerate(used):
        assert_close(outs[i], full(1, *sizes[j], 6 * sum(values[k] for k in used if k >= j)))


def test_the_width_is_the_last_map_s_for_any_levels():
    assert FPN((8, 16, 24), STRIDES, FPNConfig(num_outs=2, end_level=1)).out_dims == (24, 24)


def test_as_mmdetection_starts():
    torch.manual_seed(0)
    neck = FPN((64, 64), STRIDES, FPNConfig(num_outs=3, add_extra_convs="on_output"))
    for conv in (*neck.lateral_convs, *neck.fpn_convs, *neck.extra_convs):
        size = conv.kernel_size[0] * conv.kernel_size[1]
        limit = (6 / (64 * size + 64 * size)) ** 0.5  # Glorot's uniform: √(6 / (fan-in + fan-out))
        assert 0.95 * limit < conv.weight.abs().max() <= limit
        assert not conv.bias.any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_outs": 0}, "num_outs=0 is not possible; allowed: a whole number, at least 1"),
        ({"num_outs": 2.0}, "num_outs=2.0 is not possible; allowed: a whole number, at least 1"),
        ({"start_level": -1}, "start_level=-1 is not possible; allowed: a whole number, at least 0"),
        ({"end_level": -2}, "end_level=-2 is not possible; allowed: a whole number, at least -1"),
        ({"out_channels": 0}, "out_channels=0 is not possible; allowed: a whole number, at least 1"),
        (
            {"add_extra_convs": "on_outputs"},
            "add_extra_convs='on_outputs' is not possible; allowed: False, 'on_input', 'on_lateral', 'on_output'",
        ),
        (
            {"add_extra_convs": 0},
            "add_extra_convs=0 is not possible; allowed: False, 'on_input', 'on_lateral', 'on_output'",
        ),
        (
            {"relu_before_extra_convs": None},
            "relu_before_extra_convs=None is not possible; allowed: True or False",
        ),
        (
            {"end_level": 4},
            "start_level=0, end_level=4 is not possible; allowed: levels from 0 to 3, start_level no later than "
            "end_level",
        ),
        (
            {"start_level": 3, "end_level": 2},
            "start_level=3, end_level=2 is not possible; allowed: levels from 0 to 3, start_level no later than "
            "end_level",
        ),
        ({"num_outs": 3}, "num_outs=3 is not possible; allowed: 4, one for each level, or more"),
        ({"num_outs": 4, "end_level": 2}, "num_outs=4 is not possible; allowed: 3, one for each level"),
        ({"num_outs": 2, "end_level": 2}, "num_outs=2 is not possible; allowed: 3, one for each level"),
    ],
)
def test_refused(fields, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        FPN((8, 16, 24, 32), STRIDES, FPNConfig(**fields))


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
    with pytest.raises(ValueError, match="^2 feature maps are not enough; YOLOPAFPN takes the last 3$"):
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
