"""Create Colab versions of the chapters, and the links from a chapter to Colab and to its downloads.

Colab opens notebooks from GitHub, and does not have our packages. The Colab versions start with a cell that installs
the kit from the repository. They are at the top of the branch `colab`; .github/workflows/pages.yml writes them to
build/colab and pushes them there. The repository's address is the setting `extra.repository` in mkdocs.yml. If it is
empty or not an address on GitHub, there are no Colab versions and no links to them.
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
    """Return the repository's address from mkdocs.yml; empty if there is none."""
    with settings.open("rb") as file:
        address: str = yaml_load(file)["extra"]["repository"]
    return address


def links(name: str, address: str) -> str:
    """Return the line under the title of chapter `name`: links to its downloads, and to Colab if available."""
    items = [
        f"[Notebook]({name}.ipynb){{ download }}",
        f"[Without solutions]({name}.student.ipynb){{ download }}",
    ]
    if github := GITHUB.fullmatch(address):
        items.append(f"[Open in Colab]({COLAB}/{github['name']}/blob/{BRANCH}/{name}.ipynb)")
    return " · ".join(items) + "\n{ .downloads }"


def colab_version(notebook: Notebook, address: str) -> Notebook:
    """Return a copy of `notebook` without mistake cells, with a first code cell that installs the kit."""
    derived = copy.deepcopy(notebook)
    derived.cells = [cell for cell in derived.cells if "mistake" not in tags(cell)]
    first = derived.cells.index(code_cells(derived)[0])
    derived.cells.insert(first, v4.new_code_cell(install(address), id="install-on-colab"))  # type: ignore[no-untyped-call]
    return derived


def install(address: str) -> str:
    """Return the cell that installs the kit and the requirements of its chapters, except Jupyter."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    needed = [requirement for requirement in extras["notebooks"] if re.split(r"[^\w-]", requirement)[0] not in JUPYTER]
    requirements = [f"efficientformer-edu @ git+{address.rstrip('/')}", *needed]
    return "# Only on Colab: install the kit.\n%pip install -q " + " ".join(
        f'"{requirement}"' for requirement in requirements
    )


def main(folder: Path = NOTEBOOKS, target: Path = TARGET, address: str | None = None) -> int:
    """Write the Colab version of every chapter, with its stored outputs."""
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
