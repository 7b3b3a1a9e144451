"""The folded form: the same logits, fewer modules, a fixed input size."""

from __future__ import annotations

import re

import pytest
import torch
from golden_weights import golden_images, golden_state
from hypothesis import given, settings
from strategies import SMALL, configs, resolutions
from torch import nn

from efficientformer_edu import EfficientFormer, EfficientFormerConfig, fold
from efficientformer_edu.config import PRESETS
from efficientformer_edu.model import MB4D, DropPath, LayerScale
from efficientformer_edu.model.folding import fold_norms

SIZES = [224, (192, 256), 384]


def golden_model(config: EfficientFormerConfig, dtype: torch.dtype = torch.float64) -> EfficientFormer:
    model = EfficientFormer(config).double().eval()
    model.load_state_dict(golden_state(config))
    return model.to(dtype)


@pytest.fixture(scope="module", params=["l1", *(pytest.param(name, marks=pytest.mark.slow) for name in ("l3", "l7"))])
def preset(request):
    return request.param, golden_model(PRESETS[request.param])


@torch.no_grad()
def test_folding_keeps_the_logits(preset):
    _, model = preset
    for size in SIZES:
        height, width = (size, size) if isinstance(size, int) else size
        images = golden_images(1, height, width)
        exact = model(images)
        torch.testing.assert_close(fold(model, size)(images), exact, rtol=0, atol=1e-8)
        single = EfficientFormer(model.config).eval()
        single.load_state_dict(model.state_dict())
        output = fold(single, size)(images.float())
        torch.testing.assert_close(output, single(images.float()), rtol=0, atol=1e-5)


def test_folding_leaves_the_parameters_it_should(preset):
    name, model = preset
    folded = fold(model, 224)
    expected = {"l1": 11_804_696, "l3": 30_823_272, "l7": 81_346_888}
    assert sum(p.numel() for p in folded.parameters()) == expected[name]


def test_folded_parts_are_gone():
    model = EfficientFormer(SMALL.replace(drop_rate=0.1, drop_path_rate=0.1, attn_drop_rate=0.1, proj_drop_rate=0.1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = fold(model, 64)
    assert not any(isinstance(m, (nn.BatchNorm2d, nn.Dropout, DropPath)) for m in folded.modules())
    assert not any(isinstance(m, (MB4D, LayerScale)) for m in folded.modules())
    scales = {name for name, _ in folded.named_parameters() if "layer_scale" in name}
    assert scales == {name for name in scales if re.fullmatch(r"stages\.\d\.mb4d\.\d\.layer_scale_1", name)}
    assert len(scales) == sum(SMALL.depths) - sum(SMALL.vits)  # only γ₁ of the MB4Ds remains
    assert {m.kernel_size for m in folded.modules() if isinstance(m, nn.Conv2d)} == {(3, 3)}
    assert folded.head_dist is None
    assert folded.config == model.config.replace(distillation=False)
    assert folded.forward_heads(torch.zeros(1, 3, 64, 64)).dist is None
    assert not any(name.endswith("attention_biases") for name, _ in folded.named_parameters())
    assert model.training
    assert not folded.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@torch.no_grad()
def test_the_channels_lie_side_by_side():
    """Maps are channels-last from the first convolution on, and tokens are a view of them."""
    folded = fold(EfficientFormer(SMALL), 64)
    maps = folded.features(golden_images(2, 64, 64).float())
    assert [m.is_contiguous(memory_format=torch.channels_last) for m in maps] == [True] * 4
    linears = [m for m in folded.modules() if isinstance(m, nn.Linear)]
    assert all(m.weight.t().is_contiguous() for m in linears)


def test_a_folded_network_has_the_gradients_of_the_images():
    model = golden_model(SMALL)
    # Two images: with a single image, torch 2.13 on a CPU computes wrong gradients of a batch norm in evaluation mode
    # if the incoming gradient is channels-last, as it is from tokens.
    images = golden_images(2, 64, 64).requires_grad_()
    (exact,) = torch.autograd.grad(model(images)[:, 0].sum(), images)
    (gradient,) = torch.autograd.grad(fold(model, 64)(images)[:, 0].sum(), images)
    torch.testing.assert_close(gradient, exact, rtol=1e-9, atol=1e-12)


@torch.no_grad()
def test_a_folded_network_is_the_same_function_in_training_mode():
    folded = fold(golden_model(SMALL.replace(drop_path_rate=0.5, proj_drop_rate=0.5)), 32)
    images = golden_images(1, 32, 32)
    expected = folded(images)
    assert torch.equal(folded.train()(images), expected)


def test_a_folded_network_refuses_another_size():
    folded = fold(EfficientFormer(SMALL), (64, 96))
    with pytest.raises(ValueError, match=r"images are 96×64 pixels; wanted: .*64×96, for which it was folded"):
        folded(torch.zeros(1, 3, 96, 64))
    assert "64×96 only" in repr(folded)


def test_folding_twice_or_too_small_is_refused():
    with pytest.raises(ValueError, match="folded already"):
        fold(fold(EfficientFormer(SMALL), 64), 64)
    with pytest.raises(ValueError, match="resolution=31"):
        fold(EfficientFormer(SMALL), 31)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_folding_keeps_the_dtype(dtype):
    folded = fold(EfficientFormer(SMALL).to(dtype), 32)
    assert {p.dtype for p in folded.parameters()} == {dtype}
    assert folded(torch.zeros(1, 3, 32, 32, dtype=dtype)).dtype == dtype


@given(configs(), resolutions)
@settings(max_examples=25)
@torch.no_grad()
def test_folding_keeps_the_logits_of_any_network(config, resolution):
    model = golden_model(config)
    images = torch.randn(1, config.in_channels, *resolution, dtype=torch.float64)
    torch.testing.assert_close(fold(model, resolution)(images), model(images), rtol=1e-9, atol=1e-8)


class NormWithActivation(nn.BatchNorm2d):
    """A norm that contains the modules after it, like timm's `BatchNormAct2d`."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(super().forward(x)))


def shaken(network: nn.Sequential) -> nn.Sequential:
    """In double precision and evaluation mode, with norms that are not trivial."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 2, generator=generator)
    return network.double().eval()


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()), (2, 3, 6, 5)),
        (nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), NormWithActivation(8), nn.Conv2d(8, 2, 1)), (2, 4, 6, 5)),
        (nn.Sequential(nn.Linear(3, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)), (7, 3)),
        (nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), nn.Conv2d(4, 4, 2)), (2, 3, 6, 5)),
    ],
    ids=["convolution", "a norm with an activation", "linear", "at depth"],
)
@torch.no_grad()
def test_the_norms_of_any_network_fold(network, shape):
    inputs = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = shaken(network)(inputs)
    fold_norms(network)
    assert not any(isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) for module in network.modules())
    torch.testing.assert_close(network(inputs), expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_norm_that_does_not_directly_follow_a_linear_map_stays():
    network = shaken(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)))
    images = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    expected = network(images)
    fold_norms(network)
    assert [type(module) for module in network] == [nn.BatchNorm2d, nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    assert torch.equal(network(images), expected)
