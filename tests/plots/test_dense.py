"""The flowchart of a network for a dense task has the shapes of a real run."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from strategies import resolutions

from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.dense import (
    ALLMLPDecoderConfig,
    AnchorDecoupledHeadConfig,
    AnchorFreeDecoupledHeadConfig,
    DenseConfig,
    DenseNetwork,
    FCConfig,
    FPNConfig,
    SemanticFPNConfig,
    YOLOPAFPNConfig,
)
from efficientformer_edu.dense.network import HEADS, MATRIX, NECKS
from efficientformer_edu.plots import PARTS
from efficientformer_edu.plots.dense import LABELS, PAFPN, dense_alt_text, dense_mermaid, dense_shapes

SMALL = EfficientFormerConfig(depths=(1, 1, 1, 2), embed_dims=(16, 32, 48, 64), num_heads=2, key_dim=8)
PAIRS = [pair for pair, why in MATRIX.items() if not why]


def config(neck: str, head: str, backbone: EfficientFormerConfig = SMALL, **fields) -> DenseConfig:
    neck_config = NECKS[neck].config() if neck in NECKS else None
    return DenseConfig(backbone, HEADS[head].config(), neck_config, num_classes=7, **fields)


def shapes(text: str) -> set[tuple[int, ...]]:
    return {tuple(map(int, size.split("×"))) for size in re.findall(r'-->\|"([^"]+)"\|', text)}


def edges(text: str) -> set[tuple[str, str]]:
    return set(re.findall(r'^(\w+) -->\|"[^"]+"\| (\w+)$', text, re.MULTILINE))


@pytest.mark.parametrize(("neck", "head"), PAIRS)
@torch.no_grad()
def test_every_shape_is_that_of_a_real_run(neck: str, head: str) -> None:
    network = DenseNetwork(config(neck, head)).eval()
    images = torch.randn(1, 3, 65, 100)
    outputs = network(images)
    tensors = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    features = network.backbone.features(images)
    known = {(3, 65, 100), (16, 17, 25), (64,), *(tuple(x.shape[1:]) for x in features)}
    known |= {tuple(x.shape[-2:]) if isinstance(outputs, tuple) else tuple(x.shape[1:]) for x in tensors}
    levels = {tuple(x.shape[1:]) for x in network.neck(network.backbone(images))} if network.neck else set()
    inside = {(48, 3, 4), (32, 5, 7)} if neck == "yolopafpn" else set()  # coarse maps at the width of a finer one
    seen = shapes(dense_mermaid(network, (65, 100)))
    assert seen <= known | levels | inside
    assert {tuple(x.shape[1:]) for x in features} | levels <= seen
    assert dense_mermaid(network.config, (65, 100)) == dense_mermaid(network, (65, 100))


@pytest.mark.parametrize(("neck", "head"), PAIRS)
@pytest.mark.parametrize("norms", [True, False])
def test_is_well_formed(neck: str, head: str, norms: bool) -> None:
    text = dense_mermaid(config(neck, head, norms=norms), 64)
    lines = text.splitlines()
    assert lines[0] == "flowchart TB"
    assert sum(line.startswith("subgraph ") for line in lines) == lines.count("end") == 1 + (neck in NECKS)
    declared = re.findall(r"^(\w+)(?:\[|\(\[)", text, re.MULTILINE)
    assert len(declared) == len(set(declared))
    links = {*edges(text), ("backbone", "stem")}  # the image goes into the frame, which starts with the stem
    reached = {"image"}
    while more := {end for start, end in links if start in reached} - reached:
        reached |= more
    assert reached == {*declared, "backbone"} == {name for link in links for name in link}
    used = set(re.findall(r":::(\w+)$", text, re.MULTILINE))
    assert used <= {line.split()[1] for line in lines if line.startswith("classDef ")} == {*PARTS, "neck"}
    assert ("norm4" in declared) == (norms and head != "fc")


def test_l1_with_its_detector() -> None:
    detector = DenseConfig(PRESETS["l1"], AnchorDecoupledHeadConfig(), FPNConfig(), num_classes=20)
    text = dense_mermaid(detector)
    for line in (
        'image -->|"3×512×512"| backbone',
        'stage4["stage 4<br/>embedding, MB4D ×3, MB3D ×1"]:::MB3D',
        'stage3 -->|"224×32×32"| stage4',
        'norm1 -->|"48×128×128"| P4',
        'P32 -->|"448×16×16"| P16',
        'P8 -->|"448×64×64"| head',
        'head -->|"65280×20"| output0',
        'output1(["boxes"]):::image',
        'head -->|"65280×4"| output2',
    ):
        assert f"{line}\n" in text
    alt_text = dense_alt_text(detector)
    for part in (
        "AnchorDecoupledHead on an image of 512×512 pixels",
        "48×128×128, 96×64×64, 224×32×32, 448×16×16",
        "448×128×128 at 1/4, 448×64×64 at 1/8, 448×32×32 at 1/16, 448×16×16 at 1/32",
        "classes 65280×20, boxes 65280×4, anchors 65280×4",
    ):
        assert part in alt_text
    assert f"accDescr: {dense_alt_text(detector)}\n" in text


def test_a_classifier_has_no_neck_and_a_mean() -> None:
    text = dense_mermaid(DenseConfig(PRESETS["l3"], FCConfig(), num_classes=10), 225)
    assert 'stage4 -->|"512×8×8"| mean' in text
    assert 'mean -->|"512"| head' in text
    assert 'head -->|"10"| output0' in text
    assert "on an image of 225×225 pixels" in text


def test_maps_without_norms_come_from_the_stages() -> None:
    text = dense_mermaid(DenseConfig(SMALL, ALLMLPDecoderConfig(), num_classes=5, norms=False), 64)
    assert {(f"stage{j}", "head") for j in range(1, 5)} <= edges(text)
    assert 'head -->|"5×16×16"| output0' in text


@pytest.mark.parametrize(
    ("extra", "source", "label"),
    [
        (False, "P32", "every second pixel"),
        ("on_input", "norm4", "3×3, stride 2"),
        ("on_lateral", "P32", "3×3, stride 2,<br/>on the lateral"),
        ("on_output", "P32", "3×3, stride 2"),
    ],
)
def test_how_further_levels_are_made(extra, source: str, label: str) -> None:
    head = AnchorFreeDecoupledHeadConfig()
    neck = FPNConfig(num_outs=5, start_level=1, add_extra_convs=extra)
    text = dense_mermaid(DenseConfig(SMALL, head, neck, num_classes=3), (96, 64))
    assert {start for start, end in edges(text) if end == "P64"} == {source}
    assert {start for start, end in edges(text) if end == "P128"} == {"P64"}
    assert f'P64["{label}"]:::neck' in text
    assert 'P64 -->|"64×2×1"| P128' in text and 'P128 -->|"64×1×1"| head' in text
    assert not {start for start, _ in edges(text)} & {"norm1", "P4"}


def test_levels_that_end_early() -> None:
    neck = FPNConfig(num_outs=2, start_level=0, end_level=1)
    text = dense_mermaid(DenseConfig(SMALL, SemanticFPNConfig(), neck, num_classes=3), 64)
    assert 'P8["1×1, 3×3"]:::neck' in text and 'P4["1×1, sum, 3×3"]:::neck' in text
    assert {start for start, end in edges(text) if end == "head"} == {"P4", "P8"}


def test_the_pyramid_of_yolox_goes_down_and_up() -> None:
    text = dense_mermaid(DenseConfig(PRESETS["l1"], AnchorFreeDecoupledHeadConfig(), YOLOPAFPNConfig()), 512)
    for line in (
        'norm4 -->|"448×16×16"| lateral_conv0',
        'lateral_conv0 -->|"224×16×16"| reduce_conv1',
        'reduce_conv1 -->|"96×32×32"| C3_p3',
        'C3_p3 -->|"96×64×64"| C3_n3',
        'C3_n3 -->|"224×32×32"| C3_n4',
        'C3_n4 -->|"448×16×16"| head',
        'output2(["predictions at 1/32"]):::image',
    ):
        assert f"{line}\n" in text
    assert {start for start, end in edges(text) if end == "head"} == set(list(PAFPN)[2:])


@settings(max_examples=15)
@given(resolution=resolutions)
def test_maps_follow_the_image(resolution: tuple[int, int]) -> None:
    result = dense_shapes(config("fpn", "semantic_fpn"), resolution)
    assert [size[1:] for size in result.maps] == list(SMALL.grids(resolution))
    assert {stride: size[1:] for stride, size in result.levels.items()} == dict(
        zip((4, 8, 16, 32), SMALL.grids(resolution), strict=True)
    )


def test_too_small_an_image() -> None:
    with pytest.raises(ValueError, match=r"resolution=31.* 32 "):
        dense_mermaid(config("no neck", "fc"), 31)


def test_every_neck_and_head_has_a_label() -> None:
    assert set(LABELS) == {*NECKS, *HEADS}
