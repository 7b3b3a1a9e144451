"""Hugging Face's configuration: its field names, its file, its labels.

Source: `EfficientFormerConfig` of transformers 4.57.6, whose `config.json` the hub's repositories hold. Several of its
fields change nothing there; a few would change the network, and those have one value here (`config_formats`).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from efficientformer_edu import config_formats
from efficientformer_edu import config_values as values
from efficientformer_edu.config import EfficientFormerConfig as NetworkConfig

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")

# Nothing reads these, neither there nor here; `initializer_range` is read there, where it is the deviation of all first
# weights. A value other than the default was meant to do something, so it warns.
UNREAD = ("num_hidden_layers", "patch_size", "image_size", "initializer_range", "distillation")

# What a file says besides the network: who wrote it, and which class, which decides about the second head.
ABOUT_THE_FILE = ("_name_or_path", "architectures", "distillation", "dtype", "torch_dtype", "transformers_version")


@dataclass(frozen=True)
class EfficientFormerConfig:
    """A network in Hugging Face's words. The defaults are L1 with two labels, as there.

    Attributes:
        depths: blocks in each of the four stages.
        hidden_sizes: channels of each stage.
        downsamples: whether an embedding follows each stage; the last is never read, and where the channels change
            there always is one.
        dim: channels of the MB3D blocks, which are those of the last stage. None takes them from there.
        key_dim: channels of one head's query and key.
        attention_ratio: channels of one head's value over `key_dim`.
        resolution: height and width of the token grid that the attention offsets are for.
        num_hidden_layers: not read.
        num_attention_heads: heads of an MB3D.
        mlp_expansion_ratio: hidden width of an MLP over its width.
        hidden_dropout_prob: dropout in the MLPs.
        patch_size: not read.
        num_channels: channels of the image.
        pool_size: window of the pooling, odd.
        downsample_patch_size: 3, nothing else.
        downsample_stride: 2, nothing else.
        downsample_pad: 1, nothing else.
        drop_path_rate: stochastic depth of the last block, linear from 0 at the first. Hugging Face's grows by the
            whole rate with each block and passes 1; that is not repeated here.
        num_meta3d_blocks: MB3D blocks that end the last stage.
        distillation: not read: the class decides whether there is a second head.
        use_layer_scale: whether there is a layer scale.
        layer_scale_init_value: its first value.
        hidden_act: activation, by its name.
        initializer_range: not read.
        layer_norm_eps: 1e-12, as there, or 1e-5; the network has 1e-5, as in every other code base. With 1e-12 the
            logits of L1 move by 7e-6.
        image_size: not read; a network takes any size.
        batch_norm_eps: 1e-5, nothing else.
        hidden_size: the same as `dim`.
        num_labels: outputs of a head; None for as many as `id2label` has, or two.
        id2label: the name of each label; None for `LABEL_0`, `LABEL_1`, …
        label2id: the label of each name; None for `id2label` backwards.
        problem_type: which loss `labels` have, one of `PROBLEM_TYPES`; None to tell it from them.
        output_hidden_states: whether outputs hold `hidden_states` where a call does not say.
        output_attentions: the same for `attentions`.
        return_dict: whether a call returns an object with names or a tuple, where it does not say.

    Raises:
        ValueError: naming the field, the value that came and what is allowed.

    Warns:
        UserWarning: if a field that nothing reads has another value than its default.
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
        # Before __init__ sees it, so that a misspelt field is reported like every other wrong value.
        values.known_fields(fields, cls.__dataclass_fields__)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        self._set_labels()
        width = self.network(distillation=False).embed_dims[-1]  # checks every field of the network
        for name in ("depths", "hidden_sizes", "downsamples"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("dim", "hidden_size"):
            if getattr(self, name) not in (None, width):
                raise values.wrong(name, getattr(self, name), f"{width}, the last of hidden_sizes")
            object.__setattr__(self, name, width)
        if self.problem_type not in (None, *PROBLEM_TYPES):
            raise values.wrong("problem_type", self.problem_type, f"{', '.join(PROBLEM_TYPES)}, or None")
        changed = [f for f in dataclasses.fields(self) if f.name in UNREAD and getattr(self, f.name) != f.default]
        if changed:
            given = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in changed)
            warnings.warn(f"nothing reads {given}: it does not change the network", stacklevel=3)

    def _set_labels(self) -> None:
        number = values.count("num_labels", 2 if self.num_labels is None else self.num_labels)
        given = {n: f"LABEL_{n}" for n in range(number)} if self.id2label is None else self.id2label
        id2label = {int(n): name for n, name in given.items()}  # in a file the keys are strings
        if self.num_labels not in (None, len(id2label)):
            raise values.wrong("num_labels", self.num_labels, f"{len(id2label)}, the number of names in id2label")
        label2id = {name: n for n, name in id2label.items()} if self.label2id is None else dict(self.label2id)
        for name, value in {"id2label": id2label, "label2id": label2id, "num_labels": len(id2label)}.items():
            object.__setattr__(self, name, value)

    def network(self, distillation: bool) -> NetworkConfig:
        """The same network in our words, with one head or two. Raises ValueError in Hugging Face's words."""
        theirs = {ours: name for name, ours in config_formats.HUGGING_FACE.items()}
        fields = {name: getattr(self, name) for name in (*theirs.values(), *config_formats.HUGGING_FACE_FIXED)}
        fields |= {"use_layer_scale": self.use_layer_scale, "downsamples": self._embeddings()}
        try:
            return NetworkConfig.from_dict(fields | {"distillation": distillation})
        except ValueError as error:
            name, equals, rest = str(error).partition("=")
            raise ValueError(f"{theirs.get(name, name)}{equals}{rest}") from error

    def _embeddings(self) -> Sequence[bool]:
        pairs = zip(self.hidden_sizes, [*self.hidden_sizes[1:], self.hidden_sizes[-1]], strict=True)
        if len(self.downsamples) != len(self.hidden_sizes):
            return self.downsamples  # wrong, which `NetworkConfig` says
        return [after or a != b for after, (a, b) in zip(self.downsamples, pairs, strict=True)]

    def replace(self, **fields: Any) -> EfficientFormerConfig:
        """A copy in which some fields have other values; the names of the labels follow their number."""
        values.known_fields(fields, self.__dataclass_fields__)
        if fields.keys() & {"num_labels", "id2label"}:
            fields = {"num_labels": None, "id2label": None, "label2id": None} | fields
        if "hidden_sizes" in fields:
            fields = {"dim": None, "hidden_size": None} | fields
        return dataclasses.replace(self, **fields)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> EfficientFormerConfig:
        """What a `config.json` holds. Fields that this class does not have are left out with a warning.

        Raises:
            ValueError: for the file of another model, and as the constructor.
        """
        if fields.get("model_type", "efficientformer") != "efficientformer":
            raise values.wrong("model_type", fields["model_type"], "'efficientformer'")
        known = {name: value for name, value in fields.items() if name not in (*ABOUT_THE_FILE, "model_type")}
        return cls(**without_unknown(known, cls.__dataclass_fields__))

    @classmethod
    def from_network(cls, network: NetworkConfig) -> EfficientFormerConfig:
        """A network of ours in Hugging Face's words. Raises ValueError if they have none for it."""
        fields = {theirs: getattr(network, ours) for theirs, ours in config_formats.HUGGING_FACE.items()}
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
            given = ", ".join(f"{name}={getattr(network, name)!r}" for name in lost)
            raise ValueError(f"{given} has no place in Hugging Face's configuration")
        return config

    def to_dict(self) -> dict[str, Any]:
        """All fields by name as Hugging Face writes them to a file: with `model_type`, and labels without their number.

        `layer_norm_eps` is the 1e-5 that the network computes with, so that transformers computes the same.
        """
        fields = dataclasses.asdict(self) | {"model_type": "efficientformer", "layer_norm_eps": 1e-5}
        del fields["num_labels"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def without_unknown(fields: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The fields of a file that are known; a warning names the others."""
    if unknown := [name for name in fields if name not in known]:
        warnings.warn(f"nothing reads these fields of the file: {', '.join(unknown)}", stacklevel=3)
    return {name: value for name, value in fields.items() if name in known}
