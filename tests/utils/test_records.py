"""Records come back as they were saved, from a folder or a packed study, and bad files are named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.utils import records
from efficientformer_edu.utils.records import exists, from_dict, load_json, pack, record_paths, save_json, to_dict


class Point(NamedTuple):
    x: float
    y: float = 0.0


@dataclass(frozen=True)
class Inner:
    kind: Literal["a", "b"]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Outer:
    name: str
    size: tuple[int, int]
    inner: Inner
    config: EfficientFormerConfig
    by_name: Mapping[str, Inner]
    more: Any = None
    note: str | None = None


INNER = Inner("a", (Point(0.1), Point(2, 3.5)))
OUTER = Outer("ä×µ", (3, 4), INNER, PRESETS["l3"], {"first": INNER}, {"x": [1, None]})


def test_a_dataclass_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "outer.json"
    save_json(OUTER, path, "outer")
    assert load_json(path, "outer", lambda data: from_dict(Outer, data)) == OUTER
    written = json.loads(path.read_text(encoding="utf-8"))
    assert list(written)[:3] == ["format", "version", "name"] and written["format"] == "outer"


def test_files_of_earlier_versions_do_not_name_their_format(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(to_dict(OUTER)), encoding="utf-8")
    assert load_json(tmp_path / "old.json", "outer", lambda data: from_dict(Outer, data)) == OUTER


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": [1, 2, 3]}, "size="),
        ({"size": "12"}, "size="),
        ({"name": 3}, "name=3"),
        ({"note": 3}, "note=3"),
        ({"colour": 1}, "'colour'"),
        ({"inner": {"kind": "c", "points": []}}, "'c'"),
        ({"inner": {"points": []}}, "'kind'"),
        ({"inner": {"kind": "a", "points": [{"y": 1}]}}, "'x'"),
        ({"config": {"depths": 3}}, "depths"),
        ({"by_name": {"first": 3}}, "'first'"),
        ({"format": "inner"}, "inner"),
        ({"version": 2}, "version=2"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    path = tmp_path / "outer.json"
    path.write_text(json.dumps(to_dict(OUTER) | change), encoding="utf-8")
    with pytest.raises(ValueError, match=f"outer.json.*{named}") as caught:
        load_json(path, "outer", lambda data: from_dict(Outer, data))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b"3", b"{}"])
def test_a_damaged_or_foreign_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.json") as caught:
        load_json(tmp_path / "bad.json", "outer", lambda data: from_dict(Outer, data))
    assert "\n" not in str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    (folder / "trained").mkdir(parents=True)
    for name in ("a_seed0.json", "a_seed1.json", "costs.json", "trained/b_seed0.json"):
        save_json({"name": name}, folder / name, "outer")
    (folder / "weights.bin").write_bytes(b"0")
    return folder


def test_a_packed_study_is_read_like_its_folder(folder: Path) -> None:
    packed = folder.with_name("packed.json")
    pack(folder, packed, ("*.json", "trained/*.json"), {"findings": []})
    assert json.loads(packed.read_text(encoding="utf-8"))["findings"] == []
    for pattern in ("*_seed*.json", "*.json", "trained/*.json", "*.csv"):
        names, other = ([path.name for path in record_paths(where, pattern)] for where in (folder, packed))
        assert names == other
    for where in (folder, packed):
        assert [path.name for path in record_paths(where / "trained", "*_seed*.json")] == ["b_seed0.json"]
        assert exists(where / "costs.json") and not exists(where / "more.json")
        assert load_json(where / "trained" / "b_seed0.json", "outer", dict) == {"name": "trained/b_seed0.json"}
        with pytest.raises(FileNotFoundError, match=r"more\.json"):
            load_json(where / "more.json", "outer", dict)
        with pytest.raises(ValueError, match=r"costs\.json.*outer"):
            load_json(where / "costs.json", "search", dict)
    again = packed.with_name("again.json")
    pack(packed, again, ("*.json", "trained/*.json"), {"findings": []})
    assert again.read_bytes() == packed.read_bytes()


def test_packing_names_a_damaged_file_and_keeps_what_was_there(folder: Path) -> None:
    packed = folder.with_name("packed.json")
    packed.write_text("before", encoding="utf-8")
    (folder / "costs.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"costs\.json"):
        pack(folder, packed)
    assert packed.read_text(encoding="utf-8") == "before"
    with pytest.raises(ValueError, match=r"packed\.json"):
        exists(packed / "costs.json")
    assert record_paths(folder.with_name("nowhere"), "*.json") == []


def test_the_package_contains_its_results() -> None:
    package = Path(records.__file__).parents[1]
    assert records.stored("ablations.json").is_relative_to(package)
    studies = {"ablations.json", "dense.json", "slimming.json"}
    assert studies <= {path.name for path in records.RESULTS.iterdir() if path.is_file()}
    assert not any(path.is_dir() for path in records.RESULTS.iterdir() if path.name != "__pycache__")
