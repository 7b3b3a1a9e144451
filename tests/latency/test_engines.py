"""The engines: each reproduces eager's logits, or reports what is wrong or missing."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from strategies import SMALL
from torch import nn

from efficientformer_edu.latency import engines
from efficientformer_edu.latency.engines import ENGINES, TOLERANCE, available, prepare
from efficientformer_edu.model import EfficientFormer, fold

NAMES = (
    *("eager", "folded", "channels-last", "compile"),
    *("onnxruntime", "onnxruntime-folded", "openvino", "openvino-folded"),
)
FAST = ("eager", "folded", "channels-last", "openvino-folded")
IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
FOR_ANY_NETWORK = [name for name in NAMES if not ENGINES[name].efficientformer_only]


def cases(names: Iterable[str]) -> list[Any]:
    """Engines as parameters, those that build slowly marked as slow."""
    return [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in names]


def small() -> EfficientFormer:
    torch.manual_seed(0)
    return EfficientFormer(SMALL.replace(layer_scale_init=0.5, drop_path_rate=0.5))


class OtherNetwork(nn.Module):
    """Any other network; dropout would change its logits in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        for tensor in self.layers[1].state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.linspace(0.5, 2, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).mean((2, 3))


def skip_if_missing(name: str) -> None:
    if ENGINES[name].missing:
        pytest.skip(f"{name} needs {' and '.join(ENGINES[name].missing)}")


def test_the_engines_by_name() -> None:
    assert tuple(ENGINES) == NAMES
    assert set(available()) <= set(NAMES)
    assert {"eager", "folded", "channels-last"} <= set(available())


@pytest.mark.parametrize("name", cases(name for name in NAMES if name != "compile"))
def test_an_engine_gives_the_logits_of_eager(name: str) -> None:
    skip_if_missing(name)
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


@pytest.mark.parametrize("name", cases(FOR_ANY_NETWORK))
def test_an_engine_takes_any_module(name: str) -> None:
    skip_if_missing(name)
    other = OtherNetwork()
    images = IMAGES.transpose(2, 3)  # not contiguous
    prepared = prepare(name, other, images)
    with torch.inference_mode():
        expected = other.eval()(images)
    torch.testing.assert_close(prepared(), expected, rtol=0, atol=TOLERANCE * float(expected.abs().max()))


def test_compile_is_not_limited_to_eight_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *what, **how: compiler(*what, **how, backend="eager"))
    monkeypatch.setattr(engines, "has_compiler", lambda: True)
    for width in range(1, 11):
        prepare("compile", nn.Sequential(nn.Conv2d(3, width, 3), nn.Flatten()), IMAGES[:, :, :8, :8], 1)


def test_compile_names_the_cause_of_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        raise RuntimeError("no header\nlong trace")

    monkeypatch.setattr(engines, "has_compiler", lambda: True)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    with pytest.raises(ValueError, match="torch.compile fails on this network: no header$"):
        prepare("compile", OtherNetwork(), IMAGES, 1)


def test_other_networks_are_folded_and_run_channels_last() -> None:
    network = OtherNetwork().eval()
    run = ENGINES["folded"].build(network, IMAGES, 1)
    (images,) = run.args
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert network.layers[0].bias is not None
    for tensor in (network.layers[0].weight, images):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    original = OtherNetwork()
    prepare("folded", original, IMAGES, 1)
    assert isinstance(original.layers[1], nn.BatchNorm2d)  # a copy is folded


@pytest.mark.parametrize("name", ["onnxruntime-folded", "openvino-folded"])
def test_another_network_has_no_folded_graph(name: str) -> None:
    with pytest.raises(ValueError, match="EfficientFormer, not OtherNetwork"):
        prepare(name, OtherNetwork(), IMAGES, 1)


def test_a_folded_network_is_not_folded_again() -> None:
    with pytest.raises(ValueError, match="folded already"):
        prepare("folded", fold(small(), (64, 96)), IMAGES, 1)


def test_an_unknown_engine_is_named_with_those_allowed() -> None:
    with pytest.raises(ValueError, match="'tensorrt'.*eager, folded, .*openvino-folded"):
        prepare("tensorrt", small(), IMAGES, 1)


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_an_engine_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    class Wrong(engines.Engine):
        def build(self, network: nn.Module, images: torch.Tensor, num_threads: int) -> engines.Run:
            return lambda: network(images) * factor

    monkeypatch.setattr(engines, "ENGINES", {"wrong": Wrong()})
    with pytest.raises(ValueError, match="wrong.*1e-04"):
        prepare("wrong", small(), IMAGES, 1)


def test_the_difference_is_measured_by_the_largest_logit() -> None:
    expected = torch.tensor([[1.0, -4.0]])
    assert engines.difference(torch.tensor([[1.5, -4.0]]), expected) == 0.125


@pytest.mark.parametrize("name", [name for name in NAMES if ENGINES[name].requirements])
def test_a_missing_requirement_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(engines, "is_installed", lambda library: library not in ("onnxruntime", "openvino"))
    monkeypatch.setattr(engines, "has_compiler", lambda: False)
    needed = name.removesuffix("-folded") if name != "compile" else "a C\\+\\+ compiler"
    how = "g\\+\\+" if name == "compile" else r"pip install 'efficientformer-edu\[engines\]'"
    with pytest.raises(ImportError, match=f"{name} needs {needed}: .*{how}"):
        prepare(name, small(), IMAGES, 1)
    assert available() == ["eager", "folded", "channels-last"]


def test_a_library_that_cannot_be_imported_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "onnxruntime" not in available()
