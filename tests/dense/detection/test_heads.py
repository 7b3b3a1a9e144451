"""Detection heads: hand-computed outputs with constant weights, their order, initial values, and invalid input."""

from __future__ import annotations

import re

import pytest
import torch
from dense_networks import assert_close, centred, constant, full, table
from torch import nn

from efficientformer_edu.dense import (
    AnchorDecoupledHead,
    AnchorDecoupledHeadConfig,
    AnchorFreeDecoupledHead,
    AnchorFreeDecoupledHeadConfig,
)
from efficientformer_edu.dense.layers import ConvNormAct

STRIDES = (4, 8, 16, 32)


def small_head(**fields) -> AnchorDecoupledHead:
    """Two maps of two channels, two anchors per position, two classes; every weight is ¼."""
    config = AnchorDecoupledHeadConfig(anchor_sizes=((2.0,), (6.0,)), aspect_ratios=(1.0, 4.0), **fields)
    return constant(AnchorDecoupledHead((2, 2), STRIDES[:2], 2, config), 0.25)


@torch.no_grad()
def test_the_order_of_the_outputs():
    head = small_head(num_layers=0)
    for tower, numbers in ((head.classification_head, 4), (head.regression_head, 8)):
        centred(tower.predict, 0.5)
        tower.predict.bias.copy_(torch.arange(numbers))
    values = table([1.0, 2.0], [3.0, 4.0]).repeat(1, 2, 1, 1) * 100
    output = head([values, full(2, 1, 2, 500.0)])
    # ½ of both channels is the value at the position; the first half of its outputs belongs to the first anchor.
    rows = [100, 200, 300, 400, 500, 500]
    classes = [[row + 2 * anchor, row + 2 * anchor + 1] for row in rows for anchor in range(2)]
    boxes = [[row + 4 * anchor + i for i in range(4)] for row in rows for anchor in range(2)]
    assert_close(output.classes, torch.tensor([classes], dtype=torch.float64))
    assert_close(output.boxes, torch.tensor([boxes], dtype=torch.float64))
    assert output.anchors.tolist() == [
        *([-1, -1, 1, 1], [0, -2, 0, 2]),
        *([3, -1, 5, 1], [4, -2, 4, 2]),
        *([-1, 3, 1, 5], [0, 2, 0, 6]),
        *([3, 3, 5, 5], [4, 2, 4, 6]),
        *([-3, -3, 3, 3], [-2, -6, 2, 6]),
        *([5, -3, 11, 3], [6, -6, 10, 6]),
    ]


@torch.no_grad()
def test_by_hand():
    head = small_head()
    head.classification_head.predict.bias.fill_(1.0)
    output = head([full(2, 2, 2, 8.0), full(2, 1, 1, 8.0)])
    # Four pixels, two channels: ¼·8·8 = 16 after the tower, ¼·8·16 = 32 after the prediction. On a single pixel a
    # quarter of each: 4 and 2.
    assert_close(output.classes[0], torch.tensor([[33.0, 33.0]] * 8 + [[3.0, 3.0]] * 2, dtype=torch.float64))
    assert_close(output.boxes[0], torch.tensor([[32.0] * 4] * 8 + [[2.0] * 4] * 2, dtype=torch.float64))


@torch.no_grad()
def test_retinanet_s_towers_have_four_layers():
    head = small_head(num_layers=4)
    for layer in head.regression_head.conv:
        layer.norm.weight.fill_(3.0)
    output = head([full(2, 1, 1, 16.0), full(2, 1, 1, -16.0)])
    # On a single pixel a layer halves, and so does the prediction: 16 / 32. The norms of the box triple four times.
    assert_close(output.classes[0, :2], torch.full((2, 2), 0.5, dtype=torch.float64))
    assert_close(output.boxes[0, :2], torch.full((2, 4), 0.5 * 3**4, dtype=torch.float64))
    assert not output.classes[0, 2:].any() and not output.boxes[0, 2:].any()  # ReLU
    for tower in (head.classification_head, head.regression_head):
        assert [type(layer) for layer in tower.conv] == [ConvNormAct] * 4
        assert all(layer.conv.bias is None and isinstance(layer.act, nn.ReLU) for layer in tower.conv)


