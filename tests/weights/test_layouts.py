"""The published layouts against names, shapes, sums and last elements from the five code bases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from golden_weights import golden_state

from efficientformer_edu import EfficientFormer, EfficientFormerConfig, load, save
from efficientformer_edu.config import PRESETS
from efficientformer_edu.weights import LAYOUTS, key_map
from efficientformer_edu.weights.conversion import (
    detect,
    from_layout,
    infer,
    join_qkv,
    merge_heads,
    split_qkv,
    to_layout,
)

LISTS = Path(__file__).parents[1] / "golden" / "layouts"
PUBLISHED = [layout for layout in LAYOUTS if layout != "native"]


@pytest.fixture(scope="module", params=PRESETS)
def golden(request):
    """A preset's name, its configuration, and its golden weights in float64."""
    return request.param, PRESETS[request.param], golden_state(PRESETS[request.param])


@pytest.fixture(scope="module")
def l1_state():
    return golden_state(PRESETS["l1"])


def assert_golden(tensors, layout, preset):
    expected = json.loads((LISTS / f"{layout}-{preset}.json").read_text(encoding="utf-8"))
    assert tensors.keys() == expected.keys()
    for name, (shape, total, last) in expected.items():
        value = tensors[name]
        assert list(value.shape) == shape, name
        assert value.flatten()[-1].item() == last, name
        assert value.sum().item() == pytest.approx(total, abs=1e-9 * max(1, value.abs().sum().item())), name


def test_there_are_five_published_layouts():
    assert PUBLISHED == ["official", "timm", "hf", "mmpretrain", "netspresso"]
    assert {path.stem.split("-")[0] for path in LISTS.iterdir()} == set(PUBLISHED)


@pytest.mark.parametrize("layout", PUBLISHED)
def test_golden_weights_in_every_layout_and_back(golden, layout):
    preset, config, state = golden
    tensors = to_layout(state, config, layout)
    assert_golden(tensors, layout, preset)

    assert detect(tensors) == layout
    single_head = layout == "netspresso"
    assert infer(tensors, layout) == config.replace(distillation=not single_head)
    back = from_layout(tensors, config.replace(distillation=not single_head), layout)
    expected = merge_heads(state) if single_head else state
    assert list(back) == list(key_map(config.replace(distillation=not single_head), "native"))
    assert all(torch.equal(back[name], expected[name]) for name in expected)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("layout", PUBLISHED)
def test_golden_weights_through_a_file(l1_state, tmp_path, layout, suffix):
    state = l1_state
    save(state, path := tmp_path / f"l1{suffix}", layout=layout)
    loaded = load(path)
    expected = merge_heads(state) if layout == "netspresso" else state
    assert loaded.keys() == expected.keys()
    assert all(
        torch.equal(loaded[name], expected[name]) and loaded[name].dtype == torch.float64
        for name in expected
        if "num_batches" not in name
    )


@pytest.mark.parametrize("config", [*PRESETS.values(), EfficientFormerConfig(act="prelu", stem_act="prelu")], ids=str)
def test_native_names_are_those_of_the_network(config):
    with torch.device("meta"):
        state = EfficientFormer(config).state_dict()
    assert key_map(config, "native") == {name: name for name in state}
    assert list(key_map(config, "native")) == list(state)


def test_names_are_bijective():
    for config in PRESETS.values():
        for layout in LAYOUTS:
            table = key_map(config, layout)
            assert len(set(table.values())) == len(table)


def test_qkv_is_split_head_by_head():
    config = EfficientFormerConfig(num_heads=2, key_dim=1, attn_ratio=2)
    qkv = torch.tensor([[1, 2, 3, 3.5, 10, 20, 30, 35]]).T  # two heads: q, k, then two rows of v
    parts = split_qkv(qkv, config)
    assert {name: part.flatten().tolist() for name, part in parts.items()} == {
        "query": [1, 10],
        "key": [2, 20],
        "value": [3, 3.5, 30, 35],
    }
    assert torch.equal(join_qkv(parts, config), qkv)


def test_merged_heads_give_the_mean_of_the_logits():
    heads = {"head.weight": torch.tensor([[1.0]]), "head_dist.weight": torch.tensor([[4.0]])}
    heads |= {"head.bias": torch.tensor([0.5]), "head_dist.bias": torch.tensor([-0.5]), "norm.weight": torch.ones(1)}
    merged = merge_heads(heads)
    assert {name: value.item() for name, value in merged.items()} == {
        "norm.weight": 1,
        "head.weight": 2.5,
        "head.bias": 0,
    }


@pytest.mark.parametrize("layout", PUBLISHED)
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"downsamples": (True, True, True, True)}, "embeddings.*downsamples=\\(True"),
        ({"num_vit": (0, 0, 1, 1)}, "MB3D blocks before the last stage.*\\(0, 0, 1, 1\\)"),
        ({"act": "prelu"}, "PReLU"),
        ({"stem_act": "prelu"}, "PReLU"),
    ],
)
def test_networks_that_published_layouts_cannot_hold(layout, fields, reason):
    config = EfficientFormerConfig(**fields)
    with pytest.raises(ValueError, match=f"the {layout} layout cannot store .*{reason}.*layout='native'"):
        key_map(config, layout)
    key_map(config, "native")


def test_unknown_layout():
    with pytest.raises(ValueError, match="Unknown layout 'keras'.*official, timm, hf, mmpretrain, netsp"):
        key_map(EfficientFormerConfig(), "keras")
