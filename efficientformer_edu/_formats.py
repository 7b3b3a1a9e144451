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

from efficientformer_edu._validation import invalid_value, positive_int, unknown_name

# Fields that have different names in timm and Lucid. Their remaining fields have the same names as here.
TIMM_AND_LUCID = {
    "in_chans": "in_channels",
    "mlp_ratios": "mlp_ratio",
    "layer_scale_init_value": "layer_scale_init",
    "act_layer": "act",
    "resolution": "bias_grid",
}

HUGGING_FACE = {
    **{name: name for name in ("depths", "distillation", "pool_size", "key_dim", "drop_path_rate")},
    "hidden_sizes": "embed_dims",
    "num_meta3d_blocks": "num_vit",
    "num_labels": "num_classes",
    "num_channels": "in_channels",
    "mlp_expansion_ratio": "mlp_ratio",
    "num_attention_heads": "num_heads",
    "attention_ratio": "attn_ratio",
    "resolution": "bias_grid",
    "layer_scale_init_value": "layer_scale_init",
    "hidden_dropout_prob": "proj_drop_rate",
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

# Parameters of NetsPresso's backbone besides `attention_channels`. Its other constants are fixed in its code.
NETSPRESSO = {
    "num_attention_heads": "num_heads",
    "attention_dropout_prob": "attn_drop_rate",
    "attention_value_expansion_ratio": "attn_ratio",
    "ffn_intermediate_ratio": "mlp_ratio",
    "ffn_dropout_prob": "proj_drop_rate",
    "ffn_act_type": "act",
    "vit_num": "num_vit",
}

EXAMPLE = "lines such as depths: [3, 2, 6, 4]"

SAME_ACTIVATION = {"swish": "silu", "hardswish": "hard_swish", "leakyrelu": "leaky_relu"}


def from_dict(fields: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """Keyword arguments from the field names of this package (`own`), timm, Lucid or Hugging Face."""
    if not isinstance(fields, Mapping):
        raise ValueError(f"a configuration is a mapping of field names to values, not {type(fields).__name__}")
    if "hidden_sizes" in fields or fields.get("model_type") == "efficientformer":
        return _from_hugging_face(fields)
    known = {name: name for name in own} | TIMM_AND_LUCID
    config: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in known:
            present = {known.get(other) for other in fields}
            raise unknown_name(name, known, present=[other for other, field in known.items() if field in present])
        if known[name] in config:
            raise ValueError(f"{name!r} and another field both give {known[name]!r}; keep one of them")
        config[known[name]] = value
    ratios = config.get("mlp_ratio")
    if isinstance(ratios, Iterable):  # Lucid has one value per stage
        if len(set(ratios)) != 1:
            raise invalid_value("mlp_ratios", ratios, "one number, the same for every stage")
        config["mlp_ratio"] = next(iter(ratios))
    return _with_known_activation(config)


def _from_hugging_face(fields: Mapping[str, Any]) -> dict[str, Any]:
    # `num_labels` is not written if it is Hugging Face's default of two; with more there is a name for each label.
    config: dict[str, Any] = {"num_classes": len(fields.get("id2label") or (0, 1))}
    for key, allowed in HUGGING_FACE_FIXED.items():
        if fields.get(key, allowed[0]) not in allowed:
            raise invalid_value(key, fields[key], " or ".join(map(repr, allowed)))
    config |= {field: fields[name] for name, field in HUGGING_FACE.items() if name in fields}
    if not fields.get("use_layer_scale", True):
        config["layer_scale_init"] = None
    if "downsamples" in fields:
        after = list(fields["downsamples"])
        config["downsamples"] = [False, *after[:-1]]  # downsamples[j] is after stage j; the last one is never read
    return _with_known_activation(config)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ValueError if there is none, and OSError if the file cannot be read."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = str(error)
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
            problem = f"{error.problem} in line {error.problem_mark.line + 1}"
        raise ValueError(f"not a YAML file: {problem}; expected {EXAMPLE}") from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds {type(content).__name__}, not a mapping of fields to values; expected {EXAMPLE}")
    return content


def from_netspresso(content: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments from `model.architecture.backbone` of NetsPresso's model file."""
    backbone = "model.architecture.backbone"
    if (name := at(content, f"{backbone}.name")) != "efficientformer":
        raise invalid_value(f"{backbone}.name", name, "'efficientformer'")
    params, stages = at(content, f"{backbone}.params"), at(content, f"{backbone}.stage_params")
    known = (*NETSPRESSO, "attention_channels")
    _only_known(params, known, f"{backbone}.params")
    values = {name: at(params, name, f"{backbone}.params") for name in known}
    heads = positive_int(f"{backbone}.params.num_attention_heads", values["num_attention_heads"])
    channels = positive_int(f"{backbone}.params.attention_channels", values["attention_channels"])
    if channels % heads:
        allowed = f"a multiple of num_attention_heads={heads}"
        raise invalid_value(f"{backbone}.params.attention_channels", channels, allowed)
    if not isinstance(stages, list):
        raise invalid_value(f"{backbone}.stage_params", stages, "a list of four stages")
    for n, stage in enumerate(stages):
        _only_known(stage, ("num_blocks", "channels"), f"{backbone}.stage_params[{n}]")
    config = {field: values[name] for name, field in NETSPRESSO.items()}
    for name, field in (("num_blocks", "depths"), ("channels", "embed_dims")):
        config[field] = [at(stage, name, f"{backbone}.stage_params[{n}]") for n, stage in enumerate(stages)]
    return _with_known_activation(config | {"distillation": False, "key_dim": channels // heads})


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
            full = ".".join(filter(None, (above, path)))
            raise ValueError(
                f"{full} is missing: no {name!r} in {keys}; NetsPresso's files, with a field model, have it"
            )
        content = content[name]
    return content


def _only_known(fields: Any, known: Collection[str], where: str) -> None:
    """Raise ValueError for fields that NetsPresso does not have."""
    for name in fields if isinstance(fields, Mapping) else ():
        if name not in known:
            raise ValueError(f"{where}: {unknown_name(name, known, present=fields)}")


def _with_known_activation(config: dict[str, Any]) -> dict[str, Any]:
    if isinstance(config.get("act"), str):
        config["act"] = SAME_ACTIVATION.get(config["act"].lower(), config["act"].lower())
    return config
