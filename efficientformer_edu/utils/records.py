"""Results as JSON files: written atomically, converted to dataclasses, and read with one error message for a bad file.

A file names its format, such as "search", and the format's version. A study writes one file per training into its
folder, so that a study that is killed loses nothing. `pack` puts a finished folder into one file, whose parts are read
under the same names: `slimming.json/search.json` is read like `slimming/search.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from efficientformer_edu.utils.files import atomic_write

T = TypeVar("T")

VERSION = 1
FILES = "files"  # the field of a packed study that contains its files by name
RESULTS = Path(__file__).parents[1] / "results"
"""The stored results that the package contains."""


def stored(name: str) -> Path:
    """The path of a stored result in the package, such as "bench.json"."""
    return RESULTS / name


def save_json(content: Any, path: Path, kind: str) -> None:
    """Write a record as JSON, atomically.

    Args:
        content: a dataclass, or a mapping; see `to_dict`.
        path: the file to write.
        kind: what the record is, such as "lookup table"; `load_json` checks it.

    Raises:
        OSError: if the folder does not exist or the file cannot be written.
    """
    data = {"format": kind, "version": VERSION, **to_dict(content)}
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load_json(path: Path, kind: str, parse: Callable[[Any], T]) -> T:
    """Read a record. Files of earlier versions do not name their format.

    Args:
        path: a file, or a part of a packed study.
        kind: what the record should be.
        parse: converts the content without format and version; it may raise KeyError, TypeError or ValueError.

    Raises:
        ValueError: in one line that names the file, if it is damaged or another kind of file.
        OSError: if the file cannot be read.
    """
    data = read_json(path)
    try:
        if isinstance(data, dict):
            data = dict(data)
            if (other := data.pop("format", kind)) != kind:
                raise ValueError(f"it contains: {other}")
            if (version := data.pop("version", VERSION)) != VERSION:
                raise ValueError(f"version={version!r} is unknown; allowed: {VERSION}")
        return parse(data)
    except KeyError as error:
        raise ValueError(f"{path} is not a valid {kind} file: the field {error} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is not a valid {kind} file: {error}") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file, or of a part of a packed study. Raises ValueError or OSError that names the file."""
    packed = _packed(path)
    if packed is None:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    files, name = packed
    if name not in files:
        raise FileNotFoundError(f"{path}: the packed study does not contain this file")
    return files[name]


def exists(path: Path) -> bool:
    """Whether a file, or a part of a packed study, exists. Raises ValueError for a damaged packed study."""
    packed = _packed(path)
    return path.is_file() if packed is None else packed[1] in packed[0]


def record_paths(folder: Path, pattern: str) -> list[Path]:
    """Paths in a folder or a packed study whose name matches a pattern, sorted; empty if there is no folder.

    Raises ValueError for a damaged packed study.
    """
    packed = _packed(folder / pattern)
    if packed is None:
        return sorted(folder.glob(pattern))
    files, inside = packed
    names = [name for name in files if fnmatchcase(name, inside) and name.count("/") == inside.count("/")]
    start = len(inside) - len(pattern)  # the part of the path between the packed file and the folder
    return sorted(folder / name[start:] for name in names)


def pack(
    folder: Path, path: Path, patterns: Iterable[str] = ("*.json",), summary: Mapping[str, Any] | None = None
) -> None:
    """Write the records of a finished study into one file, unchanged and atomically.

    Args:
        folder: folder of the study.
        path: the file to write.
        patterns: patterns of the names of the files to pack.
        summary: further fields of the file, such as the findings for the reproduction report.

    Raises:
        ValueError: naming the file that is not JSON.
        OSError: if a file cannot be read or written.
    """
    paths = [file for pattern in patterns for file in record_paths(folder, pattern)]
    files = {file.relative_to(folder).as_posix(): read_json(file) for file in paths}
    save_json({**(summary or {}), FILES: files}, path, "study")


def to_dict(value: Any) -> Any:
    """A value as JSON can store it: dataclasses and named tuples become dictionaries, tuples become lists."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value):
        return {field.name: to_dict(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "_asdict"):
        return to_dict(value._asdict())
    if isinstance(value, Mapping):
        return {name: to_dict(item) for name, item in value.items()}
    return [to_dict(item) for item in value] if isinstance(value, tuple | list) else value


def from_dict(kind: type[T], data: Any) -> T:
    """The inverse of `to_dict`, by the annotations of a dataclass or named tuple.

    Raises:
        ValueError: naming a field that is missing, unknown or of another type.
    """
    converted: T = _convert(kind, data, kind.__name__)
    return converted


def _convert(kind: Any, data: Any, name: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return data
    if origin in (Union, UnionType):
        (other,) = (arg for arg in args if arg is not NoneType)
        return None if data is None else _convert(other, data, name)
    if origin is Literal and data in args:
        return data
    if origin is tuple and isinstance(data, list | tuple):
        kinds = args[:1] * len(data) if args[-1] is Ellipsis else args
        if len(kinds) == len(data):
            return tuple(_convert(item_kind, item, name) for item_kind, item in zip(kinds, data, strict=True))
    elif isinstance(data, Mapping):
        if origin is not None:
            return {key: _convert(args[1], item, f"{name}[{key!r}]") for key, item in data.items()}
        if hasattr(kind, "from_dict"):
            return kind.from_dict(data)
        if is_dataclass(kind) or hasattr(kind, "_fields"):
            return _convert_fields(kind, data)
    elif isinstance(kind, type) and isinstance(data, (int, float) if kind is float else kind):
        return data
    raise ValueError(f"{name}={data!r} has the wrong type")


def _convert_fields(kind: Any, data: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    if is_dataclass(kind):
        names = {field.name: field.default is MISSING and field.default_factory is MISSING for field in fields(kind)}
    else:
        names = {name: name not in kind._field_defaults for name in kind._fields}
    missing = [name for name, required in names.items() if required and name not in data]
    if missing or (unknown := [name for name in data if name not in names]):
        problem = f"the field {missing[0]!r} is missing" if missing else f"the field {unknown[0]!r} is unknown"
        raise ValueError(f"{kind.__name__}: {problem}; its fields are {', '.join(names)}")
    return kind(**{name: _convert(hints[name], value, name) for name, value in data.items()})


def _packed(path: Path) -> tuple[Mapping[str, Any], str] | None:
    """The files of the packed study that a path leads into, and the rest of the path; None for an ordinary path."""
    for parent in path.parents:
        if parent.is_file():
            return _packed_files(parent, parent.stat().st_mtime_ns), path.relative_to(parent).as_posix()
    return None


@lru_cache(maxsize=8)
def _packed_files(path: Path, modified: int) -> Mapping[str, Any]:
    try:
        files: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))[FILES]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a valid study file: {error}") from error
    return files
