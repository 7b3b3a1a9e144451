"""Every chapter runs, prints today what it printed when it was stored, and keeps to the conventions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import NOTEBOOKS
from tools.chapters import chapters, code_cells, read, same_everywhere, texts
from tools.notebooks import executed
from tools.shape import faults

CHAPTERS = [pytest.param(path, id=path.stem) for path in chapters(NOTEBOOKS)]


@pytest.mark.parametrize("path", CHAPTERS)
def test_what_does_not_depend_on_the_machine_is_the_same_letter_by_letter(path: Path) -> None:
    stored, fresh = code_cells(read(path)), code_cells(executed(path))
    for number, (before, now) in enumerate(zip(stored, fresh, strict=True), start=1):
        if same_everywhere(before):
            assert texts(now) == texts(before), f"code cell {number}: run `make notebooks` if the new output is right"


@pytest.mark.parametrize("path", CHAPTERS)
def test_the_stored_chapter_keeps_to_the_conventions(path: Path) -> None:
    assert faults(read(path), with_exercises=path.stem >= "02") == []
