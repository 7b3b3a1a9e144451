"""The file of a trained network for detection or segmentation: weights, and all that is needed to use them.

It is a safetensors file. What the network is, at which size it was trained and what its classes are called stand in the
file's header, as JSON: such a network has no layout of other projects by which it could be told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.dense.network import HEADS, NECKS, DenseConfig, DenseNetwork
from efficientformer_edu.weights import load
from efficientformer_edu.weights.files import read, write

KEY = "efficientformer_edu.dense"  # in the file's header


@dataclass(frozen=True)
class Saved:
    """What a file holds.

    Attributes:
        network: with its weights, in evaluation mode.
        size: height and width in pixels of the square that it was trained on.
        classes: names of what its head tells apart.
    """

    network: DenseNetwork
    size: int
    classes: tuple[str, ...]


def save_dense(
    state: Mapping[str, Tensor], config: DenseConfig, size: int, classes: tuple[str, ...], path: Path
) -> None:
    """Write the weights of a network.

    Args:
        state: its `state_dict()`.
        config: what it is.
        size: height and width of the square that it was trained on.
        classes: names of what its head tells apart.
        path: the file to write; its name ends in .safetensors.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: for a file of another kind, which has no header.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"{path.name} has no header for what the network is; wanted: a name that ends in .safetensors")
    told = {"network": to_dict(config), "size": size, "classes": list(classes)}
    write(state, path, None, {KEY: json.dumps(told, ensure_ascii=False)})


def load_dense(path: str | Path) -> Saved:
    """What `save_dense` wrote.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is broken, or the file of another network, naming it.
    """
    if (told := header(path)) is None:
        raise ValueError(f"{path}: this is no network for detection or segmentation that this package saved")
    try:
        network = DenseNetwork(from_dict(told["network"]))
        network.load_state_dict(read(Path(path)))
        return Saved(network.eval(), told["size"], tuple(told["classes"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: the header and the weights of this file do not belong together: {error}") from error


def load_backbone(path: str | Path, config: EfficientFormerConfig) -> dict[str, Tensor]:
    """The weights of a backbone in a classifier's file, or in that of another network of this room.

    The norms of the maps are left out: a classifier has none, and for another neck they are to be learned anew.

    Args:
        path: the file.
        config: of the backbone; what belongs to a classifier's heads says nothing here.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is broken, naming it.
    """
    if header(path) is None:
        return load(path, config=config, head=False)
    state = load_dense(path).network.backbone.state_dict()
    return {name: value for name, value in state.items() if not name.startswith("norms.")}


def header(path: str | Path) -> dict[str, Any] | None:
    """What a file says of its network; None if it is another kind. Raises FileNotFoundError if there is none."""
    with Path(path).open("rb") as file:
        if file.read(9)[8:] != b"{":  # the length of a safetensors header in eight bytes, then the header
            return None
    try:
        with safetensors.safe_open(path, "pt") as opened:
            told = (opened.metadata() or {}).get(KEY)
        return None if told is None else json.loads(told)
    except (safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: the safetensors file is damaged or cut short ({error})") from error


def to_dict(config: DenseConfig) -> dict[str, Any]:
    """A configuration in plain values, as `from_dict` and JSON take them."""
    neck, head = config.names
    told: dict[str, Any] = {
        "backbone": config.backbone.to_dict(),
        "neck": None if config.neck is None else {"name": neck, **asdict(config.neck)},
        "head": {"name": head, **asdict(config.head)},
        "num_classes": config.num_classes,
        "norms": config.norms,
    }
    plain: dict[str, Any] = json.loads(json.dumps(told))  # tuples become lists
    return plain


def from_dict(told: Mapping[str, Any]) -> DenseConfig:
    """What `to_dict` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    neck, head = told["neck"], dict(told["head"])
    return DenseConfig(
        EfficientFormerConfig.from_dict(told["backbone"]),
        HEADS[head.pop("name")](**head),
        None if neck is None else NECKS[neck["name"]](**{name: neck[name] for name in neck if name != "name"}),
        told["num_classes"],
        told["norms"],
    )
