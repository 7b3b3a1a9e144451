"""The networks that the paper compares with, from timm, behind one function.

Paper: Fig. 1, Fig. 2 and Table 1. The weights are random: here the networks are timed, and time does not depend on
them. timm imports torchvision, some builds of which do not import beside a torch for the CPU alone: they describe two
operators that their library was to declare. Then the two are declared here, and never run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType, ModuleType

import torch
from torch import nn

PEERS: Mapping[str, str] = MappingProxyType(
    {
        "mobilenetv2_140": "MobileNetV2×1.4",
        "resnet50": "ResNet50",
        "deit_small_patch16_224": "DeiT-S",
        "poolformer_s24": "PoolFormer-S24",
        "levit_256": "LeViT-256",
        "efficientformer_l1": "EfficientFormer-L1",
    }
)
"""timm's name of each network of Fig. 2 that is compared here, with its row in `paper.table1()`."""

INSTALL = "pip install 'efficientformer-edu[peers]'"
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # a declaration lives as long as its library object


def peer(name: str) -> nn.Module:
    """A network of timm's in evaluation mode, with random weights; nothing is downloaded.

    Args:
        name: as timm spells it, such as one of `PEERS`.

    Raises:
        ImportError: if timm is missing, with the command that installs it.
        ValueError: for a name that timm does not have, with the nearest.
    """
    timm = _timm()
    known = timm.list_models()
    if name not in known:
        near = get_close_matches(name, known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(PEERS)} and {len(known)} more"
        raise ValueError(f"timm has no network {name!r}; {hint}")
    return timm.create_model(name, pretrained=False).eval()


def gelu_for_hardswish(network: nn.Module) -> nn.Module:
    """The network itself, each HardSwish in it replaced by GELU, as the paper did with LeViT for Fig. 2.

    Raises:
        ValueError: if it has no HardSwish.
    """
    found = [
        (module, name)
        for module in network.modules()
        for name, child in module.named_children()
        if type(child).__name__.lower() == "hardswish"  # torch's, or timm's own
    ]
    if not found:
        raise ValueError(f"{type(network).__name__} has no HardSwish to replace; profile it as it is")
    for module, name in found:
        setattr(module, name, nn.GELU())
    return network


def _timm() -> ModuleType:
    """The module timm, with torchvision's two operators declared where it does not import without."""
    try:
        return import_module("timm")
    except ModuleNotFoundError as error:
        raise ImportError(f"networks from timm need {error.name}; install it with: {INSTALL}") from error
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _declared:
            raise
    for module in list(sys.modules):  # what was imported half is imported anew
        if module.partition(".")[0] in ("timm", "torchvision"):
            del sys.modules[module]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    _declared.append(library)
    return import_module("timm")
