"""Answers to the steps of Algorithm 1: results of our own slimming, and the prediction error of lookup tables.

They are computed from the records in `results/`: the lookup-table errors, and the folder `slimming`. The records are
read each time, so a status cannot be out of date.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from efficientformer_edu import paper
from efficientformer_edu.ablations.findings import STATUSES
from efficientformer_edu.latency.lookup_errors import Errors
from efficientformer_edu.report.findings import Finding, finding
from efficientformer_edu.slimming.contenders import METHODS
from efficientformer_edu.slimming.front import AGREES
from efficientformer_edu.slimming.records import SEARCH
from efficientformer_edu.slimming.stored import Slimmed, load_slimming

FOLDER = "slimming"
COMMAND = "efficientformer-edu slim --data fashion-mnist --baselines"


def findings(results: Path) -> Iterator[Finding]:
    """Yield the findings on the steps of Algorithm 1 from the records in `results/`; none for a step without records.

    Raises:
        ValueError: if a file has an unexpected content.
        OSError: if a file cannot be read.
    """
    folder = results / FOLDER
    slimmed = load_slimming(folder) if (folder / SEARCH).exists() else None
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
