"""Complete networks: every valid pair at any size, and why the other pairs are refused."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from dense_networks import ALLOWED, HEADS, NECKS, REFUSED, SMALL, dense_config, dense_network, images

from efficientformer_edu.config import PRESETS
from efficientformer_edu.dense import AnchorPredictions, DenseConfig, DenseNetwork, FCConfig, FPNConfig
from efficientformer_edu.dense import network as networks
from efficientformer_edu.dense.network import MATRIX

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
    assert set(networks.NECKS) == set(NECKS) - {"no neck"}
    assert set(networks.HEADS) == set(networks.TASKS) == set(HEADS)
    assert set(networks.TASKS.values()) == set(networks.CLASSES)


WHY = {
    "fc": "the mean over the whole image",
    "all_mlp_decoder": "the backbone's maps as they are",
    "semantic_fpn": "one width and start at a quarter of the image",
    "anchor_decoupled_head": "must have one width",
    "anchor_free_decoupled_head": "put a neck between",
}


@pytest.mark.parametrize("pair", REFUSED, ids=" ".join)
def test_a_pair_that_does_not_go_together_is_refused(pair):
    neck, head = pair
    possible = ", ".join(allowed_neck for allowed_neck, other in ALLOWED if other == head)
    message = f"{head} with {neck} is not possible: {MATRIX[pair]}; allowed: {possible}"
    assert WHY[head] in MATRIX[pair]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        dense_config(pair)


def test_a_refusal_word_by_word():
    with pytest.raises(ValueError) as error:
        dense_config(("yolopafpn", "anchor_decoupled_head"))
    assert str(error.value) == (
        "anchor_decoupled_head with yolopafpn is not possible: its towers are shared by all maps, which must have one "
        "width; allowed: fpn"
    )


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
        with pytest.raises(ValueError, match=r"^anchor_sizes=.* is not possible; allowed: 4 lists, one for each map$"):
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
            "downsamples=(True, True, True, True) is not possible; allowed: (False, True, True, True), for maps of "
            "strides 4 to 32",
        ),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        DenseConfig(**{"backbone": SMALL, "head": HEADS["all_mlp_decoder"]} | fields)
