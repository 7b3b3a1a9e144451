"""The configuration: values, readers and writers, and errors."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import configs, resolutions

from efficientformer_edu.config import PRESETS, EfficientFormerConfig, get_config, list_models, resolution_pair

NETSPRESSO_L1 = """
model:
  task: classification
  name: efficientformer_l1
  checkpoint: {use_pretrained: false, load_head: false, path: null}
  freeze_backbone: false
  architecture:
    full: null
    backbone:
      name: efficientformer
      params:
        num_attention_heads: 8
        attention_channels: 256
        attention_dropout_prob: 0.
        attention_value_expansion_ratio: 4
        ffn_intermediate_ratio: 4
        ffn_dropout_prob: 0.
        ffn_act_type: 'gelu'
        vit_num: 1
      stage_params:
        - {num_blocks: 3, channels: 48}
        - {num_blocks: 2, channels: 96}
        - {num_blocks: 6, channels: 224}
        - {num_blocks: 4, channels: 448}
    head: {name: fc, params: {num_layers: 1}}
"""


def test_the_defaults_are_l1():
    assert EfficientFormerConfig() == PRESETS["l1"]


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("l1", "l1"),
        ("L3", "l3"),
        ("efficientformer_l7", "l7"),
        ("efficientformer-l1_3rdparty_8xb128_in1k", "l1"),
        ("efficientformer_l3.snap_dist_in1k", "l3"),
        ("snap-research/efficientformer-l7-300", "l7"),
    ],
)
def test_names_of_other_projects_find_the_preset(name, preset):
    assert get_config(name) is PRESETS[preset]


@pytest.mark.parametrize("name", ["l2", "efficientformerv2_s0", "", 1])
def test_an_unknown_name_error_lists_available_names(name):
    with pytest.raises(ValueError, match="Unknown model .*l1"):
        get_config(name)


def test_list_models_returns_names_that_get_config_accepts():
    assert [get_config(name) for name in list_models()] == list(PRESETS.values())


WRONG = {
    "depths": [(3, 2, 6), (3, 2, 6, 0), (3, 2, 6, 4.0), "3264", 3, (3, 2, 6, True), None],
    "embed_dims": [(48, 96, 224), (48, 96, 224, -448), (48, 96, 224, 448.5), (1, 96, 224, 448)],
    "downsamples": [(False, True, True), (0, 1, 1, 1), (False, False, True, True), True],
    "num_vit": [5, -1, 1.0, (0, 0, 0), (4, 0, 0, 0), (0, 0, 0, -1), "1", None],
    "num_classes": [0, -1, 2.5, None, True],
    "distillation": [1, None, "yes"],
    "in_channels": [0, 3.0],
    "mlp_ratio": [0, -4, float("nan"), float("inf"), "4", 0.01],
    "pool_size": [0, 2, -3, 3.0],
    "num_heads": [0, 8.0],
    "key_dim": [0, None],
    "attn_ratio": [0, float("nan"), 0.01],
    "bias_grid": [0, (7,), (7, 7, 7), (7, -7), 7.0, "7x7"],
    "layer_scale_init": [float("nan"), float("inf"), "1e-5", True],
    "drop_rate": [1.0, -0.1, float("nan"), "0.1", None],
    "proj_drop_rate": [1, -1e-9, float("nan")],
    "attn_drop_rate": [2, float("inf")],
    "drop_path_rate": [1.0, float("nan")],
    "act": ["gelo", None, 3, ["gelu"]],
    "stem_act": ["GELU!", ""],
}


def test_every_field_has_wrong_values_to_try():
    assert list(WRONG) == [field.name for field in dataclasses.fields(EfficientFormerConfig)]


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_wrong_value_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf"^{field}=.*; allowed: .+"):
        EfficientFormerConfig(**{field: value})


@given(configs(), st.data())
def test_a_wrong_value_is_rejected_with_any_other_values(config, data):
    field = data.draw(st.sampled_from(sorted(set(WRONG) - {"depths", "embed_dims", "downsamples", "num_vit"})))
    # 0.01 may be possible with other widths; the others never are.
    value = data.draw(st.sampled_from([value for value in WRONG[field] if value != 0.01]))
    with pytest.raises(ValueError, match=f"^{field}="):
        config.replace(**{field: value})


@pytest.mark.parametrize("make", [EfficientFormerConfig, PRESETS["l1"].replace])
def test_a_misspelt_field_error_suggests_the_nearest_name(make):
    with pytest.raises(ValueError, match="'depth'.*'depths'"):
        make(depth=(3, 2, 6, 4))


@pytest.mark.parametrize(
    ("fields", "suggestion"),
    [
        ({"num_head": 4}, "num_heads"),
        ({"num_head": 4, "num_heads": 4}, None),
        ({"in_chan": 3}, "in_chans"),
        ({"in_chan": 3, "in_channels": 3}, None),  # another name of the same field
    ],
)
def test_a_field_that_is_set_is_not_suggested(fields, suggestion):
    with pytest.raises(ValueError) as caught:
        EfficientFormerConfig.from_dict(fields)
    hint = str(caught.value).partition(".")[2]
    assert hint.startswith(" Available: " if suggestion is None else f" Did you mean {suggestion!r}?")


def test_values_are_normalised_and_frozen():
    config = EfficientFormerConfig(depths=[3, 2, 6, 4], bias_grid=7, mlp_ratio=4, num_vit=[0, 0, 0, 1])
    assert config.depths == (3, 2, 6, 4)
    assert config.bias_grid == (7, 7)
    assert config.vits == PRESETS["l1"].vits == (0, 0, 0, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_heads = 4  # type: ignore[misc]


def test_drop_path_rates_grow_linearly_over_all_blocks():
    rates = EfficientFormerConfig(depths=(1, 2, 1, 1), drop_path_rate=0.2).drop_path_rates
    assert rates == pytest.approx((0, 0.05, 0.1, 0.15, 0.2), abs=1e-15)
    assert len(PRESETS["l7"].drop_path_rates) == 38


def test_grids_round_up():
    assert PRESETS["l1"].grids(224) == ((56, 56), (28, 28), (14, 14), (7, 7))
    assert PRESETS["l1"].grids((225, 33)) == ((57, 9), (29, 5), (15, 3), (8, 2))
    assert EfficientFormerConfig(downsamples=(True,) * 4).grids(64) == ((8, 8), (4, 4), (2, 2), (1, 1))


@pytest.mark.parametrize("resolution", [31, (224, 31), 224.0, (224, 224, 224), "224", None])
def test_a_wrong_resolution_is_rejected(resolution):
    with pytest.raises(ValueError, match="^resolution="):
        resolution_pair(resolution)


@given(configs(), resolutions)
def test_round_trips(tmp_path_factory, config, resolution):
    path = tmp_path_factory.mktemp("yaml") / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert EfficientFormerConfig.from_yaml(path) == config
    assert EfficientFormerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == config
    assert all(h >= 1 and w >= 1 for h, w in config.grids(resolution))


def test_timm_and_lucid_fields_are_read():
    timm = {"depths": (4, 4, 12, 6), "embed_dims": (64, 128, 320, 512), "in_chans": 3, "num_vit": 4, "mlp_ratios": 4}
    assert EfficientFormerConfig.from_dict(timm | {"layer_scale_init_value": 1e-5}) == PRESETS["l3"]
    lucid = {"depths": (3, 2, 6, 4), "mlp_ratios": (4.0,) * 4, "resolution": 7, "layer_scale_init": 1e-5}
    assert EfficientFormerConfig.from_dict(lucid) == PRESETS["l1"]
    with pytest.raises(ValueError, match="mlp_ratios=.*the same for every stage"):
        EfficientFormerConfig.from_dict({"mlp_ratios": (4, 4, 4, 2)})


HUGGING_FACE_L3 = {
    "model_type": "efficientformer",
    "depths": [4, 4, 12, 6],
    "hidden_sizes": [64, 128, 320, 512],
    "downsamples": [True, True, True, True],
    "dim": 448,
    "key_dim": 32,
    "attention_ratio": 4,
    "resolution": 7,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "mlp_expansion_ratio": 4,
    "hidden_dropout_prob": 0.0,
    "patch_size": 16,
    "num_channels": 3,
    "pool_size": 3,
    "downsample_patch_size": 3,
    "downsample_stride": 2,
    "downsample_pad": 1,
    "drop_path_rate": 0.0,
    "num_meta3d_blocks": 4,
    "distillation": True,
    "use_layer_scale": True,
    "layer_scale_init_value": 1e-5,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 224,
    "batch_norm_eps": 1e-5,
    "id2label": {str(i): f"LABEL_{i}" for i in range(1000)},
}


def test_hugging_face_fields_are_read():
    assert EfficientFormerConfig.from_dict(HUGGING_FACE_L3) == PRESETS["l3"]
    other = HUGGING_FACE_L3 | {"use_layer_scale": False, "id2label": {"0": "cat", "1": "dog", "2": "cow"}}
    config = EfficientFormerConfig.from_dict(other)
    assert (config.layer_scale_init, config.num_classes) == (None, 3)


def test_hugging_face_downsamples_mean_after_the_stage():
    fields = HUGGING_FACE_L3 | {"hidden_sizes": [64, 128, 128, 512], "downsamples": [True, False, True, True]}
    assert EfficientFormerConfig.from_dict(fields).downsamples == (False, True, False, True)


def test_hugging_face_values_that_would_change_the_network_are_rejected():
    with pytest.raises(ValueError, match="downsample_stride=4.*allowed: 2"):
        EfficientFormerConfig.from_dict(HUGGING_FACE_L3 | {"downsample_stride": 4})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depht": (1, 1, 1, 1)}, "'depht'.*'depths'"),
        ({"xyz": 1}, "'xyz'.*: depths"),
        ({"in_chans": 3, "in_channels": 3}, "both give 'in_channels'"),
        ([1, 2], "a mapping of field names to values, not list"),
    ],
)
def test_errors_of_from_dict(fields, message):
    with pytest.raises(ValueError, match=message):
        EfficientFormerConfig.from_dict(fields)


def test_netspresso_yaml_is_read(tmp_path):
    path = tmp_path / "l1.yaml"
    path.write_text(NETSPRESSO_L1, encoding="utf-8")
    assert EfficientFormerConfig.from_yaml(path) == PRESETS["l1"].replace(distillation=False)
    path.write_text(NETSPRESSO_L1.replace("'gelu'", "swish").replace("vit_num: 1", "vit_num: 2"), encoding="utf-8")
    config = EfficientFormerConfig.from_yaml(path)
    assert (config.act, config.num_vit) == ("silu", 2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("        vit_num: 1\n", "", "model.architecture.backbone.params.vit_num is missing"),
        ("vit_num: 1", "vit_num: 9", "num_vit=9 is not possible"),
        ("name: efficientformer\n", "name: resnet50\n", "backbone.name='resnet50'.*allowed: 'efficientformer'"),
        ("attention_channels: 256", "attention_channels: 250", "attention_channels=250.*of num_attention_heads=8"),
        ("        - {num_blocks: 4, channels: 448}\n", "", "depths=.*four values"),
        ("num_blocks: 4, ", "", r"stage_params\[3\].num_blocks is missing"),
        ("'gelu'", "'geglu'", "act='geglu' is not possible; allowed: gelu"),
        ("  architecture:", "  architektur:", "model.architecture.backbone.name is missing: no 'architecture' in"),
        ("model:", "model: [", "not a YAML file"),
        (NETSPRESSO_L1, "- 1\n- 2\n", "holds list, not a mapping"),
        (NETSPRESSO_L1, "", "holds NoneType, not a mapping"),
    ],
)
def test_a_wrong_yaml_error_names_the_file_and_field(tmp_path, old, new, message):
    path = tmp_path / "model.yaml"
    assert old in NETSPRESSO_L1
    path.write_text(NETSPRESSO_L1.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"(?s)^.*model\.yaml.*{message}"):
        EfficientFormerConfig.from_yaml(path)


def test_a_missing_yaml_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        EfficientFormerConfig.from_yaml(tmp_path / "none.yaml")


def test_config_needs_neither_torch_nor_numpy():
    code = (
        "import sys, efficientformer_edu.config as c; c.PRESETS['l1'].to_yaml();"
        "print(sorted({'torch', 'numpy', 'yaml'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_package_lists_and_resolves_its_public_face():
    import efficientformer_edu as ef
    from efficientformer_edu import dense

    assert all(getattr(ef, name) is not None for name in ef.__all__)
    assert ef.from_yaml is dense.from_yaml
    assert set(ef.__all__) <= set(dir(ef))
    with pytest.raises(AttributeError, match="no attribute 'lode'; it has .*load"):
        _ = ef.lode
    assert Path(ef.__file__ or "").name == "__init__.py"
