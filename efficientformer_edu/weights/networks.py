"""Create a network with its weights: by name, or only from a file.

A network with random weights is in training mode, like every new PyTorch module. A network with loaded weights is in
evaluation mode, as in mmpretrain and Hugging Face: in training mode the first call would already change its batch
norms.
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
    """Create a network by name, with random weights, published weights or the weights of a file.

    Args:
        model: `"l1"`, `"l3"`, `"l7"`, one of their aliases, or a configuration.
        pretrained: False for random weights. True for the published weights, hosted by mmpretrain: they are read from
            torch's cache folder, downloaded if missing, and verified by their hash. Or the path of a file with weights,
            as for `load`.
        use_ema: which weights of a training checkpoint to use, as for `load`.
        **fields: fields of the configuration to change. With weights, a `num_classes` that differs from the file's
            leaves the heads random, for fine-tuning; `distillation=False` merges two heads into one.

    Returns:
        The network, float32 on the CPU. With weights it is in evaluation mode, so call `.train()` to fine-tune it; with
        random weights it is in training mode. Its `class_names` are those stored in the file, ImageNet's for the
        published files, else None.

    Raises:
        ValueError: for an unknown name or field, an invalid value, weights that do not fit, a network without published
            weights, or a published file with the wrong hash.
        OSError: if the published weights cannot be downloaded; the message explains the manual download.
        FileNotFoundError: if the weight file does not exist.
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
    """Create a network from a weight file, without a configuration.

    Depths, widths, heads, classes and the token grid are inferred from names and shapes. Properties that cannot be
    inferred have their default values: pool size 3, GELU in the blocks and ReLU in the stem, no dropout. If the network
    differs in these, pass its configuration: `get_model(config, pretrained=file)`.

    Args:
        file: a safetensors or torch file in any of the layouts, as for `load`.
        use_ema: which weights of a training checkpoint to use, as for `load`.

    Returns:
        The network, float32 on the CPU and in evaluation mode; `.config` is the inferred configuration. `.class_names`
        are those stored in the file, ImageNet's for the published files, else None.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: as for `load`; also if the heads are missing, or the token grid is not square and cannot be inferred
            from the file. The message names the file.
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
    """The class names of a weight file: the stored ones, ImageNet's for a published file, or None."""
    names = files.read_class_names(path)
    return tuple(class_names()) if names is None and is_published(path) else names
