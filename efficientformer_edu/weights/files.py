"""Weight files: read without executing code from them, written atomically, and downloaded by name.

The published weights are those of mmpretrain's model index, converted from the authors' checkpoints: L1's after 1000
epochs, L3's and L7's after 300. The last part of a file name is the start of its SHA-256, which is checked whenever the
file is used. The folder is `checkpoints` in `torch.hub.get_dir()`, where torch and mmpretrain store their files, so
files that they have downloaded, or that were copied there by hand, are used.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torch.hub
from torch import Tensor

from efficientformer_edu.config import PRESETS, EfficientFormerConfig, get_config
from efficientformer_edu.utils.files import atomic_write, download, file_sha256

# Keys under which training checkpoints store the weights and their moving average (EMA); the first that exists is used.
# The released code and torchvision's references use `model`, timm and mmpretrain `state_dict`.
RAW = ("model", "state_dict", "model_state_dict")
AVERAGED = ("state_dict_ema", "model_ema")
SWAPPED = ("ema_state_dict", "current_model_state")  # raw weights; mmengine and Lightning average in state_dict
CLASS_NAMES = "class_names"  # as JSON in the metadata of a safetensors file, or next to the weights in a torch file
BIAS_GRID = "bias_grid"  # height and width as JSON in the metadata of a safetensors file without an index of offsets

ADDRESS = "https://download.openmmlab.com/mmclassification/v0/efficientformer/"
FILES = {
    "l1": "efficientformer-l1_3rdparty_in1k_20220915-cc3e1ac6.pth",
    "l3": "efficientformer-l3_3rdparty_in1k_20220915-466793d6.pth",
    "l7": "efficientformer-l7_3rdparty_in1k_20220915-185e30af.pth",
}
OTHER_WEIGHTS = "snap-research/efficientformer-l1-300"  # the same network, trained for 300 epochs


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or torch file, on the CPU; the format is detected from the content.

    For a training checkpoint with raw and averaged weights both are returned, with the prefixes `raw.` and `ema.`.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is empty, damaged, not a checkpoint, or contains Python objects that could run code.
    """
    if not _is_safetensors(path):
        return _unwrap(_read_torch(path))
    with _explain_damage():
        return safetensors.torch.load_file(path)


def read_class_names(path: Path) -> tuple[str, ...] | None:
    """The class names that `write` stored in a file, by label; None if there are none. Errors are those of `read`."""
    if _is_safetensors(path):
        stored: Any = _metadata(path, CLASS_NAMES)
    else:
        content = _read_torch(path)
        stored = content.get(CLASS_NAMES) if isinstance(content, Mapping) else None
    if not isinstance(stored, list | tuple) or not all(isinstance(name, str) for name in stored):
        return None
    return tuple(stored)


def read_bias_grid(path: Path) -> tuple[int, int] | None:
    """The token grid of the attention biases that `write` stored in the metadata; None if there is none.

    Raises:
        ValueError: if the metadata are damaged.
    """
    match _metadata(path, BIAS_GRID) if _is_safetensors(path) else None:
        case None:
            return None
        case [int(height), int(width)] if height > 0 and width > 0:
            return height, width
        case grid:
            raise ValueError(f"{BIAS_GRID}={grid!r} in the metadata is not a grid; save the file again")


