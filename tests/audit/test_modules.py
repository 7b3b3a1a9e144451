"""Any module through fvcore and FlopCounterMode: counts computed by hand, and the sentences that explain them."""

from __future__ import annotations

import copy
import csv
import io
import json
import sys
import threading

import pytest
import torch
from strategies import SMALL
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from efficientformer_edu.audit import count, explain
from efficientformer_edu.audit.modules import audit_module, torchinfo_summary
from efficientformer_edu.model import EfficientFormer

TOKENS = torch.zeros(1, 10, 32)
LINEARS = 10 * 32 * (3 * 32 + 32)  # query, key, value and projection of 10 tokens of 32 channels


class Fused(nn.Module):
    """Attention with 2 heads in a single call of torch."""

    def __init__(self, key_dim: int, value_dim: int) -> None:
        super().__init__()
        self.parts = [key_dim, key_dim, value_dim]
        self.qkv = nn.Linear(32, 2 * sum(self.parts))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (2, -1)).transpose(1, 2).split(self.parts, dim=-1)
        return F.scaled_dot_product_attention(q, k, v)


class SelfAttention(nn.Module):
    """A layer of torch whose weights are never read."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, x, x, need_weights=False)[0]


class Vector(nn.Module):
    """A product of a matrix and a vector, on which fvcore fails."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ torch.ones(32)


def note(audit, pattern: str) -> str:
    (note,) = [note for note in audit.notes if pattern in note]
    return note


def test_an_efficientformer_as_the_rules_have_it() -> None:
    costs = count(SMALL, 64)
    audit = audit_module(EfficientFormer(SMALL), torch.zeros(1, 3, 64, 64))
    assert audit.params == costs.params
    assert audit.macs == audit.written_out == costs.macs
    assert sum(audit.fvcore.values()) == explain("fvcore", SMALL, 64).total
    elements = {kind: sums.elements for kind, sums in costs.by("kind").items()}
    *kinds, total = audit.table().rows
    assert [row[0] for row in kinds] == ["convolution", "matrix product", "norm", "other"]
    convolutions = costs.by("kind")["convolution"].macs
    assert kinds[0] == ("convolution", "conv", "convolution", convolutions, convolutions, 0)
    assert kinds[1][3:] == (costs.macs - convolutions, costs.macs - convolutions, 0)
    norms = 2 * elements["batch norm"] + 5 * elements["layer norm"]
    assert kinds[2] == ("norm", "batch_norm, layer_norm", "", norms, 0, norms)
    assert kinds[3][1:] == ("upsample_bilinear2d", "", 4 * elements["resize"], 0, 4 * elements["resize"])
    assert total[3:] == tuple(sum(column) for column in zip(*(row[3:] for row in kinds), strict=True))
    assert f"adds {norms:,} for batch_norm and layer_norm" in note(audit, "2 per element of a batch norm")
    assert f"adds {4 * elements['resize']:,} for upsample_bilinear2d" in note(audit, "upsample")
    assert audit.uncounted["gelu"] == sum(SMALL.depths)
    assert f"gelu ({sum(SMALL.depths)} calls)" in note(audit, "has no rule for")
    assert not [note for note in audit.notes if "totals agree" in note]


