"""The report as a page of the site: Markdown with one table for each part of the paper.

Each number stands in a span of class `kind` and of its kind, and each says its kind in words as well. The tables of
rows stand in a `div` of class `report`, which a narrow screen shows as cards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from itertools import groupby

from efficientformer_edu.paper import TAGS, Equation
from efficientformer_edu.paper.records import origin
from efficientformer_edu.report.rows import MEANINGS, Kind, Row

INTRODUCTION = """\
# Reproduction report

Everything in the paper whose source is known, one row each: what is reported, what we have, and how they compare. The
page is generated; no number on it is typed.

Ours is *computed* (exact, the same on every machine) or *measured* (with machine, date, versions and command).
*Reported* numbers are the paper's or other projects'; the letters behind them name their [sources](#sources). The
commands of computed rows are Python, after these lines:

```python
import efficientformer_edu as ef
from efficientformer_edu import report, weights
from efficientformer_edu.audit import deit
from efficientformer_edu.config import get_config
from efficientformer_edu.training import recipe
```"""

WORDS: dict[Kind, str] = {"computed": "computed", "measured": "measured", "reported": "from reported numbers"}
MARKUP = str.maketrans({sign: f"&#{ord(sign)};" for sign in "\\`*_[]|$"})


def to_markdown(rows: Iterable[Row]) -> str:
    """The page, with a count of each status at the top and links to the chapters that are written."""
    rows = tuple(rows)
    counts = Counter[str](row.status for row in rows)
    summary = [(f"**{status}**", meaning, str(counts[status])) for status, meaning in MEANINGS.items()]
    sections = [INTRODUCTION, "## Summary", _table(("status", "what it says", "rows"), summary)]
    for part, group in groupby(rows, key=lambda row: row.part):
        of_part = tuple(group)
        table = _table(("item", "reported", "ours", "status", "chapter, command"), map(_cells, of_part))
        sections += [f"## {part}", *_formulas(of_part), f'<div class="report" markdown>\n\n{table}\n\n</div>']
    sections += ["## Sources", _table(("tag", "the value is"), [(tag, _plain(said)) for tag, said in TAGS.items()])]
    return "\n\n".join(sections) + "\n"


def _formulas(rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        if isinstance(row.record, Equation):
            latex = " ".join(row.record.latex.split())
            yield f"{_plain(row.name)}\n\n$$\n{latex}\n$$"


def _cells(row: Row) -> tuple[str, ...]:
    reported = f"{mark(row.reported, 'reported', origin(row.tags))} ({', '.join(row.tags)})"
    ours = f"{mark(row.ours, row.kind, WORDS[row.kind])}, {WORDS[row.kind]}" if row.kind else "–"
    status = f"**{row.status}**" + (f"<br>{_plain(row.why)}" if row.why else "")
    place = f"[{row.place}](chapters/{row.notebook}.md)" if row.notebook else row.place
    command = f"<br>`{row.command}`" if row.command else ""
    return _plain(row.name), reported, ours, status, place + command


def mark(text: str, kind: Kind, title: str) -> str:
    """Numbers or words of one kind, for the style sheet to show."""
    return f'<span class="kind {kind}" title="{escape(title)}">{_plain(text)}</span>'


def _table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _plain(text: str) -> str:
    """Text in which nothing is markup, on one line."""
    return " ".join(escape(text, quote=False).translate(MARKUP).split())
