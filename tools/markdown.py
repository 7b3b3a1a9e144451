"""Turns an executed chapter into Markdown for the site.

Solutions and hints become folds, mistakes are left out, pictures become files beside the page with their alt text, and
each text output says which kind of number it holds: computed, measured (where and when) or trained.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import indent

from tools.chapters import Cell, Notebook, alt_texts, output_text, shown, tags

PICTURES = {"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg"}
MERMAID = re.compile(r"^```mermaid\n(?P<diagram>.*?)^```", re.MULTILINE | re.DOTALL)
DIAGRAM = re.compile(
    r"^ *(?:flowchart|graph|block|block-beta|classDiagram|stateDiagram|sequenceDiagram)\b.*$", re.MULTILINE
)
LINK = re.compile(r"(\]\()([\w./-]+)\.ipynb((?:#[\w-]*)?\))")


@dataclass
class Page:
    """A chapter as Markdown, and its pictures by file name."""

    name: str
    text: str = ""
    pictures: dict[str, bytes] = field(default_factory=dict)


def page(notebook: Notebook, name: str, links: str = "") -> Page:
    """The page of an executed chapter; `links` is a line of Markdown that goes under its title."""
    made = Page(name)
    parts = [_cell(cell, made, notebook) for cell in notebook.cells]
    made.text = "\n\n".join(part for part in parts if part) + "\n"
    if links:
        made.text = re.sub(r"^(# .+)$", rf"\1\n\n{links}", made.text, count=1, flags=re.MULTILINE)
    return made


def _cell(cell: Cell, made: Page, notebook: Notebook) -> str:
    if cell.cell_type == "raw" or not cell.source.strip():
        return ""
    if cell.cell_type == "markdown":
        text = LINK.sub(r"\1\2.md\3", cell.source.strip())
        return _fold("tip", "Hint", text) if "hint" in tags(cell) else text
    source = _fence("python", shown(cell.source).strip("\n"))
    body = "\n\n".join([source, *_outputs(cell, made, notebook)])
    return _fold("success", "Solution", body) if "solution" in tags(cell) else body


def _fold(kind: str, title: str, text: str) -> str:
    return f'??? {kind} "{title}"\n\n{indent(text, "    ")}'


def _fence(header: str, text: str) -> str:
    ticks = "`" * max([3, *(len(run) + 1 for run in re.findall("`{3,}", text))])
    return f"{ticks}{header}\n{text}\n{ticks}"


def _outputs(cell: Cell, made: Page, notebook: Notebook) -> list[str]:
    alts = iter(alt_texts(cell))
    kind, label = _label(cell, notebook)
    return [text for output in cell.outputs if (text := _output(output, alts, kind, label, made))]


def _label(cell: Cell, notebook: Notebook) -> tuple[str, str]:
    """The kind of the cell's numbers, and what the reader is told about it."""
    where = notebook.metadata.get("efficientformer_edu", {})
    place = "; ".join(where[name] for name in ("machine", "versions", "date") if name in where)
    if "measured" in tags(cell):
        return "measured", f"measured on {place}"
    if "trained" in tags(cell):
        return "trained", f"trained on {place}"
    return "exact", "computed, the same everywhere"


def _output(output: Cell, alts: Iterator[str], kind: str, label: str, made: Page) -> str:
    data = output.get("data", {})
    for mime, ending in PICTURES.items():
        if mime in data:
            return _picture(data[mime], ending, next(alts), made)
    text = output_text(output)
    note = f"{label}\n{{ .number .{kind} }}"
    if "text/vnd.mermaid" in text:
        return _fence("mermaid", _described(text["text/vnd.mermaid"], next(alts)))
    if "text/markdown" in text:
        markdown = text["text/markdown"].strip()
        if fence := MERMAID.search(markdown):
            return MERMAID.sub(lambda _: _fence("mermaid", _described(fence["diagram"], next(alts))), markdown, count=1)
        return f"{markdown}\n\n{note}"
    if "text/html" in text:
        return f"{text['text/html'].strip()}\n\n{note}"
    plain = next(iter(text.values()), "").rstrip("\n")
    return _fence(f'{{ .text .output .{kind} title="{label}" }}', plain) if plain else ""


def _picture(data: str, ending: str, alt: str, made: Page) -> str:
    file = f"picture-{len(made.pictures) + 1}.{ending}"
    made.pictures[file] = data.encode() if ending == "svg" else base64.b64decode(data)
    return f"![{_plain(alt)}]({made.name}/{file}){{ .figure loading=lazy }}"


def _described(diagram: str, alt: str) -> str:
    """The Mermaid source with `alt` as its spoken description, unless it has one."""
    if "accDescr" in diagram:
        return diagram.strip()
    return DIAGRAM.sub(lambda start: f"{start[0]}\n    accDescr: {_plain(alt)}", diagram.strip(), count=1)


def _plain(alt: str) -> str:
    return " ".join(alt.replace("[", "(").replace("]", ")").split())
