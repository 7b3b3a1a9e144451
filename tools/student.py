"""Create the student version of the chapters: solutions become stubs, mistakes are removed, hints are collapsed.

Outputs of exercises are removed; all other outputs are kept. The files are written to notebooks/student/, which git
ignores.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

from tools import NOTEBOOKS
from tools.chapters import Cell, Notebook, chapters, cut, read, tags, write


def student_version(notebook: Notebook) -> Notebook:
    """Return a copy of `notebook` without the answers to its exercises."""
    student = copy.deepcopy(notebook)
    student.cells = [_student_cell(cell) for cell in student.cells if "mistake" not in tags(cell)]
    student.metadata.pop("efficientformer_edu", None)
    return student


def _student_cell(cell: Cell) -> Cell:
    if tags(cell) & {"solution", "check"}:
        cell.source = cut(cell.source)
        cell.outputs, cell.execution_count = [], None
    if "hint" in tags(cell):
        cell.source = f"<details><summary>Hint</summary>\n\n{cell.source}\n\n</details>"
    return cell


def main(folder: Path = NOTEBOOKS) -> int:
    """Write the student version of every chapter."""
    for path in chapters(folder):
        target = folder / "student" / path.name
        write(student_version(read(path)), target)
        print(f"  {target.relative_to(folder.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
