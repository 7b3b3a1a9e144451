"""Files that are written whole or not at all, whichever room writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place to write beside `path`; it becomes `path` if all went well and vanishes if not.

    What is written has the permissions of any new file. Until the block ends, `path` stays what it was.

    Args:
        path: the file that shall be there in the end; one that is there is replaced.

    Yields:
        The path to write to, in the same folder.

    Raises:
        FileNotFoundError: if the folder does not exist, before anything is written.
        OSError: if the file cannot be written or put into its place.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder does not exist")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
