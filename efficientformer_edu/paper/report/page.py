"""Render the report as a Markdown page with one table per part of the paper.

Each number is in a span of class `kind` plus its kind, and its kind is also written as text. The tables are in a `div`
of class `report`, which narrow screens show as cards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from itertools import groupby

from efficientformer_edu.paper import TAGS, Equation
from efficientformer_edu.paper.records import origin
from efficientformer_edu.paper.report.rows import MEANINGS, Kind, Row

INTRODUCTION = """\
# Reproduction report

Everything in the paper whose source is known, one row each: what is reported, what we have, and how they compare. The
page is generated; no number on it is typed.

Ours is *computed* (exact, the same on every machine) or *measured* (with machine, date, versions and command).
*Reported* numbers are the paper's or other projects'; the letters behind them name their [sources](#sources). The
commands of computed rows are Python, after these lines:

```python
import efficientformer_edu as ef
from efficientformer_edu.paper import report
from efficientformer_edu import weights
from efficientformer_edu.audit import deit
from efficientformer_edu.config import get_config
from efficientformer_edu.training import recipe
```"""

LABELS: dict[Kind, str] = {"computed": "computed", "measured": "measured", "reported": "from reported numbers"}
MARKUP = str.maketrans({sign: f"&#{ord(sign)};" for sign in "\\`*_[]|$"})


def to_markdown(rows: Iterable[Row]) -> str:
    """Render the page, with a count of each status at the top and links to the existing chapters."""
    rows = tuple(rows)
    counts = Counter[str](row.status for row in rows)
    summary = [(f"**{status}**", meaning, str(counts[status])) for status, meaning in MEANINGS.items()]
    sections = [INTRODUCTION, "## Summary", _table(("status", "what it says", "rows"), summary)]
    for part, group in groupby(rows, key=lambda row: row.part):
        of_part = tuple(group)
        table = _table(("item", "reported", "ours", "status", "chapter, command"), map(_cells, of_part))
        sections += [f"## {part}", *_formulas(of_part), f'<div class="report" markdown>\n\n{table}\n\n</div>']
    sections += [
        "## Sources",
        _table(("tag", "the value is"), [(tag, _escape(source)) for tag, source in TAGS.items()]),
    ]
    return "\n\n".join(sections) + "\n"


def _formulas(rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        if isinstance(row.record, Equation):
            latex = " ".join(row.record.latex.split())
            yield f"{_escape(row.name)}\n\n$$\n{latex}\n$$"


def _cells(row: Row) -> tuple[str, ...]:
    reported = f"{mark(row.reported, 'reported', origin(row.tags))} ({', '.join(row.tags)})"
    own = f"{mark(row.result, row.kind, LABELS[row.kind])}, {LABELS[row.kind]}" if row.kind else "–"
    status = f"**{row.status}**" + (f"<br>{_escape(row.why)}" if row.why else "")
    chapter = f"[{row.chapter_label}](chapters/{row.notebook}.md)" if row.notebook else row.chapter_label
    command = f"<br>`{row.command}`" if row.command else ""
    return _escape(row.name), reported, own, status, chapter + command


def mark(text: str, kind: Kind, title: str) -> str:
    """Wrap text in a span that the style sheet formats by kind."""
    return f'<span class="kind {kind}" title="{escape(title)}">{_escape(text)}</span>'


def _table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _escape(text: str) -> str:
    """Escape all markup in a text and put it on one line."""
    return " ".join(escape(text, quote=False).translate(MARKUP).split())
