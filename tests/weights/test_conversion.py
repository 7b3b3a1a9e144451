"""Any network, through any layout and back: equal weights, the configuration, and an index in another order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from strategies import configs

import efficientformer_edu as ef
from efficientformer_edu import EfficientFormer, EfficientFormerConfig
from efficientformer_edu.weights import LAYOUTS
from efficientformer_edu.weights.conversion import detect, infer, merge_heads, table_order, to_layout
from efficientformer_edu.weights.store import convert_state_dict

PUBLISHED = [layout for layout in LAYOUTS if layout != "native"]


def published(config):
    """The configuration without the settings that the published layouts do not support."""
    no_prelu = {name: "relu" for name in ("act", "stem_act") if getattr(config, name) == "prelu"}
    return config.replace(downsamples=(False, True, True, True), num_vit=config.vits[3], **no_prelu)


def assert_same(state, expected):
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def assert_inferred(inferred, config, grid):
    """The settings that shapes and names determine: the same tensors, and the values inferred from them."""
    assert (inferred.depths, inferred.vits, inferred.downsamples) == (config.depths, config.vits, config.downsamples)
    assert (inferred.embed_dims, inferred.num_classes) == (config.embed_dims, config.num_classes)
    assert (inferred.in_channels, inferred.distillation) == (config.in_channels, config.distillation)
    assert (inferred.layer_scale_init is None) == (config.layer_scale_init is None)
    assert [inferred.hidden_dim(j) for j in range(4)] == [config.hidden_dim(j) for j in range(4)]
    if any(config.vits):
        assert (inferred.num_heads, inferred.key_dim, inferred.value_dim) == (
            config.num_heads,
            config.key_dim,
            config.value_dim,
        )
        assert inferred.bias_grid in grid


@settings(max_examples=40)
@given(configs(), st.sampled_from(PUBLISHED))
def test_published_layouts(config, layout):
    config = published(config)
    state = EfficientFormer(config).state_dict()
    tensors = to_layout(state, config, layout)
    if layout == "netspresso" and config.distillation:
        state, config = merge_heads(state), config.replace(distillation=False)
    assert detect(tensors) == layout
    height, width = config.bias_grid
    line = {(1, height * width), (height * width, 1)} if 1 in config.bias_grid else set()  # both have the same index
    assert_inferred(infer(tensors, layout), config, {config.bias_grid} | line)
    assert_same(convert_state_dict(tensors, None, head=True), state)
    assert_same(convert_state_dict(tensors, config, head=True), state)


@settings(max_examples=40)
@given(configs())
def test_native_layout(config):
    state = EfficientFormer(config).state_dict()
    assert detect(state) == "native"
    assert_same(convert_state_dict(state, config, head=True), state)
    if not any(config.vits) or config.bias_grid[0] == config.bias_grid[1]:
        inferred = infer(state, "native")
        assert_inferred(inferred, config, {config.bias_grid})
        assert (inferred.act == "prelu", inferred.stem_act == "prelu") == (
            config.act == "prelu",
            config.stem_act == "prelu",
        )
        assert_same(convert_state_dict(state, None, head=True), state)


@pytest.mark.parametrize("key_dim", range(1, 60))
def test_ratios_give_the_same_widths_again(key_dim):
    for value_dim in range(1, 60, 7):
        config = EfficientFormerConfig(
            depths=(1, 1, 1, 1), embed_dims=(2, 2, 2, 2), num_heads=1, key_dim=key_dim, bias_grid=1, num_classes=1
        )
        shapes = {name: value.shape for name, value in EfficientFormer(config).state_dict().items()}
        mixer = "stages.3.mb3d.0.token_mixer"
        shapes[f"{mixer}.qkv.weight"] = (2 * key_dim + value_dim, 2)
        shapes[f"{mixer}.proj.weight"] = (2, value_dim)
        inferred = infer({name: torch.empty(shape) for name, shape in shapes.items()}, "native")
        assert (inferred.key_dim, inferred.value_dim) == (key_dim, value_dim)


def test_a_grid_that_is_not_square_needs_the_index_or_the_configuration(make_network):
    config = EfficientFormerConfig(depths=(1, 1, 1, 1), embed_dims=(4, 4, 4, 4), bias_grid=(2, 3), num_classes=2)
    state = make_network(config).state_dict()
    assert infer(to_layout(state, config, "timm"), "timm").bias_grid == (2, 3)
    with pytest.raises(ValueError, match="cannot be inferred from 6 offsets; pass the config"):
        convert_state_dict(state, None, head=True)
    assert_same(convert_state_dict(state, config, head=True), state)


def test_lucid_files_have_no_index(network):
    tensors = to_layout(network.state_dict(), network.config, "timm")
    without = {name: value for name, value in tensors.items() if not name.endswith("idxs")}
    assert len(without) == len(tensors) - 2
    assert_same(convert_state_dict(without, None, head=True), network.state_dict())


IMAGES = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def parts(tensors, name):
    return [key for key in tensors if key.endswith(name)]


def load_into_new(tensors, config):
    network = EfficientFormer(config).eval()
    network.load_state_dict(convert_state_dict(tensors, config, head=True))
    return network


def test_a_permuted_table(network):
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    tensors = to_layout(network.state_dict(), network.config, "official")
    for table in parts(tensors, "attention_biases"):
        permuted = torch.empty_like(tensors[table])
        permuted[:, order] = tensors[table]
        tensors[table] = permuted
    for index in parts(tensors, "attention_bias_idxs"):
        tensors[index] = order[tensors[index]]
    loaded = load_into_new(tensors, network.config)
    assert torch.equal(loaded(IMAGES), network(IMAGES))


def test_all_pairs_on_a_single_bias(network):
    """NetsPresso's networks trained from scratch: their index is all ones, and no offset has its own bias."""
    state = network.state_dict()
    tensors = to_layout(state, network.config, "netspresso")
    for index in parts(tensors, "attention_bias_idxs"):
        tensors[index] = torch.ones_like(tensors[index])
    loaded = load_into_new(tensors, network.config.replace(distillation=False))
    for name in parts(state, "attention_biases"):
        assert torch.equal(loaded.state_dict()[name], state[name][:, 1:2].expand(-1, 9))


