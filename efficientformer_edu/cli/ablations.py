"""The command `efficientformer-edu ablate`: train the variants of a study, time them, and print the verdicts."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from efficientformer_edu.cli.common import collect_warnings, print_notes

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from efficientformer_edu.training.study import Study

OUT = Path("runs/ablations")
Scheduler = Annotated[
    str | None,
    typer.Option(help="address of a dask.distributed scheduler, such as tcp://10.0.0.1:8786: train on its machines"),
]


def ablate(
    rows: Annotated[str | None, typer.Option(help="variants, separated by commas [default: all]")] = None,
    seeds: Annotated[
        int,
        typer.Option(min=1, help="runs per variant; a verdict needs 5; seeds added to an existing study are marked"),
    ] = 5,
    out: Annotated[Path, typer.Option(help="folder of the study")] = OUT,
    resume: Annotated[bool, typer.Option("--resume", help="continue the study in the folder")] = False,
    list_rows: Annotated[bool, typer.Option("--list", help="print the variants and their reported results")] = False,
    protocol: Annotated[
        str | None, typer.Option(help="laptop or embedded (images of the package) [default: by available images]")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="folder with the files of Fashion-MNIST")] = None,
    scheduler: Scheduler = None,
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
    from efficientformer_edu.ablations.study import PROTOCOLS, get_protocol, run_of
    from efficientformer_edu.training.study import Study, get_executor

    name = get_protocol(protocol, data_dir)
    build_run = partial(run_of, protocol=PROTOCOLS[name], variants=variants, data_dir=data_dir)
    with get_executor(scheduler) as executor:
        study = Study(out, build_run, tuple(variants), seeds, resume=resume)
        typer.echo(f"{len(variants)} rows, {seeds} seeds; {name}: {PROTOCOLS[name].description}", err=True)
        train_study(study, executor)
    _time(out)
    options = {"protocol": protocol, "out": out if out != OUT else None}
    command = COMMAND + "".join(f" --{option} {value}" for option, value in options.items() if value is not None)
    outcome, packed = load_outcome(out, command=command), out.parent / f"{out.name}.json"
    save_outcome(outcome, out, packed)
    typer.echo(f"\n{outcome.table().to_text()}\n{outcome.description}")
    for row in outcome.not_run:
        typer.echo(f"Not run: {row}; {outcome.to_run(row)}")
    typer.echo(f"Records of all runs, and latencies: {out}; the study in one file: {packed}")


def train_study(study: Study, executor: Executor | None) -> None:
    """Train the missing runs, and print one line per run with the remaining time."""
    count, started = len(study.missing), time.perf_counter()
    typer.echo(f"{count} runs to train", err=True)
    for done, record in enumerate(study.run(executor), start=1):
        minutes = round((time.perf_counter() - started) / done * (count - done) / 60)
        left = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
        score = record.stopped or f"top-1 {record.top1:.2%}"
        typer.echo(f"{done} of {count}: {record.variant}, seed {record.seed}, {score}; {left} left")


def _time(folder: Path) -> None:
    """Time all trained variants interleaved, unless they have been timed."""
    from efficientformer_edu.ablations.costs import load_costs, measure_costs
    from efficientformer_edu.ablations.outcome import COSTS, load_outcome
    from efficientformer_edu.ablations.variants import get_variants

    trained, path = [result.name for result in load_outcome(folder).results], folder / COSTS
    if path.exists() and set(trained) <= set(load_costs(path).params):
        return
    typer.echo(f"timing {len(trained)} variants of EfficientFormer-L1", err=True)
    with collect_warnings() as lines:
        measure_costs(get_variants(trained), progress=True).save(path)
    print_notes(lines)
