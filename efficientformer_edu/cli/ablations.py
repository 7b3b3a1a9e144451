"""The command `efficientformer-edu ablate`: change one component at a time, and measure accuracy and latency."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from efficientformer_edu.training.study import Study

OUT = Path("runs/ablations")


def ablate(
    rows: Annotated[str | None, typer.Option(help="variants with commas between them; all without it")] = None,
    seeds: Annotated[
        int,
        typer.Option(min=1, help="runs per variant; a verdict needs 5; seeds beyond those of the first run are marked"),
    ] = 5,
    out: Annotated[Path, typer.Option(help="the folder of the study")] = OUT,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the study in the folder")] = False,
    list_rows: Annotated[bool, typer.Option("--list", help="print the variants, and what is reported of them")] = False,
    protocol: Annotated[
        str | None, typer.Option(help="laptop, or embedded for what comes with the package; by the images at hand")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="where Fashion-MNIST's files lie")] = None,
) -> None:
    """Train the base and its variants with the same seeds, and compare them in pairs.

    Then time the same changes in the full-size network. --resume continues an interrupted study.
    """
    from efficientformer_edu.ablations.variants import get_variants, variant_table

    if list_rows:
        typer.echo(variant_table().to_text(), nl=False)
        return
    variants = get_variants(rows.split(",") if rows is not None else None)

    from efficientformer_edu.ablations.outcome import COMMAND, load_outcome, save_outcome
    from efficientformer_edu.ablations.study import PROTOCOLS, get_protocol, get_study

    name = get_protocol(protocol, data_dir)
    study = get_study(out, PROTOCOLS[name], variants, seeds, resume=resume, data_dir=data_dir)
    count = len(study.missing)
    typer.echo(f"{len(variants)} rows, {seeds} seeds: {count} runs to go; {name}: {PROTOCOLS[name].words}", err=True)
    _train(study)
    _time(out)
    options = {"protocol": protocol, "out": out if out != OUT else None}
    command = COMMAND + "".join(f" --{option} {value}" for option, value in options.items() if value is not None)
    outcome, summary = load_outcome(out, command=command), out.parent / f"{out.name}.json"
    save_outcome(outcome, out, summary)
    typer.echo(f"\n{outcome.table().to_text()}\n{outcome.words}")
    for row in outcome.not_run:
        typer.echo(f"Not run: {row}; {outcome.to_run(row)}")
    typer.echo(f"Every run and the times: {out}; all of it in one file, with the findings: {summary}")


def _train(study: Study) -> None:
    """Train the missing runs, and print one line per run with the remaining time."""
    count, started = len(study.missing), time.perf_counter()
    for done, record in enumerate(study.run(), start=1):
        left = (time.perf_counter() - started) / done * (count - done)
        score = record.stopped or f"top-1 {record.top1:.2%}"
        typer.echo(f"{done} of {count}: {record.variant}, seed {record.seed}, {score}; {_minutes(left)} left")


def _time(folder: Path) -> None:
    """Time all variants in turns, unless they have been timed."""
    from efficientformer_edu.ablations.costs import load_costs, measure_costs
    from efficientformer_edu.ablations.outcome import COSTS, load_outcome
    from efficientformer_edu.ablations.variants import get_variants

    trained, path = [result.name for result in load_outcome(folder).results], folder / COSTS
    if path.exists() and set(trained) <= set(load_costs(path).params):
        return
    typer.echo(f"timing {len(trained)} variants of EfficientFormer-L1", err=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        measure_costs(get_variants(trained), progress=True).save(path)
    for warning in dict.fromkeys(str(entry.message) for entry in caught):
        typer.echo(f"Warning: {warning}", err=True)


def _minutes(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
