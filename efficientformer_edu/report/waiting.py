"""Rows without a check: items that a chapter measures, and items that need more than a laptop.

A chapter stores its measurements in `results/`; `findings` then answers the row of that name.
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
"""First words of the remarks with a measurable claim; the other remarks are background."""


def observations() -> Iterator[Row]:
    """Yield the rows of section 3 (chapter 1)."""
    row = partial(Row, "Section 3: four observations and Fig. 2", chapter=1, verdict=WAITS)
    for observation in paper.observations():
        yield row("§3", f"observation {observation.number}", observation)
    yield row("Fig. 2", "latency by class of operators", paper.figure2())


def appendix_b() -> Iterator[Row]:
    """Yield the rows of Appendix B (chapter 7)."""
    row = partial(Row, "Appendix B: ablations", "Appendix B", chapter=7)
    for _, item, cell in cells(paper.appendix_b()):
        yield row(f"L3 with {item}", cell, verdict=Verdict("not reproducible here", why=NEEDS[cell.quantity]))
    for number, (remark, verdict) in enumerate(remarks("appendix_b"), start=1):
        yield row(f"remark {number}", remark, verdict=verdict)


def elsewhere() -> Iterator[Row]:
    """Yield the published networks on other phones, which are not comparable with Table 1."""
    for table in paper.measured_elsewhere():
        for _, item, cell in cells(table):
            verdict = Verdict("not reproducible here", why=NEEDS["npu"])
            yield Row("The same networks measured elsewhere", table.title, item, cell, 5, verdict)


def evaluated() -> Iterator[Row]:
    """Yield the accuracies of the published checkpoints with other projects' crops."""
    for table in paper.evaluated_elsewhere():
        for _, item, cell in cells(table):
            verdict = Verdict("not reproducible here", why=NEEDS[cell.quantity])
            yield Row("The same checkpoints evaluated elsewhere", table.title, item, cell, 6, verdict)


def remarks(topic: str) -> Iterator[tuple[paper.Statement, Verdict]]:
    """Yield the remarks on a topic; the verdict of a measurable claim is `WAITS`."""
    for remark in paper.remarks(topic):
        yield remark, WAITS if remark.text.startswith(CLAIMS) else Verdict("background")
