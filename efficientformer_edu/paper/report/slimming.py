"""Section 4.2: MetaPaths, importance and the three actions of our `slimming` package, and Algorithm 1's steps.

The steps, and all rows that need a measurement, are answered from stored results. A command or chapter stores one JSON
file with the conditions of the measurement and the rows that it answers:

    {"command": "efficientformer-edu observe", "machine": "...", "date": "2026-01-31", "versions": "torch 2.13.0",
     "findings": [{"row": "§3: observation 1", "status": "same trend", "ours": "2.4 times as slow", "why": "..."}]}

`row` is the name of a row, see `Row.name`; `why` is optional. Files without "findings" contain other results and are
ignored. A measurement with too few rounds or pairs has no finding, and its row stays unanswered. The findings on
Algorithm 1 are computed from the records each time, so a status cannot be out of date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from efficientformer_edu import paper
from efficientformer_edu.ablations.outcome import STATUSES
from efficientformer_edu.latency.lookup import Errors
from efficientformer_edu.paper.records import find
from efficientformer_edu.paper.report.design import CHECKS as OF_SECTION_4_1
from efficientformer_edu.paper.report.design import NARROW, TOLERANCE, Sides, compare_sides
from efficientformer_edu.paper.report.recipe import WAITS, remarks
from efficientformer_edu.paper.report.rows import Row, Verdict
from efficientformer_edu.slimming.baselines import METHODS
from efficientformer_edu.slimming.front import AGREES, Slimmed, load_slimming
from efficientformer_edu.slimming.records import SEARCH
from efficientformer_edu.slimming.subnet import CANDIDATES, Subnet, actions, importance
from efficientformer_edu.slimming.supernet import MetaPath, mixture
from efficientformer_edu.utils.records import exists, read_json

PART = "Section 4.2: latency-driven slimming, Eq. 7, Algorithm 1"


def rows() -> Iterator[Row]:
    """Yield a row for every equation, step, action and remark. `slimmed` answers the steps."""
    row = partial(Row, PART, chapter=8)
    for equation in paper.equations():
        if equation.name not in OF_SECTION_4_1:
            where, command = f"Eq. {equation.number}" if equation.number else "§4.2", f'check("{equation.name}")'
            verdict = check(equation.name)
            yield row(where, equation.name, equation, verdict=verdict, command=f"report.slimming.{command}")
    for step in paper.algorithm1():
        yield row("Algorithm 1", f"step {step.number}, {step.name}", step, verdict=WAITS)
    for operation in paper.slimming_actions():
        kind = operation.name.partition(" ")[0]
        command = f'report.slimming.action("{kind}")'
        yield row(
            "Algorithm 1",
            f"action {operation.number}, {operation.name}",
            operation,
            verdict=action(kind),
            command=command,
        )
    for number, (remark, verdict) in enumerate(remarks("slimming"), start=1):
        yield row("§4.2", f"remark {number}", remark, verdict=verdict)


def check(name: str) -> Verdict:
    """Check whether the supernet computes an equation of section 4.2. Raises KeyError for an unknown name."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return CHECKS[name]()


def allowed() -> Verdict:
    """Compare the candidates in the formula with those of the supernet."""
    expected = dict[int, tuple[str, ...]]()
    for line in paper.equation("supernet").latex.splitlines():
        names, separator, stages = line.partition("& j =")
        if separator:
            kinds = [f"MB{block}" if block else "I" for block in re.findall(r"MB\}\^\{(\dD)\}|\{I\}", names)]
            expected |= {int(stage): tuple(kinds) for stage in re.findall(r"\d", stages)}
    built = {stage: MetaPath(NARROW, stage - 1, 0.0).candidates for stage in range(1, len(CANDIDATES) + 1)}
    description = "; ".join(f"stage {stage}: {', '.join(kinds)}" for stage, kinds in built.items())
    if built == expected:
        return Verdict("exact", description, "computed")
    return Verdict("disagrees", description, "computed", "The supernet has different candidates.")


