"""The command `efficientformer-edu slim`: from a supernet to networks for given latencies on this machine."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from efficientformer_edu.cli.ablations import Scheduler, train_study
from efficientformer_edu.cli.common import collect_warnings, print_notes

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from efficientformer_edu.config import EfficientFormerConfig
    from efficientformer_edu.latency.lookup_table import Lookup
    from efficientformer_edu.slimming.baselines import Contender
    from efficientformer_edu.slimming.protocol import Evaluator, SlimmingImages, SlimmingProtocol
    from efficientformer_edu.slimming.records import Search
    from efficientformer_edu.slimming.supernet import Supernet

SUPERNET = "supernet"  # subfolder of its training; the other files are defined in `slimming.front`
TARGET_RATIOS = (0.8, 0.65, 0.5)  # default targets, relative to the latency of the largest network
MS = "ms"

Noise = Literal["uniform", "gumbel"]


def slim(
    data: Annotated[
        str,
        typer.Option(help="fashion-mnist-small (part of the package), fashion-mnist, or a folder of class folders"),
    ] = "fashion-mnist-small",
    targets: Annotated[
        str | None,
        typer.Option(help="such as 8ms,10ms,12ms [default: 80, 65 and 50 % of the largest network's latency]"),
    ] = None,
    engine: Annotated[str, typer.Option(help="folded, eager, onnxruntime or openvino")] = "folded",
    noise: Annotated[
        Noise, typer.Option(help="noise of the mixtures: uniform, as in the paper, or that of the Gumbel softmax")
    ] = "uniform",
    seeds: Annotated[int, typer.Option(min=1, help="trainings of each network from scratch")] = 1,
    baselines: Annotated[bool, typer.Option("--baselines", help="compare with networks that need no search")] = False,
    out: Annotated[Path, typer.Option(help="folder of the slimming")] = Path("runs/slimming"),
    resume: Annotated[bool, typer.Option("--resume", help="continue the slimming in the folder")] = False,
    replay: Annotated[Path | None, typer.Option(help="print the steps of a search.json, and do nothing else")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="folder with the files of Fashion-MNIST")] = None,
    scheduler: Scheduler = None,
) -> None:
    """Latency-driven slimming: time the parts, train a supernet, slim it, and train the resulting networks.

    Latencies are measured with one image of 224 pixels on one thread. --resume continues an interrupted run.
    """
    seconds = None if targets is None else read_targets(targets)
    if replay is not None:
        _replay(replay)
        return

    from efficientformer_edu.slimming.protocol import get_evaluator, get_protocol, get_supernet, load_slimming_images
    from efficientformer_edu.training.study import get_executor

    protocol = get_protocol(data)
    images = load_slimming_images(protocol, data_dir)
    if not resume and out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty; add --resume, or choose another folder")
    if resume and not out.is_dir():
        raise FileNotFoundError(f"{out} contains no slimming to resume; omit --resume to start one")
    with get_executor(scheduler) as executor:
        out.mkdir(parents=True, exist_ok=True)
        typer.echo(f"{images.learn.description}; {protocol.description}", err=True)
        config, evaluator = get_supernet(images), get_evaluator(protocol, images)
        lookup = _time_parts(config, engine, out)
        seconds = _check_targets(config, lookup, seconds)
        supernet = _train_supernet(protocol, images, noise, out)
        settings = _settings(protocol, images, lookup, noise)
        search = _slim(supernet, lookup, seconds, evaluator, settings, out)
        networks = _networks(search, lookup, supernet, evaluator, baselines, out)
        _compare(networks, protocol, seeds, lookup, out, data_dir, executor)


def read_targets(text: str) -> tuple[float, ...]:
    """Parse "15ms,20ms,30ms" into seconds. Raises ValueError for other formats."""
    parts = [part.strip() for part in text.split(",")]
    try:
        targets = tuple(float(part.removesuffix(MS)) / 1e3 for part in parts if part.endswith(MS))
    except ValueError:
        targets = ()
    if len(targets) != len(parts) or not min(targets) > 0:
        raise ValueError(f"--targets {text!r} is not possible; allowed: latencies above 0, such as 15ms,20ms,30ms")
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
    with collect_warnings() as lines:
        lookup = build(WIDTHS, engine, base=config, path=out / LOOKUP)
    print_notes(lines)
    return lookup


def _check_targets(
    config: EfficientFormerConfig, lookup: Lookup, targets: tuple[float, ...] | None
) -> tuple[float, ...]:
    """The targets in seconds. Raises ValueError, before any training, if the search cannot reach them."""
    from efficientformer_edu.slimming.search import check_targets
    from efficientformer_edu.slimming.subnet import Subnet

    start = lookup.predict(Subnet.largest(config).config(config))
    selected = targets or tuple(round(ratio * start, 4) for ratio in TARGET_RATIOS)
    check_targets(config, lookup, selected)
    description = ", ".join(f"{1e3 * target:.4g} ms" for target in selected)
    typer.echo(f"the largest network takes {1e3 * start:.2f} ms; targets: {description}", err=True)
    return selected


def _train_supernet(protocol: SlimmingProtocol, images: SlimmingImages, noise: Noise, out: Path) -> Supernet:
    from efficientformer_edu.slimming.protocol import SupernetTrainer, supernet_run
    from efficientformer_edu.slimming.supernet import Supernet
    from efficientformer_edu.training.checkpoints import CHECKPOINT

    typer.echo("training the supernet", err=True)
    run, folder = supernet_run(protocol, images, noise=noise), out / SUPERNET
    network = SupernetTrainer(run, folder, resume=(folder / CHECKPOINT).exists()).fit().network
    assert isinstance(network, Supernet)
    return network


def _settings(protocol: SlimmingProtocol, images: SlimmingImages, lookup: Lookup, noise: Noise) -> dict[str, Any]:
    """The settings that the search depends on, except for supernet and targets."""
    return {
        "engine": lookup.engine,
        "latencies": str(lookup.conditions),
        "learns from": images.learn.description,
        "judged by": images.held_out.description,
        "recipe": asdict(protocol.recipe),
        "noise": noise,
    }


def _slim(
    supernet: Supernet,
    lookup: Lookup,
    targets: tuple[float, ...],
    evaluator: Evaluator,
    settings: dict[str, Any],
    out: Path,
) -> Search:
    from efficientformer_edu.slimming.records import SEARCH, Search
    from efficientformer_edu.slimming.search import Slimming, begin

    search = begin(supernet, lookup, targets, settings)
    if (out / SEARCH).exists():
        search = Search.load(out / SEARCH).same_as(search)
    typer.echo(f"slimming, from step {len(search.steps) + 1}", err=True)
    slimming = Slimming(supernet, search, lookup, evaluator, out)
    started, first = time.perf_counter(), search.seconds[-1]
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
    from efficientformer_edu.slimming import baselines

    searched = baselines.searched_networks(search, lookup)
    if not with_baselines:
        return searched
    if (out / baselines.CONTENDERS).exists():
        return baselines.load_contenders(out / baselines.CONTENDERS)
    typer.echo("searching for the networks of the baselines", err=True)
    networks = (*searched, *baselines.baselines(search, lookup, supernet, evaluator))
    baselines.save_contenders(networks, out / baselines.CONTENDERS)
    return networks


def _compare(
    networks: tuple[Contender, ...],
    protocol: SlimmingProtocol,
    seeds: int,
    lookup: Lookup,
    out: Path,
    data_dir: Path | None,
    executor: Executor | None,
) -> None:
    """Train each distinct network from scratch, time it, print the results, and pack the folder into one file."""
    from efficientformer_edu.config import EfficientFormerConfig
    from efficientformer_edu.latency.lookup import prediction_errors
    from efficientformer_edu.slimming.front import AGREES, LATENCY, TRAINED, get_front
    from efficientformer_edu.slimming.protocol import run_of
    from efficientformer_edu.training.study import Study, load_records
    from efficientformer_edu.utils.records import pack

    configs = dict[str, EfficientFormerConfig]()
    for network in networks:  # a network of several targets is trained once, under its first name
        if network.config not in configs.values():
            configs[network.name] = network.config
    build_run = partial(run_of, protocol=protocol, configs=configs, data_dir=data_dir)
    resumed = bool(load_records(out / TRAINED))
    typer.echo(f"training {len(configs)} networks from scratch", err=True)
    train_study(Study(out / TRAINED, build_run, tuple(configs), seeds, resume=resumed), executor)
    with collect_warnings() as lines:
        errors = prediction_errors(lookup, configs.values())
    print_notes(lines)
    errors.save(out / LATENCY)
    front = get_front(networks, load_records(out / TRAINED), errors, lookup.resolution)
    typer.echo(f"\n{front.table().to_text()}\n{lookup.engine}; {errors.conditions}")
    if (comparisons := front.comparisons()).rows:
        typer.echo(f"\n{comparisons.to_text()}")
    if errors.worst_at_speed > AGREES:
        worst = f"{errors.worst_at_speed:.0%} for the worst"
        typer.echo(f"Warning: predicted and measured latency differ by {worst}; time the parts again.", err=True)
    packed = out.parent / f"{out.name}.json"
    pack(out, packed, ("*.json", f"{TRAINED}/*.json"))
    typer.echo(f"All files: {out}; the records in one file: {packed}")
