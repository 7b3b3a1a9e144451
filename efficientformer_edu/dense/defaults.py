"""Default network for a task: head, neck, and a small backbone.

Sources: the paper's section 5.2 for Semantic FPN after an FPN of 256 channels; NetsPresso Trainer's examples for the
other combinations.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from efficientformer_edu import _validation as values
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.dense.detection.heads import AnchorDecoupledHeadConfig, AnchorFreeDecoupledHeadConfig
from efficientformer_edu.dense.necks import FPNConfig, YOLOPAFPNConfig
from efficientformer_edu.dense.network import TASKS, DenseConfig, HeadConfig, NeckConfig
from efficientformer_edu.dense.segmentation.heads import ALLMLPDecoderConfig, SemanticFPNConfig

PARTS: Mapping[str, tuple[NeckConfig | None, HeadConfig]] = MappingProxyType(
    {
        "all_mlp_decoder": (None, ALLMLPDecoderConfig()),
        "semantic_fpn": (FPNConfig(out_channels=256), SemanticFPNConfig()),
        "anchor_decoupled_head": (FPNConfig(), AnchorDecoupledHeadConfig()),
        "anchor_free_decoupled_head": (YOLOPAFPNConfig(), AnchorFreeDecoupledHeadConfig()),
    }
)
"""The default neck and the default fields of each head."""

HEAD: Mapping[str, str] = MappingProxyType({"segmentation": "semantic_fpn", "detection": "anchor_free_decoupled_head"})
"""The default head of each task."""

SMALL = EfficientFormerConfig(
    depths=(1, 1, 2, 2),
    embed_dims=(24, 48, 96, 192),
    num_vit=1,
    num_heads=4,
    key_dim=16,
    attn_ratio=2.0,
    bias_grid=(3, 3),
    layer_scale_init=0.1,
)
"""A backbone for synthetic scenes of 96×96 pixels; its last feature map has 3×3 positions."""

NARROW: Mapping[str, tuple[NeckConfig | None, HeadConfig]] = MappingProxyType(
    {
        **PARTS,
        "all_mlp_decoder": (None, ALLMLPDecoderConfig(intermediate_channels=64)),
        "semantic_fpn": (
            FPNConfig(out_channels=64),
            SemanticFPNConfig(intermediate_channels=64, classifier_dropout_prob=0.0),
        ),
        "anchor_decoupled_head": (
            FPNConfig(out_channels=64),
            AnchorDecoupledHeadConfig(anchor_sizes=((16.0,), (32.0,), (64.0,), (128.0,))),
        ),
    }
)
"""The same for the small backbone: heads as wide as for an ImageNet backbone would dominate the run time.

Anchor sizes are four strides, as in RetinaNet; NetsPresso's, eight strides, fit the objects of a scene only on the
finest feature map.
"""


def usual(backbone: EfficientFormerConfig, task: str, num_classes: int, head: str | None = None) -> DenseConfig:
    """The default network for a task.

    Args:
        backbone: backbone configuration.
        task: `"segmentation"` or `"detection"`.
        num_classes: number of classes of the head.
        head: a key of `PARTS`; None for the default head of the task.

    Raises:
        ValueError: for an unknown task or head, or a head for the other task.
    """
    if task not in HEAD:
        raise values.invalid_value("task", task, " or ".join(HEAD))
    name = HEAD[task] if head is None else head
    compatible = [head_name for head_name in PARTS if TASKS[head_name] == task]
    if name not in compatible:
        raise values.invalid_value("head", name, f"{', '.join(compatible)} for {task}")
    neck, fields = (NARROW if backbone == SMALL else PARTS)[name]
    return DenseConfig(backbone, fields, neck, num_classes)
