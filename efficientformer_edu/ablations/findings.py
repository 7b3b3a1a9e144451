"""Findings of a study for the reproduction report, and the file in `results/` that stores them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from efficientformer_edu.ablations.outcome import Outcome, Result
from efficientformer_edu.ablations.variants import REPORTED
from efficientformer_edu.files import atomic_write
from efficientformer_edu.utils.statistics import Agreement

STATUSES: Mapping[Agreement, str] = {
    "contradicted": "disagrees",
    "inconclusive": "inconclusive",
    "supported": "same trend",
}
"""Status of a report row by the agreement with its claims, in order of precedence."""


def findings(outcome: Outcome) -> list[dict[str, str]]:
    """One finding for each row of the report that the study covers.

    The status follows from the verdict of each variant alone, because the reported trend was fixed before the
    study. The verdict after Holm's correction for all rows of the study is given next to it.
    """
    by_row: dict[str, list[Result]] = defaultdict(list)
    for result in outcome.results:
        if result.reported and result.agreement:
            by_row[result.reported.row].append(result)
    answers = []
    for row, results in by_row.items():
        results_text = "; ".join(_answer(result) for result in results)
        if status := _status(row, results):
            why = f"Small networks. {outcome.trained}. {outcome.correction}"
            answers.append({"row": row, "status": status, "ours": results_text, "why": why})
    return answers


def save_findings(outcome: Outcome, path: Path) -> None:
    """Write findings and table as JSON for the report, atomically. Raises OSError if that fails."""
    content = {
        "command": outcome.command,
        **outcome.where,
        "words": outcome.words,
        "findings": findings(outcome),
        "table": json.loads(outcome.table().to_json()),
        "not_run": {name: outcome.to_run(name) for name in outcome.not_run},
    }
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _answer(result: Result) -> str:
    assert result.difference is not None
    assert result.reported is not None
    verdicts = f"{result.verdict}, Holm-corrected {result.holm_verdict}"
    seeds = f", {result.seeds} seeds" if result.added else ""
    return (
        f"{result.words}: {result.difference.points}{seeds}, {verdicts}; "
        f"reported {result.reported.trend}: {result.agreement}"
    )


def _status(row: str, results: Sequence[Result]) -> str | None:
    """Status of a row, from its least supported claim; None if a claim has too few pairs."""
    agreements = [result.agreement for result in results]
    if "too few" in agreements or len(results) < sum(claim.row == row for claim in REPORTED.values()):
        return None
    return next(status for agreement, status in STATUSES.items() if agreement in agreements)
