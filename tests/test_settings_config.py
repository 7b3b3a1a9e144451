"""Every field of every configuration changes what it is documented to change in the built network, and nothing else."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from settings_cases import ANY, GONE, Observations, check_all_have_cases, check_changes, fingerprint
from torch import Tensor

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.dense import (
    FC,
    FPN,
    YOLOPAFPN,
    ALLMLPDecoder,
    ALLMLPDecoderConfig,
    AnchorDecoupledHead,
    AnchorDecoupledHeadConfig,
    AnchorFreeDecoupledHead,
    AnchorFreeDecoupledHeadConfig,
    DenseConfig,
    DenseNetwork,
    FCConfig,
    FPNConfig,
    SemanticFPN,
    SemanticFPNConfig,
    YOLOPAFPNConfig,
)
from efficientformer_edu.dense.network import HEADS, NECKS
from efficientformer_edu.model import EfficientFormer

# All rates differ, so that a module with the wrong rate is detected.
BASE = EfficientFormerConfig(
    depths=(1, 2, 2, 3),
    embed_dims=(8, 12, 16, 24),
    num_vit=2,
    num_classes=5,
    num_heads=2,
    key_dim=4,
    attn_ratio=2.0,
    bias_grid=(2, 3),
    layer_scale_init=0.25,
    drop_rate=0.1,
    proj_drop_rate=0.2,
    attn_drop_rate=0.3,
    drop_path_rate=0.35,
)
MB4D, MB3D = r"stages\.\d\.mb4d\.\d", r"stages\.\d\.mb3d\.\d"
MIXER = rf"{MB3D}\.token_mixer"
MLP = rf"(?:{MB4D}|{MB3D})\.mlp"


def shape(module: str, parameters: str = "weight|bias") -> str:
    """A pattern for the shapes of a module's parameters."""
    return rf"{module}:(?:{parameters}) shape"


def scaled(factor: float) -> Callable[[float, float], None]:
    """Check that a value is `factor` times as large as before."""

    def check(before: float, after: float) -> None:
        assert after == pytest.approx(factor * before)

    return check


def drop_path_rates(depths: tuple[int, ...], rate: float, last: bool = True) -> dict[str, Any]:
    """Stochastic depth rises linearly from 0 in the first block to `rate` in the last block."""
    blocks = [f"stages.{j}.mb4d.{i}" for j, depth in enumerate(depths) for i in range(depth)]
    blocks[-2:] = ["stages.3.mb3d.0", "stages.3.mb3d.1"]
    rates = {block: rate * i / (len(blocks) - 1) for i, block in enumerate(blocks)}
    changed = blocks[1:] if last else blocks[1:-1]
    return {rf"{re.escape(block)}\.drop_path:rate": pytest.approx(rates[block]) for block in changed}