def mixed() -> Verdict:
    """Compare a MetaPath in training with the sum over its candidates, computed with the same noise."""
    torch.manual_seed(0)
    path = MetaPath(NARROW.replace(layer_scale_init=1), stage=3, drop_path=0.0).double().train()
    path.alpha_in_units.copy_(torch.randn(3) / 30)
    path.tau = 0.5
    x = torch.randn(2, NARROW.embed_dims[3], 3, 4, dtype=torch.float64)
    torch.manual_seed(1)
    output = path(x)
    torch.manual_seed(1)
    epsilon = torch.rand(3, dtype=torch.float64)
    powers = [((a + e) / path.tau).exp() for a, e in zip(path.alpha, epsilon, strict=True)]
    terms = [power * path.candidate(name, x) for power, name in zip(powers, path.candidates, strict=True)]
    printed = torch.stack(terms).sum(0) / sum(powers)
    return compare_sides(Sides(printed, printed, output), "")


def weighed(candidates: int) -> Verdict:
    """Compare the importance of a MetaPath with the ratio of α, as printed, and the ratio of the mixture weights."""
    torch.manual_seed(0)
    alpha = torch.randn(candidates, dtype=torch.float64)
    computed = importance(mixture(alpha, 0.0, 1.0).tolist())
    printed, weights = (float(values[:-1].sum() / values[-1]) for values in (alpha, alpha.exp()))
    if abs(computed - printed) <= TOLERANCE * abs(printed):
        return Verdict("exact", f"equal to the formula, to {TOLERANCE:g}", "computed")
    if abs(computed - weights) <= TOLERANCE * weights:
        return Verdict("disagrees", "the ratio of the weights e^α", "computed", OF_WEIGHTS)
    return Verdict("disagrees", "a different number", "computed", "The module computes something else.")


OF_WEIGHTS = (
    "Adding a constant to all α of a MetaPath changes neither the mixture nor the ratio of its weights. It would "
    "change a ratio of α, which can also be negative."
)
CHECKS: dict[str, Callable[[], Verdict]] = {
    "supernet": allowed,
    "gumbel": mixed,
    "importance_early": partial(weighed, 2),
    "importance_late": partial(weighed, 3),
}
START = Subnet((32,) * 4, (("MB4D",) * 2, ("MB4D",) * 2, ("MB3D",) * 2, ("MB3D",) * 2))
WORTH = ((4.0, 4.0), (2.0, 4.0), (9.0, 1.0), (6.0, 7.0))
AFTER = {
    "depth": Subnet(START.embed_dims, (*START.choices[:2], ("MB3D", "I"), START.choices[3])),
    "MB3D": Subnet(START.embed_dims, (*START.choices[:2], ("MB4D", "MB3D"), START.choices[3])),
    "width": Subnet((32, 16, 32, 32), START.choices),
}
"""The result of each action, if MetaPath 2 of stage 3 and stage 2 have the lowest importance."""


def action(kind: str) -> Verdict:
    """Check an action of Algorithm 1 on a small network. Raises KeyError for an unknown kind."""
    expected = AFTER[kind]
    (step,) = (candidate for candidate in actions(START, WORTH, (16,) * 4) if candidate.kind == kind)
    if START.after(step) == expected:
        return Verdict("exact", str(step), "computed")
    return Verdict("disagrees", str(step), "computed", "The action should give a different network.")


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
            raise ValueError(f"{row.name!r} already has an answer: {row.result}, {row.kind}")
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
        data = read_json(path)
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


STUDY = "slimming.json"
COMMAND = "efficientformer-edu slim --data fashion-mnist --baselines"


def findings(results: Path) -> Iterator[Finding]:
    """Yield the findings on the steps of Algorithm 1 from the records in `results/`; none for a step without records.

    Raises:
        ValueError: if a file has an unexpected content.
        OSError: if a file cannot be read.
    """
    study = results / STUDY
    slimmed = load_slimming(study) if exists(study / SEARCH) else None
    if slimmed:
        yield trained(slimmed)
    paths = sorted(results.glob("lookup_*_errors.json"))
    if tables := {path.stem.removeprefix("lookup_").removesuffix("_errors"): Errors.load(path) for path in paths}:
        yield measured(tables)
    if slimmed and (result := slimmed_down(slimmed)):
        yield result


