"""The published weights by name: found in the cache folder, or fetched into it when that is asked for.

mmpretrain's model index names one file for each network, converted from the authors' checkpoints: L1's of 1000 epochs,
L3's and L7's of 300. The last part of a file's name is the start of its SHA-256, and is checked whenever the file is
used. The folder is `checkpoints` in `torch.hub.get_dir()`, where torch and mmpretrain keep their files: what they have
fetched is found, and so is a file that was put there by hand.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pooch
import torch.hub

from efficientformer_edu.config import PRESETS, EfficientFormerConfig, get_config
from efficientformer_edu.files import whole

ADDRESS = "https://download.openmmlab.com/mmclassification/v0/efficientformer/"
FILES = {
    "l1": "efficientformer-l1_3rdparty_in1k_20220915-cc3e1ac6.pth",
    "l3": "efficientformer-l3_3rdparty_in1k_20220915-466793d6.pth",
    "l7": "efficientformer-l7_3rdparty_in1k_20220915-185e30af.pth",
}
TIMEOUT = 30  # seconds without an answer, or without data, after which a download fails
OTHER_WEIGHTS = "snap-research/efficientformer-l1-300"  # the same network, but trained for 300 epochs


def fetch(model: str | EfficientFormerConfig) -> Path:
    """The file with a network's published weights; if it is not in the cache folder yet, it is downloaded.

    Then standard error says what is fetched from where to where, how large it is if the server tells, and how far it
    is. A download that fails leaves nothing behind.

    Args:
        model: a published network, by name or by its configuration.

    Raises:
        ValueError: if there is no published file for this network; if the file in the folder, or what came, has
            another hash than its name says. A wrong file in the folder is named and left there.
        OSError: if the file cannot be fetched or written, or the server stops answering, with what to do by hand.
    """
    path = _place(model)
    if path is None:
        raise ValueError(
            f"there are no published weights for {model!r}; pretrained=True works for {', '.join(FILES)} (L1's are of "
            "1000 epochs). Others are fetched by hand and given by their path: pretrained='model.safetensors'"
        )
    if not path.exists():
        _download(path)
    return _checked(path)


def find(model: str | EfficientFormerConfig) -> Path | None:
    """The file with a network's published weights, if it is in the cache folder. Raises ValueError for a wrong hash."""
    path = _place(model)
    return _checked(path) if path is not None and path.exists() else None


def is_published(path: Path) -> bool:
    """Whether a file, of any name, is one of the published files, by its hash."""
    digest = _digest(path)
    return any(digest.startswith(_hash(Path(name))) for name in FILES.values())


def _place(model: str | EfficientFormerConfig) -> Path | None:
    config = get_config(model)
    if isinstance(model, str) and model.lower() == OTHER_WEIGHTS:
        return None
    folder = Path(torch.hub.get_dir(), "checkpoints")
    return next((folder / FILES[name] for name, preset in PRESETS.items() if preset == config), None)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked(path: Path) -> Path:
    digest = _digest(path)
    if not digest.startswith(_hash(path)):
        raise ValueError(
            f"{path}: its SHA-256 starts with {digest[:8]}, not with {_hash(path)}, so it is damaged, cut short or "
            f"another file. Move it away, and fetch {ADDRESS}{path.name} again"
        )
    return path


def _download(path: Path) -> None:
    address = ADDRESS + path.name
    by_hand = f"To do it by hand, fetch {address} on any machine and put it here: {path}"
    print(f"fetching {address} to {path}", file=sys.stderr)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)(address, str(partial), None)
            if not (digest := _digest(partial)).startswith(_hash(path)):
                raise ValueError(
                    "what came is not the published file, or only a part of it: its SHA-256 starts with "
                    f"{digest[:8]}, not with {_hash(path)}. {by_hand}"
                )
    except OSError as error:
        raise OSError(f"{path.name} could not be fetched: {error}. {by_hand}") from error


def _hash(path: Path) -> str:
    return path.stem.rpartition("-")[2]