# The field, its other value, and what that changes.
Case = tuple[str, Any, dict[str, Any]]
# fmt: off
NETWORK: list[Case] = [
    ("depths", (1, 2, 3, 3), {**drop_path_rates((1, 2, 3, 3), 0.35, last=False), r"stages\.2\.mb4d\.2:calls": 1,
        r"stages\.2\.mb4d\.2.*": ANY}),
    ("embed_dims", (16, 12, 16, 24), {r"stem\.conv1:out_channels": 8, r"stem\.conv2:(?:in|out)_channels": ANY,
        r"stem\.norm1:num_features": 8, r"stem\.norm2:num_features": 16, r"stem\.(?:conv|norm)[12]:.* shape": ANY,
        r"stages\.0\.mb4d\.0\.(?:layer_scale_\d:shape)": (16, 1, 1), r"stages\.0\.mb4d\.0\.mlp\.fc1:in_channels": 16,
        r"stages\.0\.mb4d\.0\.mlp\.fc1:out_channels": 64, r"stages\.0\.mb4d\.0\.mlp\..*": ANY,
        r"stages\.0\.mb4d\.0\.layer_scale_\d:gamma shape": (16,), r"stages\.1\.downsample\.conv:in_channels": 16,
        r"stages\.1\.downsample\.conv:weight shape": (12, 16, 3, 3)}),
    ("embed_dims", (8, 12, 16, 40), {r"stages\.3\.downsample\.conv:out_channels": 40,
        r"stages\.3\.mb4d\.0\.mlp\.fc2:out_channels": 40, r"stages\.3\.mb3d\.\d\.token_mixer\.qkv:in_features": 40,
        r"stages\.3\.mb3d\.\d\.token_mixer\.proj:out_features": 40, r"stages\.3\.mb3d\.\d\.mlp\.fc1:out_features": 160,
        r"stages\.3\..*(?:shape|features|channels)": ANY,
        r"(?:stages\.3\.mb3d\.\d\.norm\d|norm):normalized_shape": (40,), r"norm:(?:weight|bias) shape": (40,),
        r"head(?:_dist)?:in_features": 40, r"head(?:_dist)?:weight shape": (5, 40)}),
    ("downsamples", (True, True, True, True), {r"stages\.0\.downsample:type": "Embedding",
        r"stages\.0\.downsample\.(?:conv|norm):.*": ANY}),
    ("num_vit", (0, 0, 1, 2), {r"stages\.2\.mb4d\.1.*": GONE, r"stages\.2\.mb3d\.0\.drop_path:calls": 2,
        r"stages\.2\.mb3d\.0.*": ANY}),
    ("num_classes", 7, {r"head(?:_dist)?:out_features": 7, shape("head(?:_dist)?"): ANY}),
    ("distillation", False, {r"head_dist:(?!head_dist).*": GONE, r":head_dist": None}),
    ("in_channels", 1, {r"stem\.conv1:in_channels": 1, r"stem\.conv1:weight shape": (4, 1, 3, 3)}),
    ("mlp_ratio", 2.0, {rf"{MLP}\.fc1:out_(?:channels|features)": scaled(0.5),
        rf"{MLP}\.fc2:in_(?:channels|features)": scaled(0.5), rf"{MB4D}\.mlp\.norm1:num_features": scaled(0.5),
        shape(rf"{MLP}\.fc1"): ANY, shape(rf"{MLP}\.fc2", "weight"): ANY,
        shape(rf"{MB4D}\.mlp\.norm1", "weight|bias|running_mean|running_var"): ANY}),
    ("pool_size", 5, {rf"{MB4D}\.token_mixer\.pool:kernel_size": 5, rf"{MB4D}\.token_mixer\.pool:padding": 2}),
    ("num_heads", 4, {rf"{MIXER}:num_heads": 4, rf"{MIXER}\.qkv:out_features": 4 * (4 + 4 + 8),
        rf"{MIXER}\.proj:in_features": 4 * 8, rf"{MIXER}:attention_biases shape": (4, 6), shape(rf"{MIXER}\.qkv"): ANY,
        shape(rf"{MIXER}\.proj", "weight"): ANY}),
    ("key_dim", 16, {rf"{MIXER}:scale": 0.25, rf"{MIXER}:head_parts": (16, 16, 32),
        rf"{MIXER}\.qkv:out_features": 2 * (16 + 16 + 32), rf"{MIXER}\.proj:in_features": 2 * 32,
        shape(rf"{MIXER}\.qkv"): ANY, shape(rf"{MIXER}\.proj", "weight"): ANY}),
    ("attn_ratio", 1.0, {rf"{MIXER}:head_parts": (4, 4, 4), rf"{MIXER}\.qkv:out_features": 2 * (4 + 4 + 4),
        rf"{MIXER}\.proj:in_features": 2 * 4, shape(rf"{MIXER}\.qkv"): ANY, shape(rf"{MIXER}\.proj", "weight"): ANY}),
    ("bias_grid", (4, 2), {rf"{MIXER}:bias_grid": (4, 2), rf"{MIXER}:attention_biases shape": (2, 8)}),
    ("layer_scale_init", 0.5, {rf"(?:{MB4D}|{MB3D})\.layer_scale_[12]:gamma value": 0.5}),
    ("layer_scale_init", None, {rf"(?:{MB4D}|{MB3D})\.layer_scale_[12]:type": "Identity",
        rf"(?:{MB4D}|{MB3D})\.layer_scale_[12]:(?:shape|gamma.*)": GONE}),
    ("drop_rate", 0.45, {r"head_drop:p": 0.45}),
    ("proj_drop_rate", 0.45, {rf"{MLP}\.drop[12]:p": 0.45}),
    ("attn_drop_rate", 0.45, {rf"{MIXER}\.drop:p": 0.45}),
    ("drop_path_rate", 0.7, drop_path_rates(BASE.depths, 0.7)),
    ("act", "relu", {rf"{MLP}\.act:type": "ReLU", rf"{MLP}\.act:approximate": GONE, rf"{MLP}\.act:inplace": False}),
    ("stem_act", "gelu", {r"stem\.act[12]:type": "GELU", r"stem\.act[12]:approximate": "none",
        r"stem\.act[12]:inplace": GONE}),
]
# fmt: on


