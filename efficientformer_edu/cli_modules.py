"""A torch module of the reader's own, found by its name and counted: `audit package.module:Name`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from efficientformer_edu.audit import Costs
from efficientformer_edu.audit.counters import build
from efficientformer_edu.audit.module_audit import ModuleAudit
from efficientformer_edu.audit.modules import audit_module, torchinfo_summary


def own_module(name: str, pixels: tuple[int, int]) -> ModuleAudit:
    """The audit of `package.module:Name` on an image with as many channels as its first convolution takes."""
    with _missing_tools():
        return audit_module(*_loaded(name, pixels))


def own_summary(name: str, pixels: tuple[int, int]) -> str:
    """torchinfo's summary of `package.module:Name` on such an image, below what is wrong with it."""
    with _missing_tools():
        return torchinfo_summary(*_loaded(name, pixels))


def summary(costs: Costs) -> str:
    """torchinfo's summary of the network of a ledger, below what is wrong with it."""
    with _missing_tools():
        return torchinfo_summary(*build(costs))


@contextmanager
def _missing_tools() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ValueError(str(error)) from error


def _loaded(name: str, pixels: tuple[int, int]) -> tuple[nn.Module, Tensor]:
    network = _network(name)
    convolutions = (each for each in network.modules() if isinstance(each, nn.modules.conv._ConvNd))
    channels = next((each.in_channels for each in convolutions), 0) or 3  # 0: not known before the first image
    return network, torch.zeros(1, channels, *pixels)


def _network(name: str) -> Any:
    module, _, path = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = import_module(module)
    except Exception as error:  # whatever another's code may raise
        raise ValueError(
            f"{module!r} cannot be imported ({type(error).__name__}: {error}); wanted: package.module:Name, "
            "installed or in the current folder"
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise ValueError(
                f"{module} has no {path!r}; wanted: the name of a torch module in it, or of what makes one"
            )
        found = getattr(found, part)
    if not isinstance(found, nn.Module) and callable(found):
        try:
            found = found()
        except Exception as error:
            raise ValueError(
                f"{name}() fails ({type(error).__name__}: {error}); wanted: a class or function that needs no arguments"
            ) from error
    if not isinstance(found, nn.Module):
        raise ValueError(f"{name} is of type {type(found).__name__}; wanted: a torch.nn.Module, or what makes one")
    return found
