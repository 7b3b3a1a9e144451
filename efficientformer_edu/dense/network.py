"""The backbone for dense tasks: four feature maps, each with its own norm.

Paper: section 5.2. Released code: `detection/backbone.py` and `segmentation/backbone.py`, which apply a GroupNorm with
one group to each of the four outputs; the classification network has none of them, but a LayerNorm before its mean.

Why: the residual stream inside the network is not normalized, so the four feature maps have different scales. The
classifier's norm normalizes the last one; necks and heads use all four.

Input: images (B, in_channels, H, W). Output: feature maps (B, C_j, ⌈H/2^(j+1)⌉, ⌈W/2^(j+1)⌉) for j = 1 to 4.

FC, the classification head: linear layers on the mean over all tokens.

Source: NetsPresso Trainer's `FC`. With one layer it equals EfficientFormer's own head, without the distillation head.

Input: (B, in_dim). Output: logits (B, num_classes).

A complete network for a task: a backbone, an optional neck, and a head.

Paper: section 5.2. The compatible necks and heads are those of NetsPresso's compatibility matrix; other combinations
raise an error with the reason.

Input: images (B, in_channels, H, W) of any size from 32×32. Output: the output of the head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu import _validation as values
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.dense.detection.heads import (
    AnchorDecoupledHead,
    AnchorDecoupledHeadConfig,
    AnchorFreeDecoupledHead,
    AnchorFreeDecoupledHeadConfig,
)
from efficientformer_edu.dense.necks import FPN, YOLOPAFPN, FPNConfig, YOLOPAFPNConfig
from efficientformer_edu.dense.segmentation.heads import (
    ALLMLPDecoder,
    ALLMLPDecoderConfig,
    SemanticFPN,
    SemanticFPNConfig,
)
from efficientformer_edu.model.backbone import Backbone
from efficientformer_edu.model.mlp import activation, init_linear

STRIDES = (4, 8, 16, 32)  # of the four feature maps, if every stage except the first downsamples


class DenseBackbone(Backbone):
    """Four feature maps for a neck or a head.

    The weights of a classification network fit: `load_state_dict(load(path, head=False), strict=False)`. The norms of
    the outputs are then new, with scale 1 and shift 0. The norm before the classifier's mean remains a parameter, as in
    the released backbones, but is not used; nor is the norm of a feature map that the neck does not use.

    Args:
        config: network configuration; fields of the classification heads are ignored.
        norms: whether each output has a norm; without it the outputs are those of `features`.
    """

    def __init__(self, config: EfficientFormerConfig, norms: bool = True) -> None:
        super().__init__(config)
        self.norms = nn.ModuleList(nn.GroupNorm(1, dim) if norms else nn.Identity() for dim in config.embed_dims)

    def forward(self, images: Float[Tensor, "B in_channels H W"]) -> list[Tensor]:
        """The four feature maps, the finest first. Raises ValueError as `EfficientFormer` does."""
        return [norm(x) for norm, x in zip(self.norms, self.features(images), strict=True)]


@dataclass(frozen=True)
class FCConfig:
    """Fields, named as in NetsPresso.

    Attributes:
        num_layers: number of linear layers.
        intermediate_channels: width between them; None for a single layer.
        act_type: activation between them; None for a single layer.
        dropout_prob: dropout before each layer.
    """

    num_layers: int = 1
    intermediate_channels: int | None = None
    act_type: str | None = None
    dropout_prob: float = 0.0

    def __post_init__(self) -> None:
        values.positive_int("num_layers", self.num_layers)
        values.probability("dropout_prob", self.dropout_prob)
        if self.num_layers > 1 or self.intermediate_channels is not None:
            values.positive_int("intermediate_channels", self.intermediate_channels)
        if self.num_layers > 1 or self.act_type is not None:
            values.activation("act_type", self.act_type)


class FC(nn.Module):
    """Linear layers with an activation between them.

    Args:
        in_dim: channels of a token.
        num_classes: number of logits.
        config: configuration.
    """

    def __init__(self, in_dim: int, num_classes: int, config: FCConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        for _ in range(config.num_layers - 1):
            assert config.intermediate_channels is not None
            assert config.act_type is not None
            hidden = config.intermediate_channels
            layers += [nn.Dropout(config.dropout_prob), nn.Linear(in_dim, hidden), activation(config.act_type)]
            in_dim = hidden
        self.classifier = nn.Sequential(*layers, nn.Dropout(config.dropout_prob), nn.Linear(in_dim, num_classes))
        for layer in self.classifier:
            if isinstance(layer, nn.Linear):
                init_linear(layer)

    def forward(self, pooled: Float[Tensor, "B in_dim"]) -> Float[Tensor, "B num_classes"]:
        return self.classifier(pooled)


NeckConfig = FPNConfig | YOLOPAFPNConfig
HeadConfig = (
    FCConfig | ALLMLPDecoderConfig | SemanticFPNConfig | AnchorDecoupledHeadConfig | AnchorFreeDecoupledHeadConfig
)

NECKS: Mapping[str, type[NeckConfig]] = MappingProxyType({"fpn": FPNConfig, "yolopafpn": YOLOPAFPNConfig})
HEADS: Mapping[str, type[HeadConfig]] = MappingProxyType(
    {
        "fc": FCConfig,
        "all_mlp_decoder": ALLMLPDecoderConfig,
        "semantic_fpn": SemanticFPNConfig,
        "anchor_decoupled_head": AnchorDecoupledHeadConfig,
        "anchor_free_decoupled_head": AnchorFreeDecoupledHeadConfig,
    }
)
"""By NetsPresso's names; `semantic_fpn` is from the paper and does not exist in NetsPresso."""

