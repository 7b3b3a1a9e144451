"""Use it: EfficientFormer as a backbone, with necks and heads for classification, segmentation and detection."""

from __future__ import annotations

from efficientformer_edu.dense.all_mlp_decoder import ALLMLPDecoder, ALLMLPDecoderConfig
from efficientformer_edu.dense.anchor_free_head import AnchorFreeDecoupledHead, AnchorFreeDecoupledHeadConfig
from efficientformer_edu.dense.anchor_head import AnchorDecoupledHead, AnchorDecoupledHeadConfig, AnchorPredictions
from efficientformer_edu.dense.backbone import DenseBackbone
from efficientformer_edu.dense.fc import FC, FCConfig
from efficientformer_edu.dense.fpn import FPN, FPNConfig
from efficientformer_edu.dense.network import DenseConfig, DenseNetwork
from efficientformer_edu.dense.pafpn import YOLOPAFPN, YOLOPAFPNConfig
from efficientformer_edu.dense.semantic_fpn import SemanticFPN, SemanticFPNConfig
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
