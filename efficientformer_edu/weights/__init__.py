"""Weights in five published layouts, image preprocessing, and predictions.

In reading order: layouts, convert, infer, files, store, download, networks, crops, images, predict; then huggingface.
"""

from __future__ import annotations

from efficientformer_edu.data.crops import RULES
from efficientformer_edu.data.images import class_names, preprocess
from efficientformer_edu.weights.layouts import LAYOUTS, names
from efficientformer_edu.weights.networks import from_weights, get_model, inference_model
from efficientformer_edu.weights.store import load, save

__all__ = [
    "LAYOUTS",
    "RULES",
    "class_names",
    "from_weights",
    "get_model",
    "inference_model",
    "load",
    "names",
    "preprocess",
    "save",
]
