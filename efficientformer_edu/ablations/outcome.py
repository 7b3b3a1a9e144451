"""What a study found: a row for each variant, with its verdict, what is reported, and what the change costs.

A verdict is computed from the records whenever it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientformer_edu.ablations.costs import EAGER, FOLDED, Costs, load_costs
from efficientformer_edu.ablations.variants import BASE, SAID, VARIANTS, Said, Variant
from efficientformer_edu.audit.tables import Cell, Table
from efficientformer_edu.latency.records import stored
from efficientformer_edu.training.records import Record, load_records
from efficientformer_edu.training.statistics import ALIKE, LEVEL, Agreement, Difference, Verdict, paired_difference

COSTS = "costs.json"
COMMON = ("train", "test", "size")  # what all runs of a study share, whatever their variant
COMMAND = "efficientformer-edu ablate"


@dataclass(frozen=True)
class Result:
    """One row.

    Attributes:
        name: of the variant.
        words: what is changed.
        top1: accuracy by seed.
        stopped: how many of the runs broke off; they count as guessing.
        difference: from the base, pair by pair; None for the base itself, and without a pair.
        said: what is reported; None where nothing is sourced.
    """

    name: str
    words: str
    top1: Mapping[int, float]
    stopped: int
    difference: Difference | None
    said: Said | None

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds."""
        return sum(self.top1.values()) / len(self.top1)

    @property
    def verdict(self) -> Verdict | None:
        return self.difference and self.difference.verdict

    @property
    def agreement(self) -> Agreement | None:
        """Whether the trend here is the one that is reported."""
        return self.difference.agreement(self.said.trend) if self.difference and self.said else None


@dataclass(frozen=True)
class Outcome:
    """What a study found.

    Attributes:
        results: one for each variant that was trained, the base first.
        command: what runs the study.
        not_run: names of those that were not.
        costs: of the changes in the full-size network; None where they were not measured.
        common: images and size that all runs share.
        where: machine, versions and date of the runs.
    """

    results: tuple[Result, ...]
    command: str
    not_run: tuple[str, ...]
    costs: Costs | None
    common: Mapping[str, Any]
    where: Mapping[str, str]

    def __getitem__(self, name: str) -> Result:
        """The result of a variant. Raises KeyError with the names that there are."""
        found = {result.name: result for result in self.results}
        if name not in found:
            raise KeyError(f"{name!r} was not run; there are {', '.join(found)}")
        return found[name]

    @property
    def trained(self) -> str:
        """What was trained on what, and what a difference is."""
        seeds = sorted({len(result.top1) for result in self.results})
        many = f"{' or '.join(map(str, seeds))} seed{'s' * (seeds != [1])}"
        return (
            f"Accuracy: {self.common['train']}; judged by {self.common['test']}; {self.common['size']} pixels; {many}. "
            f"Differences from the base in percentage points, pair by pair, with their {100 * LEVEL:g} % interval"
        )

    @property
    def words(self) -> str:
        """What was trained on what, and what the columns mean."""
        return (
            f"{self.trained}; alike: within {100 * ALIKE:g} points. Parameters, MACs and ms: "
            "the same change in EfficientFormer-L1 at 224 pixels; – does not fold."
        )

    def table(self) -> Table:
        """Every row of the study, those that were not run as well."""
        rows = [self._row(result) for result in self.results]
        rows += [(name, "not run", *[None] * 9) for name in self.not_run]
        columns = ("row", "top-1", "difference", "interval", "verdict", "reported", "trend")
        return Table((*columns, "parameters", "MACs", "ms eager", "ms folded"), tuple(rows))

    def to_run(self, name: str) -> str:
        """The command that runs a row which was not run."""
        return f"{self.command} --rows {name} --resume"

    def _repr_markdown_(self) -> str:
        return f"{self.table().to_markdown()}\n\n{self.words}"

    def _row(self, result: Result) -> tuple[Cell, ...]:
        name, costs, difference = result.name, self.costs, result.difference
        broke_off = f", {result.stopped} broke off" if result.stopped else ""
        cells: list[Cell] = [name, f"{100 * result.mean:.2f} %{broke_off}"]
        if difference is None:
            cells += [None, None]
        else:
            mean, low, high = (f"{100 * value:+.2f}" for value in difference[:3])
            cells += [mean, f"{low} to {high}"]
        cells += [result.verdict, result.said.trend if result.said else None, result.agreement]
        if costs is None or name not in costs.params:
            return (*cells, None, None, None, None)
        eager, folded = (costs.milliseconds(name, form) for form in (EAGER, FOLDED))
        times = (f"{eager:.1f}", f"{folded:.1f}" if folded else "–") if eager else (None, None)
        return (*cells, costs.params[name], costs.macs[name], *times)


def load_outcome(folder: Path, variants: Mapping[str, Variant] = VARIANTS, command: str = COMMAND) -> Outcome:
    """What the records in the folder of a study say, with the costs if they are there.

    Args:
        folder: of the study.
        variants: by name, the base among them.
        command: what runs the study.

    Raises:
        ValueError: if a file is no record, the records belong to different studies, or the base is missing.
    """
    records: dict[str, dict[int, Record]] = {name: {} for name in variants}
    for record in load_records(folder):
        if record.variant not in variants:
            raise ValueError(f"{folder}: {record.variant!r} is no variant; there are {', '.join(variants)}")
        records[record.variant][record.seed] = record
    if not records[BASE]:
        raise ValueError(f"{folder}: the base was not run, and everything is compared with it")
    first = next(iter(records[BASE].values()))
    common = {name: first.run[name] for name in COMMON}
    for record in (record for of_variant in records.values() for record in of_variant.values()):
        if other := [name for name in COMMON if record.run[name] != common[name]]:
            raise ValueError(f"{folder}: {record.variant}, seed {record.seed} has another {other[0]} than the base")
    base = {seed: record.top1 for seed, record in records[BASE].items()}
    results = [_result(name, variants[name], found, base) for name, found in records.items() if found]
    not_run = tuple(name for name, found in records.items() if not found)
    costs = load_costs(folder / COSTS) if (folder / COSTS).exists() else None
    return Outcome(tuple(results), command, not_run, costs, common, first.where)


def stored_outcome(name: str = "ablations") -> Outcome | None:
    """The study in the `results/` of the checkout that this package runs from; None where there is none."""
    summary = stored(f"{name}.json")
    return load_outcome(summary.with_suffix("")) if summary else None


def _result(name: str, variant: Variant, records: Mapping[int, Record], base: Mapping[int, float]) -> Result:
    top1 = {seed: record.top1 for seed, record in records.items()}
    paired = name != BASE and not top1.keys().isdisjoint(base)
    difference = paired_difference(top1, base) if paired else None
    stopped = sum(bool(record.stopped) for record in records.values())
    return Result(name, variant.words, top1, stopped, difference, SAID.get(name))
