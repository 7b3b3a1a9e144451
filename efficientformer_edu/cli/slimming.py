"""The command `efficientformer-edu slim`: from a supernet to networks for given latencies on this machine."""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from efficientformer_edu.config import EfficientFormerConfig
    from efficientformer_edu.latency.lookup_table import Lookup
    from efficientformer_edu.slimming.baselines import Contender
    from efficientformer_edu.slimming.protocol import Evaluator, Material, Protocol
    from efficientformer_edu.slimming.records import Search
    from efficientformer_edu.slimming.supernet import Supernet

SUPERNET = "supernet"  # subfolder of its training; the other files are defined in `slimming.front`
PARTS = (0.8, 0.65, 0.5)  # default targets, relative to the latency of the largest network
MS = "ms"

Noise = Literal["uniform", "gumbel"]


def slim(
    data: Annotated[
        str,
        typer.Option(help="fashion-mnist-small, which is in the package; fashion-mnist; or a folder of class folders"),
    ] = "fashion-mnist-small",
    targets: Annotated[
        str | None, typer.Option(help="such as 8ms,10ms,12ms; without it 80, 65 and 50 % of the largest network's")
    ] = None,
    engine: Annotated[str, typer.Option(help="folded, eager, onnxruntime or openvino")] = "folded",
    noise: Annotated[
        Noise, typer.Option(help="of the mixtures: uniform as the paper writes it, or Gumbel's")
    ] = "uniform",
    seeds: Annotated[int, typer.Option(min=1, help="how often each network is trained from scratch")] = 1,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="compare with networks that were found in other ways")
    ] = False,
    out: Annotated[Path, typer.Option(help="the folder of the slimming")] = Path("runs/slimming"),
    resume: Annotated[bool, typer.Option("--resume", help="go on with the slimming in the folder")] = False,
    replay: Annotated[Path | None, typer.Option(help="a search.json: print its steps, and do nothing else")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="where Fashion-MNIST's files lie")] = None,
) -> None:
    """Latency-driven slimming: time the parts, train a supernet, slim it, and train the resulting networks.

    Latencies are measured with one image of 224 pixels on one thread. --resume continues an interrupted run.
    """
    seconds = None if targets is None else read_targets(targets)
    if replay is not None:
        _replay(replay)
        return

    from efficientformer_edu.slimming.protocol import get_evaluator, get_protocol, get_supernet, material

    protocol = get_protocol(data)
    images = material(protocol, data_dir)
    if not resume and out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"{out}: there is something already; add --resume, or take another folder")
    if resume and not out.is_dir():
        raise FileNotFoundError(f"{out}: there is no slimming to resume; leave --resume out to begin one")
    out.mkdir(parents=True, exist_ok=True)
    typer.echo(f"{images.learn.words}; {protocol.words}", err=True)
    config, evaluator = get_supernet(images), get_evaluator(protocol, images)
    lookup = _time_parts(config, engine, out)
    seconds = _checked(config, lookup, seconds)
    supernet = _train_supernet(protocol, images, noise, out)
    made_of = _made_of(protocol, images, lookup, noise)
    search = _slim(supernet, lookup, seconds, evaluator, made_of, out)
    networks = _networks(search, lookup, supernet, evaluator, baselines, out)
    _compare(networks, protocol, seeds, lookup, out, data_dir)


def read_targets(text: str) -> tuple[float, ...]:
    """Parse "15ms,20ms,30ms" into seconds. Raises ValueError for other formats."""
    parts = [part.strip() for part in text.split(",")]
    try:
        targets = tuple(float(part.removesuffix(MS)) / 1e3 for part in parts if part.endswith(MS))
    except ValueError:
        targets = ()
    if len(targets) != len(parts) or not min(targets) > 0:
        raise ValueError(f"--targets {text!r} is not possible; give times above 0 such as 15ms,20ms,30ms")
    return targets


def _replay(path: Path) -> None:
    from efficientformer_edu.slimming.records import Search

    search = Search.load(path)
    typer.echo(search.table().to_text())
    for target, config in search.family.items():
        shape = f"depths {config.depths}, of which MB3D {config.vits}, widths {config.embed_dims}"
        typer.echo(f"{1e3 * target:.2f} ms: {shape}")


