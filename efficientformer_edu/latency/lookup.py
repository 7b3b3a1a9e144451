"""The chains of parts that are timed to obtain the latency of a part, extracted from networks in the form that runs.

A block timed alone differs from the same block in a network: its weights stay in the processor's cache, and each call
has Python overhead. Several blocks with separate weights are therefore timed in sequence, and the time is divided by
their number.

A single part also differs from the same part between others. In torch its input and code are still in the cache, while
in a network other parts have used the cache in between. A graph engine converts the layout of the feature map at the
input and output, which a network does only at its two ends, and it fuses operations across parts. A part is therefore
timed between MB4D blocks, and their time is subtracted: ½ of two MB4D per neighbour.

    MB4D, MB3D   (MB4D → MB4D → four blocks  −  MB4D → MB4D) / 4
    stem         stem → MB4D  −  ½ (MB4D → MB4D)
    embedding    MB4D → embedding → MB4D  −  ½ (MB4D → MB4D) before it  −  ½ (MB4D → MB4D) after it
    head         MB4D → head  −  ½ (MB4D → MB4D)

Suppose that converting a feature map of a stage takes i at the input and o at the output. The part before the stage
then contains an error of ½ (o − i), and the part after it ½ (i − o). The errors cancel in the sum, which corresponds to
one call from images to logits, like the network.

Random networks between two given ones, to test a lookup table.

How accurately the sums of a lookup table predict the latency of networks that were not measured for it.

Measure the lookup table of section 4.2, which gives the latency saved by each step of latency-driven slimming.

    lookup = build(path=Path("lookup.json"))  # takes minutes; continues after an interruption
    lookup.gain("l3", "l1")  # seconds saved

The table is `lookup_table.Lookup`. Its parts are defined in `lookup_parts`, and the chains that are timed for each part
in `lookup_chains`. `lookup_errors` measures the prediction error of the sums.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.config import EfficientFormerConfig, Resolution, get_config, resolution_pair
from efficientformer_edu.latency.engines import prepare
from efficientformer_edu.latency.lookup_table import Entry, Grid, Lookup, Part
from efficientformer_edu.latency.records import DIGITS, Conditions, Measurement
from efficientformer_edu.latency.timer import measure
from efficientformer_edu.model import EfficientFormer, fold
from efficientformer_edu.model.folding import folded_maps
from efficientformer_edu.utils.files import atomic_write
from efficientformer_edu.utils.tables import Table

# From below L1 to L7, with finer steps near L1 and L3.
WIDTHS = ((32, 48, 64, 96), (64, 96, 128, 192), (128, 224, 320, 384), (256, 384, 512, 768))
ROW = 4  # blocks timed in sequence
BLOCKS = ("MB4D", "MB3D")
MB3D_STAGES = (2, 3)  # stages with MB3D in the search space of Eq. 7

Chain = tuple[Part, ...]  # parts in the order in which they run
Subject = Callable[[], Tensor]


class Form(NamedTuple):
    """How the parts of a network are prepared for an engine of `engines.ENGINES`.

    Attributes:
        runner: the engine that runs a module already in this form.
        fold: converts a network from its trained form; None if no conversion is needed.
        layout: memory format of the feature maps between parts.
    """

    runner: str
    fold: Callable[[EfficientFormer, Grid], EfficientFormer] | None = None
    layout: torch.memory_format = torch.contiguous_format


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "eager": Form("eager"),
        "folded": Form("eager", fold, torch.channels_last),
        "onnxruntime": Form("onnxruntime"),
        "onnxruntime-folded": Form("onnxruntime", folded_maps),
        "openvino": Form("openvino"),
        "openvino-folded": Form("openvino", folded_maps),
    }
)


def groups(base: EfficientFormerConfig, size: Grid, widths: Sequence[Sequence[int]]) -> Iterator[list[Part]]:
    """The parts to measure; the parts of a group are timed together."""
    grids = base.grids(size)
    yield [Part("stem", grids[0], (width,)) for width in widths[0]]
    for stage in range(1, 4):
        yield [Part("embedding", grids[stage], pair) for pair in product(widths[stage - 1], widths[stage])]
    for stage in range(4):
        yield [Part("MB4D", grids[stage], (width,)) for width in widths[stage]]
    for stage in MB3D_STAGES:
        yield [Part("MB3D", grids[stage], (width,)) for width in widths[stage]]
    yield [Part("head", grids[3], (width,)) for width in widths[3]]


def chains(part: Part, grids: Sequence[Grid]) -> dict[Chain, float]:
    """The chains that are timed for a part, each with its factor in the sum that gives the part's seconds."""
    here = Part("MB4D", part.grid, part.widths[-1:])
    before = Part("MB4D", grids[grids.index(part.grid) - 1], part.widths[:1])
    match part.kind:
        case "stem":
            chain: Chain = (part, here)
        case "embedding":
            chain = (before, part, here)
        case "head":
            chain = (here, part)
        case _:
            return {(here, here, *(part,) * ROW): 1 / ROW, (here, here): -1 / ROW}
    return {chain: 1.0} | {(neighbour, neighbour): -0.5 for neighbour in chain if neighbour != part}


