"""Table 1, and the comparisons that section 5.1 states in words.

Parameters and MACs are counted, see `counted`. Latency and accuracy need hardware and data that a laptop lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from efficientformer_edu import paper
from efficientformer_edu.audit.published import Networks
from efficientformer_edu.report.counted import COUNTING, command, counted, published
from efficientformer_edu.report.printed import follows_from_cells
from efficientformer_edu.report.rows import Row, Verdict
from efficientformer_edu.report.wording import cells

CHAPTERS = {"epochs": 6, "top1": 6, "npu": 5, "cpu": 5, "a100": 5}
TRAINING = "Needs the data set and days on several GPUs."
NEEDS = {
    "epochs": TRAINING,
    "top1": TRAINING,
    "top5": TRAINING,
    "npu": "Needs the phone.",
    "cpu": "Needs the phone.",
    "a100": "Needs the GPU.",
}
OTHERS = "A network of other authors, which this package does not build."


def rows(networks: Networks) -> Iterator[Row]:
    """Yield a row for every sourced cell of the published networks, every other model, and every setting."""
    table, row = paper.table1(), partial(Row, "Section 5.1: Table 1", "Table 1")
    counts = published(table, networks)
    for model, item, cell in cells(table):
        if not model.preset:
            continue
        if derivation := counts.get((model.preset, cell.quantity)):
            yield row(item, cell, COUNTING, counted(derivation), command(derivation))
        else:
            protocol = f" Protocol: {cell.protocol}." if cell.protocol else ""
            verdict = Verdict("not reproducible here", why=NEEDS[cell.quantity] + protocol)
            yield row(item, cell, CHAPTERS[cell.quantity], verdict)
    for model, item, cell in cells(table):
        if derivation := counts.get((model.name, cell.quantity)):  # a baseline whose architecture is known
            yield row(item, cell, COUNTING, counted(derivation), command(derivation))
    for model in table.rows:
        if not model.preset:
            remaining = tuple(cell for cell in model.cells if (model.name, cell.quantity) not in counts)
            verdict = Verdict("not reproducible here", why=OTHERS)
            yield row(model.name, replace(model, cells=remaining), CHAPTERS["npu"], verdict)
    for setting in paper.settings("table1"):
        yield row(f"set-up, {setting.name}", setting, CHAPTERS["npu"], Verdict("background"))


def comparisons() -> Iterator[Row]:
    """Yield a row for every comparison that section 5.1 states in words."""
    table = paper.table1()
    for ratio in paper.ratios():
        item = f"{ratio.model} against {ratio.against}, {ratio.stated.quantity}"
        chapter = CHAPTERS[ratio.stated.quantity]
        yield Row("Section 5.1: comparisons in words", "§5.1", item, ratio, chapter, compared(ratio, table))


def compared(ratio: paper.Ratio, table: paper.Table) -> Verdict:
    """Check whether a stated comparison follows from the table's own cells."""
    quantity = ratio.stated.quantity
    exact = ratio.from_cells(table)
    if exact is None:
        return Verdict("not reproducible here", why=f"{NEEDS[quantity]} The cells behind it are not sourced.")
    shown = f"{exact:.2f} {ratio.stated.unit}"
    if not follows_from_cells(ratio, table):
        return Verdict("disagrees", shown, "reported", "The two cells of Table 1 do not give it.")
    return Verdict("consistent", shown, "reported", f"From the two cells of Table 1. {NEEDS[quantity]}")