TASKS: Mapping[str, str] = MappingProxyType(
    {
        "fc": "classification",
        "all_mlp_decoder": "segmentation",
        "semantic_fpn": "segmentation",
        "anchor_decoupled_head": "detection",
        "anchor_free_decoupled_head": "detection",
    }
)
CLASSES: Mapping[str, int] = MappingProxyType({"classification": 1000, "segmentation": 150, "detection": 80})
"""Numbers of classes of ImageNet, ADE20K and COCO, which the paper reports on."""

WITHOUT = "no neck"
PLAIN = "it takes the backbone's maps as they are and has no use for a neck"
WHOLE = "it sees the mean over the whole image and has no use for a neck"
TOWERS = "its towers are shared by all maps, which must have one width"
PYRAMID = "it sums a pyramid whose maps have one width and start at a quarter of the image"
SHORT = "the finest maps of a bare backbone have seen too little of the image to tell objects; put a neck between"
MATRIX: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        (WITHOUT, "fc"): "",
        ("fpn", "fc"): WHOLE,
        ("yolopafpn", "fc"): WHOLE,
        (WITHOUT, "all_mlp_decoder"): "",
        ("fpn", "all_mlp_decoder"): PLAIN,
        ("yolopafpn", "all_mlp_decoder"): PLAIN,
        (WITHOUT, "semantic_fpn"): PYRAMID,
        ("fpn", "semantic_fpn"): "",
        ("yolopafpn", "semantic_fpn"): PYRAMID,
        (WITHOUT, "anchor_decoupled_head"): TOWERS,
        ("fpn", "anchor_decoupled_head"): "",
        ("yolopafpn", "anchor_decoupled_head"): TOWERS,
        (WITHOUT, "anchor_free_decoupled_head"): SHORT,
        ("fpn", "anchor_free_decoupled_head"): "",
        ("yolopafpn", "anchor_free_decoupled_head"): "",
    }
)
"""Neck and head: the reason why they are incompatible, or "" if they are compatible."""


