"""Configuration formats of other projects: readers for their field names, and a YAML writer.

Each reader returns keyword arguments of `EfficientFormerConfig`, which then checks the values. The meaning of the
fields was taken from the code of the projects: timm 1.0.31, Lucid 3.8.0, Hugging Face transformers 4.57.6, NetsPresso
Trainer 1.4.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from efficientformer_edu._validation import unknown_name

# Fields that have different names in timm and Lucid. Their remaining fields have the same names as here.
TIMM_AND_LUCID = {
    "in_chans": "in_channels",
    "mlp_ratios": "mlp_ratio",
    "layer_scale_init_value": "layer_scale_init",
    "act_layer": "act",
    "resolution": "bias_grid",
}

HUGGING_FACE = {
    "depths": "depths",
    "hidden_sizes": "embed_dims",
    "num_meta3d_blocks": "num_vit",
    "num_labels": "num_classes",
    "distillation": "distillation",
    "num_channels": "in_channels",
    "mlp_expansion_ratio": "mlp_ratio",
    "pool_size": "pool_size",
    "num_attention_heads": "num_heads",
    "key_dim": "key_dim",
    "attention_ratio": "attn_ratio",
    "resolution": "bias_grid",
    "layer_scale_init_value": "layer_scale_init",
    "hidden_dropout_prob": "proj_drop_rate",
    "drop_path_rate": "drop_path_rate",
    "hidden_act": "act",
}

# Fields of Hugging Face's file that would change the network; here each has fixed allowed values. Its LayerNorm epsilon
# of 1e-12 changes L1's logits by 7e-6 compared with all other code bases, which use 1e-5.
HUGGING_FACE_FIXED = {
    "downsample_patch_size": (3,),
    "downsample_stride": (2,),
    "downsample_pad": (1,),
    "batch_norm_eps": (1e-5,),
    "layer_norm_eps": (1e-12, 1e-5),
}

# Parameters of NetsPresso's backbone. Its other constants are fixed in its code.
NETSPRESSO = (
    "num_attention_heads",
    "attention_channels",
    "attention_dropout_prob",
    "attention_value_expansion_ratio",
    "ffn_intermediate_ratio",
    "ffn_dropout_prob",
    "ffn_act_type",
    "vit_num",
)

EXAMPLE = "lines such as depths: [3, 2, 6, 4]"

SAME_ACTIVATION = {"swish": "silu", "hardswish": "hard_swish", "leakyrelu": "leaky_relu"}


def from_dict(fields: Mapping[str, Any], ours: Collection[str]) -> dict[str, Any]:
    """Keyword arguments from the field names of this package (`ours`), timm, Lucid or Hugging Face."""
    if not isinstance(fields, Mapping):
        raise ValueError(f"a configuration is a mapping of field names to values, not {type(fields).__name__}")
    if "hidden_sizes" in fields or fields.get("model_type") == "efficientformer":
        return _from_hugging_face(fields)
    known = {name: name for name in ours} | TIMM_AND_LUCID
    config: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in known:
            present = {known.get(other) for other in fields}
            raise unknown_name(name, known, present=[other for other, field in known.items() if field in present])
        if known[name] in config:
            raise ValueError(f"{name!r} and another field both give {known[name]!r}; keep one of them")
        config[known[name]] = value
    if isinstance(config.get("mlp_ratio"), Iterable):  # Lucid has one value per stage
        config["mlp_ratio"] = _only("mlp_ratios", config["mlp_ratio"])
    return _with_plain_names(config)


def _from_hugging_face(fields: Mapping[str, Any]) -> dict[str, Any]:
    # `num_labels` is not written if it is Hugging Face's default of two; with more there is a name for each label.
    config: dict[str, Any] = {"num_classes": len(fields.get("id2label") or (0, 1))}
    for key, allowed in HUGGING_FACE_FIXED.items():
        if fields.get(key, allowed[0]) not in allowed:
            raise ValueError(f"{key}={fields[key]!r} is not possible; allowed: {' or '.join(map(repr, allowed))}")
    config |= {field: fields[name] for name, field in HUGGING_FACE.items() if name in fields}
    if not fields.get("use_layer_scale", True):
        config["layer_scale_init"] = None
    if "downsamples" in fields:
        after = list(fields["downsamples"])
        config["downsamples"] = [False, *after[:-1]]  # downsamples[j] is after stage j; the last one is never read
    return _with_plain_names(config)


def from_yaml(path: Path, ours: Collection[str]) -> dict[str, Any]:
    """Keyword arguments from a YAML file: a flat mapping of our fields, or NetsPresso's model file."""
    content = read_yaml(path)
    return from_netspresso(content) if "model" in content else from_dict(content, ours)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ValueError if there is none, and OSError if the file cannot be read."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = str(error)
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
            problem = f"{error.problem} in line {error.problem_mark.line + 1}"
        raise ValueError(f"it is no YAML file: {problem}; wanted: {EXAMPLE}") from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds {type(content).__name__}, not a mapping of fields to values; wanted: {EXAMPLE}")
    return content


