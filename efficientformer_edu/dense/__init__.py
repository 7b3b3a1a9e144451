"""Use it: EfficientFormer as a backbone, with necks and heads for classification, segmentation and detection."""

from __future__ import annotations

from efficientformer_edu.dense.detection.heads import (
    AnchorDecoupledHead,
    AnchorDecoupledHeadConfig,
    AnchorFreeDecoupledHead,
    AnchorFreeDecoupledHeadConfig,
    AnchorPredictions,
)
from efficientformer_edu.dense.necks import FPN, YOLOPAFPN, FPNConfig, YOLOPAFPNConfig
from efficientformer_edu.dense.network import FC, DenseBackbone, DenseConfig, DenseNetwork, FCConfig
from efficientformer_edu.dense.segmentation.heads import (
    ALLMLPDecoder,
    ALLMLPDecoderConfig,
    SemanticFPN,
    SemanticFPNConfig,
)
from efficientformer_edu.dense.yaml_files import from_yaml, to_yaml

__all__ = [
    "FC",
    "FPN",
    "YOLOPAFPN",
    "ALLMLPDecoder",
    "ALLMLPDecoderConfig",
    "AnchorDecoupledHead",
    "AnchorDecoupledHeadConfig",
    "AnchorFreeDecoupledHead",
    "AnchorFreeDecoupledHeadConfig",
    "AnchorPredictions",
    "DenseBackbone",
    "DenseConfig",
    "DenseNetwork",
    "FCConfig",
    "FPNConfig",
    "SemanticFPN",
    "SemanticFPNConfig",
    "YOLOPAFPNConfig",
    "from_yaml",
    "to_yaml",
]
