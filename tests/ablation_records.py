"""Synthetic records of a study: fixed accuracies, and latencies on a machine whose speed varies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from efficientformer_edu.ablations.costs import Costs
from efficientformer_edu.ablations.variants import BASE
from efficientformer_edu.latency import Conditions, Measurement, Timing
from efficientformer_edu.training.study import Record

BASES = (0.70, 0.71, 0.72, 0.73, 0.74)  # accuracy of the base by seed
RUN = {"train": "2 training images", "test": "10 test images", "size": 32}
WHERE = {"machine": "A processor", "versions": "torch 2.13", "date": "2026-11-21"}
TIMES = {"base": (90.0, 45.0), "relu": (80.0, 40.0), "group-norm": (120.0, None), "no-scale": (90.0, 45.0)}
SPEEDS = (1.0, 1.0, 1.0, 1.5, 1.5, 1.5, 1.5)  # of the machine, by round: a factor on the seconds

COSTS = Costs(
    Measurement(
        Conditions("efficientformer-edu ablate", machine="A processor", threads=1, date="2026-11-21"),
        tuple(
            Timing(f"{name} {form}", tuple(speed * ms / 1e3 for speed in SPEEDS))
            for name, times in TIMES.items()
            for form, ms in zip(("eager", "folded"), times, strict=True)
            if ms
        ),
    ),
    dict.fromkeys(TIMES, 12),
    dict.fromkeys(TIMES, 34),
)


def records(name: str, shifts: Sequence[float]) -> list[Record]:
    """One record per seed, with these accuracy gains over the base."""
    return [
        Record(name, seed, {"top1": round(base + shift, 6)}, RUN, where=WHERE)
        for seed, (base, shift) in enumerate(zip(BASES, shifts, strict=False))
    ]


def stored(folder: Path, shifts: Mapping[str, Sequence[float]]) -> None:
    """A study in a folder: the base, and every variant with a shift."""
    folder.mkdir(exist_ok=True)
    for name, by_seed in {BASE: (0.0,) * 5, **shifts}.items():
        for record in records(name, by_seed):
            record.save(folder)