def from_netspresso(content: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments from `model.architecture.backbone` of NetsPresso's model file."""
    backbone = "model.architecture.backbone"
    name = at(content, f"{backbone}.name")
    if name != "efficientformer":
        raise ValueError(f"{backbone}.name={name!r} is not possible; allowed: 'efficientformer'")

    _only_known(at(content, f"{backbone}.params"), NETSPRESSO, f"{backbone}.params")

    def param(field: str) -> Any:
        return at(content, f"{backbone}.params.{field}")

    heads, channels = param("num_attention_heads"), param("attention_channels")
    if not isinstance(heads, int) or not isinstance(channels, int) or heads < 1 or channels < 1 or channels % heads:
        raise ValueError(
            f"{backbone}.params.attention_channels={channels!r} is not possible; allowed: a positive multiple of "
            f"num_attention_heads={heads!r}, which is a positive whole number"
        )
    stages = at(content, f"{backbone}.stage_params")
    if not isinstance(stages, list):
        raise ValueError(f"{backbone}.stage_params={stages!r} is not possible; allowed: a list of four stages")
    for n, stage in enumerate(stages):
        _only_known(stage, ("num_blocks", "channels"), f"{backbone}.stage_params[{n}]")
    config = {
        "depths": [at(stage, "num_blocks", f"{backbone}.stage_params[{n}]") for n, stage in enumerate(stages)],
        "embed_dims": [at(stage, "channels", f"{backbone}.stage_params[{n}]") for n, stage in enumerate(stages)],
        "num_vit": param("vit_num"),
        "distillation": False,
        "num_heads": heads,
        "key_dim": channels // heads,
        "attn_ratio": param("attention_value_expansion_ratio"),
        "mlp_ratio": param("ffn_intermediate_ratio"),
        "attn_drop_rate": param("attention_dropout_prob"),
        "proj_drop_rate": param("ffn_dropout_prob"),
        "act": param("ffn_act_type"),
    }
    return _with_plain_names(config)


def to_yaml(fields: Mapping[str, Any]) -> str:
    """One `name: value` per line. JSON numbers, lists, strings and null are valid YAML, so no library is needed."""
    return "".join(f"{name}: {_yaml(value)}\n" for name, value in fields.items())


def _yaml(value: Any) -> str:
    # YAML 1.1 reads 1e-05 as a string; numbers with an exponent need a decimal point.
    text = json.dumps(value)
    return text.replace("e", ".0e", 1) if isinstance(value, float) and "e" in text and "." not in text else text


def at(content: Any, path: str, above: str = "") -> Any:
    """The value at a dotted path of a nested mapping. Raises ValueError that names the full path."""
    for name in path.split("."):
        if not isinstance(content, Mapping) or name not in content:
            keys = ", ".join(map(str, content)) if isinstance(content, Mapping) else repr(content)
            raise ValueError(
                f"{'.'.join(filter(None, (above, path)))} is missing: no {name!r} in {keys}; a file with the field "
                "model is read as NetsPresso's, which has it there"
            )
        content = content[name]
    return content


def _only_known(fields: Any, known: Collection[str], where: str) -> None:
    """Raise ValueError for fields that NetsPresso does not have."""
    for name in fields if isinstance(fields, Mapping) else ():
        if name not in known:
            raise ValueError(f"{where}: {unknown_name(name, known, present=fields)}")


def _only(name: str, values: Iterable[Any]) -> Any:
    different = set(values)
    if len(different) != 1:
        raise ValueError(f"{name}={values!r} is not possible; allowed: one number, the same for every stage")
    return different.pop()


def _with_plain_names(config: dict[str, Any]) -> dict[str, Any]:
    if isinstance(config.get("act"), str):
        config["act"] = SAME_ACTIVATION.get(config["act"].lower(), config["act"].lower())
    return config
