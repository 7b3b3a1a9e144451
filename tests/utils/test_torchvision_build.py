"""Code that needs torchvision can be imported if torchvision's own library does not load with this build of torch."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch

from efficientformer_edu.utils import torchvision_build
from efficientformer_edu.utils.torchvision_build import import_beside_torch


class Declared:
    """A library of operators that only records its definitions."""

    def __init__(self, name: str, kind: str) -> None:
        self.told = [name, kind]

    def define(self, schema: str) -> None:
        self.told.append(schema.partition("(")[0])


def test_torchvision_gets_its_two_operators_only_if_it_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = ModuleType("timm")
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setattr(torch.library, "Library", Declared)
    monkeypatch.setattr(torchvision_build, "_declared", [])
    assert import_beside_torch("timm") is timm
    assert torchvision_build._declared == []

    half = ModuleType("torchvision")
    monkeypatch.setitem(sys.modules, "torchvision", half)

    def importing(name: str) -> ModuleType:
        if not torchvision_build._declared:
            raise RuntimeError("operator torchvision::nms does not exist")
        assert "torchvision" not in sys.modules, "what was imported half is to be imported anew"
        return timm

    monkeypatch.setattr(torchvision_build, "import_module", importing)
    assert import_beside_torch("timm") is timm
    (library,) = torchvision_build._declared
    assert library.told == ["torchvision", "FRAGMENT", "nms", "qnms"]


def test_remaining_import_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def importing(name: str) -> ModuleType:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torch.library, "Library", Declared)
    monkeypatch.setattr(torchvision_build, "_declared", [])
    monkeypatch.setattr(torchvision_build, "import_module", importing)
    with pytest.raises(RuntimeError, match="torchvision::nms"):
        import_beside_torch("no_such_module")
