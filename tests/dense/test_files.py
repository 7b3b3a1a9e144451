"""The file of a trained network: everything is restored, and other files are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from dense_networks import ALLOWED, SMALL, dense_config, dense_network, images

from efficientformer_edu.dense import (
    AnchorDecoupledHeadConfig,
    AnchorFreeDecoupledHeadConfig,
    DenseConfig,
    DenseNetwork,
    FPNConfig,
    YOLOPAFPNConfig,
)
from efficientformer_edu.dense.files import KEY, from_dict, header, load_backbone, load_dense, save_dense, to_dict
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.weights import save

PAIR = ("no neck", "all_mlp_decoder")
NAMES = ("Himmel", "Straße", "人")


def saved(path: Path, pair: tuple[str, str] = PAIR) -> DenseNetwork:
    network = dense_network(pair)
    save_dense(network.state_dict(), network.config, 96, NAMES, path)
    return network


def rewritten(path: Path, **fields: Any) -> Path:
    """The same weights with another header."""
    data = header(path)
    assert data is not None
    metadata = {KEY: json.dumps({**data, **fields})}
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, metadata)
    return path


@pytest.mark.parametrize("pair", ALLOWED)
def test_every_neck_and_head_comes_back_bit_for_bit(pair: tuple[str, str], tmp_path: Path) -> None:
    network = saved(tmp_path / "it.safetensors", pair)
    loaded = load_dense(tmp_path / "it.safetensors")
    assert (loaded.size, loaded.classes) == (96, NAMES)
    assert loaded.network.config == network.config
    assert not loaded.network.training
    state = loaded.network.state_dict()
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(images(1, 64, 64)), network(images(1, 64, 64)), rtol=0, atol=0)


@pytest.mark.parametrize(
    "config",
    [
        *(dense_config(pair) for pair in ALLOWED),
        DenseConfig(
            SMALL.replace(layer_scale_init=None, act="silu", num_vit=(0, 0, 1, 1)),
            AnchorDecoupledHeadConfig(((16, 24), (32, 48)), (1.0,), 2, "instance_norm"),
            FPNConfig(2, 1, 2, "on_lateral", True, 24),
            7,
            norms=False,
        ),
        DenseConfig(SMALL, AnchorFreeDecoupledHeadConfig(True, "relu"), YOLOPAFPNConfig(1.0, True, "gelu"), 1),
    ],
    ids=lambda config: " ".join(config.names),
)
def test_a_configuration_comes_back_from_json(config: DenseConfig) -> None:
    data = to_dict(config)
    assert json.loads(json.dumps(data)) == data
    assert from_dict(data) == config


def test_others_can_read_the_weights(tmp_path: Path) -> None:
    network = saved(tmp_path / "it.safetensors")
    tensors = safetensors.torch.load_file(tmp_path / "it.safetensors")
    assert all(torch.equal(tensors[name], value) for name, value in network.state_dict().items())
    with safetensors.safe_open(tmp_path / "it.safetensors", "pt") as opened:
        assert opened.metadata()["format"] == "pt"
        assert "Straße" in opened.metadata()[KEY]


@pytest.mark.parametrize("name", ["it.pth", "it", "it.safetensors.bak"])
def test_a_file_without_a_header_is_not_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name}: only a .safetensors file"):
        saved(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        saved(tmp_path / "nowhere" / "it.safetensors")
    for read in (load_dense, header):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("part", [9, 20, 2000, 0.5, -1])
def test_a_file_cut_short(part: float, tmp_path: Path) -> None:
    path = tmp_path / "it.safetensors"
    saved(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content)) if part == 0.5 else int(part)])
    with pytest.raises(ValueError, match=r"it\.safetensors: the safetensors file is damaged or cut short"):
        load_dense(path)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    """A classifier in both file formats, text, an empty file, and another project's safetensors."""
    model = EfficientFormer(SMALL)
    save(model, tmp_path / "classifier.safetensors", layout="native")
    save(model, tmp_path / "classifier.pth", layout="native")
    (tmp_path / "words.txt").write_text("no network {at all}", encoding="utf-8")
    (tmp_path / "nothing.safetensors").write_bytes(b"")
    safetensors.torch.save_file({"w": torch.zeros(1)}, tmp_path / "other.safetensors")
    for path in tmp_path.iterdir():
        assert header(path) is None
        with pytest.raises(ValueError, match=rf"{path.name} is not a detection or segmentation network"):
            load_dense(path)


def test_a_header_that_does_not_belong_to_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "it.safetensors"
    data = to_dict(saved(path).config)
    message = r"it\.safetensors: the weights do not fit the configuration in its header: "
    broken: dict[str, Any] = {
        "num_classes": {**data, "num_classes": 4},
        "other head": {**data, "head": {"name": "semantic_fpn"}},
        "no head": {name: value for name, value in data.items() if name != "head"},
        "unknown head": {**data, "head": {"name": "yolo"}},
        "unknown field": {**data, "head": {"name": "all_mlp_decoder", "width": 3}},
        "a list": [],
    }
    for network in broken.values():
        with pytest.raises(ValueError, match=message):
            load_dense(rewritten(path, network=network))
    assert load_dense(rewritten(path, network=data)).network.config.num_classes == 3


def test_a_header_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "it.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(1)}, path, {KEY: "{network"})
    with pytest.raises(ValueError, match=r"it\.safetensors: the safetensors file is damaged"):
        load_dense(path)
    for content in ("[]", "{}", "3"):
        safetensors.torch.save_file({"w": torch.zeros(1)}, path, {KEY: content})
        with pytest.raises(
            ValueError, match=r"it\.safetensors: the weights do not fit the configuration in its header"
        ):
            load_dense(path)


def test_the_backbone_of_a_classifier_or_of_another_network(tmp_path: Path) -> None:
    """Without heads, and without the output norms."""
    classifier = EfficientFormer(SMALL.replace(num_classes=7))
    save(classifier, tmp_path / "classifier.pth", layout="official")
    saved(tmp_path / "dense.safetensors")
    dense = load_dense(tmp_path / "dense.safetensors").network.backbone
    names = {name for name in classifier.state_dict() if "head" not in name}
    for path, state in (("classifier.pth", classifier.state_dict()), ("dense.safetensors", dense.state_dict())):
        loaded = load_backbone(tmp_path / path, SMALL)
        assert loaded.keys() == names
        assert all(torch.equal(value, state[name]) for name, value in loaded.items())
    with pytest.raises(FileNotFoundError):
        load_backbone(tmp_path / "nothing.pth", SMALL)
    with pytest.raises(ValueError, match=r"classifier\.pth: "):
        load_backbone(tmp_path / "classifier.pth", SMALL.replace(embed_dims=(16, 32, 48, 80)))
