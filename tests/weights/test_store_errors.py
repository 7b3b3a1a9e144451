"""Any error in a file or a network: a ValueError that names the file, the error and the solution."""

from __future__ import annotations

import pickle
import re

import pytest
import torch
from safetensors.torch import save_file

import efficientformer_edu as ef
from efficientformer_edu.weights.conversion import to_layout


def refused(path, *parts, **arguments):
    """Loading fails, and the message starts with the file's path and contains these parts in this order."""
    pattern = ".*".join(map(re.escape, (f"{path}: ", *parts)))
    with pytest.raises(ValueError, match=f"(?s)^{pattern}"):
        ef.load(path, **arguments)


@pytest.fixture
def tensors(network):
    return to_layout(network.state_dict(), network.config, "official")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.pth"):
        ef.load(tmp_path / "nothing.pth")


def test_empty_file(tmp_path):
    (path := tmp_path / "empty.pth").touch()
    refused(path, "the file is empty")


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html>", b"version https://git-lfs", b"\x89PNG\r\n\x1a\n0000", b"x"]
)
def test_no_checkpoint(tmp_path, content):
    (path := tmp_path / "weights.safetensors").write_bytes(content)
    refused(path, "neither a safetensors nor a torch file")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".old"])
def test_cut_short(network, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".old":
        torch.save(network.state_dict(), path, _use_new_zipfile_serialization=False)
    else:
        ef.save(network, path)
    content = path.read_bytes()
    for length in (12, 100, 1000, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        refused(path, "damaged")


def test_bytes_that_are_no_zip(tmp_path):
    for start in (b"PK\x03\x04", b"\x80\x02", b"\x80\x04"):
        (path := tmp_path / "weights.pth").write_bytes(start + bytes(range(256)))
        refused(path, "damaged")


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize("as_pickle", [True, False])
def test_code_is_not_run(tmp_path, as_pickle):
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    if as_pickle:
        path.write_bytes(pickle.dumps({"model": Evil(marker)}, protocol=2))
    else:
        torch.save({"model": Evil(marker)}, path)
    refused(path, "Python objects besides tensors (", "io.open)")  # since Python 3.13 it is _io.open
    assert not marker.exists()


def test_a_pickled_network(network, tmp_path):
    torch.save(network, path := tmp_path / "network.pth")
    refused(path, "efficientformer_edu.model.network.EfficientFormer", "weights_only=False", "save only its state dict")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "holds list, not a dictionary"),
        (torch.ones(1), "holds Tensor, not a dictionary"),
        ({}, "not contain a dictionary of tensors; its keys are none"),
        ({"epoch": 3, "optimizer": {}}, "not contain a dictionary of tensors; its keys are epoch, optimizer"),
        ({"model": {"lr": 0.1}}, "not contain a dictionary of tensors; its keys are model"),
        ({3: torch.ones(1)}, "not contain a dictionary of tensors; its keys are 3"),
    ],
)
def test_no_state_dict(tmp_path, content, message):
    torch.save(content, path := tmp_path / "weights.pth")
    refused(path, message)


def test_unknown_layout(tmp_path):
    save_file(
        {"conv1.weight": torch.ones(1), "layer1.0.bn1.bias": torch.ones(1)}, path := tmp_path / "resnet.safetensors"
    )
    refused(
        path,
        "do not match any layout (official, timm, hf, mmpretrain, netspresso, native)",
        "conv1.weight, layer1.0.bn1.bias",
    )


def test_names_left_over_and_missing(tensors, tmp_path):
    del tensors["network.0.0.mlp.fc2.bias"]
    tensors |= {f"extra.{i}": torch.ones(1) for i in range(6)}
    save_file(tensors, path := tmp_path / "weights.safetensors")
    refused(
        path,
        "in the official layout, tensors missing (1): network.0.0.mlp.fc2.bias",
        "tensors unexpected (6): extra.0, extra.1, extra.2, extra.3 and 2 more",
    )


@pytest.mark.slow
def test_every_missing_tensor_is_a_value_error(tensors, tmp_path):
    path = tmp_path / "weights.safetensors"
    for name in tensors:
        if name.endswith(("attention_bias_idxs", "head.weight", "head.bias")):
            continue
        save_file({other: value for other, value in tensors.items() if other != name}, path)
        refused(path)


