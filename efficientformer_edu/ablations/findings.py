"""What the reproduction report takes up of a study, and the file in `results/` from which it does."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from efficientformer_edu.ablations.outcome import Outcome, Result
from efficientformer_edu.ablations.variants import SAID
from efficientformer_edu.files import whole
from efficientformer_edu.training.statistics import FEWEST


def findings(outcome: Outcome) -> list[dict[str, str]]:
    """One answer for each row of the report that something here answers."""
    answers: dict[str, list[Result]] = defaultdict(list)
    for result in outcome.results:
        if result.said and result.agreement:
            answers[result.said.row].append(result)
    found = []
    for row, results in answers.items():
        ours = "; ".join(
            f"{result.words}: {result.difference}, reported {result.said.trend}: {result.agreement}"
            for result in results
            if result.said
        )
        if status := _status(row, results):
            found.append({"row": row, "status": status, "ours": ours, "why": f"Small networks. {outcome.trained}."})
    return found


def save_findings(outcome: Outcome, path: Path) -> None:
    """Write findings and table as JSON, for the report, whole or not at all. Raises OSError if that fails."""
    told = {
        "command": outcome.command,
        **outcome.where,
        "words": outcome.words,
        "findings": findings(outcome),
        "table": json.loads(outcome.table().to_json()),
        "not_run": {name: outcome.to_run(name) for name in outcome.not_run},
    }
    with whole(path) as partial:
        partial.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _status(row: str, results: Sequence[Result]) -> str | None:
    """The report's word for a row: that of its worst claim; none while a claim has too few pairs for a verdict."""
    agreements = [result.agreement for result in results if result.difference and result.difference.pairs >= FEWEST]
    if len(agreements) < sum(said.row == row for said in SAID.values()):
        return None
    if "disagrees" in agreements:
        return "disagrees"
    return "cannot tell" if "cannot tell" in agreements else "same trend"
