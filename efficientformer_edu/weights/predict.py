"""A network by name, and what it sees in a picture: the two calls that mmpretrain's examples start with."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch

from efficientformer_edu.config import EfficientFormerConfig, get_config
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.weights import files
from efficientformer_edu.weights.images import Picture, class_names, preprocess
from efficientformer_edu.weights.infer import detect, infer
from efficientformer_edu.weights.store import adopt


class Prediction(TypedDict):
    """What `inference_model` returns, with mmpretrain's keys."""

    pred_label: int
    pred_score: float
    pred_scores: np.ndarray
    pred_class: str | None


def get_model(
    model: str | EfficientFormerConfig, pretrained: bool | str | Path = False, **fields: Any
) -> EfficientFormer:
    """A network by name, with random weights or those of a file.

    Args:
        model: `"l1"`, `"l3"`, `"l7"`, one of their aliases, or a configuration.
        pretrained: the file with the weights, as for `load`; False for random weights.
        **fields: fields of the configuration that shall differ. With weights, another `num_classes` than the file's
            leaves the heads random, for fine-tuning; another `distillation` merges two heads into one.

    Returns:
        The network in training mode, as every new PyTorch module is; call `.eval()` before using it.

    Raises:
        ValueError: for an unknown name or field, a wrong value, weights that do not fit, and `pretrained=True`.
        FileNotFoundError: if there is no such file of weights.
    """
    config = get_config(model).replace(**fields)
    if pretrained is True:
        raise ValueError(
            "pretrained=True is not possible, for nothing is downloaded here; fetch a file by hand, say "
            "model.safetensors of timm/efficientformer_l1.snap_dist_in1k on the Hugging Face hub, or one that the "
            "README of snap-research/EfficientFormer links to, and give its path: pretrained='model.safetensors'"
        )
    network = EfficientFormer(config)
    if pretrained is not False:
        _load_into(network, Path(pretrained))
    return network


def inference_model(model: str | EfficientFormer, image: Picture) -> Prediction:
    """What a network sees in a picture.

    Args:
        model: a network, which is evaluated and then put back into the mode it had; or a name, for a network with
            random weights, whose prediction means nothing: it shows what comes out, and warns.
        image: a file, a Pillow image or an array of uint8, as for `preprocess`.

    Returns:
        `pred_label`, the class with the highest score; `pred_score`, its probability; `pred_scores`, all of them,
        float32 (num_classes,); `pred_class`, its ImageNet name, or None for a network without 1000 classes.

    Raises:
        ValueError: for an unknown name, or a picture that cannot be read.
        FileNotFoundError: if there is no such picture.
    """
    if not isinstance(model, EfficientFormer):
        warnings.warn(
            f"{model!r} has random weights, so its prediction means nothing; "
            f"give inference_model(get_model({model!r}, pretrained='weights.safetensors'), image)",
            stacklevel=2,
        )
        model = get_model(model)
    height, width = model.input_size or (224, 224)
    if height != width:
        raise ValueError(f"the model is folded for {height}×{width}; photographs are cropped to squares")
    parameter = next(model.parameters())
    scores = _probabilities(model, preprocess(image, height).to(parameter.device, parameter.dtype))  # (num_classes,)
    label = int(scores.argmax())
    name = class_names()[label] if len(scores) == 1000 else None
    return Prediction(pred_label=label, pred_score=float(scores[label]), pred_scores=scores, pred_class=name)


def _probabilities(model: EfficientFormer, images: torch.Tensor) -> np.ndarray:
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            logits: torch.Tensor = model(images)[0]  # (num_classes,)
        return logits.float().softmax(0).cpu().numpy()
    finally:
        model.train(was_training)


def _load_into(network: EfficientFormer, path: Path) -> None:
    try:
        tensors = files.read(path)
        found = infer(tensors, detect(tensors))
        same_classes = found.num_classes == network.config.num_classes
        network.load_state_dict(adopt(tensors, network.config, head=same_classes), strict=same_classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