def test_the_network_is_unchanged() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fast = torch.backends.mha.get_fastpath_enabled()
    audit_module(network, torch.ones(2, 3, 8, 8))
    torchinfo_summary(network, torch.ones(2, 3, 8, 8))
    assert network.training and all(not module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled() == fast


class Locked(nn.Sequential):
    """A network that `copy.deepcopy` cannot copy."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval(), nn.Dropout(0.5))
        self.lock = threading.Lock()


def test_a_network_that_cannot_be_copied_is_counted_and_unchanged() -> None:
    network = Locked()
    with pytest.raises(TypeError):
        copy.deepcopy(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    assert len(set(modes)) == 2
    images = torch.ones(2, 3, 8, 8)
    twin = nn.Sequential(*network)  # the same layers, without the lock
    expected = audit_module(twin, images)
    audit = audit_module(network, images)
    assert (audit.fvcore, audit.flop_counter, audit.params) == (expected.fvcore, expected.flop_counter, expected.params)
    assert "Locked" in torchinfo_summary(network, images)
    assert [module.training for module in network.modules()] == modes
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_pruned_network_is_counted() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    prune.l1_unstructured(network[1], "weight", amount=0.5)  # a weight with a gradient history, which has no copy
    assert audit_module(network, torch.ones(1, 3, 8, 8)).macs == 192 * 4


def test_cases_in_which_both_agree() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, groups=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8))
    audit = audit_module(network, torch.zeros(2, 3, 8, 8))
    macs = 2 * (6 * 6 * 8 * 3 * 9 + 4 * 4 * 8 * 9)
    assert audit.fvcore == {"conv": macs} and audit.flop_counter == {"convolution": macs}
    assert audit.notes == ("The two totals agree.",)
    assert audit.params == 8 * 3 * 9 + 8 + 8 * 9 + 8


@pytest.mark.parametrize("training", [True, False])
def test_fused_attention_of_equal_widths_is_missed_by_both(training: bool) -> None:
    audit = audit_module(Fused(16, 16).train(training), TOKENS)
    linear, products = 10 * 32 * 2 * 48, 2 * 10 * 10 * 32
    assert audit.fvcore == {"linear": linear}
    assert audit.macs == linear
    assert audit.written_out == linear + products
    assert audit.uncounted["scaled_dot_product_attention"] == 1
    assert audit.unseen == {"_scaled_dot_product_flash_attention_for_cpu": 1}
    assert "fvcore counts 0 for scaled_dot_product_attention (1 call)" in note(audit, "fvcore counts 0")
    assert "flash_attention_for_cpu (1 call)" in note(audit, "FlopCounterMode counts 0")
    assert f"{linear + products:,} MACs, {products:,} more" in note(audit, "plain products")


@pytest.mark.parametrize("training", [True, False])
def test_fused_attention_of_other_widths_is_missed_by_fvcore_alone(training: bool) -> None:
    audit = audit_module(Fused(32, 128).train(training), TOKENS)
    linear, products = 10 * 32 * 2 * 192, 2 * 10 * 10 * (32 + 128)
    assert audit.fvcore == {"linear": linear}
    assert audit.flop_counter == {"addmm": linear, "bmm": products}
    assert audit.written_out == audit.macs and not audit.unseen
    assert f"{products:,} MACs more" in note(audit, "In all matrix products")
    assert "in full here" in note(audit, "FlopCounterMode counts scaled_dot_product_attention")


def test_the_fast_path_of_torch_attention_is_not_counted() -> None:
    audit = audit_module(SelfAttention(), TOKENS)
    assert audit.fvcore == audit.flop_counter == {}
    assert audit.uncounted == audit.unseen == {"_native_multi_head_attention": 1}
    assert audit.written_out == LINEARS + 2 * 10 * 10 * 32
    assert audit.table().rows == (("total", None, None, 0, 0, 0),)


def test_a_complete_layer_in_a_single_call() -> None:
    audit = audit_module(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), TOKENS)
    mlp = 10 * 2 * 32 * 64
    assert audit.fvcore == {"linear": mlp, "layer_norm": 5 * 2 * 10 * 32}
    assert audit.flop_counter == {} and audit.unseen == {"_transformer_encoder_layer_fwd": 1}
    assert audit.written_out == LINEARS + 2 * 10 * 10 * 32 + mlp
    assert f"{mlp:,} MACs fewer" in note(audit, "In all matrix products")


def test_norms_without_factors() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False), nn.GroupNorm(1, 3, affine=False))
    audit = audit_module(network, torch.zeros(1, 3, 4, 4))
    assert audit.fvcore == {"batch_norm": (2 + 1) * 48, "group_norm": 4 * 48}


def test_modules_that_fvcore_cannot_trace() -> None:
    audit = audit_module(Vector(), TOKENS)
    assert audit.fvcore is None and audit.params == 0
    assert "IndexError" in note(audit, "could not follow")
    assert "mv (1 call)" in note(audit, "FlopCounterMode counts 0")
    assert audit.table().rows == (("total", None, None, None, 0, None),)


def test_every_format() -> None:
    audit = audit_module(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), torch.zeros(1, 3, 8, 8))
    conv, norm = 6 * 6 * 4 * 27, 2 * 4 * 6 * 6
    (first, second) = csv.DictReader(io.StringIO(audit.to("csv")))
    assert (first["kind"], first["fvcore"], first["FlopCounterMode / 2"]) == ("convolution", str(conv), str(conv))
    assert (second["kind"], second["difference"]) == ("norm", str(norm))
    report = json.loads(audit.to("json"))
    assert (report["params"], report["macs"], report["images"]) == (4 * 27 + 4 + 8, conv, [1, 3, 8, 8])
    assert report["fvcore"] == {"conv": conv, "batch_norm": norm} and report["notes"] == list(audit.notes)
    head, _, *lines = audit.to("table").splitlines()
    assert head == f"Sequential on 1×3×8×8: 120 parameters, {conv:,} MACs by FlopCounterMode / 2" == repr(audit)
    assert lines[-1] == audit.notes[-1]
    assert audit.to_markdown() == audit._repr_markdown_()
    assert f"| **total** |  |  | **{conv + norm:,}** | **{conv:,}** | **{norm:,}** |\n\n* " in audit.to_markdown()
    with pytest.raises(ValueError, match="format='xml'"):
        audit.to("xml")


@pytest.mark.parametrize("call", [audit_module, torchinfo_summary])
def test_images_that_a_network_cannot_take(call) -> None:
    with pytest.raises(ValueError, match=r"Linear cannot take images of shape \(1, 4\): RuntimeError: mat1 and mat2"):
        call(nn.Linear(3, 4), torch.zeros(1, 4))


@pytest.mark.parametrize(("call", "tool"), [(audit_module, "fvcore"), (torchinfo_summary, "torchinfo")])
def test_a_missing_tool(call, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, tool, None)
    monkeypatch.setitem(sys.modules, f"{tool}.nn", None)
    with pytest.raises(ImportError, match=f"{tool} is missing: pip install"):
        call(nn.Linear(3, 4), torch.zeros(1, 3))


def test_torchinfo_reports_what_it_omits() -> None:
    costs = count(SMALL, 64)
    text = torchinfo_summary(EfficientFormer(SMALL), torch.zeros(1, 3, 64, 64))
    fault, summary = text.split("\n\n", 1)
    linear = costs.by("kind")["linear"]
    assert f"hides {linear.macs - linear.params:,} MACs" in fault
    assert f"prints {explain('torchinfo', SMALL, 64).total:,} mult-adds" in fault
    assert f"FlopCounterMode / 2 is {costs.macs:,} MACs" in fault
    assert "EfficientFormer" in summary and f"Total params: {costs.params:,}" in summary


def test_torchinfo_is_complete_without_tokens() -> None:
    text = torchinfo_summary(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Linear(4, 2)), torch.zeros(2, 3, 8, 8))
    assert "hides 0 MACs" in text
