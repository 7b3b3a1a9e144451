"""The command `efficientformer-edu observe`: the paper's four observations on this machine.

The commands `efficientformer-edu export` and `bench`: write a network for other runtimes, and time it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from efficientformer_edu.cli.common import MODEL_HELP, Pixels, read_model, read_resolution
from efficientformer_edu.config import resolution_pair
from efficientformer_edu.utils.tables import Cell, Format, Table

if TYPE_CHECKING:
    from efficientformer_edu.latency import Measurement


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


SUFFIX = {"onnx": ".onnx", "openvino": ".xml"}
RUNTIME = {"onnx": "onnxruntime", "openvino": "openvino"}
PEER = "timm:"
ALL = "all"


def export(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    out: Annotated[Path, typer.Option(help="the file to write: .onnx, or .xml, beside which .bin holds the weights")],
    format: Annotated[Literal["onnx", "openvino"], typer.Option(help="whose file it is")] = "onnx",
    folded: Annotated[bool, typer.Option("--folded", help="the inference form, without batch norms")] = False,
    resolution: Pixels = "224",
    weights: Annotated[Path | None, typer.Option(help="file in any layout; random weights without it")] = None,
) -> None:
    """Export a network to a file for ONNX Runtime or OpenVINO, and compare its logits with those of torch."""
    config, pixels = read_model(model), resolution_pair(read_resolution(resolution))
    if out.suffix != SUFFIX[format]:
        raise ValueError(f"{out.name} is no name for --format {format}; wanted: one that ends in {SUFFIX[format]}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: the folder does not exist")

    from efficientformer_edu.export import export_onnx, export_openvino
    from efficientformer_edu.model.folding import folded_maps
    from efficientformer_edu.weights import get_model

    network = get_model(config, pretrained=weights or False).eval()
    write = export_onnx if format == "onnx" else export_openvino
    try:
        write(folded_maps(network, pixels) if folded else network, out, pixels)
    except ImportError as error:
        raise ValueError(str(error)) from error
    files = [out] if format == "onnx" else [out, out.with_suffix(".bin")]
    size = sum(file.stat().st_size for file in files)
    form = f"{'folded' if folded else 'trained'} form, {pixels[0]}×{pixels[1]}"
    typer.echo(f"{' and '.join(map(str, files))}: {form}, {size / 1e6:.1f} MB")
    typer.echo(_parity(network, format, out, pixels))
    if weights is None:
        typer.echo("Warning: the weights are random; load trained ones with --weights FILE.", err=True)


def _parity(network: Any, format: str, path: Path, pixels: tuple[int, int]) -> str:
    """The difference between the logits of the file and of torch on random images, if the runtime is installed."""
    import torch

    from efficientformer_edu.latency.engines import difference, run_onnx, run_openvino

    images = _images(network.config.in_channels, 1, pixels)
    try:
        run = (run_onnx if format == "onnx" else run_openvino)(path, images, torch.get_num_threads())
    except ImportError as error:
        return f"not compared with torch: {error}"
    with torch.inference_mode():
        deviation = difference(run(), network(images))
    return f"largest difference from torch in {RUNTIME[format]}: {deviation:.1e} of the largest logit"


def bench(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    engine: Annotated[
        str, typer.Option(help="one or more with commas between them, or all; eager always runs along")
    ] = "eager,folded",
    threads: Annotated[int, typer.Option(min=1, help="of torch, and of each engine")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="images at once")] = 1,
    resolution: Pixels = "224",
    rounds: Annotated[int, typer.Option(min=1, help="timed samples of each; an interval needs 5")] = 30,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="timm:NAME|MODEL", help="a network of timm's, or another model, beside it; repeatable"),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or mps")] = "cpu",
    format: Annotated[Format, typer.Option(help="json holds every sample")] = "table",
    out: Annotated[Path | None, typer.Option(help="JSON file for the results, with every sample")] = None,
) -> None:
    """Time a network with random weights in several engines, interleaved in one run.

    Engines: eager, folded, channels-last, compile, onnxruntime, onnxruntime-folded, openvino, openvino-folded. Before
    timing, the logits of each engine are compared with those of eager.
    """
    config, pixels = read_model(model), resolution_pair(read_resolution(resolution))
    baselines = list(dict.fromkeys(against or []))
    if model in baselines or PEER in baselines:
        raise ValueError("--against takes another network: one of timm's, as timm:mobilenetv2_140, or another model")
    others = {name: read_model(name) for name in baselines if not name.startswith(PEER)}
    channels = {name: others[name].in_channels if name in others else 3 for name in baselines}
    if wrong := [name for name in baselines if channels[name] != config.in_channels]:
        raise ValueError(
            f"{model} takes images of {config.in_channels} channels, {wrong[0]} of {channels[wrong[0]]}: leave it out"
        )
    if out is not None and not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: the folder does not exist")

    from efficientformer_edu.latency import Conditions, measure, save
    from efficientformer_edu.latency.peers import peer
    from efficientformer_edu.latency.timer import timing_device
    from efficientformer_edu.weights import get_model

    timing_device(device)
    networks: dict[str, Any] = {model: get_model(config)}
    try:
        for name in baselines:
            networks[name] = get_model(others[name]) if name in others else peer(name.removeprefix(PEER))
    except ImportError as error:
        raise ValueError(str(error)) from error
    images = _images(config.in_channels, batch, pixels).to(device)
    prepared = _prepare(networks, engine, images, threads)
    options = {"engine": engine, "threads": threads, "batch": batch, "resolution": resolution, "rounds": rounds}
    command = _command(model, baselines, **options, device=device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        measurement = measure(
            prepared.subjects,
            Conditions(command=command, batch=batch, resolution=pixels),
            rounds=rounds,
            num_threads=threads,
            device=device,
            progress=True,
        )
    for message in (*prepared.notes, *dict.fromkeys(str(warning.message) for warning in caught)):
        typer.echo(f"Warning: {message}", err=True)
    if out is not None:
        save({"bench": measurement}, out, differences=prepared.differences)
    _show(measurement, prepared.differences, format, model, baselines)


@dataclass
class Found:
    """The subjects to time.

    Attributes:
        subjects: functions to call, by network and engine.
        differences: difference from eager, relative to the largest logit.
        notes: what was left out, and why.
    """

    subjects: dict[str, Callable[[], object]] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _prepare(networks: Mapping[str, Any], engine: str, images: Any, threads: int) -> Found:
    """Prepare each network in each engine. A missing engine is left out of "all", and an error if it is named."""
    from efficientformer_edu.latency.engines import ENGINES, prepare

    everything = engine == ALL
    names = list(ENGINES) if everything else [name.strip() for name in engine.split(",")]
    if unknown := [name for name in names if name not in ENGINES]:
        raise ValueError(f"engine {unknown[0]!r} is unknown; there are {', '.join(ENGINES)}, or {ALL}")
    timm_networks = [network for network in networks if network.startswith(PEER)]
    own_engines = ", ".join(name for name in ENGINES if name in names and ENGINES[name].ours)
    result = Found(
        notes=[
            f"{own_engines} {'run' if ', ' in own_engines else 'runs'} ours alone: not {peer}"
            for peer in timm_networks
            if own_engines
        ]
    )
    for name in dict.fromkeys(("eager", *names)):
        for network, module in networks.items():
            if ENGINES[name].ours and network in timm_networks:
                continue
            try:
                prepared = prepare(name, module.to(images.device), images, threads)
            except ImportError as error:
                if not everything:
                    raise ValueError(str(error)) from error
                result.notes.append(f"left out: {error}")
                break
            except (AssertionError, RuntimeError) as error:  # a network may reject the images with its own error
                raise ValueError(f"{network} cannot run on such images in {name}: {error}") from error
            except ValueError as error:
                if not everything or name == "eager":
                    raise
                result.notes.append(f"left out: {network} {name}: {error}")
                continue
            result.subjects[f"{network} {name}"] = prepared
            result.differences[f"{network} {name}"] = prepared.difference
    return result


def _show(
    measurement: Measurement, differences: Mapping[str, float], format: Format, model: str, baselines: list[str]
) -> None:
    """Print the measurement; human-readable formats include the conditions and the ratios in the same engine."""
    base = f"{model} eager"
    if format == "json":
        from efficientformer_edu.latency.records import to_dict

        typer.echo(json.dumps({"differences": differences, "measurements": {"bench": to_dict(measurement)}}, indent=1))
    elif format == "csv":
        typer.echo(_numbers(measurement, differences, base).to_csv(), nl=False)
    else:
        typer.echo(measurement.table(base).to(format).rstrip("\n"))
        for line in _alike(measurement, model, baselines):
            typer.echo(f"\n{line}")
        typer.echo(f"\nLargest difference from eager: {max(differences.values()):.1e} of the largest logit.")
        typer.echo(f"\n{measurement.conditions}")


def _alike(measurement: Measurement, model: str, baselines: list[str]) -> Iterator[str]:
    """One line per baseline: the ratio of the model's latency to that of the baseline, by engine."""
    names = [timing.name for timing in measurement.timings]
    for baseline in baselines:
        engines = [name.removeprefix(f"{baseline} ") for name in names if name.startswith(f"{baseline} ")]
        ratios = [
            f"{engine} {measurement.ratio(f'{model} {engine}', f'{baseline} {engine}')}"
            for engine in engines
            if f"{model} {engine}" in names
        ]
        yield f"{model} over {baseline} in the same engine, ratio of times: {'; '.join(ratios)}."