def images(channels: int = 3) -> Tensor:
    return torch.randn(2, channels, 64, 96, generator=torch.Generator().manual_seed(0))


def observe(config: EfficientFormerConfig) -> Observations:
    return fingerprint(EfficientFormer(config), images(config.in_channels))


def not_called(entries: Observations) -> set[str]:
    """Types of the modules that a forward pass does not call; containers are not called either."""
    return {
        entries[f"{name.removesuffix(':calls')}:type"]
        for name in entries
        if name.endswith(":calls") and not entries[name]
    }


def ids(cases: list[Any]) -> list[str]:
    return [f"{case[0]}-{case[1]}" for case in cases]


def test_every_field_of_the_network_has_a_case() -> None:
    fields = [field.name for field in dataclasses.fields(EfficientFormerConfig)]
    check_all_have_cases(fields, [field for field, *_ in NETWORK], "fields of EfficientFormerConfig")


@pytest.mark.parametrize(("field", "value", "expected"), NETWORK, ids=ids(NETWORK))
def test_fields_of_the_network_have_their_documented_effect(
    field: str, value: Any, expected: dict[str, Any], tmp_path: Path
) -> None:
    config = BASE.replace(**{field: value})
    before, after = observe(BASE), observe(config)
    check_changes(before, after, expected)
    assert not_called(before) | not_called(after) <= {"ModuleList"}  # a dropout that is never called drops nothing
    (tmp_path / "stored.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert EfficientFormerConfig.from_dict(config.to_dict()) == config
    assert EfficientFormerConfig.from_yaml(tmp_path / "stored.yaml") == config


DIMS, STRIDES = (8, 12, 16, 24), (4, 8, 16, 32)


def maps(dims: tuple[int, ...] = DIMS) -> list[Tensor]:
    """Feature maps of an image of 64×96 pixels."""
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(2, dim, 64 // s, 96 // s, generator=generator)
        for dim, s in zip(dims, STRIDES[-len(dims) :], strict=True)
    ]


def observe_fpn(config: FPNConfig) -> Observations:
    """The fingerprint, and the inputs of each output below the coarsest level."""
    torch.manual_seed(2)
    neck, inputs = FPN(DIMS, STRIDES, config), maps()
    calls: dict[str, tuple[Tensor, Tensor]] = {}
    for path, conv in neck.named_modules():
        if isinstance(conv, torch.nn.Conv2d):
            conv.register_forward_hook(lambda _, args, out, path=path: calls.update({path: (args[0], out)}))
    outputs = neck(inputs)
    entries = fingerprint(neck, inputs)
    sources = {"last map": inputs[neck.levels[-1]], "last lateral": calls[f"lateral_convs.{len(neck.levels) - 1}"][1]}
    for i, output in enumerate(outputs):
        if i >= len(neck.levels):
            extra = calls.get(f"extra_convs.{i - len(neck.levels)}")
            source_map = outputs[i] if extra is None else extra[0]
            sources |= {"every second position of the output before": outputs[i - 1][:, :, ::2, ::2]}
            sources |= {"output before": outputs[i - 1], "ReLU of the output before": outputs[i - 1].relu()}
            entries[f"source of output {i}"] = next(
                name for name, value in sources.items() if torch.equal(value, source_map)
            )
        entries[f"output {i}"] = tuple(output.shape)
    return entries


def observe_pafpn(config: YOLOPAFPNConfig) -> Observations:
    return fingerprint(YOLOPAFPN(DIMS, STRIDES, config), maps())


def observe_decoder(config: Any) -> Observations:
    return fingerprint(
        {ALLMLPDecoderConfig: ALLMLPDecoder, SemanticFPNConfig: SemanticFPN}[type(config)](DIMS, 5, config), maps()
    )


def observe_fc(config: FCConfig) -> Observations:
    return fingerprint(FC(24, 5, config), torch.zeros(2, 24))


def observe_detector(config: Any) -> Observations:
    """The fingerprint, and the anchors of the first position of each feature map, as height and width."""
    anchors = isinstance(config, AnchorDecoupledHeadConfig)
    head = (AnchorDecoupledHead if anchors else AnchorFreeDecoupledHead)((8, 8), (8, 16), 5, config)
    inputs = maps((8, 8, 8, 8))[1:3]
    entries = fingerprint(head, inputs)
    if anchors:
        corners, count = head(inputs).anchors, len(config.anchor_sizes[0]) * len(config.aspect_ratios)
        for level, first in enumerate((0, 8 * 12 * count)):
            sides = corners[first : first + count, 2:] - corners[first : first + count, :2]
            entries[f"anchors of map {level}"] = {(height, width) for width, height in sides.tolist()}
    return entries


OBSERVE: dict[type, Callable[[Any], Observations]] = {
    FPNConfig: observe_fpn,
    YOLOPAFPNConfig: observe_pafpn,
    FCConfig: observe_fc,
    ALLMLPDecoderConfig: observe_decoder,
    SemanticFPNConfig: observe_decoder,
    AnchorDecoupledHeadConfig: observe_detector,
    AnchorFreeDecoupledHeadConfig: observe_detector,
}

CSP = ("C3_p4", "C3_p3", "C3_n3", "C3_n4")
TOWER = r"(?:classification|regression)_head"
THREE = r"(?:m\.\d\.conv2|bu_conv\d|C3.*\.m\.\d\.conv2|(?:cls|reg)_convs\.\d\.\d)"  # modules with a 3×3 convolution
ACTS = {r".*\.act:type": "ReLU"}
PYRAMID = FPNConfig(out_channels=10)
EXTRA = FPNConfig(out_channels=10, num_outs=6, add_extra_convs="on_input")
LAYERS = FCConfig(num_layers=3, intermediate_channels=10, act_type="gelu", dropout_prob=0.15)
ANCHORS = AnchorDecoupledHeadConfig(anchor_sizes=((32.0,), (64.0,)), aspect_ratios=(1.0, 4.0), num_layers=2)

# fmt: off
# A configuration, the fields with their other values, and what that changes.
PARTS: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    (PYRAMID, {"num_outs": 5}, {":extra": 1, ":out_dims": (10,) * 5, ":strides": (4, 8, 16, 32, 64),
        "source of output 4": "every second position of the output before", "output 4": (2, 10, 1, 2)}),
    (PYRAMID, {"start_level": 1}, {":levels": (1, 2, 3), ":extra": 1, ":strides": (8, 16, 32, 64),
        r"(?:lateral|fpn)_convs\.3:(?!.*_convs).*": GONE, r"lateral_convs\.[012]:in_channels": ANY,
        shape(r"lateral_convs\.\d", "weight"): ANY, "source of output 3": "every second position of the output before",
        r"output \d": ANY}),
    (PYRAMID, {"end_level": 2, "num_outs": 3}, {":levels": (0, 1, 2), ":out_dims": (10,) * 3, ":strides": (4, 8, 16),
        r"(?:lateral|fpn)_convs\.3:.*": GONE, "output 3": GONE}),
    (EXTRA, {"add_extra_convs": "on_lateral"}, {"source of output 4": "last lateral", r"extra_convs\.0:in_channels": 10,
        shape(r"extra_convs\.0", "weight"): (10, 10, 3, 3)}),
    (EXTRA, {"add_extra_convs": "on_output"}, {"source of output 4": "output before", r"extra_convs\.0:in_channels": 10,
        shape(r"extra_convs\.0", "weight"): (10, 10, 3, 3)}),
    (EXTRA, {"add_extra_convs": False}, {r"source of output \d": "every second position of the output before",
        r"extra_convs\.\d:.*": GONE}),
    (EXTRA, {"relu_before_extra_convs": True}, {"source of output 5": "ReLU of the output before"}),
    (PYRAMID, {"out_channels": 14}, {":out_dims": (14,) * 4, r"lateral_convs\.\d:out_channels": 14,
        r"fpn_convs\.\d:(?:in|out)_channels": 14, shape(r"(?:lateral|fpn)_convs\.\d"): ANY, r"output \d": ANY}),
    (YOLOPAFPNConfig(), {"dep_mul": 1.0}, {**{rf"{layer}\.m\.2\.conv2:calls": 1 for layer in CSP},
        r"C3_..\.m\.[12](?:\..*|:.*)": ANY}),
    (YOLOPAFPNConfig(), {"depthwise": True}, {rf"{THREE}:type": "SeparableConvNormAct",
        rf"{THREE}\.depthwise\.conv:kernel_size": (3, 3), rf"{THREE}\.pointwise\.conv:kernel_size": (1, 1),
        rf"{THREE}\.(?:depthwise|pointwise)(?:\..*|:.*)": ANY, rf"{THREE}\.(?:conv|norm|act):.*": GONE}),
    (YOLOPAFPNConfig(), {"act_type": "relu"}, ACTS),
    (LAYERS, {"num_layers": 2}, {r"classifier\.4:out_features": 5, shape(r"classifier\.4"): ANY,
        r"classifier\.[567]:.*": GONE}),
    (LAYERS, {"intermediate_channels": 14}, {r"classifier\.[14]:out_features": 14, r"classifier\.[47]:in_features": 14,
        shape(r"classifier\.[147]"): ANY}),
    (LAYERS, {"act_type": "relu"}, {r"classifier\.[25]:type": "ReLU", r"classifier\.[25]:approximate": GONE,
        r"classifier\.[25]:inplace": False}),
    (LAYERS, {"dropout_prob": 0.45}, {r"classifier\.[036]:p": 0.45}),
    *(
        case
        for kind in (ALLMLPDecoderConfig, SemanticFPNConfig)
        for case in (
            (kind(intermediate_channels=10), {"classifier_dropout_prob": 0.45}, {"dropout:p": 0.45}),
            (
                kind(intermediate_channels=10),
                {"intermediate_channels": 14},
                {
                    r"(?:linear_c\.\d|linear_fuse|scale_heads\.\d\.\d)\.conv:out_channels": 14,
                    r"(?:linear_c\.\d|linear_fuse|scale_heads\.\d\.\d)\.norm:num_features": 14,
                    r"(?:linear_fuse|scale_heads\.\d\.[12])\.conv:in_channels": {ALLMLPDecoderConfig: 56}.get(kind, 14),
                    "classifier:in_channels": 14,
                    r"(?:linear|scale_heads|classifier).* shape": ANY,
                },
            ),
        )
    ),
    (ANCHORS, {"anchor_sizes": ((16.0,), (48.0,))}, {"anchors of map 0": {(16, 16), (32, 8)},
        "anchors of map 1": {(48, 48), (96, 24)}}),
    (ANCHORS, {"aspect_ratios": (1.0, 0.25, 4.0)}, {"anchors of map 0": {(32, 32), (64, 16), (16, 64)},
        "anchors of map 1": {(64, 64), (128, 32), (32, 128)}, r"classification_head\.predict:out_channels": 3 * 5,
        r"regression_head\.predict:out_channels": 3 * 4, rf"{TOWER}\.predict:(?:weight|bias) shape": ANY}),
    (ANCHORS, {"num_layers": 3}, {r"classification_head\.conv\.2:calls": 2, r"regression_head\.conv\.2:calls": 2,
        rf"{TOWER}\.conv\.2(?:\..*|:.*)": ANY}),
    (ANCHORS, {"norm_type": "instance_norm"}, {rf"{TOWER}\.conv\.\d\.norm:type": "InstanceNorm2d",
        rf"{TOWER}\.conv\.\d\.norm:(?:affine|track_running_stats)": False,
        rf"{TOWER}\.conv\.\d\.norm:(?:weight|bias|running_mean|running_var|num_batches_tracked).*": GONE}),
    (AnchorFreeDecoupledHeadConfig(), {"depthwise": True}, {rf"{THREE}:type": "SeparableConvNormAct",
        rf"{THREE}\.(?:depthwise|pointwise)(?:\..*|:.*)": ANY, rf"{THREE}\.(?:conv|norm|act):.*": GONE}),
    (AnchorFreeDecoupledHeadConfig(), {"act_type": "relu"}, ACTS),
]
# fmt: on


