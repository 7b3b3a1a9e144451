"""README.md: its statements match the code, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import pytest

from efficientformer_edu.plots.architecture import draw_architecture
from efficientformer_edu.plots.style import save
from tools.readme import PICTURE, README, ROOT, filled, numbers

TEXT = README.read_text(encoding="utf-8")


def test_the_generated_parts_are_those_of_the_code():
    assert filled(TEXT) == TEXT, "run `make readme`"


def test_the_figure_matches_the_code(tmp_path):
    pinned = re.search(r"^matplotlib==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    if not pinned or pinned[1] != matplotlib.__version__:
        pytest.skip("another matplotlib than the pinned one draws in another way")
    save(draw_architecture("l1"), tmp_path / "drawn.svg")
    assert (tmp_path / "drawn.svg").read_bytes() == PICTURE.read_bytes(), "run `make readme`"


def test_the_numbers_are_the_published_numbers():
    table = numbers()
    for number in ("12,289,928", "31,406,000", "82,229,328", "1,291,284,736", "3,906,573,312", "10,119,325,696"):
        assert number in table
    assert "| 12.3 M |" in table


def test_the_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", TEXT, re.MULTILINE))
    assert {"site", "test"} <= named <= targets


def test_files_that_are_linked_or_shown_exist():
    for address in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert address.startswith("https://") or Path(ROOT, address.partition("#")[0]).exists(), address
