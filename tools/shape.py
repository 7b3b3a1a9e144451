"""Check a chapter against the conventions of CONTRIBUTING.md, and report violations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from tools.chapters import (
    CODE_TAGS,
    EFFORT,
    OUTPUT_TAGS,
    REGION,
    Cell,
    Notebook,
    alt_texts,
    code_cells,
    exercises,
    kinds,
    pictures,
    tags,
    texts,
)

OPENING = ["What you will learn", "What you need"]
CLOSING = ["What we found", "Exercises", "What next"]
FENCE = re.compile(r"^ *```.*?^ *``` *$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#{1,6}) +(.+?) *$", re.MULTILINE)
PICTURE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<address>[^)]*)\)")
ITEM = r"(?:[*+-]|\d+\.) "
CRAMPED = re.compile(rf"^(?!{ITEM}|#|\||>|<| |$).+\n{ITEM}", re.MULTILINE)
SHALLOW = re.compile(rf"^ {{1,3}}{ITEM}", re.MULTILINE)
REPORTED = re.compile(r"\((?:reported|derived from what is reported), [A-Z]")  # source of a printed reported value
MACHINE = re.compile(r"(?:^|[\s'\"(=:])(?:/(?:home|root|Users|tmp|var|work)/|[A-Z]:\\Users\\)")


def faults(notebook: Notebook, with_exercises: bool = True) -> list[str]:
    """Return all violations in an executed chapter, one sentence each; empty if there are none."""
    violations = [*_outline(notebook, with_exercises), *_balance(notebook), *_prose(notebook)]
    for number, cell in enumerate(notebook.cells, start=1):
        violations += [f"cell {number}: {fault}" for fault in _cell(cell)]
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        violations.append(f"the code cells were not run from top to bottom: their counts are {counts}")
    return violations + list(_exercises(notebook, with_exercises))


def headings(notebook: Notebook) -> list[tuple[int, str]]:
    """Return level and text of each heading."""
    prose = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return [(len(marks), text) for marks, text in HEADING.findall(FENCE.sub("", prose))]


def _outline(notebook: Notebook, with_exercises: bool) -> Iterator[str]:
    sections = headings(notebook)
    levels = [level for level, _ in sections]
    if levels.count(1) != 1 or levels[0] != 1:
        yield f"a chapter starts with its only H1, this one has {levels.count(1)}"
    elif not re.match(r"\d+\. ", sections[0][1]):
        yield f"the title has its chapter's number, as in '2. Building blocks', not {sections[0][1]!r}"
    for (before, _), (level, text) in pairwise(sections):
        if level > before + 1:
            yield f"heading {text!r} skips a level"
    second = [text for level, text in sections if level == 2]
    if second[:2] != OPENING:
        yield f"the first two H2 are {OPENING}, here {second[:2]}"
    closing = CLOSING if with_exercises else [text for text in CLOSING if text != "Exercises"]
    if second[-len(closing) :] != closing:
        yield f"the last H2 are {closing}, here {second[-len(closing) :]}"
    opening = "".join(cell.source for cell in notebook.cells[: _first_code(notebook)])
    if "minutes" not in opening:
        yield "no minutes are named before the first code cell"


def _first_code(notebook: Notebook) -> int:
    return next((i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"), len(notebook.cells))


def _balance(notebook: Notebook) -> Iterator[str]:
    """Compare the amounts of prose and code in non-blank characters; solutions are collapsed and do not count."""
    prose = sum(len("".join(cell.source.split())) for cell in notebook.cells if cell.cell_type == "markdown")
    code = sum(len("".join(cell.source.split())) for cell in code_cells(notebook) if "solution" not in tags(cell))
    if prose < code:
        yield f"there is less prose ({prose} characters) than code ({code})"
    lengths = [_lines(cell) for cell in code_cells(notebook)]
    if lengths and median(lengths) > 8:
        yield f"the median code cell has {median(lengths)} lines, more than 8"


def _lines(cell: Cell) -> int:
    return sum(1 for line in cell.source.splitlines() if line.strip() and not line.lstrip().startswith("#"))


def _prose(notebook: Notebook) -> Iterator[str]:
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "markdown":
            continue
        prose = FENCE.sub("", cell.source)
        if cell.get("attachments"):
            yield f"cell {number}: has an attachment; let a code cell show the picture"
        for picture in PICTURE.finditer(prose):
            if not picture["alt"].strip():
                yield f"cell {number}: the picture {picture['address']} has no alt text"
        if cramped := CRAMPED.search(prose):
            yield f"cell {number}: a list needs a blank line before it, at {cramped[0].splitlines()[0][:60]!r}"
        if SHALLOW.search(prose):
            yield f"cell {number}: the items of an inner list are indented by four spaces"


def _cell(cell: Cell) -> Iterator[str]:
    own = tags(cell)
    if cell.cell_type == "code":
        yield from _code(cell, own)
    allowed = {"code": set(CODE_TAGS), "markdown": {"hint"}, "raw": {"mistake"}}[cell.cell_type]
    if unknown := own - allowed:
        yield f"no such tag on a {cell.cell_type} cell: {', '.join(sorted(unknown))}"
    if cell.cell_type == "raw" and "mistake" not in own:
        yield "a raw cell that is not tagged mistake"


def _code(cell: Cell, own: set[str]) -> Iterator[str]:
    if re.search(r"^\s*[%!]", cell.source, re.MULTILINE):
        yield "has a magic or a shell command"
    if _lines(cell) > 30 and "whole-class" not in own:
        yield f"has {_lines(cell)} lines, more than 30, and is not tagged whole-class"
    yield from _kinds(cell)
    for output in texts(cell):
        if "error" in output or "stderr" in output:
            yield f"raised, warned or wrote to stderr: {next(iter(output.values()))[:200]!r}"
        if any(MACHINE.search(text) for text in output.values()):
            yield "shows a path of the machine"
    alts = alt_texts(cell)
    if len(alts) != pictures(cell) or not all(alt.strip() for alt in alts):
        yield f"shows {pictures(cell)} pictures and has {len(alts)} alt texts"


def _kinds(cell: Cell) -> Iterator[str]:
    cell_kinds, own_kinds = kinds(cell), [kind for kind in kinds(cell) if kind != "reported"]
    if texts(cell) and (not cell_kinds or len(own_kinds) > 1):
        yield f"has a text output, so it is tagged with one of {', '.join(OUTPUT_TAGS)}; it has {list(cell_kinds)}"
    if cell_kinds and not texts(cell) and "trained" not in cell_kinds:  # training cells are always tagged
        yield f"is tagged {', '.join(cell_kinds)}, but has no text output"
    shows = any(REPORTED.search(text) for output in texts(cell) for text in output.values())
    if texts(cell) and shows != ("reported" in cell_kinds):
        yield "is tagged reported if it shows a reported value with its source, and only then"


def _exercises(notebook: Notebook, needed: bool) -> Iterator[str]:
    chapter_exercises = list(exercises(notebook))
    if needed and not 3 <= len(chapter_exercises) <= 5:
        yield f"has {len(chapter_exercises)} exercises, not 3 to 5"
    if [exercise.number for exercise in chapter_exercises] != list(range(1, len(chapter_exercises) + 1)):
        yield "the exercises are not numbered 1, 2, 3 …"
    for exercise in chapter_exercises:
        name = f"exercise {exercise.number}"
        if not EFFORT.search(exercise.task.source):
            yield f"{name} lacks its line 'Difficulty 2/5 · importance 4/5 · 10 minutes'"
        if exercise.solution is None or not REGION.search(exercise.solution.source):
            yield f"{name} has no cell tagged solution with a region between ### BEGIN SOLUTION and ### END SOLUTION"
        if exercise.check is None:
            yield f"{name} has no cell tagged check"
        if len(exercise.mistakes) < 2:
            yield f"{name} has {len(exercise.mistakes)} mistakes, fewer than two"
        if not all(mistake.metadata.get("explains") for mistake in exercise.mistakes):
            yield f"{name} has a mistake without the metadata `explains`"
