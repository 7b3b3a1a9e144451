"""Hugging Face's configuration: its field names, its file, its labels.

Source: `EfficientFormerConfig` of transformers 4.57.6, whose `config.json` is in the hub's repositories. Several
fields have no effect there. A few would change the network; these have fixed values here (`_formats`).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from efficientformer_edu import _formats
from efficientformer_edu import _validation as values
from efficientformer_edu.config import EfficientFormerConfig as NetworkConfig

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")

# Fields without an effect, neither there nor here, except `initializer_range`: there it is the standard deviation of
# the initial weights. A value other than the default was meant to have an effect, so it raises a warning.
UNREAD = ("num_hidden_layers", "patch_size", "image_size", "initializer_range", "distillation")

# Fields that describe the file, not the network: its origin, and the class, which decides about the second head.
ABOUT_THE_FILE = ("_name_or_path", "architectures", "distillation", "dtype", "torch_dtype", "transformers_version")


@dataclass(frozen=True)
class EfficientFormerConfig:
    """A configuration with Hugging Face's field names. The defaults are L1 with two labels, as in transformers.

    Attributes:
        depths: blocks in each of the four stages.
        hidden_sizes: channels of each stage.
        downsamples: whether an embedding follows each stage; the last value is never read, and if the number of
            channels changes there always is one.
        dim: channels of the MB3D blocks, equal to those of the last stage. None uses those of the last stage.
        key_dim: channels of one head's query and key.
        attention_ratio: channels of one head's value relative to `key_dim`.
        resolution: height and width of the token grid for the attention biases.
        num_hidden_layers: not read.
        num_attention_heads: number of attention heads of an MB3D.
        mlp_expansion_ratio: hidden width of an MLP relative to its width.
        hidden_dropout_prob: dropout in the MLPs.
        patch_size: not read.
        num_channels: channels of the image.
        pool_size: window of the pooling, odd.
        downsample_patch_size: only 3 is supported.
        downsample_stride: only 2 is supported.
        downsample_pad: only 1 is supported.
        drop_path_rate: stochastic depth of the last block, linear from 0 at the first. Hugging Face's code adds the
            full rate with each block and exceeds 1; this bug is not reproduced.
        num_meta3d_blocks: number of MB3D blocks at the end of the last stage.
        distillation: not read: the class decides whether there is a second head.
        use_layer_scale: whether there is a layer scale.
        layer_scale_init_value: its initial value.
        hidden_act: name of the activation.
        initializer_range: not read.
        layer_norm_eps: 1e-12, as in transformers, or 1e-5; the network uses 1e-5, like all other code bases. With 1e-12
            the logits of L1 change by 7e-6.
        image_size: not read; a network accepts any size.
        batch_norm_eps: only 1e-5 is supported.
        hidden_size: the same as `dim`.
        num_labels: outputs of a head; None for the length of `id2label`, or two.
        id2label: name of each label; None for `LABEL_0`, `LABEL_1`, …
        label2id: label of each name; None for the inverse of `id2label`.
        problem_type: which loss is used for `labels`, one of `PROBLEM_TYPES`; None infers it from them.
        output_hidden_states: default for whether outputs contain `hidden_states`.
        output_attentions: the same for `attentions`.
        return_dict: default for whether a call returns an object with named fields or a tuple.

    Raises:
        ValueError: if a value is not allowed; the message names the field, the value and the allowed values.

    Warns:
        UserWarning: if a field without an effect differs from its default.
    """

    depths: Sequence[int] = (3, 2, 6, 4)
    hidden_sizes: Sequence[int] = (48, 96, 224, 448)
    downsamples: Sequence[bool] = (True, True, True, True)
    dim: int | None = None
    key_dim: int = 32
    attention_ratio: float = 4
    resolution: int = 7
    num_hidden_layers: int = 5
    num_attention_heads: int = 8
    mlp_expansion_ratio: float = 4
    hidden_dropout_prob: float = 0.0
    patch_size: int = 16
    num_channels: int = 3
    pool_size: int = 3
    downsample_patch_size: int = 3
    downsample_stride: int = 2
    downsample_pad: int = 1
    drop_path_rate: float = 0.0
    num_meta3d_blocks: int = 1
    distillation: bool = True
    use_layer_scale: bool = True
    layer_scale_init_value: float = 1e-5
    hidden_act: str = "gelu"
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    image_size: int = 224
    batch_norm_eps: float = 1e-5
    hidden_size: int | None = None
    num_labels: int | None = None
    id2label: Mapping[int, str] | None = None
    label2id: Mapping[str, int] | None = None
    problem_type: str | None = None
    output_hidden_states: bool = False
    output_attentions: bool = False
    return_dict: bool = True

    def __new__(cls, *_: Any, **fields: Any) -> EfficientFormerConfig:
        # Runs before __init__, so that a misspelled field is reported like any other invalid value.
        values.known_fields(fields, cls.__dataclass_fields__)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        self._set_labels()
        width = self.network(distillation=False).embed_dims[-1]  # checks every field of the network
        for name in ("depths", "hidden_sizes", "downsamples"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("dim", "hidden_size"):
            if getattr(self, name) not in (None, width):
                raise values.invalid_value(name, getattr(self, name), f"{width}, the last of hidden_sizes")
            object.__setattr__(self, name, width)
        if self.problem_type not in (None, *PROBLEM_TYPES):
            raise values.invalid_value("problem_type", self.problem_type, f"{', '.join(PROBLEM_TYPES)}, or None")
        changed = [f for f in dataclasses.fields(self) if f.name in UNREAD and getattr(self, f.name) != f.default]
        if changed:
            settings = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in changed)
            warnings.warn(f"{settings} has no effect on the network", stacklevel=3)

    def _set_labels(self) -> None:
        number = values.positive_int("num_labels", 2 if self.num_labels is None else self.num_labels)
        labels = {n: f"LABEL_{n}" for n in range(number)} if self.id2label is None else self.id2label
        id2label = {int(n): name for n, name in labels.items()}  # in a file the keys are strings
        if self.num_labels not in (None, len(id2label)):
            raise values.invalid_value(
                "num_labels", self.num_labels, f"{len(id2label)}, the number of names in id2label"
            )
        label2id = {name: n for n, name in id2label.items()} if self.label2id is None else dict(self.label2id)
        for name, value in {"id2label": id2label, "label2id": label2id, "num_labels": len(id2label)}.items():
            object.__setattr__(self, name, value)

    def network(self, distillation: bool) -> NetworkConfig:
        """The same network as our configuration, with one head or two. Errors use Hugging Face's field names."""
        key_map = {field: name for name, field in _formats.HUGGING_FACE.items()}
        fields = {name: getattr(self, name) for name in (*key_map.values(), *_formats.HUGGING_FACE_FIXED)}
        fields |= {"use_layer_scale": self.use_layer_scale, "downsamples": self._embeddings()}
        try:
            return NetworkConfig.from_dict(fields | {"distillation": distillation})
        except ValueError as error:
            name, equals, message = str(error).partition("=")
            raise ValueError(f"{key_map.get(name, name)}{equals}{message}") from error

    def _embeddings(self) -> Sequence[bool]:
        pairs = zip(self.hidden_sizes, [*self.hidden_sizes[1:], self.hidden_sizes[-1]], strict=True)
        if len(self.downsamples) != len(self.hidden_sizes):
            return self.downsamples  # invalid; `NetworkConfig` reports it
        return [after or a != b for after, (a, b) in zip(self.downsamples, pairs, strict=True)]

    def replace(self, **fields: Any) -> EfficientFormerConfig:
        """A copy with some fields changed; the names of the labels are adapted to their number."""
        values.known_fields(fields, self.__dataclass_fields__)
        if fields.keys() & {"num_labels", "id2label"}:
            fields = {"num_labels": None, "id2label": None, "label2id": None} | fields
        if "hidden_sizes" in fields:
            fields = {"dim": None, "hidden_size": None} | fields
        return dataclasses.replace(self, **fields)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> EfficientFormerConfig:
        """A configuration from the fields of a `config.json`. Unknown fields are ignored with a warning.

        Raises:
            ValueError: if the file belongs to another model; other errors are those of the constructor.
        """
        if fields.get("model_type", "efficientformer") != "efficientformer":
            raise values.invalid_value("model_type", fields["model_type"], "'efficientformer'")
        known = {name: value for name, value in fields.items() if name not in (*ABOUT_THE_FILE, "model_type")}
        return cls(**without_unknown(known, cls.__dataclass_fields__))

    @classmethod
    def from_network(cls, network: NetworkConfig) -> EfficientFormerConfig:
        """Convert our configuration. Raises ValueError if Hugging Face's configuration cannot express it."""
        fields = {name: getattr(network, field) for name, field in _formats.HUGGING_FACE.items()}
        height, width = network.bias_grid
        fields |= {
            "distillation": True,
            "downsamples": (*network.downsamples[1:], True),
            "num_meta3d_blocks": network.vits[-1],
            "resolution": height if height == width else (height, width),
            "use_layer_scale": network.layer_scale_init is not None,
            "layer_scale_init_value": cls.layer_scale_init_value
            if network.layer_scale_init is None
            else network.layer_scale_init,
        }
        config = cls(**fields)
        back = config.network(network.distillation).replace(num_vit=network.num_vit)
        lost = [name for name, value in network.to_dict().items() if back.to_dict()[name] != value]
        if lost or any(network.vits[:-1]):
            lost = lost or ["num_vit"]
            settings = ", ".join(f"{name}={getattr(network, name)!r}" for name in lost)
            raise ValueError(f"{settings} cannot be expressed in Hugging Face's configuration")
        return config

    def to_dict(self) -> dict[str, Any]:
        """All fields by name as Hugging Face writes them to a file: with `model_type`, but without `num_labels`.

        `layer_norm_eps` is 1e-5, the value that the network uses, so that transformers computes the same outputs.
        """
        fields = dataclasses.asdict(self) | {"model_type": "efficientformer", "layer_norm_eps": 1e-5}
        del fields["num_labels"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def without_unknown(fields: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The known fields of a file; a warning lists the others."""
    if unknown := [name for name in fields if name not in known]:
        warnings.warn(f"these fields of the file have no effect: {', '.join(unknown)}", stacklevel=3)
    return {name: value for name, value in fields.items() if name in known}
