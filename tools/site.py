"""Build the web site twice, `site/` for a server and `site-folder/` for opening from disk: `make site`.

The source of the site is Markdown. build/docs has a copy of docs/, and every executed chapter converted to Markdown.
MkDocs builds it in strict mode, the browser assets are copied next to the pages, and both versions are searched for
external resources. The version for opening from disk is also a download of the served version.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
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
SOURCES = ("mkdocs.yml", "docs", "tools", "notebooks", "efficientformer_edu", "constraints.txt")
CHAPTERS_HERE = "<!-- chapters -->"
MODULES_HERE = re.compile(r"<!-- modules of (\w+) -->")


class SiteError(Exception):
    """A site that would not work offline."""


def gather(notebooks: Path = NOTEBOOKS, docs: Path = DOCS, target: Path = PAGES) -> None:
    """Write the input of MkDocs: the pages of docs/ and the chapters, each with its pictures and notebooks."""
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
    """Return the chapter's line on the home page: its title and the first sentence of its introduction."""
    title, sentence = heading(notebook.cells[0].source)
    return f"* [{title}](chapters/{name}.md): {sentence}"


def _reference(subpackage: str) -> str:
    """Return the mkdocstrings directives of a subpackage: its docstring, then its public modules alphabetically."""
    package = ROOT / "efficientformer_edu"
    if not (package / subpackage).is_dir():  # a top-level module
        return f"::: {package.name}.{subpackage}"
    return "\n\n".join(_folder(package / subpackage, f"{package.name}.{subpackage}"))


def _folder(folder: Path, name: str) -> Iterator[str]:
    is_inner = name.count(".") > 1  # the page's own title is the heading of its subpackage
    options = ("members: false", f"show_root_heading: {str(is_inner).lower()}", "show_submodules: false")
    yield "\n".join([f"::: {name}", "    options:", *(f"      {option}" for option in options)])
    for path in sorted(folder.glob("*.py")):
        if not path.stem.startswith("_"):
            yield _directive(f"{name}.{path.stem}", path)
    for inner in sorted(path.parent for path in folder.glob("*/__init__.py")):
        yield from _folder(inner, f"{name}.{inner.name}")


def _directive(name: str, path: Path) -> str:
    """Return the directive of one module. Re-exported names are documented where they are defined."""
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    only_reexports = all(
        isinstance(statement, ast.Expr | ast.Import | ast.ImportFrom) or ast.unparse(statement).startswith("__all__")
        for statement in statements
    )
    return f"::: {name}" + ("\n    options:\n      members: false" if only_reexports else "")


def build() -> None:
    """Run MkDocs in strict mode for both versions in parallel. `--quiet` would hide warnings from strict mode.

    Raises:
        subprocess.CalledProcessError: MkDocs reported an error, which is printed.
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
    outputs = [run.communicate()[0] for run in runs]  # wait for both, even if the first one fails
    for run, text in zip(runs, outputs, strict=True):
        if run.returncode:
            print(text, file=sys.stderr)
            raise subprocess.CalledProcessError(run.returncode, run.args)
    for target in (SITE, FOLDER):
        serve(target / "assets", folder=target == FOLDER)
    page_python.serve(SITE / "assets" / "python")
    (FOLDER / "404.html").unlink()  # only for a server; its links are absolute


def pack() -> None:
    """Add the version for opening from disk to the served version, as one file to download."""
    made = shutil.make_archive(str(DOWNLOAD.with_suffix("")), "zip", root_dir=ROOT, base_dir=FOLDER.name)
    assert Path(made) == DOWNLOAD


def sources() -> str:
    """Hash all sources of the site."""
    digest = hashlib.sha256()
    for path in sorted(path for name in SOURCES for path in [ROOT / name, *(ROOT / name).rglob("*")]):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def current() -> bool:
    """Return whether both versions of the site exist and are built from the current sources."""
    return STAMP.exists() and STAMP.read_text(encoding="utf-8") == sources() and SITE.is_dir() and FOLDER.is_dir()


def make() -> None:
    """Build both versions of the site.

    Raises:
        SiteError: a page would load an external resource.
        NotebookError: a chapter cannot be run.
        subprocess.CalledProcessError: MkDocs or npm failed.
    """
    STAMP.unlink(missing_ok=True)
    stamp = sources()
    print("[1/3] chapters: stored outputs if they are up to date, else a run in build/notebooks", flush=True)
    gather()
    print("[2/3] pages, to be served and to be opened from a folder", flush=True)
    build()
    print("[3/3] check for external resources", flush=True)
    if problems := [f"{version.name}/{sentence}" for version in (SITE, FOLDER) for sentence in outside(version)]:
        raise SiteError("The pages would load external resources:\n  " + "\n  ".join(problems))
    pack()
    write_text(STAMP, stamp)


def main() -> int:
    """Build the site, and print how to open it."""
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