@pytest.mark.parametrize("kind", [entry.config for entry in (*NECKS.values(), *HEADS.values())])
def test_every_field_of_a_neck_or_a_head_has_a_case(kind: type) -> None:
    fields = [field.name for field in dataclasses.fields(kind)]
    covered = [name for config, changed, _ in PARTS if type(config) is kind for name in changed]
    check_all_have_cases(fields, covered, f"fields of {kind.__name__}")


@pytest.mark.parametrize(
    ("config", "changed", "expected"), PARTS, ids=[f"{type(config).__name__}-{changed}" for config, changed, _ in PARTS]
)
def test_fields_of_necks_and_heads_have_their_documented_effect(
    config: Any, changed: dict[str, Any], expected: dict[str, Any]
) -> None:
    observe_part = OBSERVE[type(config)]
    check_changes(observe_part(config), observe_part(dataclasses.replace(config, **changed)), expected)


SEGMENTER = DenseConfig(BASE, SemanticFPNConfig(intermediate_channels=10), PYRAMID, num_classes=5)
# fmt: off
DENSE: list[Case] = [
    ("backbone", BASE.replace(pool_size=5), {rf"backbone\.{MB4D}\.token_mixer\.pool:(?:kernel_size|padding)": ANY}),
    ("head", SemanticFPNConfig(10, 0.45), {r"head\.dropout:p": 0.45}),
    ("neck", FPNConfig(out_channels=14), {r"neck\.(?:lateral|fpn)_convs\.\d:out_channels": 14, r"neck.*": ANY,
        r"head\.scale_heads\.\d\.0\.conv:(?:in_channels|weight shape)": ANY}),
    ("num_classes", 7, {r"head\.classifier:out_channels": 7, shape(r"head\.classifier"): ANY}),
    ("norms", False, {r"backbone\.norms\.\d:type": "Identity", r"backbone\.norms\.\d:(?!calls).*": GONE}),
]
# fmt: on
# A dense network has neither the classifier's heads nor dropout before them.
NO_EFFECT = {"num_classes", "distillation", "drop_rate"}


