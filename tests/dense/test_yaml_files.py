"""NetsPresso's model files: its three examples, the snippet of each component, round trips, and errors."""

from __future__ import annotations

import re
import warnings

import pytest
import torch
import yaml
from dense_networks import SMALL

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
    from_yaml,
    to_yaml,
)

BACKBONE = """\
    backbone:
      name: efficientformer
      params: {num_attention_heads: 8, attention_channels: 256, attention_dropout_prob: 0.,
               attention_value_expansion_ratio: 4, ffn_intermediate_ratio: 4, ffn_dropout_prob: 0.,
               ffn_act_type: gelu, vit_num: 1}
      stage_params: [{num_blocks: 3, channels: 48}, {num_blocks: 2, channels: 96},
                     {num_blocks: 6, channels: 224}, {num_blocks: 4, channels: 448}]
"""
FC_HEAD = "{name: fc, params: {num_layers: 1, intermediate_channels: null, act_type: null, dropout_prob: 0.}}"
TWO_LAYERS = "{name: fc, params: {num_layers: 2, intermediate_channels: 1024, act_type: hard_swish, dropout_prob: 0.2}}"
DECODER = "{name: all_mlp_decoder, params: {intermediate_channels: 256, classifier_dropout_prob: 0.}}"
FPN_NECK = (
    "{name: fpn, params: {num_outs: 4, start_level: 0, end_level: -1, add_extra_convs: False, "
    "relu_before_extra_convs: False}}"
)
ANCHOR_HEAD = (
    "{name: anchor_decoupled_head, params: {anchor_sizes: [[32,],[64,],[128,],[256,]], aspect_ratios: [0.5, 1.0, 2.0], "
    "num_layers: 1, norm_type: batch_norm}}"
)
PAFPN_NECK = "{name: yolopafpn, params: {depthwise: False, dep_mul: 0.33, act_type: silu}}"
FREE_HEAD = "{name: anchor_free_decoupled_head, params: {depthwise: False, act_type: silu}}"


def model_file(head: str, neck: str | None = None, task: str = "detection", more: str = "") -> str:
    between = "" if neck is None else f"    neck: {neck}\n"
    return (
        f"model:\n  task: {task}\n  name: efficientformer_l1\n{more}"
        f"  architecture:\n    full: null\n{BACKBONE}{between}    head: {head}\n"
    )


L1 = PRESETS["l1"].replace(distillation=False)
FPN_CONFIG = FPNConfig(4, 0, -1, False, False)
ANCHOR_CONFIG = AnchorDecoupledHeadConfig(((32.0,), (64.0,), (128.0,), (256.0,)), (0.5, 1.0, 2.0), 1, "batch_norm")
EXAMPLES = {
    "classification": (model_file(FC_HEAD, task="classification"), DenseConfig(L1, FCConfig(), None, 1000)),
    "two layers": (
        model_file(TWO_LAYERS, task="classification"),
        DenseConfig(L1, FCConfig(2, 1024, "hard_swish", 0.2), None, 1000),
    ),
    "segmentation": (
        model_file(DECODER, task="segmentation"),
        DenseConfig(L1, ALLMLPDecoderConfig(256, 0.0), None, 150),
    ),
    "detection": (model_file(ANCHOR_HEAD, FPN_NECK), DenseConfig(L1, ANCHOR_CONFIG, FPN_CONFIG, 80)),
    "YOLOX": (
        model_file(FREE_HEAD, PAFPN_NECK),
        DenseConfig(L1, AnchorFreeDecoupledHeadConfig(False, "silu"), YOLOPAFPNConfig(0.33, False, "silu"), 80),
    ),
    "FPN with YOLOX's head": (
        model_file(FREE_HEAD, FPN_NECK),
        DenseConfig(L1, AnchorFreeDecoupledHeadConfig(), FPN_CONFIG, 80),
    ),
}


def read(tmp_path, text: str, num_classes: int | None = None) -> DenseNetwork:
    path = tmp_path / "model.yaml"
    path.write_text(text, encoding="utf-8")
    with torch.device("meta"):
        return from_yaml(path, num_classes)


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_what_a_file_says(tmp_path, name):
    text, config = EXAMPLES[name]
    assert read(tmp_path, text).config == config


