"""What a network sees in a picture, as mmpretrain's first example asks it."""

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
    """What `inference_model` returns, with mmpretrain's keys."""

    pred_label: int
    pred_score: float
    pred_scores: np.ndarray
    pred_class: str | None


def inference_model(model: str | nn.Module, image: Picture, rule: str = "official") -> Prediction:
    """What a network sees in a picture.

    Args:
        model: a network, wrapped or pruned as `model.unwrap` takes it; it runs in evaluation mode and is put back into
            the mode that it had. Or a name: then the published weights are used if they are in torch's cache folder.
            Otherwise the weights are random, the prediction is meaningless, and a warning says so. Nothing is
            downloaded; `get_model(name, pretrained=True)` does that.
        image: a file, a Pillow image or an array of uint8, as for `preprocess`.
        rule: whose crop, as for `preprocess`; `"mmpretrain"` is what mmpretrain's function of this name does.

    Returns:
        `pred_label`, the class with the highest score; `pred_score`, its probability; `pred_scores`, all of them,
        float32 (num_classes,); `pred_class`, its name: ImageNet's where a published network is given by name, else one
        of the network's `class_names`, and None if it has none.

    Raises:
        ValueError: for an unknown name or rule, a picture that cannot be read, or published weights in the cache folder
            with the wrong hash.
        FileNotFoundError: if there is no such picture.
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
