"""The networks that the paper compares with, from timm.

Paper: Fig. 1, Fig. 2 and Table 1. The weights are random, because latency does not depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from torch import nn

from efficientformer_edu.utils.optional import import_optional

PEERS: Mapping[str, str] = MappingProxyType(
    {
        "mobilenetv2_100": "MobileNetV2×1.0",
        "mobilenetv2_140": "MobileNetV2×1.4",
        "resnet50": "ResNet50",
        "efficientnet_b0": "EfficientNet-B0",
        "deit_tiny_patch16_224": "DeiT-T",
        "deit_small_patch16_224": "DeiT-S",
        "poolformer_s12": "PoolFormer-S12",
        "poolformer_s24": "PoolFormer-S24",
        "poolformer_s36": "PoolFormer-S36",
        "resmlp_24_224": "ResMLP-S24",
        "convmixer_768_32": "ConvMixer-768",
        "levit_256": "LeViT-256",
        "efficientformer_l1": "EfficientFormer-L1",
    }
)
"""timm names of the networks of Table 1 with an input of 224 pixels, and their rows in `paper.table1()`.

EfficientNet-B3 and MobileViT-XS are designed for larger images, and have a different accuracy at 224 pixels.
"""
FIGURE2 = ("mobilenetv2_140", "resnet50", "deit_small_patch16_224", "poolformer_s24", "levit_256")
"""The networks of `PEERS` whose latency is broken down by operator class, as in Fig. 2."""


def peer(name: str, pretrained: bool = False) -> nn.Module:
    """A timm network in evaluation mode.

    A head that timm initializes with zeros, such as that of ResMLP, gets random weights, because logits of zero would
    agree with any engine.

    Args:
        name: timm's name, such as a key of `PEERS`.
        pretrained: download trained weights; if false, the weights are random.

    Raises:
        ImportError: if timm is missing, with the command that installs it.
        ValueError: for a name that timm does not have; the message lists similar names.
        OSError: if the weights cannot be downloaded.
    """
    timm = import_optional("timm")
    known = timm.list_models()
    if name not in known:
        near = get_close_matches(name, known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(PEERS)} and {len(known)} more"
        raise ValueError(f"timm has no network {name!r}; {hint}")
    network: nn.Module = timm.create_model(name, pretrained=pretrained).eval()
    for module in network.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.trunc_normal_(module.weight, std=0.02)
    return network


def gelu_for_hardswish(network: nn.Module) -> nn.Module:
    """Replace each HardSwish in the network by GELU, in place, as the paper did with LeViT for Fig. 2.

    Raises:
        ValueError: if it has no HardSwish.
    """
    matches = [
        (module, name)
        for module in network.modules()
        for name, child in module.named_children()
        if type(child).__name__.lower() == "hardswish"  # torch's, or timm's own
    ]
    if not matches:
        raise ValueError(f"{type(network).__name__} has no HardSwish to replace; profile it as it is")
    for module, name in matches:
        setattr(module, name, nn.GELU())
    return network


def check_installed() -> None:
    """Raise ImportError, with the command that installs it, if timm is missing."""
    import_optional("timm")
