"""A network with its weights: by name, or from a file alone.

A new network is in training mode, as every new PyTorch module is. One that comes with weights is in evaluation mode, as
mmpretrain and Hugging Face give theirs: in training mode the first call would already change its batch norms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from efficientformer_edu.config import EfficientFormerConfig, get_config
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.weights import files
from efficientformer_edu.weights.download import fetch, is_published
from efficientformer_edu.weights.images import class_names
from efficientformer_edu.weights.infer import detect, infer
from efficientformer_edu.weights.store import adopt, read


def get_model(
    model: str | EfficientFormerConfig,
    pretrained: bool | str | Path = False,
    *,
    use_ema: bool | None = None,
    **fields: Any,
) -> EfficientFormer:
    """A network by name, with random weights, the published ones or those of a file.

    Args:
        model: `"l1"`, `"l3"`, `"l7"`, one of their aliases, or a configuration.
        pretrained: False for random weights. True for the published ones, which mmpretrain hosts: taken from torch's
            cache folder, downloaded into it if they are not there, and checked by their hash. Or the file with the
            weights, as for `load`.
        use_ema: which weights of a training checkpoint, as for `load`.
        **fields: fields of the configuration to change. With weights, another `num_classes` than the file's
            leaves the heads random, for fine-tuning; another `distillation` merges two heads into one.

    Returns:
        The network, float32 on the CPU: with weights in evaluation mode, so call `.train()` to fine-tune it; with
        random weights in training mode. Its `class_names` are those that the file stores, ImageNet's for the published
        files, and None otherwise.

    Raises:
        ValueError: for an unknown name or field, a wrong value, weights that do not fit, a network without published
            weights, and a file of them with the wrong hash.
        OSError: if the published weights cannot be fetched; the message says where to put them by hand.
        FileNotFoundError: if there is no such file of weights.
    """
    config = get_config(model)
    network = EfficientFormer(config.replace(**fields))
    if pretrained is False:
        return network
    path = fetch(model) if pretrained is True else Path(pretrained)
    try:
        tensors = read(path, use_ema)
        same_classes = infer(tensors, detect(tensors)).num_classes == network.config.num_classes
        network.load_state_dict(adopt(tensors, network.config, head=same_classes), strict=same_classes)
        network.class_names = known_class_names(path) if same_classes else None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return network.eval()


def from_weights(file: str | Path, *, use_ema: bool | None = None) -> EfficientFormer:
    """The network that a file of weights describes, with these weights.

    Depths, widths, heads, classes and the token grid are read off the names and shapes. What leaves no trace there has
    its usual value: pool size 3, GELU in the blocks and ReLU in the stem, no dropout. For a network that differs there,
    give its configuration: `get_model(config, pretrained=file)`.

    Args:
        file: safetensors or torch, in any of the layouts, as for `load`.
        use_ema: which weights of a training checkpoint, as for `load`.

    Returns:
        The network, float32 on the CPU and in evaluation mode; `.config` tells what was found. `.class_names` are those
        that the file stores, ImageNet's for the published files, and None otherwise.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as for `load`, naming the file; also if the heads are missing, and if the token grid is not square
            and the file does not tell it.
    """
    path = Path(file)
    try:
        tensors = read(path, use_ema)
        config = infer(tensors, detect(tensors))
        state = adopt(tensors, config, head=True)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    network = EfficientFormer(config)
    network.load_state_dict(state)
    network.class_names = known_class_names(path)
    return network.eval()


def known_class_names(path: Path) -> tuple[str, ...] | None:
    """The class names of a file of weights: those that it stores, ImageNet's if it is a published file, or None."""
    names = files.read_class_names(path)
    return tuple(class_names()) if names is None and is_published(path) else names