def observe_dense(config: DenseConfig) -> Observations:
    return fingerprint(DenseNetwork(config), images(config.backbone.in_channels))


def test_every_field_of_a_dense_network_has_a_case() -> None:
    fields = [field.name for field in dataclasses.fields(DenseConfig)]
    check_all_have_cases(fields, [field for field, *_ in DENSE], "fields of DenseConfig")


@pytest.mark.parametrize(("field", "value", "expected"), DENSE, ids=[field for field, *_ in DENSE])
def test_fields_of_dense_networks_have_their_documented_effect(
    field: str, value: Any, expected: dict[str, Any]
) -> None:
    config = dataclasses.replace(SEGMENTER, **{field: value})
    check_changes(observe_dense(SEGMENTER), observe_dense(config), expected)


# `downsamples` has one possible value in a dense network.
BACKBONE = [case for case in NETWORK if case[0] != "downsamples"]


@pytest.mark.parametrize(("field", "value"), [case[:2] for case in BACKBONE], ids=ids(BACKBONE))
def test_the_backbone_of_a_dense_network_changes_as_the_classifier_does(field: str, value: Any) -> None:
    config = BASE.replace(**{field: value})
    dense = [observe_dense(dataclasses.replace(SEGMENTER, backbone=backbone)) for backbone in (BASE, config)]
    expected = backbone_changes(observe(BASE), observe(config))
    assert backbone_changes(*dense) == expected
    assert (expected == {}) == (field in NO_EFFECT)


def backbone_changes(before: Observations, after: Observations) -> Observations:
    """The entries of stem and stages that changed, under the names of a classification network."""
    before, after = (
        {key.removeprefix("backbone."): value for key, value in entries.items()} for entries in (before, after)
    )
    own = [key for key in before | after if key.startswith(("stem", "stages"))]
    return {key: after.get(key) for key in own if before.get(key) != after.get(key)}
