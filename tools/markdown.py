"""Turns an executed chapter into Markdown for the site.

Solutions and hints become folds, mistakes are left out, pictures become files beside the page with their alt text, and
above each text output a small mark says which kind of number it holds: computed, measured or trained (where and when),
reported. The mark is a sign and a word, and its tooltip tells the rest.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from textwrap import indent

from tools.chapters import Cell, Notebook, alt_texts, kinds, output_text, shown, tags

PICTURES = {"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg"}
MERMAID = re.compile(r"^```mermaid\n(?P<diagram>.*?)^```", re.MULTILINE | re.DOTALL)
DIAGRAM = re.compile(
    r"^ *(?:flowchart|graph|block|block-beta|classDiagram|stateDiagram|sequenceDiagram)\b.*$", re.MULTILINE
)
MARKS = {  # sign and word; in the text, {} is machine, versions and date
    "exact": ("=", "computed", "computed by the code above, the same on every machine"),
    "measured": ("±", "measured", "measured on {}"),
    "trained": ("↻", "trained", "trained on {}"),
    "reported": ("“", "reported", "reported in the paper or by others, each value with its source beside it"),
}
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
    alts, mark = iter(alt_texts(cell)), marks(cell, notebook)
    return [text for output in cell.outputs if (text := _output(output, alts, mark, made))]


def marks(cell: Cell, notebook: Notebook) -> str:
    """A paragraph that says of which kinds the cell's numbers are. A key or a tap on it shows the tooltip, too."""
    where = notebook.metadata.get("efficientformer_edu", {})
    place = "; ".join(where[name] for name in ("machine", "versions", "date") if name in where)
    return " ".join(mark(kind, place, where.get("date", "")) for kind in kinds(cell)) + "\n{ .numbers }"


def mark(kind: str, place: str, date: str = "") -> str:
    """The mark of one kind of number: sign and word, the date of what was measured, where and how in its tooltip."""
    sign, word, text = MARKS[kind]
    if date and "{}" in text:
        word = f"{word}, {date}"
    shown = f'<span aria-hidden="true">{sign}</span> {word}'
    return f'<span class="number {kind}" role="note" tabindex="0" title="{escape(text.format(place))}">{shown}</span>'


def _output(output: Cell, alts: Iterator[str], mark: str, made: Page) -> str:
    data = output.get("data", {})
    for mime, ending in PICTURES.items():
        if mime in data:
            return _picture(data[mime], ending, next(alts), made)
    text = output_text(output)
    if "text/vnd.mermaid" in text:
        return _fence("mermaid", _described(text["text/vnd.mermaid"], next(alts)))
    if "text/markdown" in text:
        markdown = text["text/markdown"].strip()
        if fence := MERMAID.search(markdown):
            return MERMAID.sub(lambda _: _fence("mermaid", _described(fence["diagram"], next(alts))), markdown, count=1)
        return f"{mark}\n\n{markdown}"
    if "text/html" in text:
        return f"{mark}\n\n{text['text/html'].strip()}"
    plain = next(iter(text.values()), "").rstrip("\n")
    return f"{mark}\n\n{_fence('{ .text .output }', plain)}" if plain else ""


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
