"""The command `efficientformer-edu observe`: the paper's four observations on this machine."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer


def observe(
    number: Annotated[int, typer.Argument(min=1, max=4, help="1 stem, 2 token mixers, 3 norms, 4 activations")],
    rounds: Annotated[int, typer.Option(min=1, help="timed samples; a verdict needs 5, observation 4 needs 9")] = 30,
    threads: Annotated[int | None, typer.Option(min=1, help="of torch; all cores without it")] = None,
    engine: Annotated[
        str | None, typer.Option(help="for observation 4, which compares engines: eager,onnxruntime,openvino, or all")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or mps")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="JSON file for the results, with every sample")] = None,
    format: Annotated[Literal["table", "markdown", "json"], typer.Option(help="json holds every sample")] = "table",
) -> None:
    """Test an observation of the paper's section 3 on this machine: times, claims, and a verdict.

    The verdict follows from the 95 % confidence intervals: supported, contradicted, inconclusive, or too few rounds.
    """
    if out is not None and not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: the folder does not exist")

    from efficientformer_edu.latency import observations

    engines = None if engine is None else [name.strip() for name in engine.split(",")]
    if engine == "all":
        from efficientformer_edu.latency.engines import available

        engines = available()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            observation = observations.observe(number, rounds, threads, progress=True, engines=engines, device=device)
        except ImportError as error:  # the library of an engine is missing; the error includes the install command
            raise ValueError(error) from error
    typer.echo(observation.to(format).rstrip("\n"))
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        typer.echo(f"Warning: {message}", err=True)
    if out is not None:
        observation.save(out)
        typer.echo(f"saved: {out}", err=True)
