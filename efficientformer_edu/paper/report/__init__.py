"""The reproduction report: one row per item that the paper reports, compared with this package.

Each module has the rows of one part: `design` (section 4.1), `slimming` (section 4.2), `table1`, `table2`, `recipe`
(section 5.1 and what is not computed), `differences`. To answer a row:

* *computed*: write a function that returns a `Verdict`, and call it where `recipe` now gives `WAITS`. For an equation,
  add it to `design.CHECKS`;
* *measured*: store a JSON file with the results, as described in `slimming.read_findings`. It names the row, so no code
  changes. If the verdict depends on many records, they are read instead.

No number of a row is written by hand: reported numbers come from `efficientformer_edu.paper`, ours from the function or
the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from efficientformer_edu.audit.published import Networks
from efficientformer_edu.config import PRESETS
from efficientformer_edu.paper.report import design, differences, recipe, slimming, table1, table2
from efficientformer_edu.paper.report.design import check
from efficientformer_edu.paper.report.page import to_markdown
from efficientformer_edu.paper.report.rows import MEANINGS, Kind, Row, Status, Verdict
from efficientformer_edu.paper.report.slimming import answered, read_findings
from efficientformer_edu.utils.records import RESULTS

__all__ = ["MEANINGS", "Kind", "Row", "Status", "Verdict", "check", "report", "rows", "to_markdown"]


def report(checkout: Path, results: Path = RESULTS) -> tuple[Row, ...]:
    """Return all rows of the report, in the paper's order.

    Args:
        checkout: the top folder of the repository, with chapters in `notebooks/`.
        results: folder of the measurements.

    Raises:
        ValueError: if there are no notebooks in the folder, or if a stored result does not fit a row.
    """
    notebooks = _notebooks(checkout / "notebooks")
    answers = answered(rows(), (*read_findings(results), *slimming.findings(results)))
    return tuple(replace(row, notebook=notebooks.get(row.chapter, "")) for row in answers)


def rows(networks: Networks = PRESETS) -> Iterator[Row]:
    """Yield all rows without stored results and links to notebooks.

    Args:
        networks: the configurations to compare with the published `"l1"`, `"l3"` and `"l7"`.
    """
    yield from recipe.observations()
    yield from design.rows(networks)
    yield from slimming.rows()
    yield from table1.rows(networks)
    yield from table1.comparisons()
    yield from recipe.rows()
    yield from table2.rows()
    yield from recipe.appendix_b()
    yield from differences.rows(networks)
    yield from recipe.external_latencies()
    yield from recipe.external_accuracies()
    yield from table1.external_counts(networks)


def _notebooks(folder: Path) -> dict[int, str]:
    chapters = {int(path.stem[:2]): path.stem for path in folder.glob("[0-9][0-9]_*.ipynb")}
    if not chapters:
        raise ValueError(f"no chapters in {folder}: give the top folder of the kit, which holds notebooks/")
    return chapters
