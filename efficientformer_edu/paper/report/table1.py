"""Table 1, the comparisons that section 5.1 states in words, and counts published by other projects.

A printed number stands for all numbers that round to it. Parameters and operations are compared with our own count; if
it does not round to the printed number, `audit.published` gives the counting rule that does, as the reason. Latency and
accuracy need hardware and data that a laptop does not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from efficientformer_edu import paper
from efficientformer_edu.audit import deit
from efficientformer_edu.audit.published import Derivation, Networks, derivations
from efficientformer_edu.config import PRESETS
from efficientformer_edu.paper import Ratio, Reported, Table
from efficientformer_edu.paper.report.rows import Row, Verdict, cells
from efficientformer_edu.paper.tables import compare


def follows_from_cells(ratio: Ratio, table: Table) -> bool:
    """Return whether numbers that round to the ratio's cells can give a ratio that rounds to the stated value.

    Raises:
        ValueError: if one of the cells is not sourced.
    """
    values = _interval(table[ratio.model, ratio.stated.quantity])
    baselines = _interval(table[ratio.against, ratio.stated.quantity])
    possible = [
        compare(ratio.relation, a, b) for a in values for b in baselines
    ]  # monotone in both: the corners suffice
    low, high = _interval(ratio.stated)
    return low <= max(possible) and (ratio.at_least or min(possible) <= high)


def _interval(cell: Reported) -> tuple[float, float]:
    half = 10.0**-cell.digits / 2
    return cell.value - half, cell.value + half


COUNTING = 4  # the chapter
PART = "The same networks counted elsewhere"


def external_counts(networks: Networks) -> Iterator[Row]:
    """Yield a row for every count that another project prints."""
    for table in paper.external_counts():
        counts = published(table, networks)
        for model, item, cell in cells(table):
            derivation = counts[model.preset, cell.quantity]
            yield Row(PART, table.title, item, cell, COUNTING, counted(derivation), command(derivation))


def published(table: paper.Table, networks: Networks) -> dict[tuple[str, str], Derivation]:
    """Return the derived counts of a table, by model and quantity."""
    return {
        (derivation.model, derivation.quantity): derivation
        for derivation in derivations(networks)
        if derivation.where == table.title
    }


def counted(derivation: Derivation) -> Verdict:
    """Compare a printed count with ours."""
    if derivation.exact:
        return Verdict("exact", f"{derivation.own_count:,}", "computed")
    shown = f"{derivation.own_count:,}" + (f"; {derivation.rule} {derivation.value:,}" if derivation.rule else "")
    why = f"{'Explained' if derivation.holds else 'Not explained'}. {derivation.how}"
    return Verdict("disagrees", shown, "computed", why)


def command(derivation: Derivation) -> str:
    """Return the Python expression that gives our count."""
    if derivation.model not in PRESETS:
        distilled = derivation.value == getattr(deit, derivation.quantity)(distilled=True)
        return f"deit.{derivation.quantity}({'distilled=True' if distilled else ''})"
    network = f'"{derivation.model}"'
    if derivation.who == "NetsPresso":
        network = f"get_config({network}).replace(distillation=False)"
    return (
        f"2 * ef.count({network}).macs"
        if derivation.quantity == "flops"
        else f"ef.count({network}).{derivation.quantity}"
    )


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
