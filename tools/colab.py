"""Derives the chapters for Colab, and links a chapter to them and to its downloads.

Colab opens notebooks from GitHub, and has none of our packages. So the derived ones, with a first cell that installs
the kit from the repository, stand at the top of the repository's branch `colab`; .github/workflows/pages.yml writes
them to build/colab and pushes them there. The repository's address is one setting, `extra.repository` in mkdocs.yml;
while it is empty, or no address on GitHub, there are no such notebooks and no links to them.
"""

from __future__ import annotations

import copy
import re
import sys
import tomllib
from pathlib import Path

import nbformat.v4 as v4
from mkdocs.utils.yaml import yaml_load

from tools import NOTEBOOKS, ROOT
from tools.chapters import Notebook, chapters, code_cells, read, tags, write

BRANCH = "colab"
TARGET = ROOT / "build" / "colab"
GITHUB = re.compile(r"https://github\.com/(?P<name>[\w.-]+/[\w.-]+?)(?:\.git)?/?")
COLAB = "https://colab.research.google.com/github"
JUPYTER = {"jupyterlab", "ipykernel", "nbclient", "nbformat", "nbconvert"}  # Colab has its own


def repository(settings: Path = ROOT / "mkdocs.yml") -> str:
    """The repository's address as mkdocs.yml has it; empty while there is none."""
    with settings.open("rb") as file:
        address: str = yaml_load(file)["extra"]["repository"]
    return address


def links(name: str, address: str) -> str:
    """The line of Markdown under the title of chapter `name`: its downloads, and Colab where that can open it."""
    found = [
        f"[Notebook]({name}.ipynb){{ download }}",
        f"[Without solutions]({name}.student.ipynb){{ download }}",
    ]
    if github := GITHUB.fullmatch(address):
        found.append(f"[Open in Colab]({COLAB}/{github['name']}/blob/{BRANCH}/{name}.ipynb)")
    return " · ".join(found) + "\n{ .downloads }"


def colab_version(notebook: Notebook, address: str) -> Notebook:
    """A copy of `notebook` without the mistakes, whose first code cell installs the kit from the repository."""
    derived = copy.deepcopy(notebook)
    derived.cells = [cell for cell in derived.cells if "mistake" not in tags(cell)]
    first = derived.cells.index(code_cells(derived)[0])
    derived.cells.insert(first, v4.new_code_cell(install(address), id="install-on-colab"))  # type: ignore[no-untyped-call]
    return derived


def install(address: str) -> str:
    """The cell that installs the kit and what its chapters need beside Jupyter."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    needed = [one for one in extras["notebooks"] if re.split(r"[^\w-]", one)[0] not in JUPYTER]
    wanted = [f"efficientformer-edu @ git+{address.rstrip('/')}", *needed]
    return "# Only on Colab: install the kit.\n%pip install -q " + " ".join(f'"{one}"' for one in wanted)


def main(folder: Path = NOTEBOOKS, target: Path = TARGET, address: str | None = None) -> int:
    """Write the Colab version of every chapter, with the outputs that it is stored with."""
    address = repository() if address is None else address
    if not GITHUB.fullmatch(address):
        print("  none: extra.repository in mkdocs.yml names no repository on GitHub")
        return 0
    for path in chapters(folder):
        write(colab_version(read(path), address), target / path.name)
        print(f"  {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
