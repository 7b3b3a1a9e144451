"""Networks: every valid neck and head at any size, the backbone, FC, and the default network of each task."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dense_networks import (
    ALLOWED,
    HEADS,
    NECKS,
    REFUSED,
    SMALL,
    assert_close,
    constant,
    dense_config,
    dense_network,
    images,
)
from torch import nn

from efficientformer_edu import EfficientFormer, fold, load, save
from efficientformer_edu.config import PRESETS, get_config
from efficientformer_edu.dense import (
    FC,
    AnchorPredictions,
    DenseBackbone,
    DenseConfig,
    DenseNetwork,
    FCConfig,
    FPNConfig,
)
from efficientformer_edu.dense import network as networks
from efficientformer_edu.dense.detection.heads import AnchorDecoupledHeadConfig
from efficientformer_edu.dense.network import DEFAULT_HEADS, MATRIX, SMALL_BACKBONE, STRIDES, default_config

BACKBONE_SIZES = [(64, 64), (65, 65), (100, 67)]


def backbone() -> DenseBackbone:
    return dense_network(("no neck", "all_mlp_decoder")).backbone


@pytest.mark.parametrize("size", BACKBONE_SIZES)
@torch.no_grad()
def test_every_output_of_every_image_is_normalized_over_all_its_values(size):
    network = backbone()
    batch = images(2, *size)
    for norm, output, x in zip(network.norms, network(batch), network.features(batch), strict=True):
        mean = x.mean((1, 2, 3), keepdim=True)
        deviation = (x.var((1, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        expected = (x - mean) / deviation * norm.weight[:, None, None] + norm.bias[:, None, None]
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", BACKBONE_SIZES)
@torch.no_grad()
def test_maps_are_as_large_as_their_strides_say(size):
    maps = backbone()(images(1, *size))
    height, width = size
    for x, stride, dim in zip(maps, STRIDES, SMALL.embed_dims, strict=True):
        assert x.shape == (1, dim, -(-height // stride), -(-width // stride))


@torch.no_grad()
def test_without_norms_the_outputs_are_the_features():
    network = DenseBackbone(SMALL, norms=False).eval()
    batch = images(1, 64, 96)
    assert all(torch.equal(output, x) for output, x in zip(network(batch), network.features(batch), strict=True))
    model = EfficientFormer(SMALL)
    heads = sum(p.numel() for head in (model.head, model.head_dist) for p in head.parameters())
    without = sum(p.numel() for p in model.parameters()) - heads
    assert sum(p.numel() for p in network.parameters()) == without
    assert sum(p.numel() for p in DenseBackbone(SMALL).parameters()) == without + 2 * sum(SMALL.embed_dims)


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_norms_of_the_published_networks(name):
    with torch.device("meta"):
        network = DenseBackbone(PRESETS[name])
    assert [(type(norm), norm.num_groups, norm.eps) for norm in network.norms] == [(nn.GroupNorm, 1, 1e-5)] * 4
    assert tuple(norm.num_channels for norm in network.norms) == PRESETS[name].embed_dims


@pytest.mark.parametrize("layout", ["timm", "netspresso"])
@torch.no_grad()
def test_the_weights_of_a_classification_network_fit(tmp_path, layout):
    torch.manual_seed(1)
    model = EfficientFormer(SMALL.replace(key_dim=32, num_heads=8, bias_grid=7)).eval()  # supported by every layout
    path = tmp_path / "model.safetensors"
    save(model, path, layout=layout)
    network = DenseBackbone(model.config).eval()
    result = network.load_state_dict(load(path, head=False), strict=False)
    assert result.missing_keys == [f"norms.{j}.{which}" for j in range(4) for which in ("weight", "bias")]
    assert result.unexpected_keys == []
    batch = images(1, 70, 65)
    for output, x in zip(network.features(batch), model.features(batch), strict=True):
        torch.testing.assert_close(output, x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", BACKBONE_SIZES)
@torch.no_grad()
def test_folding_keeps_the_maps(size):
    network = backbone()
    folded = fold(network, size)
    assert type(folded) is DenseBackbone and folded.input_size == size
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    batch = images(2, *size)
    for output, x in zip(folded(batch), network(batch), strict=True):
        assert output.shape == x.shape
        torch.testing.assert_close(output, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pair", ALLOWED, ids=" ".join)
@torch.no_grad()
def test_a_folded_backbone_in_its_network(pair):
    network = dense_network(pair)
    batch = images(2, 100, 67)
    expected = network(batch)
    network.backbone = fold(network.backbone, (100, 67))
    torch.testing.assert_close(network(batch), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="^images are 64×64 pixels; wanted: .*100×67, for which it was folded$"):
        network(images(1, 64, 64))
    with pytest.raises(ValueError, match="folded already"):
        fold(network.backbone, 64)


POOLED = torch.tensor([[1.0, 2.0], [0.0, -4.0]], dtype=torch.float64)


@torch.no_grad()
def test_two_layers_by_hand():
    head = constant(FC(2, 3, FCConfig(num_layers=2, intermediate_channels=4, act_type="relu")), 0.5, bias=0.25)
    # ½·(1 + 2) + ¼ = 1.75 on four channels, and ½·4·1.75 + ¼; the second image is negative in between.
    assert_close(head(POOLED), torch.tensor([[3.75] * 3, [0.25] * 3], dtype=torch.float64))


@torch.no_grad()
def test_three_layers_and_their_activation_by_hand():
    head = constant(FC(2, 1, FCConfig(num_layers=3, intermediate_channels=2, act_type="hard_swish")), 0.5)

    def hard_swish(x: float) -> float:
        return x * min(max(x + 3, 0), 6) / 6

    first, second = hard_swish(0.5 * 3), hard_swish(0.5 * -4)
    expected = torch.tensor([[hard_swish(first)], [hard_swish(second)]], dtype=torch.float64)
    assert (first, second) == (1.125, -1 / 3)
    assert_close(head(POOLED), expected)


def test_netspresso_s_two_layers():
    config = FCConfig(num_layers=2, intermediate_channels=1024, act_type="hard_swish", dropout_prob=0.2)
    parts = list(FC(448, 20, config).classifier)
    assert [type(part) for part in parts] == [nn.Dropout, nn.Linear, nn.Hardswish, nn.Dropout, nn.Linear]
    assert [part.p for part in parts if isinstance(part, nn.Dropout)] == [0.2, 0.2]
    widths = [(part.in_features, part.out_features) for part in parts if isinstance(part, nn.Linear)]
    assert widths == [(448, 1024), (1024, 20)]


@torch.no_grad()
def test_a_single_layer_is_the_classifier_of_an_efficientformer():
    model = EfficientFormer(SMALL.replace(distillation=False, num_classes=7)).eval()
    network = DenseNetwork(DenseConfig(SMALL, FCConfig(), num_classes=7)).eval()
    state = {f"backbone.{name}": value for name, value in model.state_dict().items()}
    for which in ("weight", "bias"):
        state[f"head.classifier.1.{which}"] = state.pop(f"backbone.head.{which}")
    network.load_state_dict(state)  # exactly these names: there are no output norms
    batch = images(2, 65, 97)
    assert torch.equal(network(batch), model(batch))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_layers": 0}, "^num_layers=0 is not possible; allowed: a whole number, at least 1$"),
        ({"num_layers": 2, "act_type": "relu"}, "^intermediate_channels=None is not possible; allowed: a whole number"),
        ({"num_layers": 2, "intermediate_channels": 8}, "^act_type=None is not possible; allowed: gelu, relu"),
        ({"act_type": "tanh"}, "^act_type='tanh' is not possible; allowed: gelu, relu"),
        ({"intermediate_channels": -1}, "^intermediate_channels=-1 is not possible"),
        ({"dropout_prob": 1}, "^dropout_prob=1 is not possible; allowed: a number from 0 to below 1$"),
    ],
)
def test_wrong_fields_of_fc_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        FCConfig(**fields)


SIZES = [(512, 512), (225, 225), (480, 640), (500, 333)]
SCALED = [(65, 65), (96, 128), (100, 67)]


def shapes(outputs) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in ([outputs] if isinstance(outputs, torch.Tensor) else outputs)]


def expected_shapes(pair, batch, size, classes):
    """The valid pairs according to the files of the heads, computed from the image size alone."""
    neck, head = pair
    grids = [tuple(-(-side // stride) for side in size) for stride in (4, 8, 16, 32)]
    if head == "fc":
        return [(batch, classes)]
    if head in ("all_mlp_decoder", "semantic_fpn"):
        return [(batch, classes, *grids[0])]
    if head == "anchor_decoupled_head":
        anchors = 3 * sum(height * width for height, width in grids)
        return [(batch, anchors, classes), (batch, anchors, 4), (anchors, 4)]
    return [(batch, 4 + 1 + classes, *grid) for grid in grids[neck == "yolopafpn" :]]


def test_the_pairs_that_go_together():
    assert ALLOWED == [
        ("no neck", "fc"),
        ("no neck", "all_mlp_decoder"),
        ("fpn", "semantic_fpn"),
        ("fpn", "anchor_decoupled_head"),
        ("fpn", "anchor_free_decoupled_head"),
        ("yolopafpn", "anchor_free_decoupled_head"),
    ]
    assert set(MATRIX) == set(itertools.product(NECKS, HEADS))
    assert set(networks.NECKS) == set(NECKS) - {"no neck"} and set(networks.HEADS) == set(HEADS)
    assert {head.task for head in networks.HEADS.values()} == set(networks.NUM_CLASSES)


@pytest.mark.parametrize("pair", REFUSED, ids=" ".join)
def test_a_pair_that_does_not_go_together_is_refused(pair):
    neck, head = pair
    possible = ", ".join(allowed_neck for allowed_neck, other in ALLOWED if other == head)
    message = f"{head} with {neck} is not possible: {MATRIX[pair]}; allowed: {possible}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        dense_config(pair)


def test_a_refusal_word_by_word():
    with pytest.raises(ValueError) as error:
        dense_config(("yolopafpn", "anchor_decoupled_head"))
    assert str(error.value).startswith("anchor_decoupled_head with yolopafpn is not possible: ")
    assert str(error.value).endswith("; allowed: fpn")


@pytest.mark.parametrize("pair", ALLOWED, ids=" ".join)
@pytest.mark.parametrize(("name", "sizes"), [("l1", SIZES), ("l3", SIZES[3:]), ("l7", SIZES[1:2])])
def test_the_published_networks_at_any_size(pair, name, sizes):
    """As shapes without values."""
    with torch.device("meta"):
        network = DenseNetwork(dense_config(pair, PRESETS[name], num_classes=20)).eval()
    for size in sizes:
        outputs = network(torch.empty(2, 3, *size, device="meta"))
        assert shapes(outputs) == expected_shapes(pair, 2, size, 20)


@pytest.mark.parametrize("size", SCALED, ids=str)
@pytest.mark.parametrize("pair", ALLOWED, ids=" ".join)
@torch.no_grad()
def test_any_size_with_numbers(pair, size):
    network = dense_network(pair)
    batch = images(2, *size)
    outputs = network(batch)
    assert shapes(outputs) == expected_shapes(pair, 2, size, 3)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    assert all(x.isfinite().all() for x in outputs)
    alone = network(batch[1:])
    for both, expected in zip(outputs, [alone] if isinstance(alone, torch.Tensor) else alone, strict=True):
        if both.ndim > 2 or pair == ("no neck", "fc"):  # the anchors are the same for all images
            torch.testing.assert_close(expected[0], both[1], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_anchors_of_a_full_network_at_512():
    """The count that NetsPresso has for every image; there the maps are 128, 64, 32 and 16 pixels wide."""
    with torch.device("meta"):
        network = DenseNetwork(dense_config(("fpn", "anchor_decoupled_head"), num_classes=20)).eval()
    output = network(torch.empty(1, 3, 512, 512, device="meta"))
    assert isinstance(output, AnchorPredictions)
    assert output.anchors.shape == (65_280, 4) and output.boxes.shape == (1, 65_280, 4)


@pytest.mark.parametrize("pair", ALLOWED, ids=" ".join)
def test_every_parameter_learns_but_norms_of_what_is_not_used(pair):
    network = dense_network(pair).train()
    outputs = network(images(2, 96, 65))
    floats = [outputs] if isinstance(outputs, torch.Tensor) else [x for x in outputs if x.requires_grad]
    sum((x**2).sum() for x in floats).backward()
    without = {name.rpartition(".")[0] for name, parameter in network.named_parameters() if parameter.grad is None}
    unused = {"backbone.norm", "backbone.norms.0"} if pair[0] == "yolopafpn" else {"backbone.norm"}
    assert without == (set() if pair[1] == "fc" else unused)


@pytest.mark.parametrize("pair", ALLOWED, ids=" ".join)
def test_the_smallest_images_and_smaller_images(pair):
    network = dense_network(pair)
    assert shapes(network(images(1, 32, 33))) == expected_shapes(pair, 1, (32, 33), 3)
    with pytest.raises(ValueError, match=r"^images are 31×32 pixels; wanted: a float tensor \(B, 3, H, W\)"):
        network(images(1, 31, 32))
    with pytest.raises(ValueError, match=r"^images are torch.uint8 of shape \(1, 3, 64, 64\); wanted: a float tensor"):
        network(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


@pytest.mark.parametrize("pair", ALLOWED, ids=" ".join)
def test_half_precision(pair):
    network = dense_network(pair).to(torch.bfloat16)
    outputs = network(images(1, 64, 64).to(torch.bfloat16))
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    anchors = pair[1] == "anchor_decoupled_head"
    assert [x.dtype for x in outputs] == [torch.bfloat16] * (len(outputs) - anchors) + [torch.float32] * anchors


def test_the_backbone_has_what_the_head_says():
    with torch.device("meta"):
        network = DenseNetwork(DenseConfig(PRESETS["l3"], FCConfig(), num_classes=7))
        without_norms = DenseNetwork(DenseConfig(SMALL, HEADS["all_mlp_decoder"], norms=False))
    assert not network.backbone.config.distillation and network.backbone.config.num_classes == 7
    assert network.config.task == "classification" and network.config.names == ("no neck", "fc")
    assert network.neck is None and not list(network.backbone.norms.parameters())
    assert not list(without_norms.backbone.norms.parameters()) and without_norms.config.task == "segmentation"


def test_more_maps_for_a_retinanet():
    """Five maps, the last of which is every second pixel of the fourth, need anchor sizes for five maps."""
    sizes = tuple((size,) for size in (32, 64, 128, 256, 512))
    head = type(HEADS["anchor_decoupled_head"])(anchor_sizes=sizes, num_layers=4)
    with torch.device("meta"):
        network = DenseNetwork(DenseConfig(SMALL, head, FPNConfig(num_outs=5), num_classes=20))
        with pytest.raises(
            ValueError, match=r"^anchor_sizes=.* is not possible; allowed: 4 lists, one per feature map$"
        ):
            DenseNetwork(DenseConfig(SMALL, head, FPNConfig(num_outs=4)))
    locations = 128 * 96 + 64 * 48 + 32 * 24 + 16 * 12 + 8 * 6
    assert network(torch.empty(1, 3, 512, 384, device="meta")).anchors.shape == (3 * locations, 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_classes": 0}, "num_classes=0 is not possible; allowed: a whole number, at least 1"),
        ({"norms": 1}, "norms=1 is not possible; allowed: True or False"),
        ({"neck": "fpn"}, "neck='fpn' is not possible; allowed: FPNConfig or YOLOPAFPNConfig"),
        (
            {"head": None},
            "head=None is not possible; allowed: FCConfig or ALLMLPDecoderConfig or SemanticFPNConfig or "
            "AnchorDecoupledHeadConfig or AnchorFreeDecoupledHeadConfig",
        ),
        (
            {"backbone": SMALL.replace(downsamples=(True,) * 4)},
            "downsamples=(True, True, True, True) is not possible; allowed: (False, True, True, True), for feature "
            "maps of strides 4 to 32",
        ),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        DenseConfig(**{"backbone": SMALL, "head": HEADS["all_mlp_decoder"]} | fields)


@pytest.mark.parametrize("name", [name for name, head in networks.HEADS.items() if head.task in DEFAULT_HEADS])
def test_every_head_has_a_compatible_neck(name: str) -> None:
    config = default_config(SMALL_BACKBONE, networks.HEADS[name].task, 4, name)
    assert (config.names[1], config.task, config.num_classes) == (name, networks.HEADS[name].task, 4)
    with torch.no_grad():
        output = DenseNetwork(config).eval()(images(1, 64, 64))
    if config.task == "segmentation":
        assert output.shape == (1, 4, 16, 16)
    else:
        assert output[0].shape[:2] == ((1, 3 * 340) if name == "anchor_decoupled_head" else (1, 9))


@pytest.mark.parametrize("task", DEFAULT_HEADS)
def test_without_a_head_it_is_the_default_of_the_task(task: str) -> None:
    config = default_config(get_config("l1"), task, 3)
    assert config.names[1] == DEFAULT_HEADS[task]
    assert config.backbone == get_config("l1")
    assert config == default_config(get_config("l1"), task, 3, DEFAULT_HEADS[task])


def test_the_papers_semantic_fpn_has_256_channels() -> None:
    assert default_config(get_config("l1"), "segmentation", 150, "semantic_fpn").neck.out_channels == 256


def test_the_small_backbone_has_a_bias_per_pair_of_positions() -> None:
    """For scenes of 96×96 pixels no table is resized."""
    assert SMALL_BACKBONE.grids(96)[-1] == SMALL_BACKBONE.bias_grid == (3, 3)


def test_with_the_small_backbone_heads_are_narrow() -> None:
    """Most of the weights still belong to the backbone."""
    for name in ("all_mlp_decoder", "semantic_fpn", "anchor_decoupled_head"):
        network = DenseNetwork(default_config(SMALL_BACKBONE, networks.HEADS[name].task, 6, name))
        total, backbone = (
            sum(parameter.numel() for parameter in part.parameters()) for part in (network, network.backbone)
        )
        assert backbone > total / 2
        wide = DenseNetwork(
            default_config(SMALL_BACKBONE.replace(bias_grid=(4, 4)), networks.HEADS[name].task, 6, name)
        )
        assert sum(parameter.numel() for parameter in wide.head.parameters()) > sum(
            parameter.numel() for parameter in network.head.parameters()
        )


def test_an_anchor_is_four_positions_wide_with_the_small_backbone() -> None:
    head = default_config(SMALL_BACKBONE, "detection", 5, "anchor_decoupled_head").head
    assert isinstance(head, AnchorDecoupledHeadConfig)
    assert head.anchor_sizes == tuple((4.0 * stride,) for stride in STRIDES)


def test_invalid_tasks_and_heads_are_named() -> None:
    with pytest.raises(ValueError, match=r"task='classification' is not possible; allowed: segmentation or detection"):
        default_config(SMALL_BACKBONE, "classification", 3)
    allowed = "allowed: all_mlp_decoder, semantic_fpn for segmentation"
    for head in ("yolo", "anchor_decoupled_head"):
        with pytest.raises(ValueError, match=rf"head='{head}' is not possible; {allowed}"):
            default_config(SMALL_BACKBONE, "segmentation", 3, head)
    with pytest.raises(ValueError, match="num_classes=0"):
        default_config(SMALL_BACKBONE, "detection", 0)


SIGNATURES = """
import sys
sys.path.insert(0, sys.argv[1])
from jaxtyping import install_import_hook, TypeCheckError

