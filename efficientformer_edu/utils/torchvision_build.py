"""Import modules that need torchvision, with any build of torch.

Some torchvision builds cannot be imported with a CPU-only torch, because they refer to two operators that their binary
library should have declared. In that case the two operators are declared here.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

OPERATORS = ("nms", "qnms")
ARGUMENTS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[Any] = []  # a declaration exists as long as its library object


def import_with_torchvision(name: str) -> ModuleType:
    """Import a module, and declare torchvision's operators if it needs them and they are missing."""
    try:
        return import_module(name)
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _declared:
            raise
    import torch

    for module in list(sys.modules):  # partially imported modules have to be imported again
        if module.partition(".")[0] in (name.partition(".")[0], "torchvision"):
            del sys.modules[module]
    _declared.append(torch.library.Library("torchvision", "FRAGMENT"))
    for operator in OPERATORS:
        _declared[0].define(operator + ARGUMENTS)
    return import_module(name)
