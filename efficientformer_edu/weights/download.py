"""The published weights by name: from the cache folder, or downloaded into it on request.

mmpretrain's model index lists one file per network, converted from the authors' checkpoints: L1's after 1000 epochs,
L3's and L7's after 300. The last part of a file name is the start of its SHA-256, which is checked whenever the file is
used. The folder is `checkpoints` in `torch.hub.get_dir()`, where torch and mmpretrain store their files: files that
they have downloaded, or that were copied there by hand, are used.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pooch
import torch.hub

from efficientformer_edu.config import PRESETS, EfficientFormerConfig, get_config
from efficientformer_edu.files import atomic_write

ADDRESS = "https://download.openmmlab.com/mmclassification/v0/efficientformer/"
FILES = {
    "l1": "efficientformer-l1_3rdparty_in1k_20220915-cc3e1ac6.pth",
    "l3": "efficientformer-l3_3rdparty_in1k_20220915-466793d6.pth",
    "l7": "efficientformer-l7_3rdparty_in1k_20220915-185e30af.pth",
}
TIMEOUT = 30  # seconds without a response or data after which a download fails
OTHER_WEIGHTS = "snap-research/efficientformer-l1-300"  # the same network, trained for 300 epochs


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
    """Whether the hash of a file, of any name, is that of a published file."""
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
        with atomic_write(path) as partial:
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