@pytest.mark.parametrize(
    ("name", "total"),
    [("classification", 11_400_908), ("segmentation", 11_872_300), ("detection", 22_892_896)],
)
def test_netspresso_s_three_examples_with_twenty_classes(tmp_path, name, total):
    network = read(tmp_path, EXAMPLES[name][0], num_classes=20)
    assert network.config.task == name
    assert sum(parameter.numel() for parameter in network.parameters()) == total


def test_netspresso_s_l3(tmp_path):
    text = EXAMPLES["segmentation"][0].replace("vit_num: 1", "vit_num: 4")
    for l1, l3 in (("3, channels: 48", "4, channels: 64"), ("2, channels: 96", "4, channels: 128")):
        text = text.replace(l1, l3)
    for l1, l3 in (("6, channels: 224", "12, channels: 320"), ("4, channels: 448", "6, channels: 512")):
        text = text.replace(l1, l3)
    assert read(tmp_path, text).config.backbone == PRESETS["l3"].replace(distillation=False)


def test_fields_that_are_left_out_have_their_defaults(tmp_path):
    text = model_file("{name: anchor_free_decoupled_head, params: null}", "{name: fpn, params: {}}")
    assert read(tmp_path, text).config == DenseConfig(L1, AnchorFreeDecoupledHeadConfig(), FPNConfig(), 80)


def test_other_names_of_activations_and_of_extra_convolutions(tmp_path):
    text = model_file(
        FREE_HEAD.replace("silu", "Swish"), FPN_NECK.replace("add_extra_convs: False", "add_extra_convs: True")
    )
    config = read(tmp_path, text).config
    assert config.head == AnchorFreeDecoupledHeadConfig(act_type="silu")
    assert config.neck == FPNConfig(add_extra_convs="on_input")


def test_a_file_is_recognized_by_its_name(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(to_yaml(DenseConfig(SMALL.replace(bias_grid=7), FCConfig(), None, 5)), encoding="utf-8")
    network = from_yaml(str(path), 5)
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


ODD = PRESETS["l7"].replace(
    distillation=False, depths=(1, 2, 3, 4), embed_dims=(10, 11, 12, 13), num_vit=3, num_heads=3, key_dim=5
)
ODD = ODD.replace(mlp_ratio=2.5, attn_ratio=1.5, attn_drop_rate=0.1, proj_drop_rate=0.2, act="hard_swish")
MESSAGES = [config for _, config in EXAMPLES.values()] + [
    DenseConfig(ODD, SemanticFPNConfig(64, 0.25), FPNConfig(6, 1, 3, "on_lateral", True, 256), 150),
    DenseConfig(ODD, AnchorDecoupledHeadConfig(((1e-5, 2), (3, 4)), (1 / 3,), 4, "instance_norm"), FPNConfig(2, 2), 80),
    DenseConfig(ODD, AnchorFreeDecoupledHeadConfig(True, "relu6"), YOLOPAFPNConfig(1.33, True, "prelu"), 80),
]


@pytest.mark.parametrize("config", MESSAGES, ids=lambda config: " ".join(config.names))
def test_a_network_is_written_and_read_again(tmp_path, config):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = read(tmp_path, to_yaml(config))
    assert network.config == config
    assert to_yaml(network) == to_yaml(config)


def test_the_number_of_classes_is_the_reader_s(tmp_path):
    config = DenseConfig(L1, FCConfig(), num_classes=7)
    assert read(tmp_path, to_yaml(config)).config.num_classes == 1000
    assert read(tmp_path, to_yaml(config), num_classes=7).config == config


def test_what_is_written_is_what_netspresso_reads():
    """The fields and values of its own example, identical except for spaces."""
    data = yaml.safe_load(to_yaml(EXAMPLES["detection"][1]))
    original = yaml.safe_load(EXAMPLES["detection"][0])
    original["model"]["name"] = "efficientformer"
    assert data == original
    assert list(data["model"]["architecture"]) == ["full", "backbone", "neck", "head"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bias_grid": 16}, "bias_grid=(16, 16) is not possible; allowed: (7, 7), which NetsPresso's files imply"),
        ({"drop_path_rate": 0.1}, "drop_path_rate=0.1 is not possible; allowed: 0.0, which NetsPresso's files imply"),
        ({"in_channels": 1}, "in_channels=1 is not possible; allowed: 3, which NetsPresso's files imply"),
        ({"stem_act": "gelu"}, "stem_act='gelu' is not possible; allowed: 'relu', which NetsPresso's files imply"),
        (
            {"num_vit": (0, 0, 1, 1)},
            "num_vit=(0, 0, 1, 1) is not possible; allowed: MB3D blocks in the last stage only",
        ),
    ],
)
def test_what_a_file_cannot_tell_is_refused(fields, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        to_yaml(DenseConfig(L1.replace(**fields), FCConfig()))


def test_bare_outputs_cannot_be_written():
    with pytest.raises(ValueError, match="^norms=False is not possible; allowed: True"):
        to_yaml(DenseConfig(L1, ALLMLPDecoderConfig(), norms=False))


def test_what_belongs_to_training_is_named_in_a_warning(tmp_path):
    more = (
        "  checkpoint: {use_pretrained: True, load_head: False, path: null, optimizer_path: null}\n"
        "  freeze_backbone: False\n"
        "  postprocessor: {params: {topk_candidates: 1000, score_thresh: 0.05, nms_thresh: 0.45}}\n"
        "  losses: [{criterion: retinanet_loss, weight: null}]\n"
    )
    with pytest.warns(UserWarning) as caught:
        network = read(tmp_path, model_file(ANCHOR_HEAD, FPN_NECK, more=more))
    assert network.config == EXAMPLES["detection"][1]
    (message,) = (str(warning.message) for warning in caught)
    assert message.endswith(": checkpoint, freeze_backbone, postprocessor, losses")
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "field",
    ["fx_model_checkpoint", "resume_optimizer_checkpoint", "load_checkpoint_head", "a_field_of_a_later_version"],
)
def test_bookkeeping_of_other_versions_is_ignored_with_a_note(tmp_path, field):
    text = model_file(ANCHOR_HEAD, FPN_NECK, more=f"  checkpoint: null\n  {field}: a.pt\n")
    with pytest.warns(UserWarning, match=f"ignored.*: {field}$"):
        assert read(tmp_path, text).config == EXAMPLES["detection"][1]
    assert read(tmp_path, text.replace("a.pt", "null")).config == EXAMPLES["detection"][1]  # no warning


