"""Read and write NetsPresso's model files: `model.architecture` with backbone, neck and head.

Source: the fields and values of NetsPresso Trainer 1.4's examples for EfficientFormer. The number of classes is not a
field of these files, because it depends on the data.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from efficientformer_edu import _formats
from efficientformer_edu import _validation as values
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.dense.network import HEADS, NECKS, NUM_CLASSES, DenseConfig, DenseNetwork, Head, Neck

ARCHITECTURE = "model.architecture"
MODEL = ("task", "name", "architecture")  # the fields of `model` that describe the network


def from_yaml(path: str | Path, num_classes: int | None = None) -> DenseNetwork:
    """Build a network from a NetsPresso model file, with random weights.

    Args:
        path: the file.
        num_classes: number of classes of the head; None for 1000 in classification, 150 in segmentation and 80 in
            detection, as in ImageNet, ADE20K and COCO.

    Raises:
        ValueError: naming the file and the problem: invalid YAML, a field that is missing, unknown or has an invalid
            value, unknown names, an incompatible neck and head.
        OSError: if the file cannot be read.

    Warns:
        UserWarning: naming the fields of the file that do not describe the network; they are ignored.
    """
    try:
        return DenseNetwork(_config(_formats.read_yaml(Path(path)), num_classes))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def to_yaml(network: DenseNetwork | DenseConfig) -> str:
    """The model file of a network, in the format of `from_yaml` and NetsPresso.

    Raises:
        ValueError: for a network that the format cannot represent, naming the field.
    """
    import yaml

    config = network.config if isinstance(network, DenseNetwork) else network
    neck, head = config.names
    if not config.norms:
        raise values.invalid_value(
            "norms", config.norms, "True, because NetsPresso's backbones normalize their outputs"
        )
    architecture: dict[str, Any] = {"full": None, "backbone": _backbone_fields(config.backbone)}
    if config.neck is not None:
        architecture["neck"] = {"name": neck, "params": _part_fields(config.neck)}
    architecture["head"] = {"name": head, "params": _part_fields(config.head)}
    model = {"task": config.task, "name": "efficientformer", "architecture": architecture}
    return str(yaml.safe_dump({"model": model}, sort_keys=False, default_flow_style=None))


def _config(content: Mapping[str, Any], num_classes: int | None) -> DenseConfig:
    model = _mapping(content, "model", MODEL, ignore_others=True)
    architecture = _mapping(content, ARCHITECTURE, ("full", "backbone", "neck", "head"))
    if architecture.get("full") is not None:
        raise values.invalid_value(f"{ARCHITECTURE}.full", architecture["full"], "null")
    backbone = EfficientFormerConfig(**_formats.from_netspresso(content))
    neck = None if architecture.get("neck") is None else _part(content, "neck", NECKS)
    head = _part(content, "head", HEADS)
    task = HEADS[architecture["head"]["name"]].task
    if (file_task := _formats.at(content, "model.task")) != task:
        raise values.invalid_value("model.task", file_task, f"{task!r}, the task of the head")
    ignored = [name for name, value in content.items() if name != "model" and value is not None]
    ignored += [name for name, value in model.items() if name not in MODEL and value is not None]
    if ignored:
        warnings.warn(f"ignored fields that do not describe the network: {', '.join(ignored)}", stacklevel=3)
    return DenseConfig(backbone, head, neck, NUM_CLASSES[task] if num_classes is None else num_classes)


def _part(content: Mapping[str, Any], which: str, known: Mapping[str, Neck] | Mapping[str, Head]) -> Any:
    """The fields of a neck or a head from its name and its parameters."""
    where = f"{ARCHITECTURE}.{which}"
    name = _mapping(content, where, ("name", "params")).get("name")
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{where}.name: {values.unknown_name(name, known, which)}")
    config = known[name].config
    params: Mapping[str, Any] = {}
    if _formats.at(content, f"{where}.params") is not None:
        params = _mapping(content, f"{where}.params", [field.name for field in fields(config)])
    if isinstance(act := params.get("act_type"), str):
        params = {**params, "act_type": _formats.SAME_ACTIVATION.get(act.lower(), act.lower())}
    try:
        return config(**params)
    except ValueError as error:
        raise ValueError(f"{where}.params: {error}") from error


def _mapping(
    content: Mapping[str, Any], where: str, known: Collection[str], ignore_others: bool = False
) -> Mapping[str, Any]:
    """The mapping at a dotted path. An unknown field in it is an error, unless others are to be ignored."""
    mapping = _formats.at(content, where)
    if not isinstance(mapping, Mapping):
        raise values.invalid_value(where, mapping, f"a mapping with the fields {', '.join(known)}")
    for name in mapping:
        if name not in known and not ignore_others:
            raise ValueError(f"{where}: {values.unknown_name(name, known, present=mapping)}")
    return mapping


def _part_fields(part: Any) -> dict[str, Any]:
    """A neck's or a head's fields; tuples as lists, without None values of fields that NetsPresso does not have."""
    content: dict[str, Any] = json.loads(json.dumps(asdict(part)))
    return {name: value for name, value in content.items() if (name, value) != ("out_channels", None)}


def _backbone_fields(config: EfficientFormerConfig) -> dict[str, Any]:
    backbone = {
        "name": "efficientformer",
        "params": {
            "num_attention_heads": config.num_heads,
            "attention_channels": config.num_heads * config.key_dim,
            "attention_dropout_prob": config.attn_drop_rate,
            "attention_value_expansion_ratio": config.attn_ratio,
            "ffn_intermediate_ratio": config.mlp_ratio,
            "ffn_dropout_prob": config.proj_drop_rate,
            "ffn_act_type": config.act,
            "vit_num": config.vits[3],
        },
        "stage_params": [
            {"num_blocks": depth, "channels": dim} for depth, dim in zip(config.depths, config.embed_dims, strict=True)
        ],
    }
    read = EfficientFormerConfig(**_formats.from_netspresso({"model": {"architecture": {"backbone": backbone}}}))
    skipped = {"num_classes", "distillation", "drop_rate", "num_vit"}  # fields of the heads; num_vit is checked below
    for name in (field.name for field in fields(config)):
        if name not in skipped and getattr(read, name) != getattr(config, name):
            raise values.invalid_value(
                name, getattr(config, name), f"{getattr(read, name)!r}, which NetsPresso's files imply"
            )
    if config.vits != read.vits:
        raise values.invalid_value(
            "num_vit", config.num_vit, "MB3D blocks in the last stage only, because a file has a single number"
        )
    return backbone