def name(chain: Chain) -> str:
    """A description of the chain, with equal blocks grouped."""
    return ", ".join(f"{number} × {part}" for part, number in Counter(chain).items())


def cut_out(chain: Chain, base: EfficientFormerConfig, size: Grid, engine: str, num_threads: int | None) -> Subject:
    """A function that runs a chain, compared with torch. Raises ImportError if the engine is missing."""
    form, grids, first = FORMS[engine], base.grids(size), chain[0]
    modules = layers(chain, base, size, engine)
    if first.kind == "stem":
        return prepare(form.runner, modules, torch.randn(1, base.in_channels, *size), num_threads)
    grid = grids[grids.index(first.grid) - (first.kind == "embedding")]
    maps = torch.randn(1, first.widths[0], *grid).to(memory_format=form.layout)
    return prepare(form.runner, modules, maps, num_threads)


def whole_network(config: EfficientFormerConfig, size: Grid, engine: str, num_threads: int | None) -> Subject:
    """A function that runs a network on one image, compared with torch. Raises ImportError if the engine is missing."""
    return prepare(engine, EfficientFormer(config), torch.randn(1, config.in_channels, *size), num_threads)


def layers(chain: Chain, base: EfficientFormerConfig, size: Grid, engine: str) -> nn.Sequential:
    """The modules of a chain, taken from a network that is as small as possible outside the chain."""
    grids, dims, depths, vits = base.grids(size), [STEP] * 4, [0] * 4, [0] * 4
    for part in chain:
        stage = grids.index(part.grid)
        dims[stage] = part.widths[-1]
        depths[stage] += part.kind in BLOCKS
        vits[stage] += part.kind == "MB3D"
        if part.kind == "embedding":
            dims[stage - 1] = part.widths[0]
    shape = {"embed_dims": tuple(dims), "depths": tuple(max(depth, 1) for depth in depths), "num_vit": tuple(vits)}
    network = run_form(base.replace(**shape), size, engine)
    modules: list[nn.Module] = [network.stem] if chain[0].kind == "stem" else []
    for stage, module in enumerate(network.stages):
        starts = any(part.kind == "embedding" and part.grid == grids[stage] for part in chain)
        if not starts:
            module.downsample = nn.Identity()
        if not depths[stage]:
            module.mb4d = nn.ModuleList()  # remove the single block that every stage has
        if starts or depths[stage]:
            modules.append(module)
    return nn.Sequential(*modules, *[Head(network)] * (chain[-1].kind == "head"))


def run_form(config: EfficientFormerConfig, size: Grid, engine: str) -> EfficientFormer:
    """A network in evaluation mode, folded if the engine requires it."""
    network, form = EfficientFormer(config).eval(), FORMS[engine]
    return network if form.fold is None else form.fold(network, size)


class Head(nn.Module):
    """The layers after the last feature map: norm, mean, and one or two heads."""

    def __init__(self, network: EfficientFormer) -> None:
        super().__init__()
        self.norm, self.head, self.head_dist = network.norm, network.head, network.head_dist

    def forward(self, maps: Float[Tensor, "B C4 H W"]) -> Float[Tensor, "B num_classes"]:
        pooled = self.norm(maps.permute(0, 2, 3, 1).flatten(1, 2)).mean(1)  # (B, C₄)
        logits = self.head(pooled)  # (B, num_classes)
        return logits if self.head_dist is None else (logits + self.head_dist(pooled)) / 2


