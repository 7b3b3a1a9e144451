"""Common steps of both exports: copy the network in evaluation mode, and trace its graph with torch.export.

A graph compiler chooses the memory layout of feature maps itself. Export the folded form `model.folding.folded_maps`:
ONNX Runtime and OpenVINO are faster with it than with the layout that is fastest in torch.
"""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor, nn

from efficientformer_edu.config import Resolution, resolution_pair
from efficientformer_edu.model import EfficientFormer, unwrap
from efficientformer_edu.utils.optional import import_optional

INPUT, OUTPUT, BATCH = "images", "logits", "batch"
TELEMETRY = "openvino_telemetry"
ANY_BATCH = 2  # batch size of the example for dynamic batches: torch would keep 1 as a constant


def import_engine(name: str) -> ModuleType:
    """Import a library that writes or runs graphs, without its usage telemetry. Errors are those of `import_optional`.

    OpenVINO uses a stub if its telemetry package cannot be imported.
    """
    telemetry = {TELEMETRY: sys.modules[TELEMETRY]} if TELEMETRY in sys.modules else {}
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # None makes the import fail
    try:
        library = import_optional(name)
    finally:
        del sys.modules[TELEMETRY]
        sys.modules.update(telemetry)
    if name == "onnxruntime":
        library.disable_telemetry_events()
    return library


def evaluated(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode whose weights can be traced; the network is not changed."""
    with torch.inference_mode(False):
        return copy.deepcopy(network).eval()


def prepare(model: nn.Module, resolution: Resolution | None) -> tuple[EfficientFormer, Tensor]:
    """Return the network to export and example images: of the resolution, else the folded size, else 224×224.

    Args:
        model: an EfficientFormer, or one that is wrapped, pruned or parametrized as `model.unwrap` accepts it.
        resolution: height and width in pixels, or one number for both.

    Raises:
        ValueError: if the model is not an EfficientFormer, or was folded for another resolution.
    """
    model = unwrap(model)
    if not isinstance(model, EfficientFormer):
        raise ValueError(f"{type(model).__name__} has no classifier; allowed: an EfficientFormer")
    size = resolution_pair(resolution or model.input_size or 224)
    if model.input_size not in (None, size):
        folded_for = "×".join(map(str, model.input_size or ()))
        raise ValueError(f"resolution {size[0]}×{size[1]} is not possible; the model was folded for {folded_for}")
    return model, torch.zeros(ANY_BATCH, model.config.in_channels, *size)


def program(network: nn.Module, images: Tensor, any_batch: bool = False) -> torch.export.ExportedProgram:
    """Trace a network on images of this shape, with a fixed or a dynamic batch size."""
    shapes = ({0: torch.export.Dim(BATCH)},) if any_batch else None
    with torch.inference_mode(False), quiet():
        return torch.export.export(evaluated(network), (torch.zeros_like(images),), dynamic_shapes=shapes, strict=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' progress output and deprecation warnings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
