"""EfficientFormer, taken apart: readable code, runnable chapters, and numbers you can audit.

The names below are imported when they are first used, so that `import efficientformer_edu` costs nothing. The classes
of Hugging Face's EfficientFormer are in `efficientformer_edu.hf`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efficientformer_edu.audit import count as count
    from efficientformer_edu.config import EfficientFormerConfig as EfficientFormerConfig
    from efficientformer_edu.config import list_models as list_models
    from efficientformer_edu.dense import from_yaml as from_yaml
    from efficientformer_edu.model import EfficientFormer as EfficientFormer
    from efficientformer_edu.model import fold as fold
    from efficientformer_edu.weights import from_weights as from_weights
    from efficientformer_edu.weights import get_model as get_model
    from efficientformer_edu.weights import inference_model as inference_model
    from efficientformer_edu.weights import load as load
    from efficientformer_edu.weights import preprocess as preprocess
    from efficientformer_edu.weights import save as save

__version__ = "0.1.0"

_SUBPACKAGES = {
    "EfficientFormerConfig": "config",
    "list_models": "config",
    "EfficientFormer": "model",
    "fold": "model",
    "count": "audit",
    "from_yaml": "dense",
    "from_weights": "weights",
    "get_model": "weights",
    "inference_model": "weights",
    "load": "weights",
    "preprocess": "weights",
    "save": "weights",
}

__all__ = ["__version__", *_SUBPACKAGES]


def __getattr__(name: str) -> Any:
    if name not in _SUBPACKAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_SUBPACKAGES)}")
    return getattr(import_module(f"{__name__}.{_SUBPACKAGES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
