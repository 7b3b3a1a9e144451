"""Measure the lookup table of section 4.2, and how accurately its sums predict networks that it does not contain.

    lookup = build(path=Path("lookup.json"))  # takes minutes; continues after an interruption
    lookup.gain("l3", "l1")  # seconds saved

A block timed alone differs from the same block in a network: its weights stay in the processor's cache, and each call
has Python overhead. Several blocks with separate weights are therefore timed in sequence, as a chain, and the time is
divided by their number.

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
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from efficientformer_edu.latency.engines import Prepared, prepare
from efficientformer_edu.latency.lookup_table import Entry, Grid, Lookup, Part
from efficientformer_edu.latency.records import DIGITS, Conditions, Measurement
from efficientformer_edu.latency.timer import measure
from efficientformer_edu.model import EfficientFormer, fold
from efficientformer_edu.model.folding import folded_maps
from efficientformer_edu.utils.records import from_dict, load_json, save_json
from efficientformer_edu.utils.tables import Cell, Table

__all__ = ["WIDTHS", "Errors", "Lookup", "Prediction", "build", "prediction_errors", "random_networks"]

# From below L1 to L7, with finer steps near L1 and L3.
WIDTHS = ((32, 48, 64, 96), (64, 96, 128, 192), (128, 224, 320, 384), (256, 384, 512, 768))
REPEATS = 4  # blocks timed in sequence
BLOCKS = ("MB4D", "MB3D")
MB3D_STAGES = (2, 3)  # stages with MB3D in the search space of Eq. 7
REFERENCE = "reference"  # the name of the network that is timed with all others
ERRORS = "prediction errors"
MAX_NETWORKS = 5  # networks in memory at once
MAX_SAMPLES = 1000  # per random network: a sample may repeat another, or have only widths of the table

Chain = tuple[Part, ...]  # parts in the order in which they run


class Form(NamedTuple):
    """How the parts of a network are prepared for an engine.

    Attributes:
        runner: the key of `engines.ENGINES` that runs a module already in this form.
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
        engine: a key of `FORMS`.
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
    sorted_widths = _check(widths, engine, config)
    lookup = empty = Lookup(engine, size, config, Conditions())
    if path is not None and path.exists():
        lookup = Lookup.load(path)
    if (lookup.engine, lookup.resolution, lookup.base) != (engine, size, config):
        raise ValueError(f"{path} holds {lookup!r}; allowed: {empty!r} with the same base, or another file")
    known = {entry.part for entry in lookup.entries}
    missing = [[part for part in group if part not in known] for group in groups(config, size, sorted_widths)]
    missing = [group for group in missing if group]
    command = f"build({sorted_widths}, {engine!r}, {size}, rounds={rounds}, num_threads={num_threads})"
    for number, group in enumerate(missing, start=1):
        if progress:
            print(f"{number} of {len(missing)}: {group[0].kind}, {len(group)} of them", file=sys.stderr)
        factors = {part: chains(part, config.grids(size)) for part in group}
        subgraphs = {
            chain_name(chain): build_subgraph(chain, config, size, engine, num_threads)
            for chain in dict.fromkeys(chain for sums in factors.values() for chain in sums)  # parts share chains
        }
        timed = _measure(subgraphs, config, engine, Conditions(command, resolution=size), rounds, num_threads, progress)
        if lookup.entries and _environment(lookup.conditions) != _environment(timed.conditions):
            raise ValueError(f"{path} was measured on {lookup.conditions}; use the same machine, threads and versions")
        conditions = timed.conditions.complete(busy=lookup.conditions.busy or timed.conditions.busy)
        lookup = replace(lookup, conditions=conditions, entries=lookup.entries + _entries(factors, timed))
        if path is not None:
            lookup.save(path)
    return lookup


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
    if part.kind in BLOCKS:
        return {(here, here, *(part,) * REPEATS): 1 / REPEATS, (here, here): -1 / REPEATS}
    chain = {"stem": (part, here), "embedding": (before, part, here), "head": (here, part)}[part.kind]
    return {chain: 1.0} | {(neighbour, neighbour): -0.5 for neighbour in chain if neighbour != part}


