"""Pieces of HTML about a ledger: its sums, its tables, what every counter prints, and why.

Numbers are computed here and nowhere else: a page or a notebook only places the pieces. Tables have a caption, headers
with a scope, and the class "number" on what stands to the right. Standard library only.
"""

from __future__ import annotations

import re
from html import escape
from typing import Literal

from efficientformer_edu.audit import COUNTERS, Costs
from efficientformer_edu.audit.explain import explain_costs
from efficientformer_edu.audit.growth import attention_share
from efficientformer_edu.audit.rules import Code
from efficientformer_edu.audit.tables import Cell, Table, shown

NUMBER = re.compile(r"[+-]?\d[\d,.]*(?: %)?")
CODES: dict[Code, str] = {
    "released": "the authors' code, timm's and mmpretrain's",
    "huggingface": "the classes of Hugging Face",
}


def table_html(table: Table, caption: str) -> str:
    """A table as HTML; the first cell of each row is its header, and the last row is set apart if it is a total."""
    body = table.formatted()
    numeric = [any(NUMBER.fullmatch(row[index]) for row in body) for index, _ in enumerate(table.columns)]
    head = "".join(_cell("th", name, right, "col") for name, right in zip(table.columns, numeric, strict=True))
    rows = [_row(row, numeric) for row in body]
    foot = f"<tfoot>{rows.pop()}</tfoot>" if table.total else ""
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody>{foot}</table>"
    )


def summary_html(costs: Costs) -> str:
    """Parameters, MACs, memory and attention's share as a list of terms."""
    sums = costs.sums
    parts: tuple[tuple[str, str, str], ...] = (
        ("parameters", f"{sums.params:,}", "learned numbers"),
        ("MACs", f"{sums.macs:,}", "multiply-accumulates for one image"),
        ("weights", f"{sums.weight_bytes:,} bytes", "parameters and stored statistics in float32"),
        ("activations", f"{sums.activation_bytes:,} bytes", "all that the operations write, in float32"),
        ("attention products", f"{100 * attention_share(costs):.2f} %", "of all MACs"),
    )
    items = "".join(
        f'<div><dt>{term}</dt><dd><span class="number">{value}</span> <small>{note}</small></dd></div>'
        for term, value, note in parts
    )
    return f'<dl class="summary">{items}</dl>'


def ledger_html(costs: Costs, level: Literal["stage", "kind"]) -> str:
    """What each stage or each kind of operation costs."""
    height, width = costs.resolution
    return table_html(
        costs.table(level), f"Costs by {level}, as {costs.form}, for one image of {height}×{width} pixels"
    )


def counters_html(costs: Costs) -> str:
    """What every counter prints for the network in this package's code, beside our count."""
    rows: list[tuple[Cell, ...]] = []
    for counter, rule in COUNTERS.items():
        macs = explain_costs(counter, costs, "macs").total
        params = None if rule.params is None else explain_costs(counter, costs, "params").total
        more = None if params is None else _signed(params - costs.params)
        status = "run in the tests" if rule.runs else "derived, not run"
        rows.append((counter, macs, _signed(macs - costs.macs), params, more, status))
    ours: tuple[Cell, ...] = ("this audit", costs.macs, None, costs.params, None, None)
    columns = ("counter", "MACs", "MACs beyond ours", "parameters", "parameters beyond ours", "how we know")
    return table_html(Table(columns, (ours, *rows)), "What every counter prints for this network")


def explanation_html(costs: Costs, counter: str) -> str:
    """The steps from our counts to those of a counter, what to know about it, and how it sees other code."""
    rule = COUNTERS[counter]
    pieces = [f"<p><strong>{escape(rule.tool)}</strong>. {escape(rule.note)}</p>"]
    macs = explain_costs(counter, costs, "macs")
    pieces.append(table_html(macs.table(), f"From our MACs to what {counter} prints"))
    if rule.params is not None:
        params = explain_costs(counter, costs, "params")
        pieces.append(
            table_html(params.table(), f"From our parameters to what {counter} prints")
            if params.steps
            else f"<p>It counts the same {costs.params:,} parameters as we do.</p>"
        )
    others = [explain_costs(counter, costs, "macs", code) for code in CODES]
    differing = [other for other in others if other.total != macs.total]
    if differing:
        said = "; ".join(f"{shown(other.total)} for {CODES[other.code]}" for other in differing)
        pieces.append(f"<p>The same network, written otherwise, gets another number: {escape(said)}.</p>")
    return "".join(pieces)


def _signed(difference: int) -> str:
    return f"{difference:+,}" if difference else "0"


def _row(row: list[str], numeric: list[bool]) -> str:
    first, *rest = row
    cells = (_cell("td", text, right) for text, right in zip(rest, numeric[1:], strict=True))
    return f"<tr>{_cell('th', first, False, 'row')}{''.join(cells)}</tr>"


def _cell(tag: Literal["th", "td"], text: str, right: bool, scope: str = "") -> str:
    attributes = (f' scope="{scope}"' if scope else "") + (' class="number"' if right else "")
    return f"<{tag}{attributes}>{escape(text)}</{tag}>"
