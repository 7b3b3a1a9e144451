"""Measure the lookup table of section 4.2, from which latency-driven slimming reads what a change would save.

    lookup = build(path=Path("lookup.json"))  # minutes, and goes on where it was interrupted
    lookup.gain("l3", "l1")  # seconds

The table itself is `lookup_table.Lookup`, its parts are those of `lookup_parts`, what is timed for each stands in
`lookup_chains`, how far the sums are off in `lookup_errors`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.config import EfficientFormerConfig, Resolution, get_config, resolution_pair
from efficientformer_edu.latency.lookup_chains import FORMS, WIDTHS, Chain, chains, cut_out, groups, name, whole_network
from efficientformer_edu.latency.lookup_errors import REFERENCE, Errors, Prediction, prediction_errors
from efficientformer_edu.latency.lookup_networks import random_networks
from efficientformer_edu.latency.lookup_parts import Part
from efficientformer_edu.latency.lookup_table import Entry, Lookup
from efficientformer_edu.latency.records import DIGITS, Conditions, Measurement
from efficientformer_edu.latency.timer import measure

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
        widths: channels to measure, four lists, one for each stage.
        engine: one of `lookup_chains.FORMS`, which are keys of `engines.ENGINES`.
        resolution: height and width of the images in pixels, or one number for both.
        base: the reference network, and what holds for all: heads, activation, classes, ...
        path: a file that is written after each group of parts. If it is there, only what it lacks is measured.
        rounds: how often each part is timed.
        num_threads: of the engine; None for what torch is set to.
        progress: say on the error stream what is measured.

    Returns:
        The table; with MB3D in the last two stages, which is where the paper searches for them.

    Raises:
        ImportError: if the engine is missing, with the command that installs it.
        ValueError: for an engine or widths that are not possible, or a file that was measured otherwise.
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
    known = {entry.part for entry in lookup.entries}
    missing = [[part for part in group if part not in known] for group in groups(config, size, steps)]
    missing = [group for group in missing if group]
    command = f"build({steps}, {engine!r}, {size}, rounds={rounds}, num_threads={num_threads})"
    conditions = Conditions(command=command, resolution=size)
    for number, group in enumerate(missing, start=1):
        if progress:
            print(f"{number} of {len(missing)}: {group[0].kind}, {len(group)} of them", file=sys.stderr)
        made = {part: chains(part, config.grids(size)) for part in group}
        subjects = {name(chain): cut_out(chain, config, size, engine, num_threads) for chain in _all(made)}
        subjects[REFERENCE] = whole_network(config, size, engine, num_threads)
        with torch.inference_mode():
            timed = measure(subjects, conditions, rounds=rounds, num_threads=num_threads, progress=progress)
        if lookup.entries and _where(lookup.conditions) != _where(timed.conditions):
            raise ValueError(f"{path} was measured on {lookup.conditions}; wanted: the same machine, threads, versions")
        found = timed.conditions.complete(busy=lookup.conditions.busy or timed.conditions.busy)
        lookup = replace(lookup, conditions=found, entries=lookup.entries + _entries(made, timed))
        if path is not None:
            lookup.save(path)
    return lookup


def _all(made: Mapping[Part, Mapping[Chain, float]]) -> dict[Chain, None]:
    """Every chain once: parts side by side share some."""
    return dict.fromkeys(chain for factors in made.values() for chain in factors)


def _entries(made: Mapping[Part, Mapping[Chain, float]], timed: Measurement) -> tuple[Entry, ...]:
    """One for each part; its chains' seconds come by the reference that ran in the same rounds, one pair a round."""
    reference = timed[REFERENCE].estimate.value
    times = {chain: timed.ratio(name(chain), REFERENCE).value * reference for chain in _all(made)}
    return tuple(
        Entry(
            part,
            round(sum(factor * times[chain] for chain, factor in factors.items()), DIGITS),
            round(reference, DIGITS),
        )
        for part, factors in made.items()
    )


def _check(widths: Sequence[Iterable[int]], engine: str, base: EfficientFormerConfig) -> list[tuple[int, ...]]:
    """The widths of each stage in order, if a table can be measured; else a ValueError."""
    steps = [tuple(sorted(set(some))) for some in widths]
    if engine not in FORMS:
        raise ValueError(f"engine={engine!r} is not possible; allowed: {', '.join(FORMS)}")
    if len(steps) != 4 or not all(steps) or any(width < STEP or width % STEP for some in steps for width in some):
        raise ValueError(f"widths={widths!r} is not possible; allowed: four lists of multiples of {STEP}")
    if base.downsamples != (False, True, True, True):
        raise ValueError(f"downsamples={base.downsamples} is not possible; allowed: an embedding between all stages")
    return steps


def _where(conditions: Conditions) -> tuple[object, ...]:
    return conditions.machine, conditions.threads, dict(conditions.versions)
