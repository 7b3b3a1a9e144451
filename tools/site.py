"""Builds the web site into site/: `make site`.

The site is Markdown only. build/docs holds docs/ as it is, each chapter run and turned into Markdown, and the browser's
assets; MkDocs builds that strictly, and the result is searched for anything that a page would load from outside.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools import COPIES, NOTEBOOKS, ROOT, report
from tools.chapters import Notebook, chapters, write, write_text
from tools.fetch_assets import serve
from tools.markdown import page
from tools.notebooks import NotebookError, executed
from tools.offline import outside
from tools.student import student_version

DOCS = ROOT / "docs"
PAGES = ROOT / "build" / "docs"
SITE = ROOT / "site"
CHAPTERS_HERE = "<!-- chapters -->"
MODULES_HERE = re.compile(r"<!-- modules of (\w+) -->")


def gather(notebooks: Path = NOTEBOOKS, docs: Path = DOCS, target: Path = PAGES) -> None:
    """Lay out what MkDocs reads: the pages of docs/ and the chapters, each with its pictures and its notebooks."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(docs, target)
    entries = []
    for path in chapters(notebooks):
        notebook = executed(path, COPIES)
        _write_chapter(notebook, path.stem, target / "chapters")
        entries.append(_entry(notebook, path.stem))
    for path in [target / "index.md", *(target / "api").glob("*.md")]:
        text = path.read_text(encoding="utf-8").replace(CHAPTERS_HERE, "\n".join(entries))
        path.write_text(MODULES_HERE.sub(lambda marker: _reference(marker[1]), text), encoding="utf-8")
    report.write(target / "report.md")


def _write_chapter(notebook: Notebook, name: str, folder: Path) -> None:
    files = {"Notebook": f"{name}.ipynb", "Student version": f"{name}.student.ipynb"}
    downloads = " · ".join(f"[{title}]({file}){{ download }}" for title, file in files.items())
    chapter = page(notebook, name, f"{downloads}\n{{ .downloads }}")
    write_text(folder / f"{name}.md", chapter.text)
    write(notebook, folder / f"{name}.ipynb")
    write(student_version(notebook), folder / f"{name}.student.ipynb")
    for file, content in chapter.pictures.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / file).write_bytes(content)


def _entry(notebook: Notebook, name: str) -> str:
    """The chapter's line in the list on the home page: its title and the first sentence of its first paragraph."""
    title, _, rest = notebook.cells[0].source.partition("\n")
    sentence = re.split(r"(?<=[.!?])\s", " ".join(rest.split()), maxsplit=1)[0]
    return f"* [{title.lstrip('# ')}](chapters/{name}.md): {sentence}"


def _reference(room: str) -> str:
    """The directives for mkdocstrings of one room: its own text, then its public modules in alphabetical order."""
    package = ROOT / "efficientformer_edu"
    name = f"{package.name}.{room}"
    if not (package / room).is_dir():  # config stands beside its companions
        return "\n\n".join(f"::: {package.name}.{path.stem}" for path in sorted(package.glob(f"{room}*.py")))
    own = (
        f"::: {name}\n    options:\n      members: false\n      show_root_heading: false\n      show_submodules: false"
    )
    modules = [path.stem for path in sorted((package / room).glob("*.py")) if not path.stem.startswith("_")]
    return "\n\n".join([own, *(f"::: {name}.{module}" for module in modules)])


def build() -> None:
    """Run MkDocs strictly. Never quietly: that hides the warnings from the count."""
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict"], cwd=ROOT, env=environment, check=True)


def main() -> int:
    """Build the site, and say how to open it."""
    try:
        print("[1/4] chapters, run on copies in build/notebooks", flush=True)
        gather()
        print("[2/4] assets", flush=True)
        serve(PAGES / "assets")
        print("[3/4] pages", flush=True)
        build()
    except NotebookError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"\nThis command failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    print("[4/4] nothing from outside", flush=True)
    if found := list(outside(SITE)):
        print("The pages would load from outside:\n  " + "\n  ".join(found), file=sys.stderr)
        return 1
    print(
        "\nThe site is in site/. To read it:\n\n    python3 -m http.server --directory site\n\nthen open http://localhost:8000"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
