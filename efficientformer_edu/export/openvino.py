"""The network as OpenVINO's pair of files: the graph in .xml, the weights in .bin.

OpenVINO reads the graph that ONNX Runtime gets, so that the two run the same.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from efficientformer_edu.config import Resolution
from efficientformer_edu.export.onnx import to_onnx
from efficientformer_edu.export.program import example, needs
from efficientformer_edu.model import EfficientFormer


def export_openvino(model: EfficientFormer, path: str | Path, resolution: Resolution | None = None) -> None:
    """Write the model in evaluation mode as OpenVINO reads it, float32, both files whole or not at all.

    The model takes "images" (batch, in_channels, H, W), any number of them at once, and gives "logits" (batch,
    num_classes).

    Args:
        model: as trained, or folded; `model.folding.folded_maps` gives the folded form that runtimes are quickest with.
        path: the file to write, ending in .xml; the weights go beside it, into the same name with .bin.
        resolution: the one input size in pixels; None for the one that the model was folded for, else 224.

    Raises:
        ImportError: if openvino, onnx or onnxscript is missing, with the command that installs them.
        ValueError: for a resolution that the model cannot take, or another ending.
        OSError: if the files cannot be written.
    """
    path = Path(path)
    if path.suffix != ".xml":
        raise ValueError(f"{path.name} is no name for OpenVINO; wanted: one that ends in .xml")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder does not exist")
    openvino = needs("openvino")
    graph = to_openvino(model, example(model, resolution), any_batch=True)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        openvino.save_model(graph, partial, compress_to_fp16=False)
        for suffix in (".bin", ".xml"):  # a graph never stands without its weights
            os.replace(partial.with_suffix(suffix), path.with_suffix(suffix))


def to_openvino(network: nn.Module, images: Tensor, any_batch: bool = False) -> Any:
    """A network that maps images to logits as an `openvino.Model`.

    Args:
        network: any module; it runs in evaluation mode.
        images: (B, in_channels, H, W); only their shape matters.
        any_batch: whether the graph takes any number of images, or B only.

    Raises:
        ImportError: if openvino, onnx or onnxscript is missing, with the command that installs them.
    """
    openvino = needs("openvino")
    return openvino.Core().read_model(to_onnx(network, images, any_batch).SerializeToString())
