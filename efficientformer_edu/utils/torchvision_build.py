"""Import modules that need torchvision, with any build of torch.

Some torchvision builds cannot be imported with a CPU-only torch, because they refer to two operators that their binary
library should have declared. In that case the two operators are declared here. This package checks that they work
before it relies on them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # a declaration exists as long as its library object


def import_beside_torch(name: str) -> ModuleType:
    """Import torchvision, or a module that needs it, and declare the two operators if they are missing.

    Raises:
        ModuleNotFoundError: if the module or torchvision is not installed.
        RuntimeError: if the import fails for another reason.
    """
    try:
        return import_module(name)
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _declared:
            raise
    for module in list(sys.modules):  # partially imported modules have to be imported again
        if module.partition(".")[0] in (name.partition(".")[0], "torchvision"):
            del sys.modules[module]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    _declared.append(library)
    return import_module(name)
