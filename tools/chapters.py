"""Reads a chapter, which is one notebook: its cells, tags and exercises, and the cut of a solution.

The conventions are written down in CONTRIBUTING.md; `tools.shape` holds a chapter to them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from efficientformer_edu.files import whole

Cell = Any  # a cell, an output and a notebook are nbformat's dictionaries with attributes
Notebook = Any

OUTPUT_TAGS = ("exact", "measured", "trained", "reported")  # what a text output holds, see `kinds`
CODE_TAGS = (*OUTPUT_TAGS, "whole-class", "solution", "check")
EXERCISE = re.compile(r"^### Exercise (\d+): (.+)$", re.MULTILINE)
EFFORT = re.compile(r"^Difficulty ([1-5])/5 · importance ([1-5])/5 · (\d+) minutes$", re.MULTILINE)
REGION = re.compile(
    r"^(?P<indent> *)### BEGIN SOLUTION *\n(?P<body>.*?)^ *### END SOLUTION *$", re.MULTILINE | re.DOTALL
)
MARKER = re.compile(r"^ *### (?:BEGIN|END) SOLUTION *\n?", re.MULTILINE)


@dataclass(frozen=True)
class Exercise:
    """One exercise: its task, its solution, the check, and the mistakes that the check must explain."""

    number: int
    title: str
    task: Cell
    solution: Cell | None
    check: Cell | None
    mistakes: tuple[Cell, ...]


def read(path: Path) -> Notebook:
    """The notebook in `path`, as nbformat 4."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def write(notebook: Notebook, path: Path) -> None:
    """Store `notebook` in `path`, whole or not at all."""
    write_text(path, nbformat.writes(notebook) + "\n")  # type: ignore[no-untyped-call]


def write_text(path: Path, text: str) -> None:
    """Store `text` in `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def chapters(folder: Path) -> list[Path]:
    """The notebooks of a folder in the order of the book."""
    return sorted(folder.glob("*.ipynb"))


def tags(cell: Cell) -> set[str]:
    """The tags of a cell."""
    return set(cell.metadata.get("tags", []))


def kinds(cell: Cell) -> tuple[str, ...]:
    """Which kinds of numbers the text outputs hold: one of ours, or reported ones, or one of ours beside those."""
    return tuple(tag for tag in OUTPUT_TAGS if tag in tags(cell))


def same_everywhere(cell: Cell) -> bool:
    """Whether the cell's text outputs are the same on every machine: computed numbers and reported ones are."""
    return bool(kinds(cell)) and not {"measured", "trained"} & tags(cell)


def alt_texts(cell: Cell) -> list[str]:
    """What the cell says is to be seen in its pictures, one text a picture."""
    alt = cell.metadata.get("alt", [])
    return [alt] if isinstance(alt, str) else list(alt)


def code_cells(notebook: Notebook) -> list[Cell]:
    """The code cells that hold code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def output_text(output: Cell) -> dict[str, str]:
    """The text of one output by its kind: everything but pictures, and the words that stand for a picture."""
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
    """The text outputs of a cell, in order."""
    return [text for text in map(output_text, cell.outputs) if text]


def pictures(cell: Cell) -> int:
    """How many of the cell's outputs are a picture or a Mermaid diagram."""
    return sum(
        any(kind.startswith("image/") or kind == "text/vnd.mermaid" for kind in output.get("data", {}))
        or "```mermaid" in output.get("data", {}).get("text/markdown", "")
        for output in cell.outputs
    )


def exercises(notebook: Notebook) -> Iterator[Exercise]:
    """The exercises of a chapter: from each `### Exercise` heading to the next heading."""
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
    """The solution's source with each marked region replaced by a stub: what the learner starts from."""
    return REGION.sub(_stub, source)


def shown(source: str) -> str:
    """The solution's source without its markers."""
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
