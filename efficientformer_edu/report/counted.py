"""Published counts of parameters and operations, from Table 1 and from other projects' tables.

Each is compared with our own count. If ours does not round to the printed number, `audit.published` gives the counting
rule that does, as the reason.
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
    """Yield a row for every count that another project prints."""
    for table in paper.counted_elsewhere():
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
        return Verdict("exact", f"{derivation.ours:,}", "computed")
    shown = f"{derivation.ours:,}" + (f"; {derivation.rule} {derivation.value:,}" if derivation.rule else "")
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
