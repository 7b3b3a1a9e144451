"""Chapters for Colab, and the links of a chapter."""

from __future__ import annotations

from pathlib import Path

import nbformat.v4 as v4
import pytest

from tools import colab
from tools.chapters import Notebook, read, write

ADDRESS = "https://github.com/ada/kit"


def chapter() -> Notebook:
    cells = [
        v4.new_markdown_cell("# 2. Building blocks"),
        v4.new_code_cell("import math", execution_count=1),
        v4.new_raw_cell("wrong = 1", metadata={"tags": ["mistake"], "explains": "wrong"}),
    ]
    return v4.new_notebook(cells=cells)


def test_the_downloads_are_there_with_and_without_a_repository() -> None:
    line, attributes = colab.links("02_b", "").splitlines()
    assert line == "[Notebook](02_b.ipynb){ download } · [Without solutions](02_b.student.ipynb){ download }"
    assert attributes == "{ .downloads }"


@pytest.mark.parametrize("address", [ADDRESS, f"{ADDRESS}/", f"{ADDRESS}.git"])
def test_colab_opens_the_branch(address: str) -> None:
    link = "[Open in Colab](https://colab.research.google.com/github/ada/kit/blob/colab/02_b.ipynb)"
    assert colab.links("02_b", address).splitlines()[0].endswith(f" · {link}")


@pytest.mark.parametrize("address", ["", "https://git.example/ada/kit", "https://github.com/ada"])
def test_colab_cannot_open_it(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Colab" not in colab.links("02_b", address)
    write(chapter(), tmp_path / "02_b.ipynb")
    assert colab.main(tmp_path, tmp_path / "derived", address) == 0
    assert "none" in capsys.readouterr().out and not (tmp_path / "derived").exists()


def test_the_first_cell_installs_the_kit(tmp_path: Path) -> None:
    write(chapter(), tmp_path / "02_b.ipynb")
    assert colab.main(tmp_path, tmp_path / "derived", ADDRESS) == 0
    title, first, second = read(tmp_path / "derived" / "02_b.ipynb").cells
    assert title.cell_type == "markdown" and second.source == "import math"
    command = first.source.splitlines()[-1]
    assert command.startswith(f'%pip install -q "efficientformer-edu @ git+{ADDRESS}" "')
    assert "torchinfo" in command and "jupyter" not in command and "nb" not in command
    assert len(read(tmp_path / "02_b.ipynb").cells) == 3  # the chapter itself is unchanged


def test_the_setting_is_read_from_the_site_configuration(tmp_path: Path) -> None:
    settings = tmp_path / "mkdocs.yml"
    settings.write_text(f"extra:\n  repository: {ADDRESS}\nhook: !!python/name:math.sqrt\n", encoding="utf-8")
    assert colab.repository(settings) == ADDRESS
    address = colab.repository()
    assert address == "" or colab.GITHUB.fullmatch(address)
