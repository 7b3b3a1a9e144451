"""The network as one ONNX file, which ONNX Runtime and most other tools for phones and browsers read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from efficientformer_edu.config import Resolution
from efficientformer_edu.export.program import BATCH, INPUT, OUTPUT, example, needs, program, quiet
from efficientformer_edu.files import whole
from efficientformer_edu.model import EfficientFormer


def export_onnx(model: EfficientFormer, path: str | Path, resolution: Resolution | None = None) -> None:
    """Write the model in evaluation mode into one ONNX file, weights included, whole or not at all.

    The file takes "images" (batch, in_channels, H, W), any number of them at once, and gives "logits" (batch,
    num_classes), all float32. The model's configuration stands in its metadata.

    Args:
        model: as trained, or folded; `model.folding.folded_maps` gives the folded form that runtimes are quickest with.
        path: the file to write.
        resolution: the one input size in pixels; None for the one that the model was folded for, else 224.

    Raises:
        ImportError: if onnx or onnxscript is missing, with the command that installs them.
        ValueError: for a resolution that the model cannot take.
        OSError: if the file cannot be written.
    """
    path, images = Path(path), example(model, resolution)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder does not exist")
    proto = to_onnx(model, images, any_batch=True)
    height, width = images.shape[2:]
    about = {"configuration": model.config.to_yaml(), "resolution": f"{height}x{width}"}
    needs("onnx.helper").set_model_props(proto, {**about, "form": "trained" if model.input_size is None else "folded"})
    with whole(path) as partial:
        partial.write_bytes(proto.SerializeToString())


def to_onnx(network: nn.Module, images: Tensor, any_batch: bool = False) -> Any:
    """A network that maps images to logits as an `onnx.ModelProto`, checked by onnx itself.

    Args:
        network: any module; it runs in evaluation mode.
        images: (B, in_channels, H, W); only their shape matters.
        any_batch: whether the graph takes any number of images, or B only.

    Raises:
        ImportError: if onnx or onnxscript is missing, with the command that installs them.
    """
    checker = needs("onnx.checker")
    needs("onnxscript")
    graph = program(network, images, any_batch)
    with torch.inference_mode(False), quiet():
        written = torch.onnx.export(
            graph, dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False, external_data=False
        )
    assert written is not None  # only the older exporter gives nothing
    proto: Any = written.model_proto
    if any_batch:
        for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
            for size in value.type.tensor_type.shape.dim:
                if size.dim_param:  # torch's own name of the one size that is free
                    size.dim_param = BATCH
    checker.check_model(proto, full_check=True)
    return proto
