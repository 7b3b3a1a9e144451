"""Export a network to one ONNX file, for ONNX Runtime and most other runtimes on phones and in browsers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from efficientformer_edu.config import Resolution
from efficientformer_edu.export.program import BATCH, INPUT, OUTPUT, import_engine, prepare, program, quiet
from efficientformer_edu.utils.files import atomic_write


def export_onnx(model: nn.Module, path: str | Path, resolution: Resolution | None = None) -> None:
    """Write the model in evaluation mode to one ONNX file that includes the weights. The write is atomic.

    The file takes "images" (batch, in_channels, H, W), with any batch size, and gives "logits" (batch, num_classes),
    both float32. Its metadata hold the model's configuration. ONNX Runtime's `quantize_dynamic` and `quantize_static`
    accept it.

    Args:
        model: an EfficientFormer as trained or folded, also wrapped (DataParallel, torch.compile, AveragedModel),
            pruned or parametrized. Runtimes are fastest with the folded form of `model.folding.folded_maps`.
        path: the file to write.
        resolution: input size in pixels; default: the size for which the model was folded, else 224.

    Raises:
        ImportError: if onnx or onnxscript is missing, with the command that installs them.
        ValueError: if the model is not an EfficientFormer, or cannot take the resolution.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder does not exist")
    network, images = prepare(model, resolution)
    proto = to_onnx(network, images, any_batch=True)
    height, width = images.shape[2:]
    metadata = {"configuration": network.config.to_yaml(), "resolution": f"{height}x{width}"}
    import_engine("onnx.helper").set_model_props(
        proto, {**metadata, "form": "trained" if network.input_size is None else "folded"}
    )
    with atomic_write(path) as partial:
        partial.write_bytes(proto.SerializeToString())


def to_onnx(network: nn.Module, images: Tensor, any_batch: bool = False) -> Any:
    """Convert a network that maps images to logits to an `onnx.ModelProto`, validated by the onnx checker.

    Args:
        network: any module; it runs in evaluation mode.
        images: (B, in_channels, H, W); only the shape is used.
        any_batch: whether the graph takes any batch size, or only B.

    Raises:
        ImportError: if onnx or onnxscript is missing, with the command that installs them.
    """
    checker = import_engine("onnx.checker")
    import_engine("onnxscript")
    graph = program(network, images, any_batch)
    with torch.inference_mode(False), quiet():
        exported = torch.onnx.export(
            graph, dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False, external_data=False
        )
    assert exported is not None  # only the older exporter returns None
    proto: Any = exported.model_proto
    if any_batch:
        for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
            for size in value.type.tensor_type.shape.dim:
                if size.dim_param:  # torch's own name of the dynamic dimension
                    size.dim_param = BATCH
    _drop_weight_shapes(proto.graph)
    checker.check_model(proto, full_check=True)
    return proto


def _drop_weight_shapes(graph: Any) -> None:
    """Remove the second copy of each weight's shape that torch stores.

    The tensor of a weight has its own shape. Tools that replace the tensor, such as ONNX Runtime's quantizers, do not
    update the second shape, and then reject the graph.
    """
    weights = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(kept)