def chain_name(chain: Chain) -> str:
    """A description of the chain, with equal blocks grouped."""
    return ", ".join(f"{count} × {part}" for part, count in Counter(chain).items())


def build_subgraph(
    chain: Chain, base: EfficientFormerConfig, size: Grid, engine: str, num_threads: int | None
) -> Prepared:
    """A function that runs a chain, compared with torch. Raises ImportError if the engine is missing."""
    form, grids, first = FORMS[engine], base.grids(size), chain[0]
    modules = chain_modules(chain, base, size, engine)
    if first.kind == "stem":
        return prepare(form.runner, modules, torch.randn(1, base.in_channels, *size), num_threads)
    grid = grids[grids.index(first.grid) - (first.kind == "embedding")]
    maps = torch.randn(1, first.widths[0], *grid).to(memory_format=form.layout)
    return prepare(form.runner, modules, maps, num_threads)


def chain_modules(chain: Chain, base: EfficientFormerConfig, size: Grid, engine: str) -> nn.Sequential:
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
    network = build_network(base.replace(**shape), size, engine)
    modules: list[nn.Module] = [network.stem] if chain[0].kind == "stem" else []
    for stage, module in enumerate(network.stages):
        has_embedding = any(part.kind == "embedding" and part.grid == grids[stage] for part in chain)
        if not has_embedding:
            module.downsample = nn.Identity()
        if not depths[stage]:
            module.mb4d = nn.ModuleList()  # remove the single block that every stage has
        if has_embedding or depths[stage]:
            modules.append(module)
    return nn.Sequential(*modules, *[PooledHead(network)] * (chain[-1].kind == "head"))


def build_network(config: EfficientFormerConfig, size: Grid, engine: str) -> EfficientFormer:
    """A network in evaluation mode, folded if the engine requires it."""
    network, form = EfficientFormer(config).eval(), FORMS[engine]
    return network if form.fold is None else form.fold(network, size)


class PooledHead(nn.Module):
    """The layers after the last feature map: norm, mean, and one or two heads."""

    def __init__(self, network: EfficientFormer) -> None:
        super().__init__()
        self.norm, self.head, self.head_dist = network.norm, network.head, network.head_dist

    def forward(self, maps: Float[Tensor, "B C4 H W"]) -> Float[Tensor, "B num_classes"]:
        pooled = self.norm(maps.permute(0, 2, 3, 1).flatten(1, 2)).mean(1)  # (B, C₄)
        logits = self.head(pooled)  # (B, num_classes)
        return logits if self.head_dist is None else (logits + self.head_dist(pooled)) / 2


def prepare_network(config: EfficientFormerConfig, size: Grid, engine: str, num_threads: int | None) -> Prepared:
    """A function that runs a network on one image, compared with torch. Raises ImportError if the engine is missing."""
    return prepare(engine, EfficientFormer(config), torch.randn(1, config.in_channels, *size), num_threads)


def _measure(
    functions: dict[str, Prepared],
    base: EfficientFormerConfig,
    engine: str,
    conditions: Conditions,
    rounds: int,
    num_threads: int | None,
    progress: bool,
) -> Measurement:
    """Time functions together with the reference network."""
    functions[REFERENCE] = prepare_network(base, conditions.resolution, engine, num_threads)
    with torch.inference_mode():
        return measure(functions, conditions, rounds=rounds, num_threads=num_threads, progress=progress)


