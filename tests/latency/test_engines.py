"""The engines: each reproduces eager's logits, or reports what is wrong or missing."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import MappingProxyType

import pytest
import torch
from strategies import SMALL
from torch import nn

from efficientformer_edu.latency import engines
from efficientformer_edu.latency.engines import ENGINES, TOLERANCE, available, prepare
from efficientformer_edu.model import EfficientFormer, fold

pytestmark = pytest.mark.slow

NAMES = (
    "eager",
    "folded",
    "channels-last",
    "compile",
    "onnxruntime",
    "onnxruntime-folded",
    "openvino",
    "openvino-folded",
)
IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
PLAIN = [name for name in NAMES if not ENGINES[name].ours]


def small() -> EfficientFormer:
    torch.manual_seed(0)
    return EfficientFormer(SMALL.replace(layer_scale_init=0.5, drop_path_rate=0.5))


class Rival(nn.Module):
    """Any other network; dropout would change its logits in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        for tensor in self.layers[1].state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.linspace(0.5, 2, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).mean((2, 3))


def skip_what_is_missing(name: str) -> None:
    if ENGINES[name].missing:
        pytest.skip(f"{name} needs {' and '.join(ENGINES[name].missing)}")


def test_the_engines_by_name() -> None:
    assert tuple(ENGINES) == NAMES
    assert set(available()) <= set(NAMES)
    assert {"eager", "folded", "channels-last"} <= set(available())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "compile"])
def test_an_engine_gives_the_logits_of_eager(name: str) -> None:
    skip_what_is_missing(name)
    network = small()
    prepared = prepare(name, network, IMAGES, 1)
    assert network.training and network.input_size is None  # unchanged
    assert prepared.difference <= TOLERANCE
    with torch.inference_mode():
        expected = network.eval()(IMAGES)
    first = prepared()
    kept = first.clone()
    torch.testing.assert_close(first, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max()))
    assert torch.equal(prepared(), kept) and torch.equal(first, kept)  # a later call does not overwrite it
    assert not first.requires_grad


@pytest.mark.parametrize("name", PLAIN)
def test_an_engine_takes_any_module(name: str) -> None:
    skip_what_is_missing(name)
    rival = Rival()
    images = IMAGES.transpose(2, 3)  # not contiguous
    prepared = prepare(name, rival, images)
    with torch.inference_mode():
        expected = rival.eval()(images)
    torch.testing.assert_close(prepared(), expected, rtol=0, atol=TOLERANCE * float(expected.abs().max()))


def test_compile_is_not_limited_to_eight_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *what, **how: compiler(*what, **how, backend="eager"))
    monkeypatch.setattr(engines, "_compiler", lambda: True)
    for width in range(1, 11):
        prepare("compile", nn.Sequential(nn.Conv2d(3, width, 3), nn.Flatten()), IMAGES[:, :, :8, :8], 1)


def test_compile_says_why_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        raise RuntimeError("no header\nlong trace")

    monkeypatch.setattr(engines, "_compiler", lambda: True)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    with pytest.raises(ValueError, match="torch.compile fails on this network: no header$"):
        prepare("compile", Rival(), IMAGES, 1)


def test_another_network_folds_its_batch_norms_and_has_its_channels_last(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[nn.Module] = []
    eager = engines._eager
    monkeypatch.setattr(engines, "_eager", lambda network, *tail: ran.append(network) or eager(network, *tail))
    rival = Rival()
    prepare("folded", rival, IMAGES, 1)
    reference, folded = ran
    assert isinstance(reference.layers[1], nn.BatchNorm2d) and isinstance(rival.layers[1], nn.BatchNorm2d)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert folded.layers[0].bias is not None
    assert folded.layers[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_the_engines_that_run_only_efficientformer() -> None:
    assert set(NAMES) - set(PLAIN) == {"onnxruntime-folded", "openvino-folded"}


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(PLAIN)))
def test_another_network_has_no_folded_graph(name: str) -> None:
    with pytest.raises(ValueError, match="folds an EfficientFormer, and this is a Rival"):
        prepare(name, Rival(), IMAGES, 1)


def test_a_folded_network_is_not_folded_again() -> None:
    with pytest.raises(ValueError, match="folded already"):
        prepare("folded", fold(small(), (64, 96)), IMAGES, 1)


def test_an_unknown_engine_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="'tensorrt' is unknown; there are eager, folded, .*openvino-folded"):
        prepare("tensorrt", small(), IMAGES, 1)


@pytest.mark.parametrize("wrong", [1.01, float("nan")])
def test_an_engine_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: float) -> None:
    def build(network: nn.Module, images: torch.Tensor, _: int) -> engines.Run:
        return lambda: network(images) * wrong

    changed = {**ENGINES, "eager": replace(ENGINES["eager"], build=build)}
    monkeypatch.setattr(engines, "ENGINES", MappingProxyType(changed))
    with pytest.raises(ValueError, match="eager is wrong: .* allowed are 1e-04"):
        prepare("eager", small(), IMAGES, 1)


def test_the_difference_is_measured_by_the_largest_logit() -> None:
    expected = torch.tensor([[1.0, -4.0]])
    assert engines.difference(torch.tensor([[1.5, -4.0]]), expected) == 0.125


@pytest.mark.parametrize("name", [name for name in NAMES if ENGINES[name].install])
def test_what_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(engines, "_installed", lambda library: library not in ("onnxruntime", "openvino"))
    monkeypatch.setattr(engines, "_compiler", lambda: False)
    needed = name.removesuffix("-folded") if name != "compile" else "a C\\+\\+ compiler"
    how = "g\\+\\+" if name == "compile" else r"pip install 'efficientformer-edu\[engines\]'"
    with pytest.raises(ImportError, match=f"{name} needs {needed}: .*{how}"):
        prepare(name, small(), IMAGES, 1)
    assert available() == ["eager", "folded", "channels-last"]


def test_a_library_that_cannot_be_imported_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "onnxruntime" not in available()
