"""Write the Python of the live audit page: Pyodide, and the files of this package that the page needs.

The list of files is taken from a new Python process after importing `efficientformer_edu.plots.live`. They are served
unchanged, as one archive. A page opened from a folder cannot read files, so only the served version has them.
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
ENTRY = f"{PACKAGE.name}.plots.live"
ARCHIVE = f"{PACKAGE.name}.zip"
PYODIDE = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
LICENCES = {
    LOCK / "pyodide.LICENSE.txt": "LICENSE.txt",
    Path("axe-core", "LICENSE"): "MPL-2.0.txt",  # Pyodide has the same licence, but does not include its text
}
SIZES = "sizes.json"
OLDEST = (1980, 1, 1, 0, 0, 0)  # the earliest date in a zip; a fixed date makes the archive reproducible
IMPORTED = f"""
import sys
import {ENTRY}
print(*sorted(m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "{PACKAGE.name}"), sep="\\n")
"""


def modules() -> list[Path]:
    """Return the files of this package that the live audit imports."""
    listed = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(line) for line in listed.stdout.splitlines()]


def write_archive(target: Path) -> None:
    """Write those files to one reproducible archive."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in modules():
            name = zipfile.ZipInfo(path.relative_to(ROOT).as_posix(), OLDEST)
            archive.writestr(name, path.read_bytes(), zipfile.ZIP_DEFLATED)


def serve(target: Path) -> None:
    """Write all files that the page loads to `target`, with licences, and the sizes for its progress bar."""
    packages = fetch()
    target.mkdir(parents=True, exist_ok=True)
    for name in PYODIDE:
        shutil.copyfile(packages / "pyodide" / name, target / name)
    for source, name in LICENCES.items():
        shutil.copyfile(packages / source, target / name)
    write_archive(target / ARCHIVE)
    sizes = {name: (target / name).stat().st_size for name in (*PYODIDE, ARCHIVE)}
    write_text(target / SIZES, json.dumps(sizes, indent=2) + "\n")
