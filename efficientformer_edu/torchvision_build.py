"""Import what needs torchvision beside any build of torch.

Some of torchvision's builds do not import beside a torch for the CPU alone: they describe two operators that their
library was to declare. Then the two are declared here. Nothing in this package runs them without trying first.
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
_declared: list[torch.library.Library] = []  # a declaration lives as long as its library object


def import_beside_torch(name: str) -> ModuleType:
    """A module that imports torchvision, or torchvision itself, with its two operators declared where they are missing.

    Raises:
        ModuleNotFoundError: if it, or torchvision, is not installed.
        RuntimeError: if it does not import for another reason.
    """
    try:
        return import_module(name)
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _declared:
            raise
    for module in list(sys.modules):  # what was imported half is imported anew
        if module.partition(".")[0] in (name.partition(".")[0], "torchvision"):
            del sys.modules[module]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    _declared.append(library)
    return import_module(name)
