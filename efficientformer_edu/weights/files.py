"""Files of tensors: safetensors and torch, read without running code from them, written whole or not at all."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from efficientformer_edu.files import whole

# Where a training checkpoint keeps its weights, the first that exists. The official files hold optimizer, scheduler,
# scaler and a moving average of the weights (EMA) beside `model`; timm and mmpretrain write `state_dict`.
WRAPPERS = ("model", "state_dict", "model_ema", "state_dict_ema")


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or torch file, on the CPU; which of the two is told by its content.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if the file is empty, damaged, no checkpoint, or holds Python objects that could run code.
    """
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise ValueError("the file is empty; fetch or save it again")
    if start[8:] == b"{":  # a safetensors file: the length of its header in eight bytes, then the header in JSON
        return _read_safetensors(path)
    if start.startswith((b"PK", b"\x80")):  # a torch file: a zip archive, or a pickle before torch 1.6
        return _unwrap(_read_torch(path))
    raise ValueError("this is neither a safetensors nor a torch file; was a web page saved in its place?")


def write(
    tensors: Mapping[str, Tensor], path: Path, wrapper: str | None, header: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write tensors: as safetensors if the suffix says so, else as a torch file, there under the key `wrapper`.

    What `header` says goes into a safetensors file; a torch file has no place for it.

    Raises:
        FileNotFoundError: if the folder does not exist.
    """
    # A clone of each: views of one storage would be refused by safetensors, and saved with all of it by torch.
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    with whole(path) as partial:
        if path.suffix == ".safetensors":
            # Not `save_file`: others could not read its file. Hugging Face refuses a file without the word "pt".
            partial.write_bytes(safetensors.torch.save(plain, metadata={"format": "pt", **header}))
        else:
            torch.save({wrapper: plain} if wrapper else plain, partial)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"the safetensors file is damaged or cut short ({error}); fetch or save it again") from error


def _read_torch(path: Path) -> Any:
    try:
        # The official files hold the training's command line, an argparse.Namespace, under `args`.
        with path.open("rb") as file, torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True)  # given a path, it would go by the suffix
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if not found:
            raise ValueError("the torch file is damaged; fetch or save it again") from error
        raise ValueError(
            f"the file holds Python objects besides tensors ({found[1]}), and reading those can run any code; refused. "
            "If you trust it, read it with torch.load(..., weights_only=False) and save its state dict alone"
        ) from error
    except Exception as error:  # a damaged archive or pickle fails in many ways
        raise ValueError(f"the torch file is damaged or cut short ({error}); fetch or save it again") from error


def _unwrap(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise ValueError(f"the file holds {type(content).__name__}, not a dictionary of tensors")
    inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not inner or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in inner.items()):
        keys = ", ".join(map(str, list(inner)[:5]))
        raise ValueError(f"the file holds no dictionary of tensors; its keys are {keys or 'none'}")
    prefix = "module." if all(name.startswith("module.") for name in inner) else ""  # from DataParallel
    return {name.removeprefix(prefix): value.detach() for name, value in inner.items()}
