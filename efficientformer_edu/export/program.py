"""What both kinds of file start from: a copy of the network in evaluation mode, and its graph as torch sees it.

A graph compiler chooses the layout of the maps itself. So the folded form to export is `model.folding.folded_maps`:
ONNX Runtime and OpenVINO are quicker with it than with the layout that torch likes.
"""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from efficientformer_edu.config import Resolution, resolution_pair
from efficientformer_edu.model import EfficientFormer, unwrap

INSTALL = "pip install 'efficientformer-edu[engines]'"
INPUT, OUTPUT, BATCH = "images", "logits", "batch"
REPORTER = "openvino_telemetry"
ANY_BATCH = 2  # images of the example when a graph shall take any number: torch would keep a 1 as it is


def needs(name: str) -> ModuleType:
    """A library that writes or runs graphs. Raises ImportError with the command that installs it.

    What OpenVINO and ONNX Runtime report to their makers about being used is switched off, as far as they let it be.
    """
    try:
        with _unreported():
            library = import_module(name)
    except ImportError as error:
        raise ImportError(f"{name.partition('.')[0]} is missing: {INSTALL}") from error
    if name == "onnxruntime":
        library.disable_telemetry_events()
    return library


@contextmanager
def _unreported() -> Iterator[None]:
    """Inside, OpenVINO's reporter cannot be imported, so that OpenVINO takes its own stub for it."""
    before = sys.modules.get(REPORTER, ...)
    sys.modules[REPORTER] = None  # type: ignore[assignment]  # how Python spells "there is no such module"
    try:
        yield
    finally:
        del sys.modules[REPORTER]
        if before is not ...:
            sys.modules[REPORTER] = before


def evaluated(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode, with weights that torch may follow; the network is left as it is."""
    with torch.inference_mode(False):
        return copy.deepcopy(network).eval()


def prepare(model: nn.Module, resolution: Resolution | None) -> tuple[EfficientFormer, Tensor]:
    """The network to export and example images of its input size: the resolution, else the folded size, else 224×224.

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
        wanted = "×".join(map(str, model.input_size or ()))
        raise ValueError(f"resolution {size[0]}×{size[1]} is not possible; the model was folded for {wanted}")
    return model, torch.zeros(ANY_BATCH, model.config.in_channels, *size)


def program(network: nn.Module, images: Tensor, any_batch: bool = False) -> torch.export.ExportedProgram:
    """The graph of a network on images of this shape, or on any number of such images."""
    shapes = ({0: torch.export.Dim(BATCH)},) if any_batch else None
    with torch.inference_mode(False), quiet():
        return torch.export.export(evaluated(network), (torch.zeros_like(images),), dynamic_shapes=shapes, strict=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, the exporters keep to themselves what they do, and what in torch they find old."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
