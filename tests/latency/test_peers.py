"""timm behind a single function: a fake timm replaces it, because the package does not require timm."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from efficientformer_edu.latency.peers import FIGURE2, PEERS, gelu_for_hardswish, peer
from efficientformer_edu.paper import table1
from efficientformer_edu.utils import torchvision_build


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made_up = ModuleType("timm")
    made_up.list_models = lambda: sorted(PEERS)
    made_up.create_model = lambda name, pretrained: nn.Sequential(nn.Linear(2, 2), nn.Dropout(float(pretrained)))
    monkeypatch.setitem(sys.modules, "timm", made_up)
    return made_up


def test_a_network_comes_in_evaluation_mode_and_is_not_downloaded(timm: ModuleType) -> None:
    network = peer("resnet50")
    assert not any(module.training for module in network.modules())
    assert network[1].p == 0  # the fake timm writes `pretrained` there


def test_a_name_that_timm_does_not_have(timm: ModuleType) -> None:
    with pytest.raises(ValueError, match="no network 'resnet5'; did you mean resnet50?"):
        peer("resnet5")
    with pytest.raises(ValueError, match="no network '####'; there are mobilenetv2_100, .* and 13 more"):
        peer("####")


def test_without_timm_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(torchvision_build, "import_module", missing)
    with pytest.raises(ImportError, match="timm is missing: pip install 'efficientformer-edu\\[peers\\]'"):
        peer("resnet50")


def test_another_failure_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(torchvision_build, "import_module", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        peer("resnet50")


def test_every_peer_has_its_row_in_table_1() -> None:
    table = table1()
    rows = {row.name for row in table.rows}
    assert set(PEERS.values()) <= rows
    assert all(table[row, "top1"].value > 0 for row in PEERS.values())


def test_the_peers_are_the_rows_of_table_1_that_take_224_pixels() -> None:
    larger = {"EfficientNet-B3", "MobileViT-XS"}
    rows = {row.name for row in table1().rows}
    assert larger < rows
    assert set(PEERS.values()) == rows - larger - {"EfficientFormer-L3", "EfficientFormer-L7"}
    assert len(set(PEERS.values())) == len(PEERS)
    assert set(FIGURE2) < set(PEERS)


def test_a_head_of_zeros_becomes_random_and_others_stay(timm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    made = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    nn.init.zeros_(made[1].weight)
    before = made[0].weight.clone()
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: made)
    network = peer("resmlp_24_224")
    assert torch.equal(network[0].weight, before)
    assert network[1].weight.any()


def test_hardswish_becomes_gelu_at_every_depth() -> None:
    network = nn.Sequential(nn.Hardswish(), nn.Sequential(nn.ReLU(), nn.Hardswish(inplace=True)))
    assert gelu_for_hardswish(network) is network
    assert [type(module) for module in (network[0], *network[1])] == [nn.GELU, nn.ReLU, nn.GELU]
    with pytest.raises(ValueError, match="Sequential has no HardSwish"):
        gelu_for_hardswish(network)
