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
from efficientformer_edu.export.program import needs, prepare


def export_openvino(model: nn.Module, path: str | Path, resolution: Resolution | None = None) -> None:
    """Write the model in evaluation mode as OpenVINO's two files, in float32. The write is atomic.

    The model takes "images" (batch, in_channels, H, W), with any batch size, and gives "logits" (batch, num_classes).

    Args:
        model: an EfficientFormer as trained or folded, also wrapped (DataParallel, torch.compile, AveragedModel),
            pruned or parametrized. Runtimes are fastest with the folded form of `model.folding.folded_maps`.
        path: the file to write, ending in .xml; the weights are stored next to it, as .bin.
        resolution: the one input size in pixels; None for the one that the model was folded for, else 224.

    Raises:
        ImportError: if openvino, onnx or onnxscript is missing, with the command that installs them.
        ValueError: if the model is not an EfficientFormer or cannot take the resolution, or for another ending.
        OSError: if the files cannot be written.
    """
    path = Path(path)
    if path.suffix != ".xml":
        raise ValueError(f"{path.name} is not a name for OpenVINO; allowed: one that ends in .xml")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder does not exist")
    openvino = needs("openvino")
    graph = to_openvino(*prepare(model, resolution), any_batch=True)
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