@torch.no_grad()
def test_instance_norm_by_hand():
    head = small_head(norm_type="instance_norm")
    for tower in (head.classification_head, head.regression_head):
        centred(tower.conv[0].conv, 0.5)
        centred(tower.predict, 0.5)
    output = head([table([1.0, 3.0]).repeat(1, 2, 1, 1), full(2, 1, 2, 7.0)])
    # Mean 2 and variance 1: -1 and 1 except for epsilon; negative values become 0. A constant map becomes 0.
    high = (1 + 1e-5) ** -0.5
    expected = torch.tensor([[0.0] * 2] * 2 + [[high] * 2] * 2 + [[0.0] * 2] * 4, dtype=torch.float64)
    assert_close(output.classes[0], expected)
    assert not list(head.regression_head.conv[0].norm.parameters())  # it does not learn anything


def test_instance_norm_needs_more_than_a_single_position():
    """The last map of an image of 32×32 pixels has a single position, so it has no variance."""
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        small_head(norm_type="instance_norm")([full(2, 2, 2, 1.0), full(2, 1, 1, 1.0)])


@torch.no_grad()
def test_the_towers_are_shared_and_images_do_not_mix():
    torch.manual_seed(0)
    head = AnchorDecoupledHead((3, 3), STRIDES[:2], 2, AnchorDecoupledHeadConfig(anchor_sizes=((8,), (16,)))).eval()
    first, second = torch.randn(2, 3, 5, 3), torch.randn(2, 3, 3, 2)
    both = head([first, second])
    assert both.classes.shape == (2, 3 * (15 + 6), 2) and both.boxes.shape == (2, 3 * (15 + 6), 4)
    swapped = head([second, first])
    torch.testing.assert_close(swapped.classes[:, 18:], both.classes[:, :45])
    alone = head([first[1:], second[1:]])
    torch.testing.assert_close(alone.boxes[0], both.boxes[1])
    assert torch.equal(alone.anchors, both.anchors)


def test_first_values():
    torch.manual_seed(0)
    sizes = ((32,), (64,), (128,), (256,))
    head = AnchorDecoupledHead((64,) * 4, STRIDES, 5, AnchorDecoupledHeadConfig(sizes, num_layers=4))
    torch.testing.assert_close(head.classification_head.predict.bias.sigmoid(), torch.full((15,), 0.01))
    assert not head.regression_head.predict.bias.any()
    for conv in head.modules():
        if isinstance(conv, nn.Conv2d):
            assert conv.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_values_are_normalised():
    config = AnchorDecoupledHeadConfig(anchor_sizes=[[32], [64]], aspect_ratios=[1, 2])
    assert config.anchor_sizes == ((32.0,), (64.0,)) and config.aspect_ratios == (1.0, 2.0)
    assert hash(config) == hash(AnchorDecoupledHeadConfig(((32.0,), (64.0,)), (1.0, 2.0)))


