"""The wheel without a checkout: in an empty environment it runs commands and chapters, with the stored records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tools import NOTEBOOKS, ROOT
from tools.chapters import code_cells, read

pytestmark = pytest.mark.slow

CHAPTERS = ("00_start_here", "07_ablations")  # the second one shows a stored study


class Environment:
    """A virtual environment in a folder outside the checkout, with a working folder next to it."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "env", with_pip=True)
        self.scripts = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
        self.work = folder / "work"
        self.work.mkdir()

    def run(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in the working folder."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
        command = [str(self.scripts / program), *map(str, arguments)]
        return subprocess.run(command, cwd=self.work, env=variables, capture_output=True, text=True, check=False)

    def pip(self, *requirements: str | Path) -> None:
        options = ("install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt")
        done = self.run("python", "-m", "pip", *options, *requirements)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and no extras."""
    environment = Environment(tmp_path_factory.mktemp("core"))
    environment.pip("torch")
    environment.pip(wheel)
    return environment


def test_commands_need_no_extra(core: Environment) -> None:
    assert "1,291,284,736" in core.run("efficientformer-edu", "audit", "l1").stdout
    program = "import torch, efficientformer_edu as ef; print(ef.get_model('l1')(torch.zeros(1, 3, 64, 64)).shape)"
    assert core.run("python", "-c", program).stdout == "torch.Size([1, 1000])\n"


def test_a_missing_extra_costs_a_line(core: Environment) -> None:
    done = core.run("efficientformer-edu", "train", "small", "--out", "run", "--epochs", "1")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "efficientformer-edu[training]" in done.stderr
    assert list(core.work.iterdir()) == []


def test_chapters_show_the_stored_records(core: Environment, wheel: Path) -> None:
    core.pip(f"{wheel}[training,notebooks]")
    for name in CHAPTERS:
        notebook = core.work / f"{name}.ipynb"
        notebook.write_bytes((NOTEBOOKS / notebook.name).read_bytes())
        done = core.run("jupyter", "execute", "--inplace", notebook)
        assert done.returncode == 0, done.stderr
        for stored, cell in zip(code_cells(read(NOTEBOOKS / notebook.name)), code_cells(read(notebook)), strict=True):
            # Streams may be in several pieces.
            kinds = [{str(sorted(output.get("data", output))) for output in c.outputs} for c in (stored, cell)]
            assert kinds[0] == kinds[1], json.dumps(cell.source)