def test_wrong_shape(tensors, network, tmp_path):
    tensors["network.1.proj.bias"] = torch.ones(9)
    save_file(tensors, path := tmp_path / "weights.safetensors")
    refused(path, "tensors of another shape (1): network.1.proj.bias (9,) instead of (8,)")
    refused(path, "tensors of another shape (1): network.1.proj.bias (9,) instead of (8,)", config=network.config)


@pytest.mark.parametrize("shape", [(), (8,), (0, 3, 3, 3)])
def test_impossible_shape(tensors, tmp_path, shape):
    tensors["patch_embed.0.weight"] = torch.ones(shape)
    save_file(tensors, path := tmp_path / "weights.safetensors")
    refused(path, "patch_embed.0.weight has the invalid shape")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_not_finite(tensors, tmp_path, value):
    tensors["norm.weight"][3] = value
    save_file(tensors, path := tmp_path / "weights.safetensors")
    refused(path, "tensors with NaN or infinity (1): norm.weight")


def test_another_kind_of_number(tensors, tmp_path):
    tensors["norm.weight"] = tensors["norm.weight"].to(torch.int8)
    tensors["head.weight"] = tensors["head.weight"].to(torch.float8_e4m3fn)
    tensors["network.6.2.token_mixer.attention_bias_idxs"] = torch.ones(9, 9)
    save_file(tensors, path := tmp_path / "weights.safetensors")
    refused(
        path, "tensors of another kind (3)", "idxs (torch.float32", "norm.weight (torch.int8", "(torch.float8_e4m3fn"
    )


@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, lambda value: value.to("meta")])
def test_tensors_that_are_not_dense(tensors, tmp_path, change):
    tensors["norm.weight"] = change(tensors["norm.weight"])
    torch.save(tensors, path := tmp_path / "weights.pth")
    refused(path, "tensors of another kind (1): norm.weight (torch.float32, ")


def test_another_network(network, tmp_path):
    ef.save(network, path := tmp_path / "small.safetensors")
    refused(
        path,
        "The file describes depths=(1, 2, 1, 3), embed_dims=(8, 8, 12, 16)",
        "num_classes=5",
        "expected was depths=(3, 2, 6, 4), embed_dims=(48, 96, 224, 448)",
        config="l1",
    )
    with pytest.raises(ValueError, match="Unknown model 'l2'"):
        ef.load(path, config="l2")


def test_another_number_of_classes(network, tmp_path):
    ef.save(network, path := tmp_path / "small.safetensors")
    refused(
        path,
        "head.weight (5, 16) instead of (6, 16)",
        "The file describes num_classes=5; expected was num_classes=6",
        config=network.config.replace(num_classes=6),
    )


def test_folded_network(network, tmp_path):
    folded = ef.fold(network, resolution=64)
    for layout in ("timm", "native"):
        with pytest.raises(ValueError, match="a folded network has no batch norms.*fold it after loading"):
            ef.save(folded, tmp_path / "folded.safetensors", layout=layout)
    with pytest.raises(ValueError, match="the network was folded"):
        ef.save(folded.state_dict(), tmp_path / "folded.safetensors")
    assert not list(tmp_path.iterdir())
    contiguous = {name: tensor.contiguous() for name, tensor in folded.state_dict().items()}
    save_file(contiguous, path := tmp_path / "folded.safetensors")
    refused(path, "the batch norms are missing: the network was folded")


def test_save_refuses(network, tmp_path):
    path = tmp_path / "weights.pth"
    state = network.state_dict()
    with pytest.raises(ValueError, match="Unknown layout 'onnx'"):
        ef.save(network, path, layout="onnx")
    with pytest.raises(ValueError, match="already have the names of the timm layout"):
        ef.save(to_layout(state, network.config, "timm"), path, layout="timm")
    with pytest.raises(ValueError, match="tensors missing \\(1\\): norm.bias"):
        ef.save({name: value for name, value in state.items() if name != "norm.bias"}, path)
    with pytest.raises(ValueError, match="the hf layout cannot store MB3D blocks before"):
        ef.save(ef.EfficientFormer(network.config.replace(num_vit=(0, 1, 0, 1))), path, layout="hf")
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        ef.save(network, tmp_path / "nowhere" / "weights.pth")
    assert not list(tmp_path.iterdir())