def test_order_by_hand():
    # A line of three tokens: our offsets are 0, 1, 2; the file counts them in reverse.
    assert table_order(torch.tensor([[2, 1, 0], [1, 2, 1], [0, 1, 2]]), (1, 3)).tolist() == [2, 1, 0]
    assert table_order(torch.tensor([[2, 1, 0], [1, 2, 0], [0, 1, 2]], dtype=torch.int32), (1, 3)) is None
    assert table_order(torch.tensor([[3, 1, 0], [1, 3, 1], [0, 1, 3]]), (1, 3)) is None  # there is no fourth column
    assert table_order(torch.tensor([[-1]]), (1, 1)) is None


@pytest.mark.parametrize("broken", [lambda index: index.roll(1), lambda index: index + 1])
def test_an_index_that_is_none(network, broken):
    tensors = to_layout(network.state_dict(), network.config, "timm")
    name, table = (parts(tensors, kind)[1] for kind in ("attention_bias_idxs", "attention_biases"))
    tensors[name] = broken(tensors[name])
    with pytest.raises(ValueError, match=f"{table} .* on a grid of 3×3 .* pass the config with its bias_grid"):
        convert_state_dict(tensors, None, head=True)


def test_the_index_of_another_grid(network):
    config = network.config.replace(bias_grid=(1, 9))
    tensors = to_layout(network.state_dict(), network.config, "timm")
    with pytest.raises(ValueError, match="on a grid of 1×9"):
        convert_state_dict(tensors, config, head=True)


@pytest.mark.parametrize("layout", ["native", "timm", "netspresso"])
@pytest.mark.parametrize("other", [(3, 2), (1, 6)])
def test_a_grid_with_as_many_offsets_is_another_grid(network, tmp_path, layout, other):
    config = network.config.replace(bias_grid=(2, 3), distillation=False)
    trained = EfficientFormer(config).eval()
    ef.save(trained, path := tmp_path / "weights.safetensors", layout=layout)
    assert ef.from_weights(path).config == config
    assert torch.equal(ef.get_model(config, pretrained=path)(IMAGES), trained(IMAGES))
    for load in (lambda grid: ef.load(path, config=grid), lambda grid: ef.get_model(grid, pretrained=path)):
        with pytest.raises(ValueError, match=f"weights.safetensors: .* on a grid of {other[0]}×{other[1]}"):
            load(config.replace(bias_grid=other))


def test_a_state_dict_states_its_grid_if_the_config_is_given(network, tmp_path):
    """The training saves state dicts; 4×9 has as many offsets as 6×6, which is assumed without a config."""
    config = network.config.replace(bias_grid=(4, 9))
    state = EfficientFormer(config).state_dict()
    ef.save(state, path := tmp_path / "weights.safetensors", layout="native", config=config)
    assert ef.from_weights(path).config == config
    ef.save(state, path, layout="native")
    assert ef.from_weights(path).config.bias_grid == (6, 6)
    ef.load(path, config=config)  # nothing in this file states the grid


@pytest.mark.parametrize("grid", ["[4, 9]", "[9]", "no json", '["3", 3]'])
def test_damaged_metadata_of_the_grid(network, tmp_path, grid):
    save_file(network.state_dict(), path := tmp_path / "weights.safetensors", {"bias_grid": grid})
    with pytest.raises(ValueError, match=r"weights.safetensors: .*(4×9|bias_grid|damaged)"):
        ef.load(path)
