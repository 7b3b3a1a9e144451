"""Export a network to an ONNX file, or to OpenVINO's pair of files."""

from __future__ import annotations

from efficientformer_edu.export.onnx import export_onnx
from efficientformer_edu.export.openvino import export_openvino

__all__ = ["export_onnx", "export_openvino"]
