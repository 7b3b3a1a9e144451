"""Files: atomic writes, downloads, and fingerprints of their content."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from efficientformer_edu.utils.optional import import_optional

if TYPE_CHECKING:
    from torch import Tensor

ENDS = 1024  # bytes at the start and at the end of a file that its fingerprint covers
TIMEOUT = 30  # seconds without a response or data after which a download fails


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file atomically: a temporary file replaces `path` if the block succeeds, and is deleted if it fails.

    The file has the default permissions of a new file. Until the block ends, `path` is unchanged.

    Args:
        path: the file to write; an existing file is replaced.

    Yields:
        The path of the temporary file, in the same folder.

    Raises:
        FileNotFoundError: if the folder does not exist, before anything is written.
        OSError: if the file cannot be written or renamed.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder does not exist")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def download(url: str, path: Path, check: Callable[[Path], object]) -> None:
    """Download a file atomically. Standard error shows the source, the target and the progress.

    Args:
        url: the address.
        path: the file to write; missing folders are created.
        check: raises ValueError if the temporary file that it gets is not the expected one, by its SHA-256.

    Raises:
        ValueError: if the download is not the expected file; the message explains the manual download, as for OSError.
        OSError: if the file cannot be downloaded or written, or the server stops responding.
    """
    by_hand = f"To download it by hand, fetch {url} on any machine and save it as {path}"
    downloader = import_optional("pooch").HTTPDownloader(progressbar=True, timeout=TIMEOUT)
    print(f"Downloading {url} to {path}", file=sys.stderr)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            downloader(url, str(partial), None)
            check(partial)
    except ValueError as error:
        raise ValueError(f"the download is incomplete or not the published file: {error}. {by_hand}") from error
    except OSError as error:
        raise OSError(f"{path.name} could not be downloaded: {error}. {by_hand}") from error


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_files(files: Sequence[Path], more: str = "") -> str:
    """A short hash of files, in order: their names, sizes, and first and last kilobyte.

    Args:
        files: for example the images of a data set. They are not read completely, which would take as long as an epoch.
        more: additional content to include in the hash, such as labels.
    """
    with ThreadPoolExecutor() as pool:  # most of the time is spent waiting for files
        return _hash([more.encode(), *pool.map(_ends, files)])


def fingerprint_tensors(tensors: Mapping[str, Tensor]) -> str:
    """A short hash of tensors: their names, types, shapes and values."""
    import torch

    parts = []
    for name, value in tensors.items():
        parts.append(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        parts.append(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return _hash(parts)


def _ends(path: Path) -> bytes:
    with path.open("rb") as file:
        start, size = file.read(ENDS), file.seek(0, os.SEEK_END)
        file.seek(max(size - ENDS, 0))
        return f"{path.name} {size} ".encode() + start + file.read()


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]
