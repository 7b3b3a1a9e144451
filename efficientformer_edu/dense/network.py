"""Networks for classification, segmentation and detection: a backbone, an optional neck, and a head.

Paper: section 5.2. Released code: `detection/backbone.py` and `segmentation/backbone.py`, which apply a GroupNorm with
one group to each of the backbone's four feature maps: the residual stream is not normalized, so their scales differ.
Necks and heads, and which of them are compatible, are those of NetsPresso Trainer; `semantic_fpn` is from the paper.

A new neck or head is entered in `NECKS` or `HEADS`, and nowhere else.

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
from efficientformer_edu.dense import losses
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
        """Feature maps (B, C_j, ⌈H/2^(j+1)⌉, ⌈W/2^(j+1)⌉), j = 1 to 4. Raises ValueError as `EfficientFormer` does."""
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
    """The classification head, NetsPresso's: linear layers with an activation between them.

    With one layer it equals EfficientFormer's own head, without the distillation head.

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


NO_NECK = "no neck"
NUM_CLASSES: Mapping[str, int] = MappingProxyType({"classification": 1000, "segmentation": 150, "detection": 80})
"""Numbers of classes of ImageNet, ADE20K and COCO, which the paper reports on, by task."""


@dataclass(frozen=True)
class Neck:
    """An entry of `NECKS`.

    Attributes:
        config: the class of its fields.
        build: makes the module from the channels and strides of the backbone's feature maps, and the fields.
    """

    config: type
    build: Callable[[Sequence[int], Sequence[int], Any], Any]


@dataclass(frozen=True)
class Head:
    """An entry of `HEADS`.

    Attributes:
        task: a key of `NUM_CLASSES`.
        config: the class of its fields.
        build: makes the module from the channels and strides of its feature maps, the number of classes and the fields.
        necks: compatible necks, keys of `NECKS` or `NO_NECK`.
        reason: why it is not compatible with the other necks.
        default: default neck (or None) and fields; the sources are NetsPresso's examples and the paper's section 5.2.
        small: the same for `SMALL_BACKBONE`, whose run time a neck and head for ImageNet's widths would dominate.
        criterion: the training loss; None for classification, which `training` handles.
    """

    task: str
    config: type
    build: Callable[[Sequence[int], Sequence[int], int, Any], nn.Module]
    necks: tuple[str, ...]
    reason: str
    default: tuple[Any, Any]
    small: tuple[Any, Any]
    criterion: losses.Criterion | None = None


NECKS: Mapping[str, Neck] = MappingProxyType(
    {"fpn": Neck(FPNConfig, FPN), "yolopafpn": Neck(YOLOPAFPNConfig, YOLOPAFPN)}
)
HEADS: Mapping[str, Head] = MappingProxyType(
    {
        "fc": Head(
            task="classification",
            config=FCConfig,
            build=lambda dims, strides, num_classes, config: FC(dims[-1], num_classes, config),
            necks=(NO_NECK,),
            reason="it takes the mean over all positions",
            default=(None, FCConfig()),
            small=(None, FCConfig()),
        ),
        "all_mlp_decoder": Head(
            task="segmentation",
            config=ALLMLPDecoderConfig,
            build=lambda dims, strides, num_classes, config: ALLMLPDecoder(dims, num_classes, config),
            necks=(NO_NECK,),
            reason="it takes the backbone's feature maps directly",
            default=(None, ALLMLPDecoderConfig()),
            small=(None, ALLMLPDecoderConfig(intermediate_channels=64)),
            criterion=losses.SEGMENTATION,
        ),
        "semantic_fpn": Head(
            task="segmentation",
            config=SemanticFPNConfig,
            build=lambda dims, strides, num_classes, config: SemanticFPN(dims, num_classes, config),
            necks=("fpn",),
            reason="it sums feature maps of one width, the finest at a quarter of the image's size",
            default=(FPNConfig(out_channels=256), SemanticFPNConfig()),
            small=(FPNConfig(out_channels=64), SemanticFPNConfig(64, classifier_dropout_prob=0.0)),
            criterion=losses.SEGMENTATION,
        ),
        "anchor_decoupled_head": Head(
            task="detection",
            config=AnchorDecoupledHeadConfig,
            build=AnchorDecoupledHead,
            necks=("fpn",),
            reason="all feature maps share its towers, so they need one width",
            default=(FPNConfig(), AnchorDecoupledHeadConfig()),
            # Four strides, as in RetinaNet: of NetsPresso's, eight strides, only the finest fit the objects of a scene.
            small=(FPNConfig(out_channels=64), AnchorDecoupledHeadConfig(((16.0,), (32.0,), (64.0,), (128.0,)))),
            criterion=losses.ANCHOR,
        ),
        "anchor_free_decoupled_head": Head(
            task="detection",
            config=AnchorFreeDecoupledHeadConfig,
            build=AnchorFreeDecoupledHead,
            necks=("fpn", "yolopafpn"),
            reason="without a neck, the receptive field of the finest feature maps is too small to recognize objects",
            default=(YOLOPAFPNConfig(), AnchorFreeDecoupledHeadConfig()),
            small=(YOLOPAFPNConfig(), AnchorFreeDecoupledHeadConfig()),
            criterion=losses.ANCHOR_FREE,
        ),
    }
)
DEFAULT_HEADS: Mapping[str, str] = MappingProxyType(
    {"segmentation": "semantic_fpn", "detection": "anchor_free_decoupled_head"}
)
"""The default head by task."""

