"""A network by name or from a file alone, against the network that wrote the file."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import save_file

import efficientformer_edu as ef
from efficientformer_edu.weights import LAYOUTS, from_weights

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["l1", "efficientformer_l1", "efficientformer-l1_3rdparty_8xb128_in1k"])
def test_get_model_by_name(name):
    network = ef.get_model(name)
    assert network.config == ef.EfficientFormerConfig()
    assert network.training


def test_get_model_by_configuration_and_fields(network):
    made = ef.get_model(network.config, num_classes=7, distillation=False)
    assert made.config == network.config.replace(num_classes=7, distillation=False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_clases": 3}, "'num_clases'.*'num_classes'"),
        ({"depths": 3}, "depths=3 is not possible"),
    ],
)
def test_get_model_with_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        ef.get_model("l1", **fields)


def test_get_model_with_an_unknown_name():
    with pytest.raises(ValueError, match="Unknown model 'l9'"):
        ef.get_model("l9")


def test_get_model_with_weights(network, tmp_path):
    ef.save(network, path := tmp_path / "weights.safetensors")
    for source in (path, str(path)):
        made = ef.get_model(network.config, pretrained=source)
        assert not made.training
        images = torch.ones(1, 3, 64, 64)
        assert torch.equal(made(images), network(images))
    single_head = ef.get_model(network.config, pretrained=path, distillation=False)
    torch.testing.assert_close(single_head(images), network(images))


def test_get_model_with_other_classes(network, tmp_path):
    ef.save(network, path := tmp_path / "weights.safetensors")
    made = ef.get_model(network.config, pretrained=path, num_classes=9)
    assert made.head.out_features == made.head_dist.out_features == 9
    assert torch.equal(made.norm.weight, network.norm.weight)


def test_get_model_with_weights_that_do_not_fit(network, tmp_path):
    ef.save(network, path := tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="weights.safetensors: .*The file describes depths="):
        ef.get_model("l1", pretrained=path)
    with pytest.raises(FileNotFoundError):
        ef.get_model("l1", pretrained=tmp_path / "nothing.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_from_weights(network, tmp_path, layout, suffix):
    ef.save(network, path := tmp_path / f"weights{suffix}", layout=layout)
    for file in (path, str(path)):
        made = from_weights(file)
        assert made.config == network.config.replace(distillation=layout != "netspresso")
        assert not made.training
        torch.testing.assert_close(made(IMAGES), network(IMAGES))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_from_weights_is_float32(make_network, network, tmp_path, dtype):
    ef.save(make_network(network.config).to(dtype), path := tmp_path / "weights.safetensors")
    made = from_weights(path)
    assert {parameter.dtype for parameter in made.parameters()} == {torch.float32}
    torch.testing.assert_close(made(IMAGES), network(IMAGES), rtol=0.02, atol=0.02)


def test_from_weights_keeps_what_shapes_tell(make_network, tmp_path):
    config = ef.EfficientFormerConfig(
        depths=(1, 2, 1, 2),
        embed_dims=(4, 4, 6, 8),
        downsamples=(True, False, True, True),
        num_vit=(0, 1, 0, 2),
        num_classes=3,
        distillation=False,
        in_channels=2,
        mlp_ratio=1.5,
        num_heads=3,
        key_dim=5,
        attn_ratio=2,
        bias_grid=4,
        layer_scale_init=None,
        act="prelu",
    )
    ef.save(make_network(config), path := tmp_path / "weights.safetensors", layout="native")
    assert from_weights(path).config == config


def test_from_weights_says_what_is_wrong(make_network, network, tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(FileNotFoundError, match="weights.safetensors"):
        from_weights(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: the file is empty"):
        from_weights(path)
    save_file({"conv1.weight": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: the names do not match any layout"):
        from_weights(path)
    save_file({name: value for name, value in network.state_dict().items() if "head" not in name}, path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*missing .2.: head.weight, head.bias"):
        from_weights(path)
    ef.save(make_network(network.config.replace(bias_grid=(2, 3))), path, layout="native")
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: the token grid cannot be inferred from 6 offsets"):
        from_weights(path)
    ef.save(network, path, layout="official")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: the safetensors file is damaged or truncated"):
        from_weights(path)
