"""Lays out the Python that a page runs: Pyodide, and of this package the very files that the live audit needs.

Which files these are, a fresh Python says after it has imported `efficientformer_edu.figures.live`. They travel as one
archive, unchanged. A page that is opened from a folder may not read files, so only the served version has all this.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tools import ROOT
from tools.chapters import write_text
from tools.fetch_assets import LOCK, fetch

PACKAGE = ROOT / "efficientformer_edu"
ENTRY = f"{PACKAGE.name}.figures.live"
ARCHIVE = f"{PACKAGE.name}.zip"
PYODIDE = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
LICENCES = {
    LOCK / "pyodide.LICENSE.txt": "LICENSE.txt",
    Path("axe-core", "LICENSE"): "MPL-2.0.txt",  # the same licence as Pyodide's, which comes without its text
}
SIZES = "sizes.json"
OLDEST = (1980, 1, 1, 0, 0, 0)  # the first date that a zip can hold: equal files make an equal archive
IMPORTED = f"""
import sys
import {ENTRY}
print(*sorted(m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "{PACKAGE.name}"), sep="\\n")
"""


def modules() -> list[Path]:
    """The files of this package that the live audit imports."""
    listed = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(line) for line in listed.stdout.splitlines()]


def write_archive(target: Path) -> None:
    """Put those files into one archive, which is the same for the same files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in modules():
            name = zipfile.ZipInfo(path.relative_to(ROOT).as_posix(), OLDEST)
            archive.writestr(name, path.read_bytes(), zipfile.ZIP_DEFLATED)


def serve(target: Path) -> None:
    """Write everything that the page loads into `target`, with licences, and the sizes that its progress bar needs."""
    packages = fetch()
    target.mkdir(parents=True, exist_ok=True)
    for name in PYODIDE:
        shutil.copyfile(packages / "pyodide" / name, target / name)
    for source, name in LICENCES.items():
        shutil.copyfile(packages / source, target / name)
    write_archive(target / ARCHIVE)
    sizes = {name: (target / name).stat().st_size for name in (*PYODIDE, ARCHIVE)}
    write_text(target / SIZES, json.dumps(sizes, indent=2) + "\n")
