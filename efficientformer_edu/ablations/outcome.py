"""The outcome of a study: one row per variant with its verdict, the reported trend, and the costs of the change.

Verdicts are not stored; they are computed from the records.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from efficientformer_edu.ablations.costs import EAGER, FOLDED, Costs, load_costs
from efficientformer_edu.ablations.variants import BASE, REPORTED, VARIANTS, ReportedTrend, Variant
from efficientformer_edu.training.study import Record, load_records
from efficientformer_edu.utils.records import exists, pack, stored
from efficientformer_edu.utils.statistics import (
    LEVEL,
    MIN_SAMPLES,
    Agreement,
    Estimate,
    Verdict,
    holm,
    paired_difference,
    paired_t_test,
)
from efficientformer_edu.utils.tables import Cell, Table

COSTS = "costs.json"
POINTS = "difference, points"  # a column of percentage points
COMMON = ("train", "test", "size")  # fields that all runs of a study share, independent of their variant
COMMAND = "efficientformer-edu ablate"
MARGIN = 0.005  # accuracies that differ by at most half a percentage point count as equivalent


@dataclass(frozen=True)
class Result:
    """One row of a study.

    Attributes:
        name: name of the variant.
        description: description of the change.
        top1: accuracy by seed, from 0 to 1.
        stopped: number of runs that diverged; their accuracy is chance level.
        added: number of seeds that were added after the study was first run.
        difference: mean accuracy difference to the base over the common seeds; None for the base, or without pairs.
        p_value: Holm-adjusted p-value of the paired t-test over all rows; None with fewer than `MIN_SAMPLES` pairs.
        reported: the reported trend; None if there is no source.
    """

    name: str
    description: str
    top1: Mapping[int, float]
    stopped: int
    added: int
    difference: Estimate | None
    p_value: float | None
    reported: ReportedTrend | None

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds."""
        return sum(self.top1.values()) / len(self.top1)

    @property
    def seeds(self) -> str:
        """Number of seeds, such as "5", or "5 + 3 added" if some were added later."""
        return f"{len(self.top1) - self.added} + {self.added} added" if self.added else str(len(self.top1))

    @property
    def verdict(self) -> Verdict | None:
        """The verdict of this row alone."""
        return self.difference and self.difference.verdict(margin=MARGIN)

    @property
    def holm_verdict(self) -> Verdict | None:
        """The verdict if all rows are tested at once: "better" and "worse" require an adjusted p-value below 5 %.

        If it is larger, the row is "equivalent" if its interval lies within the margin, else "inconclusive".
        """
        significant = self.p_value is None or self.p_value < 1 - LEVEL
        if self.difference is None or significant or self.verdict not in ("better", "worse"):
            return self.verdict
        return "equivalent" if self.difference.agreement("equivalent", MARGIN) == "supported" else "inconclusive"

    @property
    def agreement(self) -> Agreement | None:
        """Whether the difference supports the reported trend."""
        return self.difference.agreement(self.reported.trend, MARGIN) if self.difference and self.reported else None


