"""Builds the web site, twice: into site/ to be served, into site-folder/ to be opened from there: `make site`.

The site is Markdown only. build/docs holds docs/ as it is, and each chapter run and turned into Markdown; MkDocs builds
that strictly, the browser's assets are laid beside the pages, and both versions are searched for anything that a page
would load from outside. The version for a folder goes into the other as a download.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools import COPIES, NOTEBOOKS, ROOT, page_python, pages, report
from tools.chapters import Notebook, chapters, write, write_text
from tools.colab import links, repository
from tools.fetch_assets import serve
from tools.markdown import page
from tools.notebooks import NotebookError, fresh
from tools.offline import outside
from tools.readme import heading
from tools.student import student_version

DOCS = ROOT / "docs"
PAGES = ROOT / "build" / "docs"
SITE = ROOT / "site"
FOLDER = ROOT / "site-folder"
DOWNLOAD = SITE / "site-folder.zip"  # docs/overrides/partials/copyright.html links to it
STAMP = ROOT / "build" / "site.sha256"
SOURCES = ("mkdocs.yml", "docs", "tools", "notebooks", "efficientformer_edu", "results", "constraints.txt")
CHAPTERS_HERE = "<!-- chapters -->"
MODULES_HERE = re.compile(r"<!-- modules of (\w+) -->")


class SiteError(Exception):
    """A site that would not work without a network."""


def gather(notebooks: Path = NOTEBOOKS, docs: Path = DOCS, target: Path = PAGES) -> None:
    """Lay out what MkDocs reads: the pages of docs/ and the chapters, each with its pictures and its notebooks."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(docs, target)
    entries, book = [], {}
    for path in chapters(notebooks):
        notebook = book[path.stem] = fresh(path, COPIES)
        _write_chapter(notebook, path.stem, target / "chapters")
        entries.append(_entry(notebook, path.stem))
    for path in [target / "index.md", *(target / "api").glob("*.md")]:
        text = path.read_text(encoding="utf-8").replace(CHAPTERS_HERE, "\n".join(entries))
        path.write_text(MODULES_HERE.sub(lambda marker: _reference(marker[1]), text), encoding="utf-8")
    pages.fill(target, book)
    report.write(target / "report.md")


def _write_chapter(notebook: Notebook, name: str, folder: Path) -> None:
    chapter = page(notebook, name, links(name, repository()))
    write_text(folder / f"{name}.md", chapter.text)
    write(notebook, folder / f"{name}.ipynb")
    write(student_version(notebook), folder / f"{name}.student.ipynb")
    for file, content in chapter.pictures.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / file).write_bytes(content)


def _entry(notebook: Notebook, name: str) -> str:
    """The chapter's line in the list on the home page: its title and the first sentence of its introduction."""
    title, sentence = heading(notebook.cells[0].source)
    return f"* [{title}](chapters/{name}.md): {sentence}"


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
    return "\n\n".join([own, *(_directive(f"{name}.{module}", package / room / f"{module}.py") for module in modules)])


def _directive(name: str, path: Path) -> str:
    """The directive of one module. What a module only hands on is described where it is written."""
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    hands_on = all(
        isinstance(one, ast.Expr | ast.Import | ast.ImportFrom) or ast.unparse(one).startswith("__all__")
        for one in statements
    )
    return f"::: {name}" + ("\n    options:\n      members: false" if hands_on else "")


def build() -> None:
    """Run MkDocs strictly for both versions at once. Never quietly: that hides the warnings from the count.

    Raises:
        subprocess.CalledProcessError: MkDocs found a fault, which is printed.
    """
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir"]
    runs = [
        subprocess.Popen(
            [*command, str(target)],
            cwd=ROOT,
            env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "SITE_FOLDER": str(target == FOLDER).lower()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for target in (SITE, FOLDER)
    ]
    said = [run.communicate()[0] for run in runs]  # both are waited for, whatever the first one says
    for run, text in zip(runs, said, strict=True):
        if run.returncode:
            print(text, file=sys.stderr)
            raise subprocess.CalledProcessError(run.returncode, run.args)
    for target in (SITE, FOLDER):
        serve(target / "assets", folder=target == FOLDER)
    page_python.serve(SITE / "assets" / "python")
    (FOLDER / "404.html").unlink()  # what a server shows; its addresses begin at the server's root


def pack() -> None:
    """Put the version for a folder into the other, as one file to download."""
    made = shutil.make_archive(str(DOWNLOAD.with_suffix("")), "zip", root_dir=ROOT, base_dir=FOLDER.name)
    assert Path(made) == DOWNLOAD


def sources() -> str:
    """A hash of everything that the site is made from."""
    digest = hashlib.sha256()
    for path in sorted(path for name in SOURCES for path in [ROOT / name, *(ROOT / name).rglob("*")]):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def current() -> bool:
    """Whether both versions of the site are there, made from the present sources."""
    return STAMP.exists() and STAMP.read_text(encoding="utf-8") == sources() and SITE.is_dir() and FOLDER.is_dir()


def make() -> None:
    """Build both versions of the site.

    Raises:
        SiteError: a page would load something from outside.
        NotebookError: a chapter does not run.
        subprocess.CalledProcessError: MkDocs or npm failed.
    """
    STAMP.unlink(missing_ok=True)
    stamp = sources()
    print("[1/3] chapters: stored outputs if they are up to date, else a run in build/notebooks", flush=True)
    gather()
    print("[2/3] pages, to be served and to be opened from a folder", flush=True)
    build()
    print("[3/3] nothing from outside", flush=True)
    if found := [f"{version.name}/{sentence}" for version in (SITE, FOLDER) for sentence in outside(version)]:
        raise SiteError("The pages would load from outside:\n  " + "\n  ".join(found))
    pack()
    write_text(STAMP, stamp)


def main() -> int:
    """Build the site, and say how to open it."""
    try:
        make()
    except (NotebookError, SiteError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"\nThis command failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    print(
        "\nTo read the site, open site-folder/index.html by double click, or serve site/:\n\n"
        "    python3 -m http.server --directory site\n\nthen open http://localhost:8000"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
