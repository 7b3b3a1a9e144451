"""Hugging Face's configuration: its names, its file, and invalid values."""

from __future__ import annotations

import json
import warnings

import pytest

from efficientformer_edu import EfficientFormerConfig as NetworkConfig
from efficientformer_edu.config import PRESETS
from efficientformer_edu.hf import EfficientFormerConfig


def test_the_defaults_are_l1_with_two_labels():
    config = EfficientFormerConfig()
    assert config.network(distillation=True) == PRESETS["l1"].replace(num_classes=2)
    assert config.network(distillation=False) == PRESETS["l1"].replace(num_classes=2, distillation=False)
    assert (config.dim, config.hidden_size) == (448, 448)
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1}


def test_every_field_of_the_network_is_read():
    config = EfficientFormerConfig(
        depths=[1, 2, 3, 4],
        hidden_sizes=[8, 8, 16, 24],
        downsamples=[False, False, True, False],
        dim=24,
        key_dim=4,
        attention_ratio=2,
        resolution=5,
        num_attention_heads=3,
        mlp_expansion_ratio=2,
        hidden_dropout_prob=0.1,
        num_channels=1,
        pool_size=5,
        drop_path_rate=0.2,
        num_meta3d_blocks=2,
        use_layer_scale=False,
        hidden_act="relu",
        num_labels=3,
    )
    assert config.network(distillation=True) == NetworkConfig(
        depths=(1, 2, 3, 4),
        embed_dims=(8, 8, 16, 24),
        downsamples=(False, False, True, True),  # after the second stage the channels change, so there is one
        key_dim=4,
        attn_ratio=2,
        bias_grid=5,
        num_heads=3,
        mlp_ratio=2,
        proj_drop_rate=0.1,
        in_channels=1,
        pool_size=5,
        drop_path_rate=0.2,
        num_vit=2,
        layer_scale_init=None,
        act="relu",
        num_classes=3,
    )
    assert EfficientFormerConfig(layer_scale_init_value=0.5).network(True).layer_scale_init == 0.5


def test_stochastic_depth_stays_below_1():
    rates = EfficientFormerConfig(drop_path_rate=0.1).network(distillation=True).drop_path_rates
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patch_size", 32),
        ("num_hidden_layers", 12),
        ("image_size", 384),
        ("initializer_range", 0.1),
        ("distillation", False),
    ],
)
def test_a_field_that_nothing_reads_is_kept_with_a_warning(field, value):
    with pytest.warns(UserWarning, match=f"{field}={value} has no effect") as caught:
        config = EfficientFormerConfig(**{field: value})
    assert getattr(config, field) == value
    assert caught[0].filename == __file__
    assert config.network(distillation=True) == EfficientFormerConfig().network(distillation=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hiden_sizes": [1, 2, 3, 4]}, "'hiden_sizes'.*'hidden_sizes'"),
        ({"hidden_sizes": [48, 96, 224]}, r"hidden_sizes=\[48, 96, 224\] is not possible; allowed: four values"),
        ({"downsamples": [True]}, "downsamples="),
        ({"num_attention_heads": 0}, "num_attention_heads=0 is not possible"),
        ({"num_meta3d_blocks": 5}, "num_meta3d_blocks=5 is not possible; allowed: at most"),
        ({"downsample_stride": 4}, "downsample_stride=4 is not possible; allowed: 2"),
        ({"downsample_patch_size": 5}, "downsample_patch_size=5 is not possible; allowed: 3"),
        ({"downsample_pad": 0}, "downsample_pad=0 is not possible; allowed: 1"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps=1e-06 is not possible; allowed: 1e-12 or 1e-05"),
        ({"batch_norm_eps": 1e-3}, "batch_norm_eps=0.001 is not possible; allowed: 1e-05"),
        ({"hidden_act": "gelu_new"}, "hidden_act='gelu_new' is not possible"),
        ({"dim": 64}, "dim=64 is not possible; allowed: 448, the last of hidden_sizes"),
        ({"hidden_size": 64}, "hidden_size=64 is not possible"),
        ({"num_labels": 0}, "num_labels=0 is not possible"),
        ({"num_labels": 3, "id2label": {0: "cat"}}, "num_labels=3 is not possible; allowed: 1, the number of names"),
        ({"problem_type": "ranking"}, "problem_type='ranking' is not possible; allowed: regression, single_label_"),
    ],
)
def test_what_it_may_not_say(fields, message):
    with pytest.raises(ValueError, match=message):
        EfficientFormerConfig(**fields)


