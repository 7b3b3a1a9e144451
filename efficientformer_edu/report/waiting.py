"""The rows that no check answers: what a later chapter is to measure, and what no laptop can.

A chapter that measures something stores it in `results/`; `findings` then answers the row of that name.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from efficientformer_edu import paper
from efficientformer_edu.report.rows import Row, Verdict
from efficientformer_edu.report.table1 import NEEDS
from efficientformer_edu.report.wording import cells

WAITS = Verdict("not yet")
CLAIMS = ("CONV-BN is", "Users who trained", "L1 gains from", "With small batches")
"""How the remarks begin that claim something measurable; the others are background."""


def observations() -> Iterator[Row]:
    """Section 3, chapter 1."""
    row = partial(Row, "Section 3: four observations and Fig. 2", chapter=1, verdict=WAITS)
    for one in paper.observations():
        yield row("§3", f"observation {one.number}", one)
    yield row("Fig. 2", "latency by class of operators", paper.figure2())


def appendix_b() -> Iterator[Row]:
    """Appendix B, chapter 7."""
    row = partial(Row, "Appendix B: ablations", "Appendix B", chapter=7)
    for _, item, cell in cells(paper.appendix_b()):
        yield row(f"L3 with {item}", cell, verdict=Verdict("not reproducible here", why=NEEDS[cell.quantity]))
    for number, (remark, verdict) in enumerate(remarks("appendix_b"), start=1):
        yield row(f"remark {number}", remark, verdict=verdict)


def elsewhere() -> Iterator[Row]:
    """The published networks on other phones. Their numbers are never set beside those of Table 1."""
    for table in paper.measured_elsewhere():
        for _, item, cell in cells(table):
            verdict = Verdict("not reproducible here", why=NEEDS["npu"])
            yield Row("The same networks measured elsewhere", table.title, item, cell, 5, verdict)


def evaluated() -> Iterator[Row]:
    """The published checkpoints' accuracies with other projects' crops."""
    for table in paper.evaluated_elsewhere():
        for _, item, cell in cells(table):
            verdict = Verdict("not reproducible here", why=NEEDS[cell.quantity])
            yield Row("The same checkpoints evaluated elsewhere", table.title, item, cell, 6, verdict)


def remarks(topic: str) -> Iterator[tuple[paper.Statement, Verdict]]:
    """The remarks on a topic, those with a claim waiting for a chapter."""
    for remark in paper.remarks(topic):
        yield remark, WAITS if remark.text.startswith(CLAIMS) else Verdict("background")
