"""Read a chapter, which is one notebook: its cells, tags, exercises, and solutions replaced by stubs.

The conventions are described in CONTRIBUTING.md; `tools.shape` checks them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from efficientformer_edu.utils.files import atomic_write

Cell = Any  # a cell, an output and a notebook are nbformat's dictionaries with attributes
Notebook = Any

OUTPUT_TAGS = ("exact", "measured", "trained", "reported")  # the kinds of numbers in a text output, see `kinds`
CODE_TAGS = (*OUTPUT_TAGS, "whole-class", "solution", "check")
EXERCISE = re.compile(r"^### Exercise (\d+): (.+)$", re.MULTILINE)
EFFORT = re.compile(r"^Difficulty ([1-5])/5 · importance ([1-5])/5 · (\d+) minutes$", re.MULTILINE)
REGION = re.compile(
    r"^(?P<indent> *)### BEGIN SOLUTION *\n(?P<body>.*?)^ *### END SOLUTION *$", re.MULTILINE | re.DOTALL
)
MARKER = re.compile(r"^ *### (?:BEGIN|END) SOLUTION *\n?", re.MULTILINE)


@dataclass(frozen=True)
class Exercise:
    """One exercise: its task, its solution, its check, and the mistakes that the check must explain."""

    number: int
    title: str
    task: Cell
    solution: Cell | None
    check: Cell | None
    mistakes: tuple[Cell, ...]


def read(path: Path) -> Notebook:
    """Read the notebook in `path`, as nbformat 4."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def write(notebook: Notebook, path: Path) -> None:
    """Write `notebook` to `path`, atomically."""
    write_text(path, nbformat.writes(notebook) + "\n")  # type: ignore[no-untyped-call]


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def chapters(folder: Path) -> list[Path]:
    """Return the notebooks of a folder in the order of the book."""
    return sorted(folder.glob("*.ipynb"))


def tags(cell: Cell) -> set[str]:
    """Return the tags of a cell."""
    return set(cell.metadata.get("tags", []))


def kinds(cell: Cell) -> tuple[str, ...]:
    """Return the kinds of numbers in the text outputs: one of our kinds, reported numbers, or both."""
    return tuple(tag for tag in OUTPUT_TAGS if tag in tags(cell))


def same_everywhere(cell: Cell) -> bool:
    """Return whether the text outputs are the same on every machine, that is, computed or reported."""
    return bool(kinds(cell)) and not {"measured", "trained"} & tags(cell)


def alt_texts(cell: Cell) -> list[str]:
    """Return the alt texts of the cell's pictures, one per picture."""
    alt = cell.metadata.get("alt", [])
    return [alt] if isinstance(alt, str) else list(alt)


def code_cells(notebook: Notebook) -> list[Cell]:
    """Return the code cells that are not empty."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def output_text(output: Cell) -> dict[str, str]:
    """Return the text of one output by type, without pictures and their text representations."""
    if output.output_type == "stream":
        return {output.name: output.text}
    if output.output_type == "error":
        return {"error": "\n".join(output.traceback)}
    data = output.data
    shows_picture = any(kind.startswith("image/") for kind in data)
    return {
        kind: value if isinstance(value, str) else str(value)
        for kind, value in data.items()
        if not kind.startswith("image/") and not (shows_picture and kind == "text/plain")
    }


def texts(cell: Cell) -> list[dict[str, str]]:
    """Return the text outputs of a cell, in order."""
    return [text for text in map(output_text, cell.outputs) if text]


def pictures(cell: Cell) -> int:
    """Count the outputs of a cell that are a picture or a Mermaid diagram."""
    return sum(
        any(kind.startswith("image/") or kind == "text/vnd.mermaid" for kind in output.get("data", {}))
        or "```mermaid" in output.get("data", {}).get("text/markdown", "")
        for output in cell.outputs
    )


def exercises(notebook: Notebook) -> Iterator[Exercise]:
    """Yield the exercises of a chapter: from each `### Exercise` heading to the next heading."""
    cells = notebook.cells
    starts = [i for i, cell in enumerate(cells) if cell.cell_type == "markdown" and EXERCISE.search(cell.source)]
    for start in starts:
        end = start + 1
        while end < len(cells) and not (cells[end].cell_type == "markdown" and cells[end].source.startswith("#")):
            end += 1
        own = cells[start + 1 : end]
        heading = EXERCISE.search(cells[start].source)
        assert heading
        yield Exercise(
            number=int(heading[1]),
            title=heading[2],
            task=cells[start],
            solution=next((cell for cell in own if "solution" in tags(cell)), None),
            check=next((cell for cell in own if "check" in tags(cell)), None),
            mistakes=tuple(cell for cell in own if "mistake" in tags(cell)),
        )


def cut(source: str) -> str:
    """Replace each marked region of a solution by a stub, the learner's starting point."""
    return REGION.sub(_stub, source)


def shown(source: str) -> str:
    """Return the source of a solution without its markers."""
    return MARKER.sub("", source)


def _stub(region: re.Match[str]) -> str:
    if region["indent"]:
        return f'{region["indent"]}raise NotImplementedError("your turn")'
    assigned = [
        name.id
        for statement in ast.parse(region["body"]).body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    ]
    return "\n".join(f"{name} = ...  # your turn" for name in dict.fromkeys(assigned))