@dataclass(frozen=True)
class DenseConfig:
    """Configuration of a network for a task.

    Attributes:
        backbone: backbone configuration; the distillation head, number of classes and dropout before the head are
            ignored.
        head: fields of the head.
        neck: fields of the neck, or None.
        num_classes: number of classes of the head.
        norms: whether each output of the backbone has a norm (see `backbone`). Not used for classification.

    Raises:
        ValueError: for a neck or head of a wrong type, for an incompatible neck and head, and for a backbone that does
            not downsample exactly before each of the last three stages.
    """

    backbone: EfficientFormerConfig
    head: HeadConfig
    neck: NeckConfig | None = None
    num_classes: int = 1000
    norms: bool = True

    def __post_init__(self) -> None:
        values.positive_int("num_classes", self.num_classes)
        values.boolean("norms", self.norms)
        if reason := MATRIX[self.names]:
            neck, head = self.names
            compatible = [
                neck_name for (neck_name, head_name), problem in MATRIX.items() if head_name == head and not problem
            ]
            raise ValueError(f"{head} with {neck} is not possible: {reason}; allowed: {', '.join(compatible)}")
        if self.backbone.downsamples != (False, True, True, True):
            raise values.invalid_value(
                "downsamples", self.backbone.downsamples, "(False, True, True, True), for maps of strides 4 to 32"
            )

    @property
    def names(self) -> tuple[str, str]:
        """Names of the neck and of the head, as in `MATRIX`."""
        neck = WITHOUT if self.neck is None else _name("neck", self.neck, NECKS)
        return neck, _name("head", self.head, HEADS)

    @property
    def task(self) -> str:
        """Classification, segmentation or detection."""
        return TASKS[self.names[1]]


class DenseNetwork(nn.Module):
    """The network: `backbone`, `neck` and `head`.

    Args:
        config: configuration.

    Raises:
        ValueError: for invalid levels, as the neck and the head specify.
    """

    def __init__(self, config: DenseConfig) -> None:
        super().__init__()
        self.config, task = config, config.task
        backbone = config.backbone.replace(distillation=False, num_classes=config.num_classes)
        self.backbone = DenseBackbone(backbone, config.norms and task != "classification")
        dims: Sequence[int] = backbone.embed_dims
        strides: Sequence[int] = STRIDES
        self.neck: FPN | YOLOPAFPN | None = None
        if config.neck is not None:
            self.neck = _NECKS[type(config.neck)](dims, strides, config.neck)
            dims, strides = self.neck.out_dims, self.neck.strides
        self.head: nn.Module = _HEADS[type(config.head)](dims, strides, config.num_classes, config.head)

    def forward(self, images: Float[Tensor, "B in_channels H W"]) -> Any:
        """The output of the head. Raises ValueError if the input is not a batch of images, or smaller than 32×32."""
        if self.config.task == "classification":
            (pooled,) = self.backbone.extract_feat(images)
            return self.head(pooled)
        maps = self.backbone(images)
        return self.head(maps if self.neck is None else self.neck(maps))


_NECKS: Mapping[type, Callable[..., Any]] = {FPNConfig: FPN, YOLOPAFPNConfig: YOLOPAFPN}
_HEADS: Mapping[type, Callable[..., nn.Module]] = {
    FCConfig: lambda dims, strides, classes, config: FC(dims[-1], classes, config),
    ALLMLPDecoderConfig: lambda dims, strides, classes, config: ALLMLPDecoder(dims, classes, config),
    SemanticFPNConfig: lambda dims, strides, classes, config: SemanticFPN(dims, classes, config),
    AnchorDecoupledHeadConfig: AnchorDecoupledHead,
    AnchorFreeDecoupledHeadConfig: AnchorFreeDecoupledHead,
}


def _name(which: str, config: NeckConfig | HeadConfig, names: Mapping[str, type]) -> str:
    for name, kind in names.items():
        if isinstance(config, kind):
            return name
    raise values.invalid_value(which, config, " or ".join(kind.__name__ for kind in names.values()))
