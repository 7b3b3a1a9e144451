"""Fill the pages of docs/ with generated content from the code and the chapters; `tools.site` calls `fill`.

Each marker is a comment: `<!-- numbers -->` becomes the table of parameters and MACs, `<!-- presets -->` the results of
the counters for the published networks, `<!-- audit -->` the form that audits any configuration, `<!-- matrix -->` the
compatibility tables of necks and heads, `<!-- detector -->` the diagram of a detector, `<!-- glossary -->` the
abbreviations that every page shows as tooltips, `<!-- mark exact -->` the label of one kind of number,
`<!-- written -->` the existing chapters, `<!-- module map -->` all modules of the package, `<!-- options audit -->` the
options of one command, `<!-- chapter 2: Building blocks; in class 1, 5 -->` one chapter of the lecture plan, and
`<!-- picture 9: Six scenes -->` the picture of a chapter whose alt text begins with these words. A link to a missing
chapter becomes plain text.
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
    """Fill the pages in `folder`, a copy of docs/; `notebooks` are the chapters by file name."""
    abbreviations = (folder / ABBREVIATIONS).read_text(encoding="utf-8")
    for path in sorted(folder.glob("*.md")):
        path.write_text(filled(path.read_text(encoding="utf-8"), notebooks, abbreviations), encoding="utf-8")


def filled(text: str, notebooks: Mapping[str, Notebook], abbreviations: str) -> str:
    """Replace every marker of a page."""
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
    text = MARK.sub(lambda marker: mark(marker[1], "the machine named here, with versions and date"), text)
    text = CHAPTER.sub(lambda marker: lesson(marker, notebooks), text)
    text = PICTURE.sub(lambda marker: picture(marker, notebooks), text)
    return LINK.sub(lambda link: link[0] if link["name"] in notebooks else link["text"], text)


def glossary(abbreviations: str) -> str:
    """Return a table in alphabetical order; words with the same explanation share a row."""
    groups: dict[str, list[str]] = defaultdict(list)
    for word, meaning in ABBREVIATION.findall(abbreviations):
        groups[meaning].append(word)
    entries = sorted(((", ".join(names), meaning) for meaning, names in groups.items()), key=lambda e: e[0].lower())
    return "\n".join([_row("word", "meaning"), "|---|---|", *(_row(*entry) for entry in entries)])


def written(notebooks: Mapping[str, Notebook]) -> str:
    """Return a table of the existing chapters: reading time, student version, exercises and their time."""
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
    """Return one chapter of a lecture plan: its minutes, and its exercises in class and at home.

    Raises:
        ValueError: if the plan names an exercise that the chapter does not have.
    """
    name = _chapter(marker["number"], notebooks)
    if name is None:
        number = int(marker["number"])
        return f"**{number}. {marker['title']}**: not written yet.\n{{ .missing }}"
    efforts = _efforts(notebooks[name])
    selected = [int(digits) for digits in re.findall(r"\d+", marker["chosen"] or "")]
    if unknown := set(selected) - {exercise for exercise, *_ in efforts}:
        raise ValueError(f"{name} has no exercise {unknown}, which the lecture plan names")
    head = f"**[{_title(notebooks[name])}](chapters/{name}.md)**, {_minutes(notebooks[name])} minutes to read."
    if not efforts:
        return head
    rows = [_row("exercise", "where", "minutes", "difficulty", "importance"), "|---|---|--:|--:|--:|"]
    rows += [
        _row(f"{exercise}. {title}", location, minutes, f"{difficulty}/5", f"{importance}/5")
        for location, in_class in (("in class", True), ("at home", False))
        for exercise, title, difficulty, importance, minutes in efforts
        if (exercise in selected) == in_class
    ]
    return "\n".join([head, "", *rows])


def picture(marker: re.Match[str], notebooks: Mapping[str, Notebook]) -> str:
    """Return a picture of a chapter, below the label with the kinds of numbers of its cell.

    Raises:
        ValueError: unless exactly one picture of the chapter has an alt text that begins with these words.
    """
    number, alt = marker["number"], marker["alt"]
    name = _chapter(number, notebooks)
    text = "" if name is None else page(notebooks[name], name).text
    matches = re.findall(rf"^!\[{re.escape(alt)}.*$", text, re.MULTILINE)
    if name is None or len(matches) != 1:
        raise ValueError(f"chapter {number} has {len(matches)} pictures whose alt text begins {alt!r}")
    image = matches[0].replace(f"]({name}/", f"](chapters/{name}/")
    cell = next(cell for cell in notebooks[name].cells if any(alt_text.startswith(alt) for alt_text in alt_texts(cell)))
    return f"{marks(cell, notebooks[name])}\n\n{image}" if kinds(cell) else image


def _chapter(number: str, notebooks: Mapping[str, Notebook]) -> str | None:
    """Return the file name of a chapter; None if it does not exist."""
    return next((name for name in notebooks if name.startswith(f"{int(number):02}_")), None)


def _efforts(notebook: Notebook) -> list[tuple[int, str, int, int, int]]:
    """Return number, title, difficulty, importance and minutes of each exercise."""
    efforts = []
    for exercise in exercises(notebook):
        effort = EFFORT.search(exercise.task.source)
        assert effort, f"exercise {exercise.number} lacks its line with difficulty, importance and minutes"
        efforts.append((exercise.number, exercise.title, int(effort[1]), int(effort[2]), int(effort[3])))
    return efforts


def _minutes(notebook: Notebook) -> int:
    minutes = MINUTES.search("".join(cell.source for cell in notebook.cells[:4]))
    assert minutes, "a chapter names its minutes in its first cells"
    return int(minutes[1])


def _title(notebook: Notebook) -> str:
    title: str = notebook.cells[0].source.splitlines()[0].lstrip("# ")
    return title


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
