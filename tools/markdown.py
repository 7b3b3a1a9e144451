"""Convert an executed chapter to Markdown for the site.

Solutions and hints become collapsible blocks, mistake cells are left out, and pictures become files next to the page,
with their alt text. A label above each text output shows its kind of numbers: computed, measured or trained (where and
when), or reported. The label is a symbol and a word; its tooltip has the details.
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
MARKS = {  # symbol, word and tooltip; {} is machine, versions and date
    "exact": ("=", "computed", "computed by the code above, the same on every machine"),
    "measured": ("±", "measured", "measured on {}"),
    "trained": ("↻", "trained", "trained on {}"),
    "reported": ("“", "reported", "reported in the paper or by others, each value with its source"),
}
LINK = re.compile(r"(\]\()([\w./-]+)\.ipynb((?:#[\w-]*)?\))")


@dataclass
class Page:
    """A chapter as Markdown, and its pictures by file name."""

    name: str
    text: str = ""
    pictures: dict[str, bytes] = field(default_factory=dict)


def page(notebook: Notebook, name: str, links: str = "") -> Page:
    """Convert an executed chapter; `links` is a line of Markdown to insert below its title."""
    result = Page(name)
    parts = [_cell(cell, result, notebook) for cell in notebook.cells]
    result.text = "\n\n".join(part for part in parts if part) + "\n"
    if links:
        result.text = re.sub(r"^(# .+)$", rf"\1\n\n{links}", result.text, count=1, flags=re.MULTILINE)
    return result


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
    """Return a paragraph with the kinds of the cell's numbers. Keyboard focus or a tap also shows the tooltip."""
    where = notebook.metadata.get("efficientformer_edu", {})
    provenance = "; ".join(where[name] for name in ("machine", "versions", "date") if name in where)
    return " ".join(mark(kind, provenance, where.get("date", "")) for kind in kinds(cell)) + "\n{ .numbers }"


def mark(kind: str, provenance: str, date: str = "") -> str:
    """Return the label of one kind of number: symbol, word, date of the measurement, and details as a tooltip."""
    sign, word, text = MARKS[kind]
    if date and "{}" in text:
        word = f"{word}, {date}"
    shown = f'<span aria-hidden="true">{sign}</span> {word}'
    return (
        f'<span class="number {kind}" role="note" tabindex="0" title="{escape(text.format(provenance))}">{shown}</span>'
    )


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
    content = next(iter(text.values()), "").rstrip("\n")
    return f"{mark}\n\n{_fence('{ .text .output }', content)}" if content else ""


def _picture(data: str, ending: str, alt: str, made: Page) -> str:
    file = f"picture-{len(made.pictures) + 1}.{ending}"
    made.pictures[file] = data.encode() if ending == "svg" else base64.b64decode(data)
    return f"![{_alt_text(alt)}]({made.name}/{file}){{ .figure loading=lazy }}"


def _described(diagram: str, alt: str) -> str:
    """Add `alt` to a Mermaid source as its accessible description, unless it has one."""
    if "accDescr" in diagram:
        return diagram.strip()
    return DIAGRAM.sub(lambda start: f"{start[0]}\n    accDescr: {_alt_text(alt)}", diagram.strip(), count=1)


def _alt_text(alt: str) -> str:
    return " ".join(alt.replace("[", "(").replace("]", ")").split())
