"""The network, bottom up: stem, mixers, mlp, blocks, backbone, network, unwrap, folding."""

from __future__ import annotations

from efficientformer_edu.model.backbone import Backbone, Stage
from efficientformer_edu.model.blocks import MB3D, MB4D, DropPath, LayerScale
from efficientformer_edu.model.folding import fold
from efficientformer_edu.model.mixers import Attention, Pooling, offset_bias, offset_index
from efficientformer_edu.model.mlp import ConvMlp, Mlp
from efficientformer_edu.model.network import EfficientFormer, Heads
from efficientformer_edu.model.stem import Embedding, Stem
from efficientformer_edu.model.unwrap import unwrap

__all__ = [
    "MB3D",
    "MB4D",
    "Attention",
    "Backbone",
    "ConvMlp",
    "DropPath",
    "EfficientFormer",
    "Embedding",
    "Heads",
    "LayerScale",
    "Mlp",
    "Pooling",
    "Stage",
    "Stem",
    "fold",
    "offset_bias",
    "offset_index",
    "unwrap",
]
