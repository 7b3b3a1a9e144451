"""Create a network with its weights, by name or only from a file, and classify an image.

A network with random weights is in training mode, like every new PyTorch module. A network with loaded weights is in
evaluation mode, as in mmpretrain and Hugging Face: in training mode the first call would already change its batch
norms.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import nn

from efficientformer_edu.config import PRESETS, EfficientFormerConfig, get_config
from efficientformer_edu.data.images import ImageLike, class_names, preprocess
from efficientformer_edu.model import EfficientFormer, unwrap
from efficientformer_edu.weights import files
from efficientformer_edu.weights.conversion import detect, infer
from efficientformer_edu.weights.files import fetch, find, is_published
from efficientformer_edu.weights.store import convert_state_dict, read


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
        network.load_state_dict(convert_state_dict(tensors, network.config, head=same_classes), strict=same_classes)
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
        state = convert_state_dict(tensors, config, head=True)
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


class ClassPrediction(TypedDict):
    """Result of `inference_model`, with mmpretrain's keys."""

    pred_label: int
    pred_score: float
    pred_scores: np.ndarray
    pred_class: str | None


def inference_model(model: str | nn.Module, image: ImageLike, rule: str = "official") -> ClassPrediction:
    """Classify an image.

    Args:
        model: a network; wrapped or pruned models are handled by `model.unwrap`. It runs in evaluation mode, and its
            mode is restored. Or a name: then the published weights are used if they are in torch's cache folder. If
            not, the weights are random, the prediction is meaningless, and a warning is raised. Nothing is downloaded;
            `get_model(name, pretrained=True)` does that.
        image: a file, a Pillow image or a uint8 array, as for `preprocess`.
        rule: crop rule, as for `preprocess`; `"mmpretrain"` is the rule of mmpretrain's function of this name.

    Returns:
        `pred_label`, the class with the highest score; `pred_score`, its probability; `pred_scores`, all probabilities,
        float32 (num_classes,); `pred_class`, its name: ImageNet's for the name of a published network, else one of the
        network's `class_names`, or None if it has none.

    Raises:
        ValueError: for an unknown name or rule, an image that cannot be read, or published weights in the cache folder
            with the wrong hash.
        FileNotFoundError: if the image file does not exist.
    """
    if isinstance(model, nn.Module):
        network = unwrap(model)
        if not isinstance(network, EfficientFormer):
            raise ValueError(f"{type(network).__name__} has no head for classification")
        names = getattr(network, "class_names", None)
    else:
        if (path := find(model)) is None:
            warnings.warn(
                f"{model!r} has random weights, so its prediction is meaningless; "
                f"get_model({model!r}, pretrained=True) downloads the published weights",
                stacklevel=2,
            )
        names = tuple(class_names()) if get_config(model) in PRESETS.values() else None
        network = get_model(model, pretrained=path or False)
    size = None
    if network.input_size is not None:
        size, width = network.input_size
        if size != width:
            raise ValueError(f"the model is folded for {size}×{width}; images are cropped to squares")
    parameter = next(network.parameters())
    images = preprocess(image, size, rule).to(parameter.device, parameter.dtype)  # (1, 3, size, size)
    scores = _probabilities(network, images)  # (num_classes,)
    label = int(scores.argmax())
    name = None if names is None else names[label]
    return ClassPrediction(pred_label=label, pred_score=float(scores[label]), pred_scores=scores, pred_class=name)


def _probabilities(model: EfficientFormer, images: torch.Tensor) -> np.ndarray:
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            logits: torch.Tensor = model(images)[0]  # (num_classes,)
        return logits.float().softmax(0).cpu().numpy()
    finally:
        model.train(was_training)
