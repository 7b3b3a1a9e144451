"""The backbone for dense tasks: output norms, weights of a classification network, the folded form."""

from __future__ import annotations

import pytest
import torch
from dense_networks import ALLOWED, SMALL, dense_network, images
from torch import nn

from efficientformer_edu import EfficientFormer, fold, load, save
from efficientformer_edu.config import PRESETS
from efficientformer_edu.dense import DenseBackbone
from efficientformer_edu.dense.network import STRIDES

SIZES = [(64, 64), (65, 65), (100, 67)]


def backbone() -> DenseBackbone:
    return dense_network(("no neck", "all_mlp_decoder")).backbone


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_every_output_of_every_image_is_normalized_over_all_its_values(size):
    network = backbone()
    batch = images(2, *size)
    for norm, output, x in zip(network.norms, network(batch), network.features(batch), strict=True):
        mean = x.mean((1, 2, 3), keepdim=True)
        deviation = (x.var((1, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        expected = (x - mean) / deviation * norm.weight[:, None, None] + norm.bias[:, None, None]
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_maps_are_as_large_as_their_strides_say(size):
    maps = backbone()(images(1, *size))
    height, width = size
    for x, stride, dim in zip(maps, STRIDES, SMALL.embed_dims, strict=True):
        assert x.shape == (1, dim, -(-height // stride), -(-width // stride))


@torch.no_grad()
def test_without_norms_the_outputs_are_the_features():
    network = DenseBackbone(SMALL, norms=False).eval()
    batch = images(1, 64, 96)
    assert all(torch.equal(output, x) for output, x in zip(network(batch), network.features(batch), strict=True))
    model = EfficientFormer(SMALL)
    heads = sum(p.numel() for head in (model.head, model.head_dist) for p in head.parameters())
    without = sum(p.numel() for p in model.parameters()) - heads
    assert sum(p.numel() for p in network.parameters()) == without
    assert sum(p.numel() for p in DenseBackbone(SMALL).parameters()) == without + 2 * sum(SMALL.embed_dims)


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_norms_of_the_published_networks(name):
    with torch.device("meta"):
        network = DenseBackbone(PRESETS[name])
    assert [(type(norm), norm.num_groups, norm.eps) for norm in network.norms] == [(nn.GroupNorm, 1, 1e-5)] * 4
    assert tuple(norm.num_channels for norm in network.norms) == PRESETS[name].embed_dims


@pytest.mark.parametrize("layout", ["timm", "netspresso"])
@torch.no_grad()
def test_the_weights_of_a_classification_network_fit(tmp_path, layout):
    torch.manual_seed(1)
    model = EfficientFormer(SMALL.replace(key_dim=32, num_heads=8, bias_grid=7)).eval()  # supported by every layout
    path = tmp_path / "model.safetensors"
    save(model, path, layout=layout)
    network = DenseBackbone(model.config).eval()
    result = network.load_state_dict(load(path, head=False), strict=False)
    assert result.missing_keys == [f"norms.{j}.{which}" for j in range(4) for which in ("weight", "bias")]
    assert result.unexpected_keys == []
    batch = images(1, 70, 65)
    for output, x in zip(network.features(batch), model.features(batch), strict=True):
        torch.testing.assert_close(output, x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_folding_keeps_the_maps(size):
    network = backbone()
    folded = fold(network, size)
    assert type(folded) is DenseBackbone and folded.input_size == size
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    batch = images(2, *size)
    for output, x in zip(folded(batch), network(batch), strict=True):
        assert output.shape == x.shape
        torch.testing.assert_close(output, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pair", ALLOWED, ids=" ".join)
@torch.no_grad()
def test_a_folded_backbone_in_its_network(pair):
    network = dense_network(pair)
    batch = images(2, 100, 67)
    expected = network(batch)
    network.backbone = fold(network.backbone, (100, 67))
    torch.testing.assert_close(network(batch), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="^images are 64×64 pixels; wanted: .*100×67, for which it was folded$"):
        network(images(1, 64, 64))
    with pytest.raises(ValueError, match="folded already"):
        fold(network.backbone, 64)
