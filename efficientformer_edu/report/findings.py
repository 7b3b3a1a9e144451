"""Measured answers to rows of the report, read from `results/`.

A command or chapter stores one JSON file with the conditions of the measurement and the rows that it answers:

    {"command": "efficientformer-edu observe", "machine": "...", "date": "2026-01-31", "versions": "torch 2.13.0",
     "findings": [{"row": "§3: observation 1", "status": "same trend", "ours": "2.4 times as slow", "why": "..."}]}

`row` is the name of a row as `Row.name` spells it; `why` is optional. Files without "findings" hold other results and
are ignored. A measurement with too few rounds or pairs has no finding, and its row stays unanswered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from efficientformer_edu.paper.records import find
from efficientformer_edu.report.rows import Row, Verdict

MEASURED = ("same trend", "inconclusive", "disagrees")
COMMON = ("command", "machine", "date", "versions")


@dataclass(frozen=True)
class Finding:
    """A measured answer to one row: its name, the verdict, and the command that measures it again."""

    row: str
    verdict: Verdict
    command: str


def read_findings(folder: Path) -> tuple[Finding, ...]:
    """Read the findings of all JSON files in a folder, in the order of the file names; none if the folder is missing.

    Raises:
        ValueError: naming the file, if it is not JSON, or if a field is missing, unknown or invalid.
    """
    return tuple(finding for path in sorted(folder.glob("*.json")) for finding in _read(path))


def answered(rows: Iterable[Row], findings: Iterable[Finding]) -> tuple[Row, ...]:
    """Return the rows, with the verdict and command of each finding filled in.

    Raises:
        ValueError: for a finding whose row does not exist or already has an answer.
    """
    by_name = {row.name: row for row in rows}
    for finding in findings:
        row = find(finding.row, by_name, "row of the report")
        if row.kind is not None:
            raise ValueError(f"{row.name!r} already has an answer: {row.ours}, {row.kind}")
        by_name[row.name] = replace(row, verdict=finding.verdict, command=finding.command)
    return tuple(by_name.values())


def finding(entry: Mapping[str, Any], where: Mapping[str, str]) -> Finding:
    """Create a finding from its JSON entry and the fields of its file.

    Raises:
        ValueError: if a field is missing, unknown or invalid.
    """
    if unknown := set(entry) - {"row", "status", "ours", "why"}:
        raise ValueError(f"a finding has no field {', '.join(sorted(unknown))}; it has row, status, ours and why")
    if (status := _field(entry, "status")) not in MEASURED:
        raise ValueError(f"status={status!r} is not possible for a measurement; allowed: {', '.join(MEASURED)}")
    measured = f"Measured on {where['machine']}; {where['versions']}; {where['date']}."
    why = f"{entry.get('why', '')} {measured}".strip()
    return Finding(_field(entry, "row"), Verdict(status, _field(entry, "ours"), "measured", why), where["command"])


def _read(path: Path) -> Iterator[Finding]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or "findings" not in data:
            return
        where = {name: str(_field(data, name)) for name in COMMON}
        for entry in data["findings"]:
            yield finding(entry, where)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _field(data: Mapping[str, Any], name: str) -> Any:
    if name not in data:
        raise ValueError(f"the field {name!r} is missing")
    return data[name]
