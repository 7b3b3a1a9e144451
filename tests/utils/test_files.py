"""Files are written atomically."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from efficientformer_edu.utils.files import atomic_write


def test_new_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    for text in ("one", "two"):
        with atomic_write(path) as partial:
            partial.write_text(text)
        assert path.read_text() == text
    assert os.listdir(tmp_path) == ["file.txt"]


def test_the_old_file_is_there_until_the_end(tmp_path: Path) -> None:
    (path := tmp_path / "file.txt").write_text("old")
    with atomic_write(path) as partial:
        assert partial.parent == path.parent and partial != path
        partial.write_text("new")
        assert path.read_text() == "old"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_crash_in_the_middle(tmp_path: Path, error: type[BaseException]) -> None:
    (path := tmp_path / "file.txt").write_text("old")
    with pytest.raises(error), atomic_write(path) as partial:
        partial.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_crash_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError), atomic_write(tmp_path / "file.txt"):
        raise ValueError
    assert os.listdir(tmp_path) == []


def test_a_crash_during_the_final_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*paths: Path) -> None:
        raise OSError("disk full")

    (path := tmp_path / "file.txt").write_text("old")
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="disk full"), atomic_write(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "file.txt") as partial:
        partial.touch()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["file.txt"] == modes["plain"]


def test_a_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "file.txt"
    with (
        pytest.raises(FileNotFoundError, match=f"^{re.escape(str(path))}: the folder does not exist"),
        atomic_write(path),
    ):
        pytest.fail("nothing may be written")
    assert os.listdir(tmp_path) == []


def test_it_needs_nothing_but_the_standard_library() -> None:
    code = "import sys, efficientformer_edu.utils.files; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