def _time_parts(config: EfficientFormerConfig, engine: str, out: Path) -> Lookup:
    from efficientformer_edu.latency.lookup import build
    from efficientformer_edu.slimming.front import LOOKUP
    from efficientformer_edu.slimming.protocol import WIDTHS

    typer.echo(f"timing the parts at 224 pixels, {engine}", err=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            lookup = build(WIDTHS, engine, base=config, path=out / LOOKUP)
        except ImportError as error:
            raise ValueError(str(error)) from error
    for message in dict.fromkeys(str(entry.message) for entry in caught):
        typer.echo(f"Warning: {message}", err=True)
    return lookup


def _checked(config: EfficientFormerConfig, lookup: Lookup, targets: tuple[float, ...] | None) -> tuple[float, ...]:
    """The targets in seconds. Raises ValueError, before any training, if the search cannot reach them."""
    from efficientformer_edu.slimming.search import check_targets
    from efficientformer_edu.slimming.subnet import Subnet

    start = lookup.predict(Subnet.largest(config).config(config))
    selected = targets or tuple(round(part * start, 4) for part in PARTS)
    check_targets(config, lookup, selected)
    description = ", ".join(f"{1e3 * target:.4g} ms" for target in selected)
    typer.echo(f"the largest network takes {1e3 * start:.2f} ms; targets: {description}", err=True)
    return selected


def _train_supernet(protocol: Protocol, images: Material, noise: Noise, out: Path) -> Supernet:
    from efficientformer_edu.slimming.protocol import SupernetLoop, supernet_run
    from efficientformer_edu.slimming.supernet import Supernet
    from efficientformer_edu.training.checkpoints import CHECKPOINT
    from efficientformer_edu.training.progress import follow

    typer.echo("training the supernet", err=True)
    run, folder = supernet_run(protocol, images, noise=noise), out / SUPERNET
    network = follow(SupernetLoop(run, folder, resume=(folder / CHECKPOINT).exists())).network
    assert isinstance(network, Supernet)
    return network


def _made_of(protocol: Protocol, images: Material, lookup: Lookup, noise: Noise) -> dict[str, Any]:
    """The settings that the search depends on, except for supernet and targets."""
    return {
        "engine": lookup.engine,
        "latencies": str(lookup.conditions),
        "learns from": images.learn.words,
        "judged by": images.held_out.words,
        "recipe": asdict(protocol.recipe),
        "noise": noise,
    }


def _slim(
    supernet: Supernet,
    lookup: Lookup,
    targets: tuple[float, ...],
    evaluator: Evaluator,
    made_of: dict[str, Any],
    out: Path,
) -> Search:
    from efficientformer_edu.slimming.records import SEARCH, Search
    from efficientformer_edu.slimming.search import Slimming, begin

    search = begin(supernet, lookup, targets, made_of)
    if (out / SEARCH).exists():
        search = Search.load(out / SEARCH).same_as(search)
    typer.echo(f"slimming, from step {len(search.steps) + 1}", err=True)
    slimming, started, first = (
        Slimming(supernet, search, lookup, evaluator, out),
        time.perf_counter(),
        search.seconds[-1],
    )
    for step in slimming.steps():
        now, last = slimming.search.seconds[-1], min(targets)
        remaining = (time.perf_counter() - started) * max(now - last, 0) / (first - now) if now < first else 0.0
        done = f"{step.taken.action}; {1e3 * now:.2f} ms, top-1 was {step.accuracy:.1%}"
        typer.echo(f"step {len(slimming.search.steps)}: {done}; about {remaining / 60:.0f} min left")
    slimming.search.save(out / SEARCH)
    return slimming.search


def _networks(
    search: Search, lookup: Lookup, supernet: Supernet, evaluator: Evaluator, with_baselines: bool, out: Path
) -> tuple[Contender, ...]:
    """The networks from the search and the baselines. The random networks are evaluated only once."""
    from efficientformer_edu.slimming.baselines import CONTENDERS, baselines, found, load_contenders, save_contenders

    searched = found(search, lookup)
    if not with_baselines:
        return searched
    if (out / CONTENDERS).exists():
        return load_contenders(out / CONTENDERS)
    typer.echo("looking for networks in other ways", err=True)
    networks = (*searched, *baselines(search, lookup, supernet, evaluator))
    save_contenders(networks, out / CONTENDERS)
    return networks


def _compare(
    networks: tuple[Contender, ...], protocol: Protocol, seeds: int, lookup: Lookup, out: Path, data_dir: Path | None
) -> None:
    """Train each network from scratch, time it, and print the results."""
    from efficientformer_edu.latency.lookup import prediction_errors
    from efficientformer_edu.slimming.front import AGREES, LATENCY, TRAINED, get_front, get_study
    from efficientformer_edu.training.study import load_records

    resumed = bool(load_records(out / TRAINED))
    study, started = get_study(out / TRAINED, protocol, networks, seeds, resume=resumed, data_dir=data_dir), time.time()
    distinct = len({network.config for network in networks})
    typer.echo(f"training {distinct} networks from scratch, {len(study.missing)} runs to go", err=True)
    for done, record in enumerate(study.run(), start=1):
        left = (time.time() - started) / done * (len(study.missing) - done)
        score = record.stopped or f"top-1 {record.top1:.2%}"
        typer.echo(f"{record.variant}, seed {record.seed}: {score}; about {left / 60:.0f} min left")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        errors = prediction_errors(lookup, dict.fromkeys(network.config for network in networks))
    for message in dict.fromkeys(str(entry.message) for entry in caught):
        typer.echo(f"Warning: {message}", err=True)
    errors.save(out / LATENCY)
    front = get_front(networks, load_records(out / TRAINED), errors, lookup.resolution)
    typer.echo(f"\n{front.table().to_text()}\n{lookup.engine}; {errors.conditions}")
    if (comparisons := front.comparisons()).rows:
        typer.echo(f"\n{comparisons.to_text()}")
    if errors.worst_at_speed > AGREES:
        worst = f"{errors.worst_at_speed:.0%} for the worst"
        typer.echo(f"Warning: predicted and measured latency differ by {worst}; time the parts again.", err=True)
    typer.echo(f"Everything: {out}")
