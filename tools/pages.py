"""Fills the pages of docs/ with what comes from the code and from the chapters; `tools.site` calls `fill`.

A marker is a comment: `<!-- numbers -->` becomes the table of parameters and MACs, `<!-- presets -->` what counters
print for the published networks, `<!-- audit -->` the form that audits any other, `<!-- matrix -->` which neck goes
with which head, `<!-- detector -->` the drawing of a network with both, `<!-- glossary -->` the abbreviations that
every page shows as tooltips, `<!-- mark exact -->` the mark of one kind of number, `<!-- written -->` the chapters that
exist, `<!-- module map -->` every module of the package, `<!-- options audit -->` the options of one command,
`<!-- chapter 2: Building blocks; in class 1, 5 -->` one chapter of the lecture plan, `<!-- picture 9: Six scenes
-->` the picture of a chapter whose alt text begins so. A link to a chapter that is not written yet becomes its text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tools import audit_page, dense_page, reference
from tools.chapters import EFFORT, Notebook, alt_texts, exercises, kinds
from tools.markdown import mark, marks, page
from tools.readme import MINUTES, numbers
from tools.site_hooks import ABBREVIATION

CHAPTER = re.compile(r"<!-- chapter (?P<number>\d+): (?P<title>[^;]+?)(?:; in class (?P<chosen>[\d, ]+?))? -->")
PICTURE = re.compile(r"<!-- picture (?P<number>\d+): (?P<alt>.+?) -->")
OPTIONS = re.compile(r"<!-- options (\w+) -->")
MARK = re.compile(r"<!-- mark (\w+) -->")
LINK = re.compile(r"\[(?P<text>[^\]]+)\]\(chapters/(?P<name>\w+)\.md(?:#[\w-]*)?\)")
ABBREVIATIONS = Path("includes", "abbreviations.md")


def fill(folder: Path, notebooks: Mapping[str, Notebook]) -> None:
    """Fill the pages in `folder`, which is laid out as docs/ is; `notebooks` are the chapters by file name."""
    abbreviations = (folder / ABBREVIATIONS).read_text(encoding="utf-8")
    for path in sorted(folder.glob("*.md")):
        path.write_text(filled(path.read_text(encoding="utf-8"), notebooks, abbreviations), encoding="utf-8")


def filled(text: str, notebooks: Mapping[str, Notebook], abbreviations: str) -> str:
    """A page with every marker replaced."""
    parts: dict[str, Callable[[], str]] = {
        "<!-- numbers -->": numbers,
        "<!-- presets -->": audit_page.presets,
        "<!-- audit -->": audit_page.live,
        "<!-- matrix -->": dense_page.matrix,
        "<!-- detector -->": dense_page.diagram,
        "<!-- glossary -->": partial(glossary, abbreviations),
        "<!-- written -->": partial(written, notebooks),
        "<!-- module map -->": reference.module_map,
    }
    for marker, part in parts.items():
        if marker in text:
            text = text.replace(marker, part())
    text = OPTIONS.sub(lambda marker: reference.options(marker[1]), text)
    text = MARK.sub(lambda marker: mark(marker[1], "a machine that is named here, with versions and date"), text)
    text = CHAPTER.sub(lambda marker: lesson(marker, notebooks), text)
    text = PICTURE.sub(lambda marker: picture(marker, notebooks), text)
    return LINK.sub(lambda link: link[0] if link["name"] in notebooks else link["text"], text)


def glossary(abbreviations: str) -> str:
    """A table in alphabetical order; words with the same explanation stand together."""
    words: dict[str, list[str]] = defaultdict(list)
    for word, meaning in ABBREVIATION.findall(abbreviations):
        words[meaning].append(word)
    entries = sorted(((", ".join(several), meaning) for meaning, several in words.items()), key=lambda e: e[0].lower())
    return "\n".join([_row("word", "meaning"), "|---|---|", *(_row(*entry) for entry in entries)])


def written(notebooks: Mapping[str, Notebook]) -> str:
    """The chapters that exist: minutes to read, the student version, exercises and their minutes."""
    rows = [_row("chapter", "minutes", "for students", "exercises", "their minutes"), "|---|--:|---|--:|--:|"]
    for name, notebook in notebooks.items():
        efforts = _efforts(notebook)
        rows.append(
            _row(
                f"[{_title(notebook)}](chapters/{name}.md)",
                _minutes(notebook),
                f"[notebook](chapters/{name}.student.ipynb){{ download }}",
                len(efforts),
                sum(minutes for *_, minutes in efforts),
            )
        )
    return "\n".join(rows)


def lesson(marker: re.Match[str], notebooks: Mapping[str, Notebook]) -> str:
    """One chapter of a lecture: its minutes, and which of its exercises are for the lecture and which for later.

    Raises:
        ValueError: if an exercise is chosen that the chapter does not have.
    """
    name = _chapter(marker["number"], notebooks)
    if name is None:
        number = int(marker["number"])
        return f"**{number}. {marker['title']}**: not written yet.\n{{ .missing }}"
    efforts = _efforts(notebooks[name])
    chosen = [int(one) for one in re.findall(r"\d+", marker["chosen"] or "")]
    if unknown := set(chosen) - {exercise for exercise, *_ in efforts}:
        raise ValueError(f"{name} has no exercise {unknown}, which the lecture plan names")
    head = f"**[{_title(notebooks[name])}](chapters/{name}.md)**, {_minutes(notebooks[name])} minutes to read."
    if not efforts:
        return head
    rows = [_row("exercise", "where", "minutes", "difficulty", "importance"), "|---|---|--:|--:|--:|"]
    rows += [
        _row(f"{exercise}. {title}", place, minutes, f"{difficulty}/5", f"{importance}/5")
        for place, ours in (("in class", True), ("at home", False))
        for exercise, title, difficulty, importance, minutes in efforts
        if (exercise in chosen) == ours
    ]
    return "\n".join([head, "", *rows])


def picture(marker: re.Match[str], notebooks: Mapping[str, Notebook]) -> str:
    """A picture of a chapter, which lies beside the chapter's page; above it the kinds of numbers that its cell has.

    Raises:
        ValueError: if the chapter has no picture, or several, whose alt text begins so.
    """
    number, alt = marker["number"], marker["alt"]
    name = _chapter(number, notebooks)
    text = "" if name is None else page(notebooks[name], name).text
    found = re.findall(rf"^!\[{re.escape(alt)}.*$", text, re.MULTILINE)
    if name is None or len(found) != 1:
        raise ValueError(f"chapter {number} has {len(found)} pictures whose alt text begins {alt!r}")
    image = found[0].replace(f"]({name}/", f"](chapters/{name}/")
    cell = next(cell for cell in notebooks[name].cells if any(one.startswith(alt) for one in alt_texts(cell)))
    return f"{marks(cell, notebooks[name])}\n\n{image}" if kinds(cell) else image


def _chapter(number: str, notebooks: Mapping[str, Notebook]) -> str | None:
    """The file name of a chapter; None if it is not written yet."""
    return next((name for name in notebooks if name.startswith(f"{int(number):02}_")), None)


def _efforts(notebook: Notebook) -> list[tuple[int, str, int, int, int]]:
    """Number, title, difficulty, importance and minutes of each exercise."""
    found = []
    for exercise in exercises(notebook):
        effort = EFFORT.search(exercise.task.source)
        assert effort, f"exercise {exercise.number} lacks its line with difficulty, importance and minutes"
        found.append((exercise.number, exercise.title, int(effort[1]), int(effort[2]), int(effort[3])))
    return found


def _minutes(notebook: Notebook) -> int:
    minutes = MINUTES.search("".join(cell.source for cell in notebook.cells[:4]))
    assert minutes, "a chapter names its minutes in its first cells"
    return int(minutes[1])


def _title(notebook: Notebook) -> str:
    title: str = notebook.cells[0].source.splitlines()[0].lstrip("# ")
    return title


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