def _entries(factors_by_part: Mapping[Part, Mapping[Chain, float]], measurement: Measurement) -> tuple[Entry, ...]:
    """One entry per part; the seconds of its chains are paired by round with the reference network."""
    reference = measurement[REFERENCE].estimate.value
    entries = []
    for part, factors in factors_by_part.items():
        times = {chain: measurement.ratio(chain_name(chain), REFERENCE).value * reference for chain in factors}
        seconds = sum(factor * times[chain] for chain, factor in factors.items())
        entries.append(Entry(part, round(seconds, DIGITS), round(reference, DIGITS)))
    return tuple(entries)


def _check(widths: Sequence[Iterable[int]], engine: str, base: EfficientFormerConfig) -> list[tuple[int, ...]]:
    """The sorted widths of each stage. Raises ValueError if the table cannot be measured."""
    stages = [tuple(sorted(set(stage))) for stage in widths]
    if engine not in FORMS:
        raise ValueError(f"engine={engine!r} is not possible; allowed: {', '.join(FORMS)}")
    if len(stages) != 4 or not all(stages) or any(width < STEP or width % STEP for stage in stages for width in stage):
        raise ValueError(f"widths={widths!r} is not possible; allowed: four lists of multiples of {STEP}")
    if base.downsamples != (False, True, True, True):
        raise ValueError(f"downsamples={base.downsamples} is not possible; allowed: an embedding between all stages")
    return stages


def _environment(conditions: Conditions) -> tuple[object, ...]:
    return conditions.machine, conditions.threads, dict(conditions.versions)


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
    for _ in range(MAX_SAMPLES * n):
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
        formats = {"predicted ms": ".2f", "measured ms": ".2f", "error": ".1%", "error at one speed": ".1%"}
        rows: list[tuple[Cell, ...]] = []
        for prediction in self.predictions:
            config, predicted, measured, _ = prediction
            shape = (", ".join(map(str, values)) for values in (config.embed_dims, config.depths, config.vits))
            rows.append((*shape, 1e3 * predicted, 1e3 * measured, prediction.error, prediction.error_at_speed))
        return Table(("widths", "depths", "MB3D", *formats), tuple(rows), formats=formats)

    def save(self, path: Path) -> None:
        """Write everything as JSON, atomically. Raises OSError if the file cannot be written."""
        predictions = [
            prediction._replace(**{name: round(getattr(prediction, name), DIGITS) for name in Prediction._fields[1:]})
            for prediction in self.predictions
        ]
        summary = {name: getattr(self, name) for name in ("median", "worst", "median_at_speed", "worst_at_speed")}
        save_json({"conditions": self.conditions, **summary, "predictions": predictions}, path, ERRORS)

    @classmethod
    def load(cls, path: Path) -> Errors:
        """Load what `save` wrote. Raises ValueError, naming the file, if it contains something else."""

        def parse(data: dict[str, Any]) -> Errors:
            return from_dict(cls, {name: data[name] for name in ("conditions", "predictions")})

        return load_json(path, ERRORS, parse)


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
        raise ValueError("no networks to predict; at least one is needed")
    predictions, threads = list[Prediction](), lookup.conditions.threads
    command = f"prediction_errors({lookup!r}, {len(predicted)} networks, rounds={rounds})"
    conditions = Conditions(command=command, resolution=lookup.resolution)
    for first in range(0, len(predicted), MAX_NETWORKS):
        if progress:
            print(f"{first} of {len(predicted)} networks measured", file=sys.stderr)
        group = {str(i): pair for i, pair in enumerate(predicted[first : first + MAX_NETWORKS])}
        functions = {
            i: prepare_network(config, lookup.resolution, lookup.engine, threads) for i, (config, _) in group.items()
        }
        timed = _measure(functions, lookup.base, lookup.engine, conditions, rounds, threads, progress)
        for i, (config, seconds) in group.items():
            at_speed = timed.ratio(i, REFERENCE).value * lookup.reference
            predictions.append(Prediction(config, seconds, timed[i].estimate.value, at_speed))
        conditions = timed.conditions.complete(busy=conditions.busy or timed.conditions.busy)
    return Errors(conditions, tuple(predictions))