@dataclass(frozen=True)
class Outcome:
    """The outcome of a study.

    Attributes:
        results: one result per trained variant, the base first.
        command: command that runs the study.
        not_run: names of the variants that were not trained.
        costs: costs of the changes in the full-size network; None if they were not measured.
        common: images and image size that all runs share.
        where: machine, versions and date of the runs.
    """

    results: tuple[Result, ...]
    command: str
    not_run: tuple[str, ...]
    costs: Costs | None
    common: Mapping[str, Any]
    where: Mapping[str, str]

    def __getitem__(self, name: str) -> Result:
        """The result of a variant. Raises KeyError that lists the available variants."""
        by_name = {result.name: result for result in self.results}
        if name not in by_name:
            raise KeyError(f"{name!r} was not run; available: {', '.join(by_name)}")
        return by_name[name]

    @property
    def trained(self) -> str:
        """Description of the training data and of the accuracy difference."""
        counts = sorted({len(result.top1) for result in self.results})
        seeds = f"{' or '.join(map(str, counts))} seed{'s' * (counts != [1])}"
        added = ", some of them added after the first results" if any(result.added for result in self.results) else ""
        return (
            f"Accuracy: {self.common['train']}; evaluated on {self.common['test']}; {self.common['size']} pixels; "
            f"{seeds}{added}. Differences from the base in percentage points, paired by seed, with 95 % confidence "
            "intervals over the seeds"
        )

    @property
    def correction(self) -> str:
        """Explanation of the corrected verdicts, and why both are reported."""
        rows = sum(result.p_value is not None for result in self.results)
        return (
            f"A verdict is about its row alone. With Holm's correction for all {rows} rows, the probability that the "
            "whole table contains a false difference is at most 5 %."
        )

    @property
    def description(self) -> str:
        """Description of the training data and of the columns."""
        text = f"{self.trained}; equivalent: within {100 * MARGIN:g} points. {self.correction}"
        if self.costs is None:
            return text
        where = self.costs.measurement.conditions
        return (
            f"{text} Parameters, MACs and ms: the same change in EfficientFormer-L1 at 224 pixels, one image on one "
            f"thread of {where.machine}, {where.date}; medians with 95 % intervals; times base: ratio to the base, "
            "paired by round; empty in the folded form: cannot be folded."
        )

    def table(self) -> Table:
        """All rows of the study, including those that were not run, which have no seeds.

        `top-1` is the mean accuracy from 0 to 1, `difference` is in percentage points. Of the seeds, some were added
        after the study was first run, and some runs stopped early because of a NaN.
        """
        accuracy = ("top-1", "seeds", "added", "stopped early", POINTS, "verdict", "Holm", "reported", "agreement")
        times = [f"{name}{form}" for form in (EAGER, FOLDED) for name in ("ms ", "times base, ", "verdict, ")]
        columns = ("row", *accuracy, "parameters", "MACs", *times)
        rows = [(*_accuracy_cells(result), *self._cost_cells(result.name)) for result in self.results]
        rows += [(name, None, 0, *[None] * (len(columns) - 3)) for name in self.not_run]
        formats = {"top-1": ".2%", POINTS: "+.2f"} | {f"times base, {form}": ".3f" for form in (EAGER, FOLDED)}
        return Table(columns, tuple(rows), formats=formats)

    def to_run(self, name: str) -> str:
        """The command that runs a missing row."""
        return f"{self.command} --rows {name} --resume"

    def _repr_markdown_(self) -> str:
        return f"{self.table().to_markdown()}\n\n{self.description}"

    def _cost_cells(self, name: str) -> tuple[Cell, ...]:
        costs = self.costs
        if costs is None or name not in costs.params:
            return (None,) * 8
        cells: list[Cell] = [costs.params[name], costs.macs[name]]
        for form in (EAGER, FOLDED):
            ratio = None if name == BASE else costs.ratio(name, form)
            cells += [costs.milliseconds(name, form), ratio, _speed_verdict(ratio)]
        return tuple(cells)


def _accuracy_cells(result: Result) -> tuple[Cell, ...]:
    difference = result.difference and result.difference.scaled(100)
    trend = result.reported.trend if result.reported else None
    verdicts = result.verdict, result.holm_verdict, trend, result.agreement
    return result.name, result.mean, len(result.top1), result.added, result.stopped, difference, *verdicts


def _speed_verdict(ratio: Estimate | None) -> str | None:
    """The verdict on a ratio of latencies: "faster" or "slower" only if the interval excludes 1."""
    verdict = ratio and ratio.verdict(1, higher_is_better=False)
    return {"better": "faster", "worse": "slower"}.get(verdict, verdict) if verdict else None


