"""Load it: weights in five published layouts, pictures, predictions.

In reading order: layouts, convert, infer, files, store, images, predict.
"""

from __future__ import annotations

from efficientformer_edu.weights.images import class_names, preprocess
from efficientformer_edu.weights.layouts import LAYOUTS, names
from efficientformer_edu.weights.predict import get_model, inference_model
from efficientformer_edu.weights.store import load, save

__all__ = ["LAYOUTS", "class_names", "get_model", "inference_model", "load", "names", "preprocess", "save"]
