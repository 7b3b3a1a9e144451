"""Loading files of all formats and saving files of every format."""

from __future__ import annotations

import argparse
import os
import pathlib
import stat

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import efficientformer_edu as ef
from efficientformer_edu.weights import LAYOUTS
from efficientformer_edu.weights.conversion import merge_heads, to_layout

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def assert_same(state, expected):
    assert list(state) == list(expected)
    for name in expected:
        assert state[name].dtype == expected[name].dtype
        assert torch.equal(state[name], expected[name]), name


def shifted(state):
    return {name: value + 1 for name, value in state.items()}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_round_trip(network, tmp_path, layout, suffix):
    ef.save(network, path := tmp_path / f"weights{suffix}", layout=layout)
    state = ef.load(path)
    expected = network.state_dict()
    assert_same(state, merge_heads(expected) if layout == "netspresso" else expected)
    fresh = ef.EfficientFormer(network.config.replace(distillation=layout != "netspresso")).eval()
    fresh.load_state_dict(state)
    if layout != "netspresso":
        assert torch.equal(fresh(IMAGES), network(IMAGES))
    torch.testing.assert_close(fresh(IMAGES), network(IMAGES))


def test_timm_is_the_default_layout(network, tmp_path):
    ef.save(network, str(tmp_path / "weights.safetensors"))
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        assert set(file.keys()) == set(to_layout(network.state_dict(), network.config, "timm"))
        assert file.metadata() == {"format": "pt"}  # required by transformers


@pytest.mark.parametrize(("layout", "wrapper"), [("official", "model"), ("mmpretrain", "state_dict"), ("hf", None)])
def test_torch_files_are_wrapped_as_the_project_does(network, tmp_path, layout, wrapper):
    ef.save(network, path := tmp_path / "weights.pth", layout=layout)
    content = torch.load(path, weights_only=True)
    tensors = content[wrapper] if wrapper else content
    assert tensors.keys() == to_layout(network.state_dict(), network.config, layout).keys()


def test_state_dict_instead_of_network(network, tmp_path):
    ef.save(network.state_dict(), a := tmp_path / "a.safetensors", layout="netspresso")
    ef.save(network, b := tmp_path / "b.safetensors", layout="netspresso")
    assert a.read_bytes() == b.read_bytes()


def test_views_are_saved_alone(network, tmp_path):
    state = network.state_dict()
    storage = torch.cat([torch.zeros(100_000), state["norm.weight"]])
    state["norm.weight"] = storage[100_000:]
    state["head.weight"] = state["head.weight"].T.contiguous().T  # not contiguous
    for path in (tmp_path / "view.pth", tmp_path / "view.safetensors"):
        ef.save(state, path)
        assert path.stat().st_size < 200_000
        assert_same(ef.load(path), network.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_the_file_is_kept(network, tmp_path, dtype):
    network = network.to(dtype)
    for suffix in (".safetensors", ".pth"):
        ef.save(network, tmp_path / f"weights{suffix}")
        assert_same(ef.load(tmp_path / f"weights{suffix}"), network.state_dict())


def test_content_decides_not_the_suffix(network, tmp_path):
    ef.save(network, tmp_path / "a.safetensors")
    ef.save(network, tmp_path / "b.pth")
    (tmp_path / "a.safetensors").rename(tmp_path / "a.pth")
    (tmp_path / "b.pth").rename(tmp_path / "b.safetensors")
    assert_same(ef.load(tmp_path / "a.pth"), ef.load(tmp_path / "b.safetensors"))


def test_old_torch_files(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_same(ef.load(tmp_path / "old.pth"), network.state_dict())


def test_a_training_checkpoint_as_the_released_code_writes_it(network, tmp_path):
    tensors = to_layout(network.state_dict(), network.config, "official")
    optimizer = torch.optim.AdamW(network.parameters())
    content = {
        "model": tensors,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": {"base_values": [0.1]},
        "epoch": 299,
        "model_ema": shifted(tensors),
        "scaler": {},
        "args": argparse.Namespace(model="efficientformer_l1", lr=1e-3, output_dir="out"),
    }
    torch.save(content, tmp_path / "checkpoint.pth")
    assert_same(ef.load(tmp_path / "checkpoint.pth", use_ema=False), network.state_dict())


@pytest.mark.parametrize("keys", [["model", "state_dict"], ["state_dict_ema", "model_ema"]])
def test_which_weights_are_preferred(network, tmp_path, keys):
    state = network.state_dict()
    torch.save({keys[1]: shifted(state), keys[0]: state, "epoch": 1}, tmp_path / "both.pth")
    assert_same(ef.load(tmp_path / "both.pth"), state)


def test_data_parallel_prefix_and_parameters(network, tmp_path):
    wrapped = {
        f"module.{name}": torch.nn.Parameter(value, value.is_floating_point())
        for name, value in to_layout(network.state_dict(), network.config, "timm").items()
    }
    torch.save({"state_dict": wrapped}, tmp_path / "parallel.pth")
    state = ef.load(tmp_path / "parallel.pth")
    assert_same(state, network.state_dict())
    assert not any(value.requires_grad for value in state.values())


def test_two_heads_for_a_network_with_a_single_head(network, tmp_path):
    ef.save(network, path := tmp_path / "two.safetensors")
    config = network.config.replace(distillation=False)
    fresh = ef.EfficientFormer(config).eval()
    fresh.load_state_dict(ef.load(path, config=config))
    torch.testing.assert_close(fresh(IMAGES), network(IMAGES))


def test_a_single_head_for_a_network_with_two(network, tmp_path):
    ef.save(network, path := tmp_path / "one.safetensors", layout="netspresso")
    with pytest.raises(ValueError, match="one.safetensors: the file has one head.*distillation=False.*head=False"):
        ef.load(path, config=network.config)


@pytest.mark.parametrize("layout", ["timm", "netspresso"])
def test_without_the_heads(network, tmp_path, layout):
    ef.save(network, path := tmp_path / "weights.safetensors", layout=layout)
    other = ef.EfficientFormer(network.config.replace(num_classes=11))
    state = ef.load(path, config=other.config, head=False)
    assert not any("head" in name for name in state)
    assert_same(ef.load(path, head=False), state)
    kept = other.head.weight.clone()
    missing, left_over = other.load_state_dict(state, strict=False)
    assert set(missing) == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"} and not left_over
    assert torch.equal(other.head.weight, kept)
    assert torch.equal(other.stem.conv1.weight, network.stem.conv1.weight)


def test_a_file_without_heads(network, tmp_path):
    body = {name: value for name, value in network.state_dict().items() if "head" not in name}
    save_file(body, path := tmp_path / "body.safetensors")
    assert_same(ef.load(path, head=False), body)
    with pytest.raises(ValueError, match="tensors missing \\(2\\): head.weight, head.bias"):
        ef.load(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_written_atomically(network, tmp_path, monkeypatch, suffix):
    path = tmp_path / f"weights{suffix}"
    ef.save(network, path)
    before = path.read_bytes()

    def disk_full(target):
        with target.open("wb") as file:
            file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", lambda target, _: disk_full(target))
    monkeypatch.setattr(torch, "save", lambda _, target: disk_full(target))
    with pytest.raises(OSError, match="no space"):
        ef.save(network, path, layout="native")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_others_may_read_the_file(network, tmp_path, suffix):
    ef.save(network, tmp_path / f"weights{suffix}")
    (tmp_path / "plain").touch()
    assert stat.S_IMODE((tmp_path / f"weights{suffix}").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode
    )