def test_the_other_sections_of_a_full_run_are_ignored_with_a_note(tmp_path):
    text = model_file(FC_HEAD, task="classification") + "training: {epochs: 3}\ndata: null\n"
    with pytest.warns(UserWarning, match="ignored.*: training$"):
        assert read(tmp_path, text).config == EXAMPLES["classification"][1]


def test_a_field_that_is_there_is_not_suggested(tmp_path):
    with pytest.raises(ValueError, match=r"'add_extra_conv'\. Did you mean 'add_extra_convs'"):
        read(tmp_path, model_file(ANCHOR_HEAD, FPN_NECK.replace("extra_convs", "extra_conv", 1)))
    neck = FPN_NECK.replace("num_outs: 4", "num_outs: 4, num_out: 4")
    with pytest.raises(ValueError, match=r"'num_out'\. Available: "):
        read(tmp_path, model_file(ANCHOR_HEAD, neck))


def test_what_is_null_is_not_worth_a_warning(tmp_path):
    more = "  checkpoint: null\n  losses: null\n"
    assert read(tmp_path, model_file(FC_HEAD, task="classification", more=more)).config.task == "classification"


DETECTION = model_file(ANCHOR_HEAD, FPN_NECK)
ARCHITECTURE = "model.architecture"
AT_BACKBONE, AT_NECK, AT_HEAD = (f"{ARCHITECTURE}.{name}" for name in ("backbone.params", "neck", "head"))