SIZES = "allowed: a list of sizes in pixels per feature map, of equal length, such as [[32], [64], [128], [256]]"
RATIOS = "allowed: a list of heights over widths, such as [0.5, 1, 2]"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"anchor_sizes": []}, f"anchor_sizes=[] is not possible; {SIZES}"),
        ({"anchor_sizes": [[]]}, f"anchor_sizes=[[]] is not possible; {SIZES}"),
        ({"anchor_sizes": 32}, f"anchor_sizes=32 is not possible; {SIZES}"),
        ({"anchor_sizes": "32"}, f"anchor_sizes='32' is not possible; {SIZES}"),
        ({"anchor_sizes": [32, 64]}, f"anchor_sizes=[32, 64] is not possible; {SIZES}"),
        ({"anchor_sizes": [[32], 64]}, f"anchor_sizes=[[32], 64] is not possible; {SIZES}"),
        ({"anchor_sizes": [[32], [64, 90]]}, f"anchor_sizes=[[32], [64, 90]] is not possible; {SIZES}"),
        ({"anchor_sizes": [[0]]}, "anchor_sizes=0 is not possible; allowed: a finite number above 0"),
        ({"anchor_sizes": [["a"]]}, "anchor_sizes='a' is not possible; allowed: a finite number above 0"),
        ({"aspect_ratios": []}, f"aspect_ratios=[] is not possible; {RATIOS}"),
        ({"aspect_ratios": 1.0}, f"aspect_ratios=1.0 is not possible; {RATIOS}"),
        ({"aspect_ratios": [-1]}, "aspect_ratios=-1 is not possible; allowed: a finite number above 0"),
        ({"num_layers": -1}, "num_layers=-1 is not possible; allowed: a whole number, at least 0"),
        ({"norm_type": "layer_norm"}, "norm_type='layer_norm' is not possible; allowed: batch_norm, instance_norm"),
        ({"norm_type": ["batch_norm"]}, "norm_type=['batch_norm'] is not possible; allowed: batch_norm, instance_norm"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        AnchorDecoupledHeadConfig(**fields)


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ((8, 8, 16, 8), "feature maps with 8, 8, 16, 8 channels; the towers are shared and need equal widths"),
        (
            (8, 8, 8),
            "anchor_sizes=((32.0,), (64.0,), (128.0,), (256.0,)) is not possible; allowed: 3 lists, one per feature "
            "map",
        ),
    ],
)
def test_wrong_maps_are_refused(dims, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        AnchorDecoupledHead(dims, STRIDES, 5, AnchorDecoupledHeadConfig())


def small_anchor_free_head(**fields) -> AnchorFreeDecoupledHead:
    """Maps of two and of four channels, two classes; every weight is ½, and every output has a different bias."""
    config = AnchorFreeDecoupledHeadConfig(act_type="relu", **fields)
    head = constant(AnchorFreeDecoupledHead((2, 4), (8, 16), 2, config), 0.5)
    for preds, bias in ((head.reg_preds, [1, 2, 3, 4]), (head.obj_preds, [5]), (head.cls_preds, [6, 7])):
        for conv in preds:
            conv.bias.data = torch.tensor(bias, dtype=torch.float64)
    return head


def column(numbers: list[float]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64).view(1, -1, 1, 1)


@torch.no_grad()
def test_anchor_free_by_hand():
    head = small_anchor_free_head()
    for conv in head.cls_convs.modules():
        if isinstance(conv, nn.Conv2d):
            conv.weight.fill_(1.0)
    outs = head([full(2, 1, 1, 10.0), full(4, 1, 1, 20.0)])
    # ½ of two channels changes nothing, ½ of four doubles; for the class, both convolutions double again.
    assert_close(outs[0], column([11.0, 12.0, 13.0, 14.0, 15.0, 46.0, 47.0]))
    assert_close(outs[1], column([41.0, 42.0, 43.0, 44.0, 45.0, 166.0, 167.0]))


@torch.no_grad()
def test_by_hand_with_depthwise_convolutions():
    outs = small_anchor_free_head(depthwise=True)([full(2, 1, 1, 16.0), full(4, 1, 1, -16.0)])
    # Each channel is halved separately, twice in two convolutions; negative values become 0.
    assert_close(outs[0], column([5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]))
    assert_close(outs[1], column([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]))


@torch.no_grad()
def test_windows_by_hand():
    outs = small_anchor_free_head()([full(2, 2, 3, 1.0), full(4, 1, 1, 0.0)])
    # Convolutions of 3×3 on 2×3 pixels sum their inputs: 4 6 4 over the same, then 20 28 20 over the same.
    assert outs[0][0, :, 0, 0].tolist() == [21, 22, 23, 24, 25, 26, 27]
    assert outs[0][0, :, 1, 1].tolist() == [29, 30, 31, 32, 33, 34, 35]
    assert torch.equal(outs[0].flip(3), outs[0]) and torch.equal(outs[0].flip(2), outs[0])


@torch.no_grad()
def test_maps_have_weights_of_their_own():
    torch.manual_seed(0)
    head = AnchorFreeDecoupledHead((4, 4), (8, 16), 3, AnchorFreeDecoupledHeadConfig()).eval()
    x = torch.randn(2, 4, 5, 3)
    first, second = head([x, x])
    assert first.shape == second.shape == (2, 4 + 1 + 3, 5, 3)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("depthwise", [False, True])
def test_first_values_anchor_free(depthwise):
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
def test_wrong_fields_anchor_free(fields, message):
    with pytest.raises(ValueError, match=message):
        AnchorFreeDecoupledHeadConfig(**fields)
