"""Weights in five published layouts, image preprocessing, and predictions.

In reading order: layouts, conversion, files, store, networks.
"""

from __future__ import annotations

from efficientformer_edu.data.images import RULES, class_names, preprocess
from efficientformer_edu.weights.layouts import LAYOUTS, key_map
from efficientformer_edu.weights.networks import from_weights, get_model, inference_model
from efficientformer_edu.weights.store import load, save

__all__ = [
    "LAYOUTS",
    "RULES",
    "class_names",
    "from_weights",
    "get_model",
    "inference_model",
    "key_map",
    "load",
    "preprocess",
    "save",
]
