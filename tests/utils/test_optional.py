"""Optional packages: a missing one is reported with its install command, and torchvision imports with any build."""

from __future__ import annotations

import sys
from importlib import metadata
from types import ModuleType

import pytest
import torch

from efficientformer_edu.utils import torchvision_build
from efficientformer_edu.utils.optional import import_optional, install_command

BROKEN = RuntimeError("operator torchvision::nms does not exist")


class Library:
    """A library of operators that only records its definitions."""

    def __init__(self, name: str, kind: str) -> None:
        self.definitions = [name, kind]

    def define(self, schema: str) -> None:
        self.definitions.append(schema.partition("(")[0])


@pytest.fixture(autouse=True)
def nothing_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.library, "Library", Library)
    monkeypatch.setattr(torchvision_build, "_declared", [])


@pytest.mark.parametrize(
    ("module", "requirement", "command"),
    [
        ("onnx.helper", 'onnx>=1.17; extra == "engines"', "pip install 'efficientformer-edu[engines]'"),
        ("onnx", 'onnxscript>=0.5; extra == "engines"', "pip install onnx"),
        ("yaml", "PyYAML>=6", "pip install PyYAML"),
        ("PIL.Image", "pillow>=10", "pip install pillow"),
    ],
)
def test_install_command(monkeypatch: pytest.MonkeyPatch, module: str, requirement: str, command: str) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: [requirement])
    assert install_command(module) == command
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError) as missing:
        import_optional(module)
    assert str(missing.value) == f"{module.partition('.')[0]} is missing: {command}"


def test_the_install_command_does_not_need_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert install_command("timm.models") == "pip install timm"


def test_torchvision_gets_its_two_operators_only_if_it_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = ModuleType("timm")
    monkeypatch.setitem(sys.modules, "timm", timm)
    assert import_optional("timm") is timm
    assert torchvision_build._declared == []

    def import_module(name: str) -> ModuleType:
        if not torchvision_build._declared:
            raise BROKEN
        assert "torchvision" not in sys.modules, "partially imported modules have to be imported again"
        return timm

    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setattr(torchvision_build, "import_module", import_module)
    assert import_optional("timm") is timm
    (library,) = torchvision_build._declared
    assert library.definitions == ["torchvision", "FRAGMENT", "nms", "qnms"]


@pytest.mark.parametrize("error", [BROKEN, RuntimeError("out of memory"), ImportError("libc.so is too old")])
def test_other_errors_are_raised(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def import_module(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(torchvision_build, "import_module", import_module)
    with pytest.raises(type(error), match=str(error)):
        import_optional("timm")