def trained(slimmed: Slimmed) -> Finding:
    """Step 1: the importances learned by the supernet."""
    search = slimmed.search
    values = [importance for stage in search.importances for importance in stage]
    entry = {
        "row": _name(1),
        "status": "same trend",
        "ours": f"{len(values)} MetaPaths, worth {min(values):.2g} to {max(values):.2g}",
        "why": f"With {search.made_of['noise']} noise. Sizes, recipe and the schedule of τ are ours.",
    }
    return finding(entry, _where(slimmed))


def measured(tables: Mapping[str, Errors]) -> Finding:
    """Step 2: prediction error of the lookup tables, by engine."""
    worst = max(errors.worst_at_speed for errors in tables.values())
    middle = max(errors.median_at_speed for errors in tables.values())
    sentences = [
        f"{engine}: off by {errors.median_at_speed:.1%} in the median, {errors.worst_at_speed:.1%} at worst"
        for engine, errors in tables.items()
    ]
    entry = {
        "row": _name(2),
        "status": "same trend" if worst <= AGREES else "inconclusive" if middle <= AGREES else "disagrees",
        "ours": "; ".join(sentences),
        "why": f"Sums of parts against whole networks at one speed of the machine; {AGREES:.0%} are the aim.",
    }
    engine, first = next(iter(tables.items()))
    networks = f"lookup.random_networks(0, {len(first.predictions)})"
    command = f'lookup.prediction_errors(lookup.build(engine="{engine}"), {networks})'
    return finding(entry, {**first.conditions.where(), "command": command})


def slimmed_down(slimmed: Slimmed) -> Finding | None:
    """Step 3: the search, and its networks compared with uniform scaling; None if there are too few pairs."""
    search, front = slimmed.search, slimmed.front
    comparisons = {method: front.compare(method) for method in METHODS if method != "slimming"}
    uniform = comparisons["uniform"]
    status = STATUSES.get(uniform.difference.claim("above", 0)) if uniform else None
    if uniform is None or status is None:
        return None
    sentences = [f"{len(search.steps)} steps to {len(search.family)} of {len(search.targets)} targets"]
    sentences += [
        f"against {METHODS[method]}: {comparison}" for method, comparison in comparisons.items() if comparison
    ]
    times = [
        {point.contender.target: point.contender.predicted for point in front.by_method(method)}
        for method in ("slimming", "uniform")
    ]
    shares = [times[0][target] / times[1][target] for target in uniform.targets]
    why = (
        "The claim, which is ours: at equal latency slimming is better than uniform scaling. Small networks. A network "
        "that a method returns for several targets is compared once, at the tightest. By the table slimming's take "
        f"{min(shares):.0%} to {max(shares):.0%} of the time of uniform scaling's."
    )
    if slimmed.errors:
        why += f" Predicted and measured latency differ by {slimmed.errors.worst_at_speed:.1%} at most."
    entry = {"row": _name(3), "status": status, "ours": "; ".join(sentences), "why": why}
    return finding(entry, _where(slimmed))


def _name(number: int) -> str:
    return next(f"Algorithm 1: step {number}, {step.name}" for step in paper.algorithm1() if step.number == number)


def _where(slimmed: Slimmed) -> dict[str, str]:
    """Return machine, versions and date (of the trainings, if any), and the command that repeats the slimming."""
    seeds = max((record.seed for record in slimmed.records), default=0) + 1
    noise = slimmed.search.made_of["noise"]
    command = f"{COMMAND} --engine {slimmed.lookup.engine} --noise {noise} --seeds {seeds}"
    ran = slimmed.records[0].where if slimmed.records else slimmed.lookup.conditions.where()
    return {**ran, "command": command}
