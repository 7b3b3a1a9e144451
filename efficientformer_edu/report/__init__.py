"""The reproduction report: everything the paper reports, one row each, and how ours compares.

Rows are made by the modules of this room, part by part: `table1`, `table2`, `recipe`, `counted`, `design`, `slimming`
and `differences` compute their verdicts, `waiting` holds what nothing answers yet. A later chapter adds its answer in
one of two ways:

* *computed*: a function that returns a `Verdict`, called where `waiting` now gives `WAITS`. An equation is entered in
  `equations.CHECKS`;
* *measured*: a JSON file in `results/`, as `findings` describes. It names the row, and nothing here changes. Where the
  verdict follows from many records, as in `slimmed`, they are read instead.

No number of a row is typed here: reported ones come from `efficientformer_edu.paper`, ours from the function or the
file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from efficientformer_edu.audit.published import Networks
from efficientformer_edu.config import PRESETS
from efficientformer_edu.report import counted, design, differences, recipe, slimmed, slimming, table1, table2, waiting
from efficientformer_edu.report.equations import check
from efficientformer_edu.report.findings import answered, read_findings
from efficientformer_edu.report.page import to_markdown
from efficientformer_edu.report.rows import MEANINGS, Kind, Row, Status, Verdict

__all__ = ["MEANINGS", "Kind", "Row", "Status", "Verdict", "check", "report", "rows", "to_markdown"]


def report(checkout: Path) -> tuple[Row, ...]:
    """The whole report, in the paper's order.

    Args:
        checkout: the top folder of the kit. Its `notebooks/` says which chapters are written, its `results/` what they
            have measured.

    Raises:
        ValueError: if there are no notebooks in the folder, or if a stored result does not fit a row.
    """
    notebooks = _notebooks(checkout / "notebooks")
    results = checkout / "results"
    found = answered(rows(), (*read_findings(results), *slimmed.findings(results)))
    return tuple(replace(row, notebook=notebooks.get(row.chapter, "")) for row in found)


def rows(networks: Networks = PRESETS) -> Iterator[Row]:
    """All rows without what a checkout adds: stored results and the chapters' notebooks.

    Args:
        networks: the configurations to hold against the published `"l1"`, `"l3"` and `"l7"`.
    """
    yield from waiting.observations()
    yield from design.rows(networks)
    yield from slimming.rows()
    yield from table1.rows(networks)
    yield from table1.comparisons()
    yield from recipe.rows()
    yield from table2.rows()
    yield from waiting.appendix_b()
    yield from differences.rows(networks)
    yield from waiting.elsewhere()
    yield from waiting.evaluated()
    yield from counted.elsewhere(networks)


def _notebooks(folder: Path) -> dict[int, str]:
    found = {int(path.stem[:2]): path.stem for path in folder.glob("[0-9][0-9]_*.ipynb")}
    if not found:
        raise ValueError(f"no chapters in {folder}: give the top folder of the kit, which holds notebooks/")
    return found