TRIES = 1000  # per network: a sample may repeat another, or have only widths of the table


def random_networks(
    seed: int,
    n: int,
    widths: Sequence[Sequence[int]] = WIDTHS,
    *,
    small: str | EfficientFormerConfig = "l1",
    large: str | EfficientFormerConfig = "l3",
) -> tuple[EfficientFormerConfig, ...]:
    """Sample distinct networks with depths and widths between those of two networks.

    MB4D blocks come first and MB3D blocks last, as in the search space of section 4.2: between none and all of the
    blocks of the last two stages are MB3D.

    Args:
        seed: the same seed gives the same networks.
        n: number of networks.
        widths: widths in the table. If some widths between the two networks are missing, each sample has at least one
            missing width.
        small: minimum depths and widths, and all other fields.
        large: maximum depths and widths.

    Raises:
        ValueError: if there are fewer than `n` such networks.
    """
    rng, low, high = random.Random(seed), get_config(small), get_config(large)
    known = [set(values) for values in widths]
    choices = [range(a, b + 1, STEP) for a, b in zip(low.embed_dims, high.embed_dims, strict=True)]
    complete = all(set(values) <= measured for values, measured in zip(choices, known, strict=True))
    networks: dict[EfficientFormerConfig, None] = {}
    for _ in range(TRIES * n):
        dims = tuple(rng.choice(values) for values in choices)
        depths = tuple(rng.randint(a, b) for a, b in zip(low.depths, high.depths, strict=True))
        remaining, vits = rng.randint(0, sum(depths[stage] for stage in MB3D_STAGES)), [0] * 4
        for stage in reversed(MB3D_STAGES):
            vits[stage] = min(remaining, depths[stage])
            remaining -= vits[stage]
        if complete or not all(width in measured for width, measured in zip(dims, known, strict=True)):
            networks[low.replace(embed_dims=dims, depths=depths, num_vit=tuple(vits))] = None
        if len(networks) == n:
            return tuple(networks)
    raise ValueError(f"n={n} is not possible; there are {len(networks)} such networks between {small!r} and {large!r}")


REFERENCE = "reference"  # the name of the network that is timed with all others
TOGETHER = 5  # networks in memory at once
TIMES = ("predicted", "measured", "at_speed")  # fields in seconds that are stored per network


class Prediction(NamedTuple):
    """A network that was predicted and measured.

    Attributes:
        config: the network.
        predicted: seconds according to the table.
        measured: measured seconds.
        at_speed: measured seconds, scaled to the machine's speed in the table by the reference network that was timed
            in the same rounds.
    """

    config: EfficientFormerConfig
    predicted: float
    measured: float
    at_speed: float

    @property
    def error(self) -> float:
        """Predicted divided by measured, minus 1."""
        return self.predicted / self.measured - 1

    @property
    def error_at_speed(self) -> float:
        """The error with both at the same machine speed, which excludes drift."""
        return self.predicted / self.at_speed - 1


