"""Atomic file writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
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
