"""Measure the lookup table of section 4.2, which gives the latency saved by each step of latency-driven slimming.

    lookup = build(path=Path("lookup.json"))  # takes minutes; continues after an interruption
    lookup.gain("l3", "l1")  # seconds saved

The table is `lookup_table.Lookup`. Its parts are defined in `lookup_parts`, and the chains that are timed for each part
in `lookup_chains`. `lookup_errors` measures the prediction error of the sums.
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