def load_outcome(folder: Path, variants: Mapping[str, Variant] = VARIANTS, command: str = COMMAND) -> Outcome:
    """Compute the outcome from the records of a study, with the costs if they were measured.

    Args:
        folder: folder of the study, or the file into which it was packed.
        variants: variants by name, including the base.
        command: command that runs the study.

    Raises:
        ValueError: if a file is not a record, the records belong to different studies, or the base is missing.
    """
    records: dict[str, dict[int, Record]] = {name: {} for name in variants}
    for record in load_records(folder):
        if record.variant not in variants:
            raise ValueError(f"{folder}: unknown variant {record.variant!r}; available: {', '.join(variants)}")
        records[record.variant][record.seed] = record
    if not records[BASE]:
        raise ValueError(f"{folder}: the base was not run; all variants are compared with it")
    first = next(iter(records[BASE].values()))
    common = {name: first.run[name] for name in COMMON}
    for record in (record for by_seed in records.values() for record in by_seed.values()):
        if other := [name for name in COMMON if record.run[name] != common[name]]:
            raise ValueError(f"{folder}: {record.variant}, seed {record.seed}: {other[0]} differs from the base's")
    base = {seed: record.top1 for seed, record in records[BASE].items()}
    results = [_result(name, variants[name], by_seed, base) for name, by_seed in records.items() if by_seed]
    not_run = tuple(name for name, by_seed in records.items() if not by_seed)
    costs = load_costs(folder / COSTS) if exists(folder / COSTS) else None
    return Outcome(_corrected(results, base), command, not_run, costs, common, first.where)


def stored_outcome() -> Outcome:
    """The outcome of the study that the package contains."""
    return load_outcome(stored("ablations.json"))


def _result(name: str, variant: Variant, records: Mapping[int, Record], base: Mapping[int, float]) -> Result:
    top1 = {seed: record.top1 for seed, record in records.items()}
    paired = name != BASE and not top1.keys().isdisjoint(base)
    difference = paired_difference(top1, base) if paired else None
    stopped = sum(bool(record.stopped) for record in records.values())
    added = sum(not record.planned for record in records.values())
    return Result(name, variant.description, top1, stopped, added, difference, None, REPORTED.get(name))


def _corrected(results: list[Result], base: Mapping[int, float]) -> tuple[Result, ...]:
    """The results with adjusted p-values. The family consists of the rows with enough pairs for a verdict."""
    family = [result for result in results if result.difference and result.difference.samples >= MIN_SAMPLES]
    p_values = [
        paired_t_test([top1 - base[seed] for seed, top1 in result.top1.items() if seed in base]) for result in family
    ]
    adjusted = dict(zip((result.name for result in family), holm(p_values), strict=True))
    return tuple(replace(result, p_value=adjusted.get(result.name)) for result in results)


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
    why = f"Small networks. {outcome.trained}. {outcome.correction}"
    return [
        {"row": row, "status": status, "ours": "; ".join(map(_answer, results)), "why": why}
        for row, results in by_row.items()
        if (status := _status(row, results))
    ]


def save_outcome(outcome: Outcome, folder: Path, path: Path) -> None:
    """Write the records of a study into one file, with table and findings for the report. Raises OSError if that fails.

    Args:
        outcome: the outcome of the study.
        folder: folder of the study.
        path: the file, which `load_outcome` reads like the folder.
    """
    summary = {
        "command": outcome.command,
        **outcome.where,
        "words": outcome.description,
        "findings": findings(outcome),
        "table": json.loads(outcome.table().to_json()),
        "not_run": {name: outcome.to_run(name) for name in outcome.not_run},
    }
    pack(folder, path, summary=summary)


def _answer(result: Result) -> str:
    assert result.difference is not None
    assert result.reported is not None
    verdicts = f"{result.verdict}, Holm-corrected {result.holm_verdict}"
    seeds = f", {result.seeds} seeds" if result.added else ""
    return (
        f"{result.description}: {result.difference.points}{seeds}, {verdicts}; "
        f"reported {result.reported.trend}: {result.agreement}"
    )


def _status(row: str, results: Sequence[Result]) -> str | None:
    """Status of a row, from its least supported claim; None if a claim has too few pairs."""
    agreements = [result.agreement for result in results]
    if "too few" in agreements or len(results) < sum(claim.row == row for claim in REPORTED.values()):
        return None
    return next(status for agreement, status in STATUSES.items() if agreement in agreements)
