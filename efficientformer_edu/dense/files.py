"""Read and write the file of a trained network for detection or segmentation: weights and metadata.

It is a safetensors file. Configuration, training image size and class names are stored as JSON in the file's header,
because no layout of another project identifies such a network.
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
    """Content of a file.

    Attributes:
        network: with its weights, in evaluation mode.
        size: height and width in pixels of the square input that it was trained on.
        classes: names of the classes that its head predicts.
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
        config: its configuration.
        size: height and width of the square input that it was trained on.
        classes: names of the classes that its head predicts.
        path: the file to write; its name ends in .safetensors.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: for a file of a different type, which has no header.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"{path.name}: only a .safetensors file can store the network's configuration")
    metadata = {"network": to_dict(config), "size": size, "classes": list(classes)}
    write(state, path, None, metadata={KEY: json.dumps(metadata, ensure_ascii=False)})


def load_dense(path: str | Path) -> Saved:
    """Load a file written by `save_dense`.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is broken or belongs to a different network; the message names the file.
    """
    if (metadata := header(path)) is None:
        raise ValueError(f"{path} is not a detection or segmentation network saved by this package")
    try:
        network = DenseNetwork(from_dict(metadata["network"]))
        network.load_state_dict(read(Path(path)))
        return Saved(network.eval(), metadata["size"], tuple(metadata["classes"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: the weights do not fit the configuration in its header: {error}") from error


def load_backbone(path: str | Path, config: EfficientFormerConfig) -> dict[str, Tensor]:
    """Load the weights of a backbone from a classifier's file, or from a file written by `save_dense`.

    The norms of the feature maps are left out: a classifier has none, and for a different neck they have to be trained
    again.

    Args:
        path: the file.
        config: configuration of the backbone; fields of a classifier's heads are ignored.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is broken; the message names the file.
    """
    if header(path) is None:
        return load(path, config=config, head=False)
    state = load_dense(path).network.backbone.state_dict()
    return {name: value for name, value in state.items() if not name.startswith("norms.")}


def header(path: str | Path) -> dict[str, Any] | None:
    """The metadata in a file's header; None for other file types. Raises FileNotFoundError for a missing file."""
    with Path(path).open("rb") as file:
        if file.read(9)[8:] != b"{":  # the length of a safetensors header in eight bytes, then the header
            return None
    try:
        with safetensors.safe_open(path, "pt") as tensors:
            metadata = (tensors.metadata() or {}).get(KEY)
        return None if metadata is None else json.loads(metadata)
    except (safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: the safetensors file is damaged or cut short ({error})") from error


def to_dict(config: DenseConfig) -> dict[str, Any]:
    """Convert a configuration to JSON-compatible values, as accepted by `from_dict`."""
    neck, head = config.names
    fields: dict[str, Any] = {
        "backbone": config.backbone.to_dict(),
        "neck": None if config.neck is None else {"name": neck, **asdict(config.neck)},
        "head": {"name": head, **asdict(config.head)},
        "num_classes": config.num_classes,
        "norms": config.norms,
    }
    converted: dict[str, Any] = json.loads(json.dumps(fields))  # tuples become lists
    return converted


def from_dict(fields: Mapping[str, Any]) -> DenseConfig:
    """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
    head, neck = dict(fields["head"]), None if fields["neck"] is None else dict(fields["neck"])
    return DenseConfig(
        EfficientFormerConfig.from_dict(fields["backbone"]),
        HEADS[head.pop("name")].config(**head),
        None if neck is None else NECKS[neck.pop("name")].config(**neck),
        fields["num_classes"],
        fields["norms"],
    )
