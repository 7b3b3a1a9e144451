"""Export a network to OpenVINO's pair of files: the graph in .xml, the weights in .bin.

The OpenVINO model is converted from the ONNX graph, so OpenVINO and ONNX Runtime run the same graph.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from efficientformer_edu.config import Resolution
from efficientformer_edu.export.onnx import to_onnx
from efficientformer_edu.export.program import import_engine, prepare


def export_openvino(model: nn.Module, path: str | Path, resolution: Resolution | None = None) -> None:
    """Write the model in evaluation mode to OpenVINO's two files, in float32. The write is atomic.

    The model takes "images" (batch, in_channels, H, W), with any batch size, and gives "logits" (batch, num_classes).

    Args:
        model: an EfficientFormer as trained or folded, also wrapped (DataParallel, torch.compile, AveragedModel),
            pruned or parametrized. Runtimes are fastest with the folded form of `model.folding.folded_maps`.
        path: the file to write, ending in .xml; the weights are stored next to it, as .bin.
        resolution: input size in pixels; default: the size for which the model was folded, else 224.

    Raises:
        ImportError: if openvino, onnx or onnxscript is missing, with the command that installs them.
        ValueError: if the model is not an EfficientFormer or cannot take the resolution, or if the path does not end
            in .xml.
        OSError: if the files cannot be written.
    """
    path = Path(path)
    if path.suffix != ".xml":
        raise ValueError(f"{path.name} is not an OpenVINO file name; allowed: one that ends in .xml")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder does not exist")
    openvino = import_engine("openvino")
    graph = to_openvino(*prepare(model, resolution), any_batch=True)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        openvino.save_model(graph, partial, compress_to_fp16=False)
        for suffix in (".bin", ".xml"):  # weights first, so that a graph without weights never exists
            os.replace(partial.with_suffix(suffix), path.with_suffix(suffix))


def to_openvino(network: nn.Module, images: Tensor, any_batch: bool = False) -> Any:
    """Convert a network that maps images to logits to an `openvino.Model`.

    Args:
        network: any module; it runs in evaluation mode.
        images: (B, in_channels, H, W); only the shape is used.
        any_batch: whether the graph takes any batch size, or only B.

    Raises:
        ImportError: if openvino, onnx or onnxscript is missing, with the command that installs them.
    """
    openvino = import_engine("openvino")
    return openvino.Core().read_model(to_onnx(network, images, any_batch).SerializeToString())