def write(
    tensors: Mapping[str, Tensor],
    path: Path,
    wrapper: str | None,
    class_names: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors: as safetensors for the suffix `.safetensors`, else as a torch file under the key `wrapper`.

    Class names are stored in the metadata of a safetensors file, or next to the key `wrapper` of a torch file. A torch
    file without this key contains only tensors, so class names are omitted. Only a safetensors file stores `metadata`.

    Raises:
        FileNotFoundError: if the folder does not exist.
    """
    # Clone each tensor: safetensors rejects views of a shared storage, and torch would save the entire storage.
    copies = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()
    }
    with atomic_write(path) as partial:
        if path.suffix == ".safetensors":
            # Not `save_file`: other users could not read its file. Hugging Face needs the format "pt".
            names = {} if class_names is None else {CLASS_NAMES: json.dumps(list(class_names), ensure_ascii=False)}
            partial.write_bytes(safetensors.torch.save(copies, metadata={"format": "pt", **names, **(metadata or {})}))
        else:
            labels = {} if class_names is None else {CLASS_NAMES: list(class_names)}
            torch.save({wrapper: copies, **labels} if wrapper else copies, partial)


def _is_safetensors(path: Path) -> bool:
    """Whether a file is a safetensors file and not a torch file; raises ValueError if it is neither."""
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise ValueError("the file is empty; download or save it again")
    if start[8:] == b"{":  # eight bytes with the length of the header, then the header in JSON
        return True
    if start.startswith((b"PK", b"\x80")):  # a zip archive, or a pickle before torch 1.6
        return False
    raise ValueError("this is neither a safetensors nor a torch file; was a web page saved instead?")


@contextmanager
def _explain_damage() -> Iterator[None]:
    try:
        yield
    except (safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(
            f"the safetensors file is damaged or truncated ({error}); download or save it again"
        ) from error


def _metadata(path: Path, key: str) -> Any:
    """A JSON value in the metadata of a safetensors file; None if it is not there."""
    with _explain_damage(), safetensors.safe_open(path, "pt") as opened:
        return json.loads((opened.metadata() or {}).get(key, "null"))


def _read_torch(path: Path) -> Any:
    try:
        # The official files contain the command line of the training, an argparse.Namespace, under `args`.
        with path.open("rb") as file, torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True)  # with a path, torch would use the suffix
    except pickle.UnpicklingError as error:
        match = re.search(r"GLOBAL (\S+)", str(error))
        if not match:
            raise ValueError("the torch file is damaged; download or save it again") from error
        raise ValueError(
            f"the file contains Python objects besides tensors ({match[1]}), which could run any code, and was not "
            "loaded. If you trust it, read it with torch.load(..., weights_only=False) and save only its state dict"
        ) from error
    except Exception as error:  # a damaged archive or pickle raises many types of errors
        raise ValueError(f"the torch file is damaged or truncated ({error}); download or save it again") from error


def _unwrap(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise ValueError(f"the file holds {type(content).__name__}, not a dictionary of tensors")
    raw, averaged = _first(content, RAW), _first(content, AVERAGED)
    if averaged is None and "state_dict" in content and (swapped := _first(content, SWAPPED)) is not None:
        raw, averaged = swapped, _first(content, ("state_dict",))
    if raw is not None and averaged is not None:
        sets = {"raw": raw, "ema": averaged}
        inner = {f"{kind}.{name}": value for kind, values in sets.items() for name, value in values.items()}
    else:
        inner = dict(raw or averaged or content)
    if not _is_state_dict(inner):
        keys = ", ".join(map(str, list(inner)[:5]))
        raise ValueError(f"the file does not contain a dictionary of tensors; its keys are {keys or 'none'}")
    return {name: value.detach() for name, value in inner.items()}


def _first(content: Mapping[str, Any], keys: tuple[str, ...]) -> Mapping[str, Any] | None:
    """The value of the first of these keys that is a mapping of names to tensors."""
    return next((content[key] for key in keys if key in content and _is_state_dict(content[key])), None)


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def fetch(model: str | EfficientFormerConfig) -> Path:
    """The file with a network's published weights; it is downloaded if it is not in the cache folder.

    During a download, standard error shows the source, the target, the progress and, if the server reports it, the
    size. A download that fails leaves no partial file.

    Args:
        model: a published network, by name or by its configuration.

    Raises:
        ValueError: if no file is published for this network, or the hash of the file in the folder or of the download
            does not match the file name. A wrong file in the folder is reported and not deleted.
        OSError: if the file cannot be downloaded or written, or the server stops responding; the message explains the
            manual download.
    """
    path = _cache_path(model)
    if path is None:
        raise ValueError(
            f"no weights are published for {model!r}; pretrained=True works for {', '.join(FILES)} (L1's are of "
            "1000 epochs). Download others by hand and pass their path: pretrained='model.safetensors'"
        )
    if not path.exists():
        download(ADDRESS + path.name, path, lambda partial: _check_hash(partial, path))
    return _checked(path)


def find(model: str | EfficientFormerConfig) -> Path | None:
    """The file with a network's published weights, if it is in the cache folder. Raises ValueError for a wrong hash."""
    path = _cache_path(model)
    return _checked(path) if path is not None and path.exists() else None


def is_published(path: Path) -> bool:
    """Whether the hash of a file, of any name, is that of a published file."""
    digest = file_sha256(path)
    return any(digest.startswith(_hash(Path(name))) for name in FILES.values())


def _cache_path(model: str | EfficientFormerConfig) -> Path | None:
    config = get_config(model)
    if isinstance(model, str) and model.lower() == OTHER_WEIGHTS:
        return None
    folder = Path(torch.hub.get_dir(), "checkpoints")
    return next((folder / FILES[name] for name, preset in PRESETS.items() if preset == config), None)


def _checked(path: Path) -> Path:
    try:
        _check_hash(path, path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}. Move it away, and download {ADDRESS}{path.name} again") from error
    return path


def _check_hash(file: Path, published: Path) -> None:
    digest, expected = file_sha256(file), _hash(published)
    if not digest.startswith(expected):
        raise ValueError(f"its SHA-256 starts with {digest[:8]}, not with {expected}, so it is damaged or another file")


def _hash(path: Path) -> str:
    return path.stem.rpartition("-")[2]
