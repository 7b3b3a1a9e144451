"""Table 1 and the comparisons that section 5.1 draws from it in words.

Parameters and MACs are counted here. Where ours does not round to the printed number, the rule of the repository's own
counter is tried: if its number does, that is the reason. Latency and accuracy need what a laptop does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from efficientformer_edu import paper
from efficientformer_edu.audit import Costs, count
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.report.printed import follows_from_cells, rounds_to
from efficientformer_edu.report.rows import Row, Verdict
from efficientformer_edu.report.toolbox import toolbox_macs, toolbox_params

Networks = Mapping[str, EfficientFormerConfig]

CHAPTERS = {"params": 4, "macs": 4, "epochs": 6, "top1": 6, "npu": 5, "cpu": 5, "a100": 5}
TRAINING = "Needs the data set and days on several GPUs."
NEEDS = {
    "epochs": TRAINING,
    "top1": TRAINING,
    "npu": "Needs the phone.",
    "cpu": "Needs the phone.",
    "a100": "Needs the GPU.",
}
COUNTED = {"params": (1e6, toolbox_params), "macs": (1e9, toolbox_macs)}
OTHERS = "A network of other authors, which this package does not build."


def rows(networks: Networks) -> Iterator[Row]:
    """Every sourced cell of the published networks, every other model, and every setting behind the table."""
    table, row = paper.table1(), partial(Row, "Section 5.1: Table 1", "Table 1")
    for model, item, cell in cells(table):
        if not model.preset:
            continue
        chapter, protocol = CHAPTERS[cell.quantity], f" Protocol: {cell.protocol}." if cell.protocol else ""
        if cell.quantity in COUNTED:
            command = f'ef.count("{model.preset}").{cell.quantity}'
            yield row(item, cell, chapter, counted(cell, count(networks[model.preset])), command)
        else:
            yield row(item, cell, chapter, Verdict("not reproducible here", why=NEEDS[cell.quantity] + protocol))
    for model in table.rows:
        if not model.preset:
            yield row(model.name, model, CHAPTERS["npu"], Verdict("not reproducible here", why=OTHERS))
    for setting in paper.settings("table1"):
        yield row(f"set-up, {setting.name}", setting, CHAPTERS["npu"], Verdict("background"))


def cells(table: paper.Table) -> Iterator[tuple[paper.Row, str, paper.Reported]]:
    """The sourced cells of a table, each with its row and the words for its place."""
    labels = {column.name: column.label for column in table.columns}
    for row in table.rows:
        for cell in row.cells:
            yield row, f"{row.name}, {labels[cell.quantity]}", cell


def comparisons() -> Iterator[Row]:
    """Every comparison that section 5.1 states in words."""
    table = paper.table1()
    for ratio in paper.ratios():
        item = f"{ratio.model} against {ratio.against}, {ratio.stated.quantity}"
        chapter = CHAPTERS[ratio.stated.quantity]
        yield Row("Section 5.1: comparisons in words", "§5.1", item, ratio, chapter, compared(ratio, table))


def counted(cell: paper.Reported, costs: Costs) -> Verdict:
    """How a printed number of parameters or MACs compares with ours."""
    unit, by_toolbox = COUNTED[cell.quantity]
    ours = getattr(costs, cell.quantity)
    if rounds_to(ours / unit, cell.value):
        return Verdict("exact", f"{ours:,}", "computed")
    theirs = by_toolbox(costs)
    why = "Neither all operations nor the rule of the repository's counter, toolbox.py, gives the printed number."
    if rounds_to(theirs / unit, cell.value):
        why = "Explained: the paper prints what the repository's counter, toolbox.py, gives."
    return Verdict("disagrees", f"{ours:,}; by the rule of toolbox.py {theirs:,}", "computed", why)


def compared(ratio: paper.Ratio, table: paper.Table) -> Verdict:
    """Whether a stated comparison follows from the table's own cells."""
    quantity = ratio.stated.quantity
    exact = ratio.from_cells(table)
    if exact is None:
        return Verdict("not reproducible here", why=f"{NEEDS[quantity]} The cells behind it are not sourced.")
    shown = f"{exact:.2f} {ratio.stated.unit}"
    if not follows_from_cells(ratio, table):
        return Verdict("disagrees", shown, "reported", "The two cells of Table 1 do not give it.")
    return Verdict("consistent", shown, "reported", f"From the two cells of Table 1. {NEEDS[quantity]}")
