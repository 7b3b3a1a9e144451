"""The outputs, sizes and depth schedule of the network, and the images that it refuses."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from hypothesis import given
from strategies import SMALL, configs, resolutions
from torch import nn

from efficientformer_edu import EfficientFormer
from efficientformer_edu.config import PRESETS
from efficientformer_edu.model import MB3D, MB4D, DropPath


@pytest.mark.parametrize(("name", "two_heads", "single_head"), [
    ("l1", 12_289_928, 11_840_928), ("l3", 31_406_000, 30_893_000), ("l7", 82_229_328, 81_460_328),
])  # fmt: skip
def test_parameters(name, two_heads, single_head):
    with torch.device("meta"):
        models = [EfficientFormer(PRESETS[name].replace(distillation=flag)) for flag in (True, False)]
    assert [sum(p.numel() for p in model.parameters()) for model in models] == [two_heads, single_head]
    assert f"{two_heads:,} parameters, images of any size from 32×32" in repr(models[0])


@given(configs(), resolutions)
@torch.no_grad()
def test_shapes_and_finite_outputs(config, resolution):
    model = EfficientFormer(config).eval()
    images = torch.randn(2, config.in_channels, *resolution)
    maps = model.features(images)
    expected = [(2, dim, *grid) for dim, grid in zip(config.embed_dims, config.grids(resolution), strict=True)]
    assert [tuple(x.shape) for x in maps] == expected
    (pooled,) = model.extract_feat(images)
    assert pooled.shape == (2, config.embed_dims[-1])
    heads, logits = model.forward_heads(images), model(images)
    assert logits.shape == heads.cls.shape == (2, config.num_classes)
    assert torch.equal(logits, heads.cls if heads.dist is None else (heads.cls + heads.dist) / 2)
    assert (heads.dist is not None) == config.distillation
    attention = model.attention_maps(images)
    tokens = [height * width for height, width in config.grids(resolution)]
    expected = [(2, config.num_heads, n, n) for n, vit in zip(tokens, config.vits, strict=True) for _ in range(vit)]
    assert [tuple(a.shape) for a in attention] == expected
    assert all(torch.allclose(a.sum(-1), torch.ones(())) for a in attention)
    assert all(x.isfinite().all() for x in (*maps, pooled, logits))


@given(configs())
def test_blocks_are_in_the_order_of_the_configuration(config):
    with torch.device("meta"):
        model = EfficientFormer(config)
    blocks = [[type(b) for b in stage.modules() if isinstance(b, (MB4D, MB3D))] for stage in model.stages]
    expected = [[MB4D] * (n - v) + [MB3D] * v for n, v in zip(config.depths, config.vits, strict=True)]
    assert blocks == expected


def test_drop_path_is_linear_from_0_to_the_rate_over_all_blocks():
    with torch.device("meta"):
        model = EfficientFormer(PRESETS["l1"].replace(drop_path_rate=0.28))
    rates = [module.rate for module in model.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.02 * i for i in range(15)], abs=1e-12)


RATES = {  # the modules that every rate of the configuration applies to, by the end of their names
    "drop_rate": r"^head_drop$",
    "proj_drop_rate": r"\.mlp\.drop[12]$",
    "attn_drop_rate": r"\.token_mixer\.drop$",
    "drop_path_rate": r"\.drop_path$",
}


@pytest.mark.parametrize("field", RATES)
def test_every_rate_reaches_its_own_modules_and_no_others(field):
    with torch.device("meta"):
        model = EfficientFormer(SMALL.replace(**(dict.fromkeys(RATES, 0.0) | {field: 0.25})))
    rates = {
        name: module.p if isinstance(module, nn.Dropout) else module.rate
        for name, module in model.named_modules()
        if isinstance(module, (nn.Dropout, DropPath))
    }
    assert all(any(re.search(pattern, name) for pattern in RATES.values()) for name in rates)
    own = [rate for name, rate in rates.items() if re.search(RATES[field], name)]
    others = [rate for name, rate in rates.items() if not re.search(RATES[field], name)]
    expected = list(model.config.drop_path_rates) if field == "drop_path_rate" else [0.25] * len(own)
    assert own == expected
    assert len(own) > 0
    assert set(others) == {0.0}


def test_every_dropout_and_drop_path_takes_part_in_a_forward_pass():
    model = EfficientFormer(SMALL).train()
    calls = []
    for name, module in model.named_modules():
        if any(re.search(pattern, name) for pattern in RATES.values()):
            module.register_forward_hook(lambda module, inputs, output, name=name: calls.append(name))
    model(torch.randn(2, 3, 64, 64))
    in_model = [name for name, module in model.named_modules() if isinstance(module, (nn.Dropout, DropPath))]
    paths = [name for name in in_model if name.endswith("drop_path")]
    assert sorted(calls) == sorted(in_model + paths)  # every block has a single drop path for both branches


def test_every_rate_of_the_configuration_is_tried():
    assert set(RATES) == {field.name for field in dataclasses.fields(SMALL) if field.name.endswith("_rate")}


def test_drop_path_drops_complete_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.rand(4000, 3, 2) + 1
    y = DropPath(0.25, on_map=False).train()(x)
    kept = (y != 0).flatten(1).all(1)
    torch.testing.assert_close(y, torch.where(kept[:, None, None], x / 0.75, 0))
    assert kept.double().mean().item() == pytest.approx(0.75, abs=0.03)  # four standard deviations
    assert DropPath(0.25, on_map=False).eval()(x) is x


def test_a_fresh_network_starts_as_the_released_code_does():
    torch.manual_seed(0)
    state = EfficientFormer(PRESETS["l1"].replace(drop_path_rate=0.1)).state_dict()
    assert torch.equal(state["stages.0.mb4d.0.layer_scale_1.gamma"], torch.full((48,), 1e-5))
    assert not state["stages.3.mb3d.0.token_mixer.attention_biases"].any()
    for name in ("head.weight", "stages.3.mb3d.0.token_mixer.qkv.weight", "stages.2.mb4d.0.mlp.fc1.weight"):
        assert state[name].std().item() == pytest.approx(0.02, rel=0.02), name
        assert not state[name.replace("weight", "bias")].any()
    # Stem and embeddings keep torch's default: uniform within ±1/√fan-in.
    fan_in = 224 * 9
    assert state["stages.3.downsample.conv.weight"].abs().max().item() == pytest.approx(fan_in**-0.5, rel=1e-3)


@pytest.mark.parametrize(
    "shape", [(3, 64, 64), (1, 1, 64, 64), (1, 4, 64, 64), (1, 3, 64), (1, 64, 64, 3), (1, 3, 31, 64), (1, 3, 64, 16)]
)
def test_images_that_do_not_fit_are_refused(shape):
    with pytest.raises(
        ValueError, match=r"images are .*(64|31|16).*; wanted: a float tensor \(B, 3, H, W\), H and W at least 32"
    ):
        EfficientFormer(SMALL)(torch.zeros(shape))


def test_integer_images_are_refused():
    with pytest.raises(ValueError, match=r"images are torch.uint8 of shape \(1, 3, 64, 64\); wanted: a float tensor"):
        EfficientFormer(SMALL)(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_both_modes_return_the_mean_of_the_heads():
    model = EfficientFormer(SMALL.replace(drop_rate=0.0)).train()
    logits, heads = model(torch.randn(4, 3, 64, 64)), model.eval().forward_heads(torch.randn(4, 3, 64, 64))
    assert logits.shape == heads.cls.shape == heads.dist.shape