@dataclass(frozen=True)
class Errors:
    """The prediction errors of a table.

    Attributes:
        conditions: conditions of the measurement.
        predictions: one per network.
    """

    conditions: Conditions
    predictions: tuple[Prediction, ...]

    @property
    def median(self) -> float:
        """Median absolute error, relative to the measured latency."""
        return median(abs(prediction.error) for prediction in self.predictions)

    @property
    def worst(self) -> float:
        """Largest absolute error."""
        return max(abs(prediction.error) for prediction in self.predictions)

    @property
    def median_at_speed(self) -> float:
        """Median absolute error at the same machine speed."""
        return median(abs(prediction.error_at_speed) for prediction in self.predictions)

    @property
    def worst_at_speed(self) -> float:
        """Largest absolute error at the same machine speed."""
        return max(abs(prediction.error_at_speed) for prediction in self.predictions)

    def table(self) -> Table:
        """One row per network, with milliseconds and both errors."""
        rows = [
            (
                ", ".join(map(str, prediction.config.embed_dims)),
                ", ".join(map(str, prediction.config.depths)),
                ", ".join(map(str, prediction.config.vits)),
                1e3 * prediction.predicted,
                1e3 * prediction.measured,
                prediction.error,
                prediction.error_at_speed,
            )
            for prediction in self.predictions
        ]
        columns = ("widths", "depths", "MB3D", "predicted ms", "measured ms", "error", "error at one speed")
        formats = {"predicted ms": ".2f", "measured ms": ".2f", "error": ".1%", "error at one speed": ".1%"}
        return Table(columns, tuple(rows), formats=formats)

    def save(self, path: Path) -> None:
        """Write everything as JSON, atomically. Raises OSError if the file cannot be written."""
        predictions = [
            {
                "config": prediction.config.to_dict(),
                **{name: round(getattr(prediction, name), DIGITS) for name in TIMES},
            }
            for prediction in self.predictions
        ]
        summary = {name: getattr(self, name) for name in ("median", "worst", "median_at_speed", "worst_at_speed")}
        data = {"conditions": asdict(self.conditions), **summary, "predictions": predictions}
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Errors:
        """Load what `save` wrote.

        Raises:
            ValueError: if the file does not contain prediction errors; the message names the file.
            OSError: if the file cannot be read.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            conditions = Conditions(**{**data["conditions"], "resolution": tuple(data["conditions"]["resolution"])})
            return cls(conditions, tuple(map(_prediction, data["predictions"])))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path.name} holds no errors of a lookup table: {error}") from error


def prediction_errors(
    lookup: Lookup, configs: Iterable[EfficientFormerConfig], rounds: int = 15, *, progress: bool = False
) -> Errors:
    """Measure networks with the table's number of threads, and compare with its predictions.

    Args:
        lookup: the table.
        configs: the networks; a few at a time are in memory and timed in turns.
        rounds: timed samples of each network.
        progress: report progress on the error stream.

    Raises:
        ImportError: if the table's engine is missing, with the command that installs it.
        ValueError: without networks, or for a network that the table cannot predict, before anything is measured.

    Warns:
        UserWarning: as `measure` does.
    """
    predicted = [(config, lookup.predict(config)) for config in configs]
    if not predicted:
        raise ValueError("no networks to predict; wanted: at least one")
    predictions, threads = list[Prediction](), lookup.conditions.threads
    command = f"prediction_errors({lookup!r}, {len(predicted)} networks, rounds={rounds})"
    conditions = Conditions(command=command, resolution=lookup.resolution)
    for first in range(0, len(predicted), TOGETHER):
        if progress:
            print(f"{first} of {len(predicted)} networks measured", file=sys.stderr)
        group = predicted[first : first + TOGETHER]
        options = lookup.resolution, lookup.engine, threads
        subjects = {str(i): whole_network(config, *options) for i, (config, _) in enumerate(group)}
        subjects[REFERENCE] = whole_network(lookup.base, *options)
        with torch.inference_mode():
            measurement = measure(subjects, conditions, rounds=rounds, num_threads=threads, progress=progress)
        for i, (config, seconds) in enumerate(group):
            at_speed = measurement.ratio(str(i), REFERENCE).value * lookup.reference
            predictions.append(Prediction(config, seconds, measurement[str(i)].estimate.value, at_speed))
        conditions = measurement.conditions.complete(busy=conditions.busy or measurement.conditions.busy)
    return Errors(conditions, tuple(predictions))


def _prediction(data: dict[str, Any]) -> Prediction:
    return Prediction(EfficientFormerConfig.from_dict(data["config"]), *(float(data[name]) for name in TIMES))


__all__ = ["WIDTHS", "Errors", "Lookup", "Prediction", "build", "prediction_errors", "random_networks"]


def build(
    widths: Sequence[Iterable[int]] = WIDTHS,
    engine: str = "folded",
    resolution: Resolution = 224,
    *,
    base: str | EfficientFormerConfig = "l1",
    path: Path | None = None,
    rounds: int = 15,
    num_threads: int | None = 1,
    progress: bool = False,
) -> Lookup:
    """Measure the parts of networks at the given widths.

    Args:
        widths: numbers of channels to measure: four lists, one per stage.
        engine: one of `lookup_chains.FORMS`, which are keys of `engines.ENGINES`.
        resolution: height and width of the images in pixels, or one number for both.
        base: the reference network, which also fixes all other fields: heads, activation, classes, ...
        path: a file that is written after each group of parts. If it exists, only missing parts are measured.
        rounds: timed samples of each part.
        num_threads: threads of the engine; None for the current number of torch threads.
        progress: report progress on the error stream.

    Returns:
        The table, with MB3D in the last two stages, where the paper searches for it.

    Raises:
        ImportError: if the engine is missing, with the command that installs it.
        ValueError: for an invalid engine or widths, or a file that was measured under different conditions.
        OSError: if the file cannot be written.

    Warns:
        UserWarning: as `measure` does.
    """
    config, size = get_config(base), resolution_pair(resolution)
    steps = _check(widths, engine, config)
    start = Lookup(engine, size, config, Conditions())
    lookup = Lookup.load(path) if path is not None and path.exists() else start
    if (lookup.engine, lookup.resolution, lookup.base) != (engine, size, config):
        raise ValueError(f"{path} holds {lookup!r}; wanted: {start!r} with the base that was given, or another file")
    measured_parts = {entry.part for entry in lookup.entries}
    missing = [[part for part in group if part not in measured_parts] for group in groups(config, size, steps)]
    missing = [group for group in missing if group]
    command = f"build({steps}, {engine!r}, {size}, rounds={rounds}, num_threads={num_threads})"
    conditions = Conditions(command=command, resolution=size)
    for number, group in enumerate(missing, start=1):
        if progress:
            print(f"{number} of {len(missing)}: {group[0].kind}, {len(group)} of them", file=sys.stderr)
        factors = {part: chains(part, config.grids(size)) for part in group}
        subjects = {name(chain): cut_out(chain, config, size, engine, num_threads) for chain in _all(factors)}
        subjects[REFERENCE] = whole_network(config, size, engine, num_threads)
        with torch.inference_mode():
            timed = measure(subjects, conditions, rounds=rounds, num_threads=num_threads, progress=progress)
        if lookup.entries and _where(lookup.conditions) != _where(timed.conditions):
            raise ValueError(f"{path} was measured on {lookup.conditions}; wanted: the same machine, threads, versions")
        combined = timed.conditions.complete(busy=lookup.conditions.busy or timed.conditions.busy)
        lookup = replace(lookup, conditions=combined, entries=lookup.entries + _entries(factors, timed))
        if path is not None:
            lookup.save(path)
    return lookup


def _all(factors_by_part: Mapping[Part, Mapping[Chain, float]]) -> dict[Chain, None]:
    """The distinct chains, because parts share some of them."""
    return dict.fromkeys(chain for factors in factors_by_part.values() for chain in factors)


def _entries(factors_by_part: Mapping[Part, Mapping[Chain, float]], measurement: Measurement) -> tuple[Entry, ...]:
    """One entry per part; the seconds of its chains are paired by round with the reference network."""
    reference = measurement[REFERENCE].estimate.value
    times = {chain: measurement.ratio(name(chain), REFERENCE).value * reference for chain in _all(factors_by_part)}
    return tuple(
        Entry(
            part,
            round(sum(factor * times[chain] for chain, factor in factors.items()), DIGITS),
            round(reference, DIGITS),
        )
        for part, factors in factors_by_part.items()
    )


def _check(widths: Sequence[Iterable[int]], engine: str, base: EfficientFormerConfig) -> list[tuple[int, ...]]:
    """The sorted widths of each stage. Raises ValueError if the table cannot be measured."""
    steps = [tuple(sorted(set(stage_widths))) for stage_widths in widths]
    if engine not in FORMS:
        raise ValueError(f"engine={engine!r} is not possible; allowed: {', '.join(FORMS)}")
    if (
        len(steps) != 4
        or not all(steps)
        or any(width < STEP or width % STEP for stage_widths in steps for width in stage_widths)
    ):
        raise ValueError(f"widths={widths!r} is not possible; allowed: four lists of multiples of {STEP}")
    if base.downsamples != (False, True, True, True):
        raise ValueError(f"downsamples={base.downsamples} is not possible; allowed: an embedding between all stages")
    return steps


def _where(conditions: Conditions) -> tuple[object, ...]:
    return conditions.machine, conditions.threads, dict(conditions.versions)
