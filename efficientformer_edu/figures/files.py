"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place first and then move it there, so that nobody ever sees half of it.

    Raises:
        FileNotFoundError: if the folder does not exist.
        OSError: if the file cannot be written.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder does not exist")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
