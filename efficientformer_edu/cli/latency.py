"""The commands `observe`, `bench` and `export`: test the observations of section 3, time a network, export it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from efficientformer_edu.cli.common import (
    MODEL_HELP,
    Pixels,
    collect_warnings,
    print_notes,
    read_model,
    read_resolution,
)
from efficientformer_edu.config import resolution_pair
from efficientformer_edu.utils.tables import Format, Table

if TYPE_CHECKING:
    from efficientformer_edu.latency import Measurement

SUFFIX = {"onnx": ".onnx", "openvino": ".xml"}
RUNTIME = {"onnx": "onnxruntime", "openvino": "openvino"}
TIMM = "timm:"
ALL = "all"

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or mps")]
Out = Annotated[Path | None, typer.Option(help="JSON file for the results, with every sample")]


def observe(
    number: Annotated[int, typer.Argument(min=1, max=4, help="1 stem, 2 token mixers, 3 norms, 4 activations")],
    rounds: Annotated[int, typer.Option(min=1, help="timed samples; a verdict needs 5, observation 4 needs 9")] = 30,
    threads: Annotated[int | None, typer.Option(min=1, help="number of torch threads; default: all cores")] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="engines to compare in observation 4, separated by commas, or all", show_default="installed"),
    ] = None,
    device: Device = "cpu",
    out: Out = None,
    format: Annotated[Literal["table", "markdown", "json"], typer.Option(help="json has every sample")] = "table",
) -> None:
    """Test an observation of the paper's section 3 on this machine: times, claims, and a verdict.

    The verdict follows from the 95 % confidence intervals: supported, contradicted, inconclusive, or too few rounds.
    """
    _check_folder(out)

    from efficientformer_edu.latency import observations
    from efficientformer_edu.latency.engines import available

    engines = None if engine is None else available() if engine == ALL else _split(engine)
    with collect_warnings() as lines:
        observation = observations.observe(number, rounds, threads, progress=True, engines=engines, device=device)
    typer.echo(observation.to(format).rstrip("\n"))
    print_notes(lines)
    if out is not None:
        observation.save(out)
        typer.echo(f"saved: {out}", err=True)


def export(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    out: Annotated[Path, typer.Option(help="file to write: .onnx, or .xml with the weights next to it in .bin")],
    format: Annotated[Literal["onnx", "openvino"], typer.Option(help="format of the file")] = "onnx",
    folded: Annotated[bool, typer.Option("--folded", help="the inference form, without batch norms")] = False,
    resolution: Pixels = "224",
    weights: Annotated[Path | None, typer.Option(help="file in any layout; default: random weights")] = None,
) -> None:
    """Export a network to a file for ONNX Runtime or OpenVINO, and compare its logits with those of torch."""
    config, pixels = read_model(model), resolution_pair(read_resolution(resolution))
    if out.suffix != SUFFIX[format]:
        raise ValueError(
            f"--out {out.name} does not fit --format {format}; allowed: a name that ends in {SUFFIX[format]}"
        )
    _check_folder(out)

    from efficientformer_edu.export import export_onnx, export_openvino
    from efficientformer_edu.model.folding import folded_maps
    from efficientformer_edu.weights import get_model

    network = get_model(config, pretrained=weights or False).eval()
    write = export_onnx if format == "onnx" else export_openvino
    write(folded_maps(network, pixels) if folded else network, out, pixels)
    files = [out] if format == "onnx" else [out, out.with_suffix(".bin")]
    size = sum(file.stat().st_size for file in files)
    form = f"{'folded' if folded else 'trained'} form, {pixels[0]}×{pixels[1]}"
    typer.echo(f"{' and '.join(map(str, files))}: {form}, {size / 1e6:.1f} MB")
    typer.echo(_compare_with_torch(network, format, out, pixels))
    if weights is None:
        print_notes(["Warning: the weights are random; load trained ones with --weights FILE."])


def bench(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    engine: Annotated[
        str, typer.Option(help="engines, separated by commas, or all; eager always runs too")
    ] = "eager,folded",
    threads: Annotated[int, typer.Option(min=1, help="number of threads of torch and of each engine")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="batch size")] = 1,
    resolution: Pixels = "224",
    rounds: Annotated[int, typer.Option(min=1, help="timed samples per network and engine; an interval needs 5")] = 30,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="timm:NAME|MODEL", help="baseline: a network from timm, or another model; repeatable"),
    ] = None,
    device: Device = "cpu",
    format: Annotated[Format, typer.Option(help="json has every sample")] = "table",
    out: Out = None,
) -> None:
    """Time a network with random weights in several engines, interleaved in one run.

    Engines: eager, folded, channels-last, compile, onnxruntime, onnxruntime-folded, openvino, openvino-folded. Before
    timing, the logits of each engine are compared with those of eager.
    """
    config, pixels = read_model(model), resolution_pair(read_resolution(resolution))
    baselines = list(dict.fromkeys(against or []))
    if model in baselines or TIMM in baselines:
        raise ValueError("--against needs another network: one from timm, such as timm:mobilenetv2_140, or a model")
    configs = {name: read_model(name) for name in baselines if not name.startswith(TIMM)}
    for name in baselines:
        channels = configs[name].in_channels if name in configs else 3
        if channels != config.in_channels:
            raise ValueError(f"{model} takes images with {config.in_channels} channels, but {name} with {channels}")
    _check_folder(out)

    from efficientformer_edu.latency import Conditions, measure, save
    from efficientformer_edu.latency.peers import peer
    from efficientformer_edu.latency.timer import timing_device
    from efficientformer_edu.weights import get_model

    timing_device(device)
    networks: dict[str, Any] = {model: get_model(config)}
    for name in baselines:
        networks[name] = get_model(configs[name]) if name in configs else peer(name.removeprefix(TIMM))
    images = _images(config.in_channels, batch, pixels).to(device)
    prepared, notes = _prepare(networks, engine, images, threads)
    options = {"engine": engine, "threads": threads, "batch": batch, "resolution": resolution, "rounds": rounds}
    command = _command(model, baselines, **options, device=device)
    conditions = Conditions(command=command, batch=batch, resolution=pixels)
    with collect_warnings() as lines:
        measurement = measure(prepared, conditions, rounds=rounds, num_threads=threads, device=device, progress=True)
    print_notes([*notes, *lines])
    differences = {name: function.difference for name, function in prepared.items()}
    if out is not None:
        save({"bench": measurement}, out, differences=differences)
    _print(measurement, differences, format, model, baselines)


def _check_folder(path: Path | None) -> None:
    if path is not None and not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder does not exist")


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")]


def _images(channels: int, batch: int, pixels: tuple[int, int]) -> Any:
    """Random images, the same in each call, (batch, channels, H, W)."""
    import torch

    return torch.randn(batch, channels, *pixels, generator=torch.Generator().manual_seed(0))


def _compare_with_torch(network: Any, format: str, path: Path, pixels: tuple[int, int]) -> str:
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


def _prepare(networks: Mapping[str, Any], engine: str, images: Any, threads: int) -> tuple[dict[str, Any], list[str]]:
    """Prepare each network in each engine. A missing engine is left out of "all", and an error if it is named.

    Returns:
        Functions to time by "network engine", and a warning for what was left out.
    """
    from efficientformer_edu.latency.engines import ENGINES, prepare

    names = list(ENGINES) if engine == ALL else _split(engine)
    if unknown := [name for name in names if name not in ENGINES]:
        raise ValueError(f"engine {unknown[0]!r} is unknown; allowed: {', '.join(ENGINES)}, or {ALL}")
    functions, notes = dict[str, Any](), list[str]()
    for name in dict.fromkeys(("eager", *names)):
        for network, module in networks.items():
            if ENGINES[name].efficientformer_only and network.startswith(TIMM):
                notes.append(f"Warning: left out: {network} {name}, which runs only EfficientFormer")
                continue
            try:
                functions[f"{network} {name}"] = prepare(name, module.to(images.device), images, threads)
            except ImportError as error:
                if engine != ALL:
                    raise
                notes.append(f"Warning: left out: {error}")
                break
            except (AssertionError, RuntimeError) as error:  # a network may reject the images with its own error
                raise ValueError(f"{network} cannot run on such images in {name}: {error}") from error
            except ValueError as error:
                if engine != ALL or name == "eager":
                    raise
                notes.append(f"Warning: left out: {network} {name}: {error}")
    return functions, notes


def _print(
    measurement: Measurement, differences: Mapping[str, float], format: Format, model: str, baselines: list[str]
) -> None:
    """Print the measurement; tables for people include the conditions and the ratios in the same engine."""
    base = f"{model} eager"
    if format == "json":
        from efficientformer_edu.latency.records import to_dict

        typer.echo(json.dumps({"differences": differences, "measurements": {"bench": to_dict(measurement)}}, indent=1))
    elif format == "csv":
        typer.echo(_unrounded_table(measurement, differences, base).to_csv(), nl=False)
    else:
        typer.echo(measurement.table(base).to(format).rstrip("\n"))
        for line in _ratios(measurement, model, baselines):
            typer.echo(f"\n{line}")
        typer.echo(f"\nLargest difference from eager: {max(differences.values()):.1e} of the largest logit.")
        typer.echo(f"\n{measurement.conditions}")


def _ratios(measurement: Measurement, model: str, baselines: list[str]) -> Iterator[str]:
    """One line per baseline: the ratio of the model's latency to that of the baseline, by engine."""
    names = {timing.name for timing in measurement.timings}
    for baseline in baselines:
        ratios = [
            f"{engine} {measurement.ratio(f'{model} {engine}', f'{baseline} {engine}')}"
            for engine in measurement.engines
            if {f"{model} {engine}", f"{baseline} {engine}"} <= names
        ]
        yield f"{model} over {baseline} in the same engine, ratio of times: {'; '.join(ratios)}."


def _unrounded_table(measurement: Measurement, differences: Mapping[str, float], base: str) -> Table:
    """Estimates for programs, one row per network and engine."""
    rows = tuple(
        (timing.name, timing.estimate.scaled(1e3), measurement.ratio(timing.name, base), timing.faults, difference)
        for timing, difference in zip(measurement.timings, differences.values(), strict=True)
    )
    return Table(("subject", "ms", "ratio", "page faults", "difference"), rows)


def _command(model: str, against: list[str], **options: object) -> str:
    """The command that repeats the measurement, without options that have their default values."""
    defaults = {"engine": "eager,folded", "threads": 1, "batch": 1, "resolution": "224", "rounds": 30, "device": "cpu"}
    flags = [f"--{name} {value}" for name, value in options.items() if value != defaults[name]]
    return " ".join(["efficientformer-edu bench", model, *flags, *(f"--against {baseline}" for baseline in against)])
