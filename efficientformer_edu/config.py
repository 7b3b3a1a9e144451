"""The configuration of a network: one frozen dataclass and the three published presets.

Paper: section 4.1 and Table 6. Released code: `EfficientFormer_depth`, `EfficientFormer_width` and the constructor of
`EfficientFormer` in `models/efficientformer.py`. Where Table 6 as printed and the released code differ (the last stage
of L3, the third stage of L7), the presets follow the code.

This module imports neither torch nor numpy, so that the command line starts quickly and the same file runs in a
browser.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientformer_edu import _formats
from efficientformer_edu import _validation as values
from efficientformer_edu._validation import invalid_value, unknown_name

SMALLEST_INPUT = 32  # the stem and three embeddings halve the size five times: 32 pixels leave one token

Resolution = int | tuple[int, int]


@dataclass(frozen=True)
class EfficientFormerConfig:
    """The shape of one EfficientFormer. The defaults are L1.

    Attributes:
        depths: blocks in each of the four stages, MB4D and MB3D together.
        embed_dims: channels C_j of each stage.
        downsamples: whether each stage starts with a stride-2 embedding. A stage without one keeps the width of the
            previous stage; for the first stage this is the stem's output width, which is `embed_dims[0]`.
        num_vit: number of MB3D blocks at the end of the last stage, or one number per stage.
        num_classes: outputs of a head.
        distillation: whether there is a second head, which learns from a teacher; the logits are the mean of both.
        in_channels: channels of the image.
        mlp_ratio: hidden width of a block's MLP relative to its width.
        pool_size: window of the pooling token mixer, odd.
        num_heads: attention heads of an MB3D.
        key_dim: channels of one head's query and key.
        attn_ratio: channels of one head's value relative to `key_dim`.
        bias_grid: token grid (height, width) for which the table of attention biases is trained.
        layer_scale_init: initial value of every layer scale; None for a network without layer scale.
        drop_rate: dropout before the heads.
        proj_drop_rate: dropout in the MLPs.
        attn_drop_rate: dropout of attention probabilities.
        drop_path_rate: stochastic depth of the last block; it increases linearly from 0 at the first block.
        act: activation of the blocks, one of `_validation.ACTIVATIONS`.
        stem_act: activation of the stem. The released code uses ReLU here and GELU everywhere else.

    Raises:
        ValueError: if a value is not allowed; the message names the field, the value and the allowed values.

    Source: Table 6 of the paper; field names as in timm if timm has the field.
    """

    depths: tuple[int, ...] = (3, 2, 6, 4)
    embed_dims: tuple[int, ...] = (48, 96, 224, 448)
    downsamples: tuple[bool, ...] = (False, True, True, True)
    num_vit: int | tuple[int, ...] = 1
    num_classes: int = 1000
    distillation: bool = True
    in_channels: int = 3
    mlp_ratio: float = 4.0
    pool_size: int = 3
    num_heads: int = 8
    key_dim: int = 32
    attn_ratio: float = 4.0
    bias_grid: tuple[int, int] = (7, 7)
    layer_scale_init: float | None = 1e-5
    drop_rate: float = 0.0
    proj_drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    act: str = "gelu"
    stem_act: str = "relu"

    def __new__(cls, *_: Any, **fields: Any) -> EfficientFormerConfig:
        # Runs before __init__, so that a misspelled field is reported like any other invalid value.
        values.known_fields(fields, cls.__dataclass_fields__)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        self._normalize(values.positive_int, "num_classes", "in_channels", "num_heads", "key_dim", "pool_size")
        self._normalize(values.per_stage(values.positive_int), "depths", "embed_dims")
        self._normalize(values.per_stage(values.boolean), "downsamples")
        self._normalize(values.boolean, "distillation")
        self._normalize(values.pair, "bias_grid")
        self._normalize(values.positive_float, "mlp_ratio", "attn_ratio")
        self._normalize(values.probability, "drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate")
        self._normalize(values.activation, "act", "stem_act")
        if self.layer_scale_init is not None:
            self._normalize(values.finite_float, "layer_scale_init")
        number = values.non_negative_int
        self._normalize(values.per_stage(number) if isinstance(self.num_vit, Iterable) else number, "num_vit")
        self._check_together()

    def _normalize(self, check: Callable[[str, Any], object], *names: str) -> None:
        for name in names:
            object.__setattr__(self, name, check(name, getattr(self, name)))  # because the dataclass is frozen

    def _check_together(self) -> None:
        dims = self.embed_dims
        if self.pool_size % 2 == 0:
            raise invalid_value("pool_size", self.pool_size, "an odd number, so that pooling keeps the size of the map")
        if dims[0] < 2:
            raise invalid_value("embed_dims", dims, "at least 2 channels in the first stage")
        for j in range(1, 4):
            if not self.downsamples[j] and dims[j] != dims[j - 1]:
                allowed = f"True at index {j}, where embed_dims changes from {dims[j - 1]} to {dims[j]}"
                raise invalid_value("downsamples", self.downsamples, allowed)
        if any(vit > depth for vit, depth in zip(self.vits, self.depths, strict=True)):
            raise invalid_value("num_vit", self.num_vit, f"at most the depth of its stage (depths={self.depths})")
        if self.value_dim < 1:
            raise invalid_value("attn_ratio", self.attn_ratio, f"at least 1 / key_dim = 1 / {self.key_dim}")
        if any(self.hidden_dim(j) < 1 for j in range(4)):
            raise invalid_value("mlp_ratio", self.mlp_ratio, f"at least 1 / {min(dims)}")

    @property
    def vits(self) -> tuple[int, ...]:
        """Number of MB3D blocks in each of the four stages; they are the last blocks of a stage."""
        return self.num_vit if isinstance(self.num_vit, tuple) else (0, 0, 0, self.num_vit)

    @property
    def stem_width(self) -> int:
        """Number of channels between the two convolutions of the stem."""
        return self.embed_dims[0] // 2

    @property
    def value_dim(self) -> int:
        """Channels of one head's value."""
        return int(self.attn_ratio * self.key_dim)

    def hidden_dim(self, stage: int) -> int:
        """Hidden channels of the MLPs of stage 0, 1, 2 or 3."""
        return int(self.mlp_ratio * self.embed_dims[stage])

    @property
    def drop_path_rates(self) -> tuple[float, ...]:
        """Stochastic depth of all blocks of the network, linear from 0 to `drop_path_rate`."""
        last = sum(self.depths) - 1
        return tuple(self.drop_path_rate * i / last for i in range(last + 1))

    def grids(self, resolution: Resolution) -> tuple[tuple[int, int], ...]:
        """Height and width of each stage's feature map for images of `resolution` pixels."""
        grid = halve(halve(resolution_pair(resolution)))
        grids = []
        for downsample in self.downsamples:
            grid = halve(grid) if downsample else grid
            grids.append(grid)
        return tuple(grids)

    def replace(self, **fields: Any) -> EfficientFormerConfig:
        """A copy in which some fields have other values. Raises ValueError as the constructor does."""
        values.known_fields(fields, self.__dataclass_fields__)
        return dataclasses.replace(self, **fields)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> EfficientFormerConfig:
        """A configuration from the field names of this class, of timm, of Lucid or of Hugging Face.

        Args:
            fields: fields to set; all others keep their defaults. Hugging Face's `downsamples[j]` means *after* stage j
                and is shifted by one. Its fields without an effect are ignored.

        Raises:
            ValueError: for a field that is unknown in all of them, and for a value that is not supported here.
        """
        return cls(**_formats.from_dict(fields, cls.__dataclass_fields__))

    @classmethod
    def from_yaml(cls, path: str | Path) -> EfficientFormerConfig:
        """A configuration from a YAML file: either what `to_yaml` writes or NetsPresso's `model.architecture.backbone`.

        NetsPresso's networks have one head, so `distillation` is set to False. Its documentation describes `num_blocks`
        as the number of 4D blocks; its code, and this reader, count all blocks of the stage.

        Raises:
            ValueError: if the file is not a YAML mapping, or a field is missing or invalid; the message names file and
                field.
        """
        try:
            content = _formats.read_yaml(Path(path))
            return cls(**_formats.from_netspresso(content)) if "model" in content else cls.from_dict(content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, with tuples as lists for JSON and YAML."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    def to_yaml(self) -> str:
        """All fields as YAML, one per line."""
        return _formats.to_yaml(self.to_dict())


PRESETS = {
    "l1": EfficientFormerConfig(depths=(3, 2, 6, 4), embed_dims=(48, 96, 224, 448), num_vit=1),
    "l3": EfficientFormerConfig(depths=(4, 4, 12, 6), embed_dims=(64, 128, 320, 512), num_vit=4),
    "l7": EfficientFormerConfig(depths=(6, 6, 18, 8), embed_dims=(96, 192, 384, 768), num_vit=8),
}

# Names of these networks in timm, mmpretrain, Lucid and on the Hugging Face hub.
_ALIASES = (
    "efficientformer_{}",
    "efficientformer-{}",
    "efficientformer_{}.snap_dist_in1k",
    "efficientformer-{}_3rdparty_8xb128_in1k",
    "efficientformer_{}_cls",
    "snap-research/efficientformer-{}-300",
)


def list_models() -> list[str]:
    """The names of the published networks, spelled as in timm."""
    return [f"efficientformer_{name}" for name in PRESETS]


def get_config(model: str | EfficientFormerConfig) -> EfficientFormerConfig:
    """The configuration of a published network by name, or `model` itself if it is a configuration.

    Names are `"l1"`, `"l3"`, `"l7"`, and those of timm, mmpretrain, Lucid and the Hugging Face hub.

    Raises:
        ValueError: for an unknown name; the message lists the available names.
    """
    if isinstance(model, EfficientFormerConfig):
        return model
    names = {alias.format(name): config for name, config in PRESETS.items() for alias in ("{}", *_ALIASES)}
    if not isinstance(model, str) or model.lower() not in names:
        raise unknown_name(model, PRESETS, "model")
    return names[model.lower()]


def resolution_pair(resolution: Resolution) -> tuple[int, int]:
    """Height and width in pixels from one number or a pair. Raises ValueError if one is below 32."""
    height, width = values.pair("resolution", resolution)
    if min(height, width) < SMALLEST_INPUT:
        raise invalid_value("resolution", resolution, f"at least {SMALLEST_INPUT} pixels high and wide")
    return height, width


def halve(grid: tuple[int, int]) -> tuple[int, int]:
    """The size after a 3×3 convolution with stride 2 and padding 1, which rounds up."""
    height, width = grid
    return (height + 1) // 2, (width + 1) // 2