MATRIX: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        (neck, name): "" if neck in head.necks else head.reason
        for name, head in HEADS.items()
        for neck in (NO_NECK, *NECKS)
    }
)
"""Neck and head: the reason why they are incompatible, or "" if they are compatible."""


@dataclass(frozen=True)
class DenseConfig:
    """Configuration of a network for a task.

    Attributes:
        backbone: network configuration; the distillation head, number of classes and dropout before the head are
            ignored.
        head: fields of the head, such as `SemanticFPNConfig()`.
        neck: fields of the neck, such as `FPNConfig()`, or None.
        num_classes: number of classes of the head.
        norms: whether each output of the backbone has a norm. Not used for classification.

    Raises:
        ValueError: for a neck or head of a wrong type, for an incompatible neck and head, and for a backbone that does
            not downsample exactly before each of the last three stages.
    """

    backbone: EfficientFormerConfig
    head: Any
    neck: Any = None
    num_classes: int = 1000
    norms: bool = True

    def __post_init__(self) -> None:
        values.positive_int("num_classes", self.num_classes)
        values.boolean("norms", self.norms)
        neck, head = self.names
        if reason := MATRIX[neck, head]:
            raise ValueError(f"{head} with {neck} is not possible: {reason}; allowed: {', '.join(HEADS[head].necks)}")
        if self.backbone.downsamples != (False, True, True, True):
            allowed = "(False, True, True, True), for feature maps of strides 4 to 32"
            raise values.invalid_value("downsamples", self.backbone.downsamples, allowed)

    @property
    def names(self) -> tuple[str, str]:
        """Names of the neck and of the head, as in `MATRIX`."""
        return NO_NECK if self.neck is None else _name("neck", self.neck, NECKS), _name("head", self.head, HEADS)

    @property
    def task(self) -> str:
        """Classification, segmentation or detection."""
        return HEADS[self.names[1]].task

    @property
    def criterion(self) -> losses.Criterion:
        """The training loss. Raises ValueError for a classification network, which `training` trains."""
        head = self.names[1]
        if (criterion := HEADS[head].criterion) is None:
            raise ValueError(
                f"{head} has no training loss for segmentation or detection; use the classifier's training"
            )
        return criterion


class DenseNetwork(nn.Module):
    """The network: `backbone`, `neck` and `head`.

    Args:
        config: configuration.

    Raises:
        ValueError: for invalid levels, as the neck and the head specify.
    """

    def __init__(self, config: DenseConfig) -> None:
        super().__init__()
        self.config, (neck, head) = config, config.names
        backbone = config.backbone.replace(distillation=False, num_classes=config.num_classes)
        self.backbone = DenseBackbone(backbone, config.norms and config.task != "classification")
        dims: Sequence[int] = backbone.embed_dims
        strides: Sequence[int] = STRIDES
        self.neck: FPN | YOLOPAFPN | None = None
        if config.neck is not None:
            self.neck = NECKS[neck].build(dims, strides, config.neck)
            dims, strides = self.neck.out_dims, self.neck.strides
        self.head = HEADS[head].build(dims, strides, config.num_classes, config.head)

    def forward(self, images: Float[Tensor, "B in_channels H W"]) -> Any:
        """The output of the head. Raises ValueError if the input is not a batch of images, or smaller than 32×32."""
        if self.config.task == "classification":
            (pooled,) = self.backbone.extract_feat(images)
            return self.head(pooled)
        maps = self.backbone(images)
        return self.head(maps if self.neck is None else self.neck(maps))


SMALL_BACKBONE = EfficientFormerConfig(
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


def default_config(
    backbone: EfficientFormerConfig, task: str, num_classes: int, head: str | None = None
) -> DenseConfig:
    """The default network for a task.

    Args:
        backbone: backbone configuration.
        task: `"segmentation"` or `"detection"`.
        num_classes: number of classes of the head.
        head: a key of `HEADS`; None for the default head of the task.

    Raises:
        ValueError: for an unknown task or head, or a head for the other task.
    """
    if task not in DEFAULT_HEADS:
        raise values.invalid_value("task", task, " or ".join(DEFAULT_HEADS))
    name = DEFAULT_HEADS[task] if head is None else head
    allowed = [known for known, entry in HEADS.items() if entry.task == task]
    if name not in allowed:
        raise values.invalid_value("head", name, f"{', '.join(allowed)} for {task}")
    neck, fields = HEADS[name].small if backbone == SMALL_BACKBONE else HEADS[name].default
    return DenseConfig(backbone, fields, neck, num_classes)


def _name(which: str, config: Any, registry: Mapping[str, Neck] | Mapping[str, Head]) -> str:
    for name, entry in registry.items():
        if isinstance(config, entry.config):
            return name
    raise values.invalid_value(which, config, " or ".join(entry.config.__name__ for entry in registry.values()))