def _numbers(measurement: Measurement, differences: Mapping[str, float], base: str) -> Table:
    """Unrounded values, one row per subject; the ends of an interval are empty with too few rounds."""
    from efficientformer_edu.utils.statistics import MIN_SAMPLES

    rows: list[tuple[Cell, ...]] = []
    for timing in measurement.timings:
        cells: list[Cell] = []
        for estimate, unit in ((timing.estimate, 1e3), (measurement.ratio(timing.name, base), 1)):
            ends = (estimate.low, estimate.high) if estimate.samples >= MIN_SAMPLES else (None, None)
            cells += [unit * estimate.value, *(None if end is None else unit * end for end in ends)]
        rows.append((timing.name, *cells, timing.faults, differences[timing.name]))
    columns = ("subject", "ms", "ms low", "ms high", "ratio", "ratio low", "ratio high", "page faults", "difference")
    return Table(columns, tuple(rows))


def _images(channels: int, batch: int, pixels: tuple[int, int]) -> Any:
    """Random images, the same in each call, (batch, channels, H, W)."""
    import torch

    return torch.randn(batch, channels, *pixels, generator=torch.Generator().manual_seed(0))


def _command(model: str, against: list[str], **options: object) -> str:
    """The command that repeats the measurement, without options that have their default values."""
    defaults = {"engine": "eager,folded", "threads": 1, "batch": 1, "resolution": "224", "rounds": 30, "device": "cpu"}
    flags = [f"--{name} {value}" for name, value in options.items() if value != defaults[name]]
    return " ".join(["efficientformer-edu bench", model, *flags, *(f"--against {baseline}" for baseline in against)])
