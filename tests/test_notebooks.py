"""Every chapter runs, reproduces its stored output, and follows the conventions."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tools import NOTEBOOKS
from tools.chapters import chapters, code_cells, read, same_everywhere, texts
from tools.notebooks import executed
from tools.readme import MINUTES
from tools.shape import faults

CHAPTERS = [pytest.param(path, id=path.stem) for path in chapters(NOTEBOOKS)]


@pytest.mark.slow
@pytest.mark.parametrize("path", CHAPTERS)
def test_machine_independent_output_is_identical(path: Path) -> None:
    stored, fresh = read(path), executed(path)
    with_versions = stored.metadata["efficientformer_edu"]["versions"]
    if not with_versions.endswith(f"torch {version('torch').partition('+')[0]}"):
        pytest.skip(f"it runs; but it was stored with {with_versions}, and another torch draws other random weights")
    for number, (before, now) in enumerate(zip(code_cells(stored), code_cells(fresh), strict=True), start=1):
        if same_everywhere(before):
            assert texts(now) == texts(before), f"code cell {number}: run `make notebooks` if the new output is right"


@pytest.mark.parametrize("path", CHAPTERS)
def test_the_stored_chapter_keeps_to_the_conventions(path: Path) -> None:
    assert faults(read(path), with_exercises=path.stem >= "01") == []


def test_the_map_in_chapter_0_has_the_chapters_that_exist_and_their_minutes() -> None:
    cells = read(NOTEBOOKS / "00_start_here.ipynb").cells
    table = next(cell.source for cell in cells if "## The map of the chapters" in cell.source)
    rows = re.findall(r"^\| (?:\[)?(\d+)\. [^|]*?(?:\((\S+)\))? \|.*\| ([^|]+) \|$", table, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(12))
    named = {int(number): (file, minutes) for number, file, minutes in rows}
    for path in chapters(NOTEBOOKS):
        minutes = MINUTES.search("".join(cell.source for cell in read(path).cells[:4]))
        assert minutes
        number = int(path.stem[:2])
        assert named.pop(number) == ("" if number == 0 else path.name, minutes[1])
    assert set(named.values()) <= {("", "not written yet")}
