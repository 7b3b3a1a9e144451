"""torch.fx, torch.export, torch.compile and torch.jit.trace: all work on the network and on its features."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from golden_weights import golden_state
from strategies import SMALL
from torch import nn

from efficientformer_edu import EfficientFormer, fold

pytestmark = pytest.mark.slow

CONFIG = SMALL.replace(num_vit=(0, 0, 1, 1), bias_grid=2)


class Features(nn.Module):
    """The interface of dense tasks: the four maps."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model.features(images)


def network() -> EfficientFormer:
    model = EfficientFormer(CONFIG).eval()
    model.load_state_dict(golden_state(CONFIG))
    return model


@pytest.fixture(params=["logits", "features", "folded"])
def module(request):
    return {"logits": network, "features": lambda: Features(network()), "folded": lambda: fold(network(), (64, 96))}[
        request.param
    ]()


def images(batch: int = 2, height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(batch))


def assert_equal(output, expected):
    torch.testing.assert_close(output, expected, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_fx(module):
    traced = torch.fx.symbolic_trace(module)
    assert_equal(traced(images()), module(images()))
    with pytest.raises(ValueError, match="images are"):
        traced(torch.zeros(1, 3, 16, 16))


@torch.no_grad()
def test_an_fx_trace_takes_any_size():
    model = network()
    traced = torch.fx.symbolic_trace(model)
    for size in ((64, 64), (33, 70), (224, 224)):
        assert_equal(traced(images(1, *size)), model(images(1, *size)))


@torch.no_grad()
def test_fx_in_training_mode():
    traced = torch.fx.symbolic_trace(EfficientFormer(CONFIG.replace(drop_path_rate=0.5, proj_drop_rate=0.1)).train())
    assert traced(images()).shape == (2, 5)


@torch.no_grad()
def test_export_with_a_dynamic_batch(module):
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(module, (images(),), dynamic_shapes=({0: batch},))
    for size in (1, 2, 5):
        assert_equal(program.module()(images(size)), module(images(size)))


@torch.no_grad()
def test_compile_without_a_break(module):
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert_equal(compiled(images()), module(images()))


@pytest.mark.skipif(os.name == "nt", reason="torch's default compiler wants Windows' own C++ compiler, set up")
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch's default compiler needs a C++ compiler")
@torch.no_grad()
def test_compile_to_machine_code():
    torch._dynamo.reset()
    model = EfficientFormer(CONFIG.replace(depths=(1, 1, 1, 1), num_vit=1)).eval()
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(images()), model(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # a jit trace is valid for a single size, as it warns
@pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning")
@torch.no_grad()
def test_jit_trace(module):
    traced = torch.jit.trace(module, images(), strict=False)
    assert_equal(list(traced(images(3))), list(module(images(3))))
