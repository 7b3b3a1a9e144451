"""Classify an image with the function of mmpretrain's first example."""

from __future__ import annotations

import warnings
from typing import TypedDict

import numpy as np
import torch
from torch import nn

from efficientformer_edu.config import PRESETS, get_config
from efficientformer_edu.model import EfficientFormer, unwrap
from efficientformer_edu.weights.download import find
from efficientformer_edu.weights.images import Picture, class_names, preprocess
from efficientformer_edu.weights.networks import get_model


class Prediction(TypedDict):
    """Result of `inference_model`, with mmpretrain's keys."""

    pred_label: int
    pred_score: float
    pred_scores: np.ndarray
    pred_class: str | None


def inference_model(model: str | nn.Module, image: Picture, rule: str = "official") -> Prediction:
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
                f"{model!r} has random weights, so its prediction means nothing; "
                f"get_model({model!r}, pretrained=True) fetches the published ones, once and for all",
                stacklevel=2,
            )
        names = tuple(class_names()) if get_config(model) in PRESETS.values() else None
        network = get_model(model, pretrained=path or False)
    size = None
    if network.input_size is not None:
        size, width = network.input_size
        if size != width:
            raise ValueError(f"the model is folded for {size}×{width}; photographs are cropped to squares")
    parameter = next(network.parameters())
    images = preprocess(image, size, rule).to(parameter.device, parameter.dtype)  # (1, 3, size, size)
    scores = _probabilities(network, images)  # (num_classes,)
    label = int(scores.argmax())
    name = None if names is None else names[label]
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