with install_import_hook(["efficientformer_edu.model", "efficientformer_edu.dense"], "beartype.beartype"):
    from efficientformer_edu import dense
    from efficientformer_edu.dense import evaluation, losses
    from efficientformer_edu.dense.detection import postprocess
    from efficientformer_edu.data import examples

import torch
import dense_networks as small

boxes, labels = torch.tensor([[10.0, 10, 40, 50], [30, 30, 60, 61]]), torch.tensor([0, 2])
some = examples.Target(boxes, labels, torch.zeros(64, 64, dtype=torch.uint8))
none = examples.Target(boxes[:0], labels[:0], torch.full((64, 64), 255, dtype=torch.uint8))
for pair in small.ALLOWED:
    network = small.dense_network(pair)
    network(small.images(2, 33, 50))
    output, strides = network(small.images(2, 64, 64)), getattr(network.head, "strides", ())
    if pair[1] != "fc":
        network.config.criterion(output, [some, none], strides)
        evaluation.predict_image(network, "abc", torch.zeros(3, 40, 30, dtype=torch.uint8), 32)
    if strides:
        postprocess.detect(output, strides, (64, 64), score_threshold=0.0, pre_nms_topk=50)
head = dense.AnchorFreeDecoupledHead((8,), (4,), 3, dense.AnchorFreeDecoupledHeadConfig(depthwise=True)).eval()
head([torch.zeros(1, 8, 3, 3)])
for call in (
    lambda: head.stems[0](torch.zeros(1, 3, 3)),
    lambda: losses.iou_loss(torch.zeros(3, 4), torch.zeros(2, 4)),
    lambda: evaluation.predict_image(network, "abc", torch.zeros(40, 30, 3), 32),
):
    try:
        call()
    except TypeCheckError:
        print("refused")
"""


@pytest.mark.slow
def test_every_signature_holds():
    """The shapes in the signatures, checked at every call."""
    command = [sys.executable, "-B", "-W", "ignore", "-c", SIGNATURES, str(Path(__file__).parents[1])]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    assert run.stdout.split() == ["refused"] * 3
