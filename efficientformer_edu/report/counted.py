"""Published counts of parameters and operations: the cells of Table 1 that are counts, and other projects' tables.

Our own count is laid beside each. Where it does not round to the printed number, `audit.published` knows the rule that
does, and that is the reason.
"""

from __future__ import annotations

from collections.abc import Iterator

from efficientformer_edu import paper
from efficientformer_edu.audit import deit
from efficientformer_edu.audit.derivation import Derivation
from efficientformer_edu.audit.published import Networks, derivations
from efficientformer_edu.config import PRESETS
from efficientformer_edu.report.rows import Row, Verdict
from efficientformer_edu.report.wording import cells

COUNTING = 4  # the chapter
PART = "The same networks counted elsewhere"


def elsewhere(networks: Networks) -> Iterator[Row]:
    """Every count that another project prints."""
    for table in paper.counted_elsewhere():
        counts = published(table, networks)
        for model, item, cell in cells(table):
            one = counts[model.preset, cell.quantity]
            yield Row(PART, table.title, item, cell, COUNTING, counted(one), command(one))


def published(table: paper.Table, networks: Networks) -> dict[tuple[str, str], Derivation]:
    """The derived counts of a table, by model and quantity."""
    return {(one.model, one.quantity): one for one in derivations(networks) if one.where == table.title}


def counted(one: Derivation) -> Verdict:
    """How a printed count compares with ours."""
    if one.exact:
        return Verdict("exact", f"{one.ours:,}", "computed")
    shown = f"{one.ours:,}" + (f"; {one.rule} {one.value:,}" if one.rule else "")
    why = f"{'Explained' if one.holds else 'Not explained'}. {one.how}"
    return Verdict("disagrees", shown, "computed", why)


def command(one: Derivation) -> str:
    """The expression that gives our count."""
    if one.model not in PRESETS:
        distilled = one.value == getattr(deit, one.quantity)(distilled=True)
        return f"deit.{one.quantity}({'distilled=True' if distilled else ''})"
    network = f'"{one.model}"'
    if one.who == "NetsPresso":
        network = f"get_config({network}).replace(distillation=False)"
    return f"2 * ef.count({network}).macs" if one.quantity == "flops" else f"ef.count({network}).{one.quantity}"
