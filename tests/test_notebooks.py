"""Every chapter runs, prints today what it printed when it was stored, and keeps to the conventions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import NOTEBOOKS
from tools.chapters import chapters, code_cells, read, tags, texts
from tools.notebooks import executed
from tools.shape import faults

CHAPTERS = [pytest.param(path, id=path.stem, marks=pytest.mark.xdist_group(path.stem)) for path in chapters(NOTEBOOKS)]


@pytest.mark.parametrize("path", CHAPTERS)
def test_exact_outputs_are_the_same_letter_by_letter(path: Path) -> None:
    stored, fresh = code_cells(read(path)), code_cells(executed(path))
    for number, (before, now) in enumerate(zip(stored, fresh, strict=True), start=1):
        if "exact" in tags(before):
            assert texts(now) == texts(before), f"code cell {number}: run `make notebooks` if the new output is right"


@pytest.mark.parametrize("path", CHAPTERS)
def test_the_stored_chapter_keeps_to_the_conventions(path: Path) -> None:
    assert faults(read(path), with_exercises=path.stem >= "02") == []