# What is replaced in a correct file, by what, and what the message begins with: the field and its value.
BAD = [
    (DETECTION, "model: [", "not a YAML file: "),
    (DETECTION, "- model\n", "it holds list, not a mapping"),
    (DETECTION, "", "it holds NoneType, not a mapping"),
    (DETECTION, SMALL.to_yaml(), "model is missing: no 'model' in depths, "),
    ("model:", "modell:", "model is missing: no 'model' in modell; "),
    (DETECTION, "{}", "model is missing: "),
    (DETECTION, "model:\n", "model=None is not possible; allowed: a mapping with the fields task, name, architecture"),
    ("  task:", "  tasks:", "model.task is missing: no 'task' in tasks, name, architecture; "),
    ("  task: detection\n", "", "model.task is missing: no 'task' in name, architecture; "),
    ("task: detection", "task: segmentation", "model.task='segmentation' is not possible; allowed: 'detection'"),
    ("  architecture:", "  postprocessor:", f"{ARCHITECTURE} is missing: "),
    (DETECTION, "model: {task: detection, architecture: [fpn]}", f"{ARCHITECTURE}=['fpn'] is not possible"),
    ("full: null", "full: {name: pidnet}", f"{ARCHITECTURE}.full={{'name': 'pidnet'}} is not possible; allowed: null"),
    ("    neck:", "    necks:", f"{ARCHITECTURE}: Unknown field 'necks'. Did you mean 'neck'?"),
    ("name: efficientformer\n", "name: resnet\n", f"{ARCHITECTURE}.backbone.name='resnet' is not possible; allowed: "),
    ("ffn_act_type", "ffn_act_typ", f"{AT_BACKBONE}: Unknown field 'ffn_act_typ'. Did you mean 'ffn_act_type'?"),
    (", vit_num: 1", "", f"{AT_BACKBONE}.vit_num is missing: "),
    ("vit_num: 1", "vit_num: 9", "num_vit=9 is not possible; allowed: at most the depth of its stage"),
    ("name: fpn", "name: fnp", f"{AT_NECK}.name: Unknown neck 'fnp'. Did you mean 'fpn'?"),
    ("name: fpn", "name: rtdetr", f"{AT_NECK}.name: Unknown neck 'rtdetr'. Available: fpn, yolopafpn"),
    ("name: fpn", "name: [fpn, yolopafpn]", f"{AT_NECK}.name: Unknown neck ['fpn', 'yolopafpn']. "),
    (FPN_NECK, "fpn", f"{AT_NECK}='fpn' is not possible; allowed: a mapping with the fields name, params"),
    ("name: anchor_decoupled_head", "name: anchor_head", f"{AT_HEAD}.name: Unknown head 'anchor_head'. Did you mean "),
    (f"    head: {ANCHOR_HEAD}\n", "", f"{AT_HEAD} is missing: no 'head' in full, backbone, neck; "),
    (ANCHOR_HEAD, "{name: fc}", f"{AT_HEAD}.params is missing: no 'params' in name; "),
    (
        ANCHOR_HEAD,
        "{name: fc, params: 1}",
        f"{AT_HEAD}.params=1 is not possible; allowed: a mapping with the fields num_l",
    ),
    ("num_outs", "num_out", f"{AT_NECK}.params: Unknown field 'num_out'. Did you mean 'num_outs'?"),
    ("num_layers: 1", "xyz: 1", f"{AT_HEAD}.params: Unknown field 'xyz'. Available: anchor_sizes, "),
    (
        "add_extra_convs: False",
        "add_extra_convs: on_top",
        f"{AT_NECK}.params: add_extra_convs='on_top' is not possible",
    ),
    ("norm_type: batch_norm", "norm_type: [batch_norm]", f"{AT_HEAD}.params: norm_type=['batch_norm'] is not possible"),
    ("num_outs: 4", "num_outs: 3", "num_outs=3 is not possible; allowed: 4"),
    (
        "num_outs: 4",
        "num_outs: 5",
        "anchor_sizes=((32.0,), (64.0,), (128.0,), (256.0,)) is not possible; allowed: 5 lists",
    ),
    (FPN_NECK, PAFPN_NECK, "anchor_decoupled_head with yolopafpn is not possible: "),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD, ids=[message[:40] for *_, message in BAD])
def test_what_is_wrong_in_a_file(tmp_path, old, new, message):
    assert DETECTION.count(old) == 1
    with pytest.raises(ValueError, match="^" + re.escape(f"{tmp_path / 'model.yaml'}: {message}")):
        read(tmp_path, DETECTION.replace(old, new))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        from_yaml(tmp_path / "none.yaml")


def test_the_same_backbone_as_the_yaml_reader_returns(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text(DETECTION, encoding="utf-8")
    assert EfficientFormerConfig.from_yaml(path) == L1
