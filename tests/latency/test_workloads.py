"""The workloads of the observations: equal outputs, equal functions, and the MACs shown next to the milliseconds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from efficientformer_edu.audit import count, deit
from efficientformer_edu.audit.counters import run
from efficientformer_edu.config import PRESETS
from efficientformer_edu.latency import workloads
from efficientformer_edu.latency.workloads import Workload
from efficientformer_edu.model import ConvMlp, EfficientFormer, Mlp

L1 = count(PRESETS["l1"])


@pytest.fixture(autouse=True)
def inference() -> Any:
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def close(tensor: torch.Tensor, other: torch.Tensor) -> None:
    assert_close(tensor, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("group", "shape"),
    [
        (workloads.stride4_stems(), (1, 48, 56, 56)),
        (workloads.stride16_stems(), (1, 384, 14, 14)),
        (workloads.activations(), (1, 192, 56, 56)),
        (workloads.networks_with_activations(), (1, 1000)),
        (workloads.networks_with_norms(), (1, 1000)),
    ],
)
def test_all_workloads_of_a_record_give_the_same_shape(group: dict[str, Workload], shape: tuple[int]) -> None:
    for workload in group.values():
        output = workload()
        assert output.shape == shape and output.isfinite().all()
        assert not any(module.training for module in workload.network.modules())


def test_embeddings_count_what_their_closed_forms_say() -> None:
    quarter = {name: workload.macs for name, workload in workloads.stride4_stems().items()}
    assert quarter["3×3 stem"] == quarter["3×3 stem, norms apart"] == L1.by("block")["stem"].macs
    assert quarter["4×4/4 patches"] == 56**2 * 48 * 3 * 4**2
    assert quarter["7×7/4 patches"] == 56**2 * 48 * 3 * 7**2
    sixteenth = {name: workload.macs for name, workload in workloads.stride16_stems().items()}
    widths = (3, 48, 96, 192, 384)
    by_hand = sum((112 >> n) ** 2 * widths[n] * widths[n + 1] * 3**2 for n in range(4))
    assert sixteenth["3×3 stem"] == sixteenth["3×3 stem, norms apart"] == by_hand
    assert sixteenth["16×16/16 patches"] == deit.PATCHES * deit.PIXELS * deit.WIDTH


@pytest.mark.parametrize("make", [workloads.stride4_stems, workloads.stride16_stems])
def test_patches_have_fewer_macs_than_the_stem(make: Any) -> None:
    macs = {name: workload.macs for name, workload in make().items()}
    assert all(macs[name] < macs["3×3 stem"] for name in macs if name.endswith("patches"))


@pytest.mark.parametrize("resolution", [32, 224])
def test_the_folded_stems_are_the_same_functions(resolution: int) -> None:
    widths = (4, 8)
    network = workloads.ConvStem(*widths).train()
    for _ in range(3):
        network(torch.randn(4, 3, 32, 32) + 1)  # the statistics of the norms leave their initial values
    images = torch.randn(2, 3, resolution, resolution)
    folded = workloads.fold_batch_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    close(folded(images), network.eval()(images))


def test_a_subject_goes_to_a_device() -> None:
    workload = Workload(nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 2, 2)).to("meta")
    assert workload().device.type == "meta"


def test_patches_of_poolformer_overlap_and_those_of_deit_do_not() -> None:
    conv = workloads.patch_embedding(48, kernel=7, stride=4)
    assert (conv.kernel_size, conv.stride, conv.padding) == ((7, 7), (4, 4), (2, 2))
    conv = workloads.patch_embedding(384, kernel=16, stride=16)
    assert (conv.kernel_size, conv.stride, conv.padding) == ((16, 16), (16, 16), (0, 0))


@pytest.mark.parametrize(("dim", "grid"), [(64, (3, 5)), (224, (14, 14)), (448, (7, 7))])
def test_attention_is_the_same_on_maps_and_on_tokens(dim: int, grid: tuple[int, int]) -> None:
    pairs = workloads.token_mixers(dim, grid)
    on_maps, on_tokens = pairs["attention on maps"], pairs["attention on tokens"]
    assert on_maps().shape == pairs["pooling"]().shape == (1, dim, *grid)
    close(on_maps().flatten(2).transpose(1, 2), on_tokens())
    assert torch.equal(pairs["reshapes alone"](), pairs["reshapes alone"].inputs)
    assert pairs["reshapes alone"]().is_contiguous() and on_maps().is_contiguous()


def test_attention_is_torch_s_own() -> None:
    attention, reference = workloads.TokenAttention(64).eval(), nn.MultiheadAttention(64, 2, batch_first=True).eval()
    weights = {
        "in_proj_weight": attention.qkv.weight,
        "in_proj_bias": attention.qkv.bias,
        "out_proj.weight": attention.proj.weight,
        "out_proj.bias": attention.proj.bias,
    }
    reference.load_state_dict(weights)
    tokens = torch.randn(2, 15, 64)
    close(attention(tokens), reference(tokens, tokens, tokens)[0])


@pytest.mark.parametrize(("dim", "grid"), [(224, (14, 14)), (448, (7, 7))])
def test_mixers_count_what_their_closed_forms_say(dim: int, grid: tuple[int, int]) -> None:
    tokens, pairs = grid[0] * grid[1], workloads.token_mixers(dim, grid)
    attention = workloads.DEPTH * (4 * tokens * dim**2 + 2 * tokens**2 * dim)
    assert pairs["attention on maps"].macs == pairs["attention on tokens"].macs == attention
    assert pairs["MLP on tokens"].macs == workloads.DEPTH * 8 * tokens * dim**2
    assert pairs["pooling"].macs == pairs["reshapes alone"].macs == 0
    assert run("fvcore", pairs["attention on tokens"].network, pairs["attention on tokens"].inputs).macs == attention


def test_pairs_of_layer_and_norm_are_of_equal_size() -> None:
    pairs = workloads.norm_layers(16, (4, 6))
    for name, workload in pairs.items():
        assert workload().shape == ((1, 24, 16) if "Linear" in name else (1, 16, 4, 6))
        assert workload.macs == workloads.DEPTH * 24 * 16**2
    kinds = {"Conv-BN": nn.BatchNorm2d, "Conv-LN": nn.LayerNorm, "Conv-GN": nn.GroupNorm, "LN-Linear": nn.LayerNorm}
    for name, kind in kinds.items():
        assert sum(isinstance(module, kind) for module in pairs[name].network.modules()) == workloads.DEPTH


def test_conv_bn_folds_into_the_same_function() -> None:
    pairs = workloads.norm_layers(16, (4, 6))
    apart, folded = pairs["Conv-BN"], pairs["Conv-BN, folded"]
    assert [type(layer) for layer in folded.network] == [nn.Conv2d] * workloads.DEPTH
    close(folded(), apart())
    bare = nn.Sequential(*(layer for layer in apart.network if isinstance(layer, nn.Conv2d)))
    assert (bare(apart.inputs) - apart()).abs().max() > 0.01  # the norms are not trivial


def test_norms_on_maps_are_over_channels_and_over_everything() -> None:
    x = 3 * torch.randn(2, 8, 4, 5) + 1
    by_hand = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    close(workloads.ChannelNorm(8)(x), by_hand)
    everything = (x - x.mean((1, 2, 3), keepdim=True)) / (x.var((1, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    close(workloads.group_norm(8)(x), everything)


def test_the_transformer_is_deit_s() -> None:
    networks = workloads.networks_with_norms()
    network = networks["DeiT-S"].network
    assert sum(parameter.numel() for parameter in network.parameters()) == deit.params()
    assert networks["DeiT-S"].macs == networks["DeiT-S without norms"].macs == deit.macs()
    assert networks["L1"].macs == networks["L1 without norms"].macs == L1.macs


def test_without_norms_means_all_and_only_the_norms() -> None:
    networks = workloads.networks_with_norms()
    for name in ("L1", "DeiT-S"):
        norms = (nn.BatchNorm2d, nn.LayerNorm)
        there = dict(networks[name].network.named_modules())
        left = dict(networks[f"{name} without norms"].network.named_modules())
        assert there.keys() == left.keys()
        changed = {path for path in there if type(there[path]) is not type(left[path])}
        assert changed == {path for path, module in there.items() if isinstance(module, norms)} != set()
        assert all(isinstance(left[path], nn.Identity) for path in changed)


def test_an_activation_is_exchanged_in_the_blocks_alone() -> None:
    networks = workloads.networks_with_activations()
    assert list(networks) == list(workloads.activations()) == ["ReLU", "GELU", "GELU-tanh", "HardSwish", "SiLU"]
    first = next(iter(networks.values())).network.state_dict()
    for name, workload in networks.items():
        mlps = [module for module in workload.network.modules() if isinstance(module, (ConvMlp, Mlp))]
        assert len(mlps) == sum(PRESETS["l1"].depths)
        assert {repr(module.act) for module in mlps} == {repr(workloads.ACTIVATIONS[name]())}
        assert isinstance(workload.network.stem.act1, nn.ReLU)
        assert all(torch.equal(first[key], value) for key, value in workload.network.state_dict().items())


def test_gelu_in_the_network_is_the_network() -> None:
    network = EfficientFormer(PRESETS["l1"].replace(layer_scale_init=None)).eval()
    images = torch.randn(1, 3, 64, 64)
    gelu, relu = (workloads.with_activation(network, make)(images) for make in (nn.GELU, nn.ReLU))
    assert torch.equal(gelu, network(images)) and not torch.equal(relu, gelu)


def test_the_tanh_is_an_approximation() -> None:
    pairs = workloads.activations()
    difference = (pairs["GELU"]() - pairs["GELU-tanh"]()).abs().max()
    assert 0 < difference < 1e-3