def test_labels_by_number_or_by_name():
    assert EfficientFormerConfig(num_labels=3).id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    named = EfficientFormerConfig(id2label={"0": "cat", "1": "dog", "2": "crane"})
    assert named.num_labels == 3
    assert named.label2id == {"cat": 0, "dog": 1, "crane": 2}
    assert EfficientFormerConfig(id2label={0: "a", 1: "a"}, label2id={"a": 0}).label2id == {"a": 0}


def test_replace_makes_names_and_widths_follow():
    config = EfficientFormerConfig(id2label={0: "cat", 1: "dog"})
    assert config.replace(num_labels=3).id2label[2] == "LABEL_2"
    assert config.replace(id2label={0: "a", 1: "b", 2: "c"}).num_labels == 3
    assert config.replace(hidden_sizes=(8, 16, 24, 32)).dim == 32
    assert config.replace(drop_path_rate=0.1).id2label == config.id2label
    with pytest.raises(ValueError, match="Did you mean 'num_labels'"):
        config.replace(num_label=3)


def test_a_file_and_back():
    config = EfficientFormerConfig(
        num_labels=3, hidden_sizes=(8, 16, 24, 32), problem_type="regression", output_attentions=True
    )
    content = json.loads(json.dumps(config.to_dict()))
    assert content["model_type"] == "efficientformer"
    assert content["hidden_sizes"] == [8, 16, 24, 32]
    assert content["hidden_size"] == content["dim"] == 32  # without the first, transformers cannot build two heads
    assert content["layer_norm_eps"] == 1e-5  # what the network computes with
    assert "num_labels" not in content
    back = EfficientFormerConfig.from_dict(content)
    assert back.network(distillation=True) == config.network(distillation=True)
    assert back.to_dict() == config.to_dict()
    assert NetworkConfig.from_dict(content) == config.network(distillation=True)


# Like the files on the hub, for L3: with fields that nothing reads, and without some that have defaults.
PUBLISHED = {
    "architectures": ["EfficientFormerForImageClassificationWithTeacher"],
    "classifier": "head",
    "crop_pct": 0.9,
    "attn_ratio": 4,
    "depths": [4, 4, 12, 6],
    "dim": 512,
    "distillation": True,
    "downsamples": [True, True, True, True],
    "hidden_size": 512,
    "hidden_sizes": [64, 128, 320, 512],
    "id2label": {"0": "tench", "1": "goldfish"},
    "label2id": {"tench": 0, "goldfish": 1},
    "layer_norm_eps": 1e-12,
    "model_type": "efficientformer",
    "num_meta3d_blocks": 4,
    "torch_dtype": "float32",
    "transformers_version": "4.26.0.dev0",
}


def test_a_published_file():
    with pytest.warns(UserWarning, match="these fields of the file have no effect: classifier, crop_pct, attn_ratio"):
        config = EfficientFormerConfig.from_dict(PUBLISHED)
    assert config.network(distillation=True) == PRESETS["l3"].replace(num_classes=2)
    assert config.id2label == {0: "tench", 1: "goldfish"}


def test_a_file_of_another_model():
    with pytest.raises(ValueError, match="model_type='vit' is not possible; allowed: 'efficientformer'"):
        EfficientFormerConfig.from_dict({"model_type": "vit"})


@pytest.mark.parametrize("preset", PRESETS)
def test_a_network_of_this_package_as_a_hugging_face_configuration(preset):
    network = PRESETS[preset]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = EfficientFormerConfig.from_network(network)
    assert config.network(distillation=True) == network
    assert config.num_meta3d_blocks == network.num_vit
    bare = network.replace(layer_scale_init=None, distillation=False)
    assert EfficientFormerConfig.from_network(bare).network(distillation=False) == bare
    wide = network.replace(bias_grid=(7, 9))
    assert EfficientFormerConfig.from_network(wide).network(distillation=True) == wide


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stem_act": "gelu"}, "stem_act='gelu' cannot be expressed"),
        ({"attn_drop_rate": 0.1}, "attn_drop_rate=0.1 cannot be expressed"),
        ({"num_vit": (0, 0, 1, 1)}, r"num_vit=\(0, 0, 1, 1\) cannot be expressed"),
        ({"downsamples": (True, True, True, True)}, "downsamples="),
    ],
)
def test_a_network_that_the_hugging_face_configuration_cannot_express(fields, message):
    with pytest.raises(ValueError, match=message):
        EfficientFormerConfig.from_network(NetworkConfig(**fields))
