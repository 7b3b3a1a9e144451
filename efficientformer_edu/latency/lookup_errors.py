"""How well the sums of a lookup table predict whole networks that are not in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from efficientformer_edu.audit.tables import Table
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.files import whole
from efficientformer_edu.latency.lookup_chains import whole_network
from efficientformer_edu.latency.lookup_table import Lookup
from efficientformer_edu.latency.records import DIGITS, Conditions
from efficientformer_edu.latency.timer import measure

REFERENCE = "reference"  # the name of the network that is timed beside others
TOGETHER = 5  # networks in memory at once
TIMES = ("predicted", "measured", "at_speed")  # seconds that are stored of each network


class Prediction(NamedTuple):
    """A network that was predicted and measured.

    Attributes:
        config: the network.
        predicted: seconds by the table.
        measured: seconds by the clock.
        at_speed: what was measured, brought to the machine's speed in the table by the reference network beside it.
    """

    config: EfficientFormerConfig
    predicted: float
    measured: float
    at_speed: float

    @property
    def error(self) -> float:
        """Predicted over measured, minus 1."""
        return self.predicted / self.measured - 1

    @property
    def error_at_speed(self) -> float:
        """The same with both at one speed of the machine: what the sum is to answer for, without the drift."""
        return self.predicted / self.at_speed - 1


@dataclass(frozen=True)
class Errors:
    """How well a table predicts.

    Attributes:
        conditions: of the measurement.
        predictions: one for each network.
    """

    conditions: Conditions
    predictions: tuple[Prediction, ...]

    @property
    def median(self) -> float:
        """Median size of the error, as a part of what was measured."""
        return median(abs(one.error) for one in self.predictions)

    @property
    def worst(self) -> float:
        """Largest size of the error."""
        return max(abs(one.error) for one in self.predictions)

    @property
    def median_at_speed(self) -> float:
        """Median size of the error at one speed of the machine."""
        return median(abs(one.error_at_speed) for one in self.predictions)

    @property
    def worst_at_speed(self) -> float:
        """Largest size of the error at one speed of the machine."""
        return max(abs(one.error_at_speed) for one in self.predictions)

    def table(self) -> Table:
        """One network a line, milliseconds and both errors."""
        rows = [
            (
                ", ".join(map(str, one.config.embed_dims)),
                ", ".join(map(str, one.config.depths)),
                ", ".join(map(str, one.config.vits)),
                1e3 * one.predicted,
                1e3 * one.measured,
                one.error,
                one.error_at_speed,
            )
            for one in self.predictions
        ]
        columns = ("widths", "depths", "MB3D", "predicted ms", "measured ms", "error", "error at one speed")
        formats = {"predicted ms": ".2f", "measured ms": ".2f", "error": ".1%", "error at one speed": ".1%"}
        return Table(columns, tuple(rows), formats=formats)

    def save(self, path: Path) -> None:
        """Write everything as JSON, whole or not at all. Raises OSError if it cannot be written."""
        predictions = [
            {"config": one.config.to_dict(), **{name: round(getattr(one, name), DIGITS) for name in TIMES}}
            for one in self.predictions
        ]
        found = {name: getattr(self, name) for name in ("median", "worst", "median_at_speed", "worst_at_speed")}
        data = {"conditions": asdict(self.conditions), **found, "predictions": predictions}
        with whole(path) as partial:
            partial.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Errors:
        """What `save` wrote.

        Raises:
            ValueError: naming the file, if it holds no errors of a table.
            OSError: if it cannot be read.
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
    """Measure whole networks, with the table's threads, and compare.

    Args:
        lookup: the table.
        configs: the networks; a few at a time are in memory and run in turns.
        rounds: how often each is timed.
        progress: say on the error stream how far it is.

    Raises:
        ImportError: if the table's engine is missing, with the command that installs it.
        ValueError: without networks, or for one that the table cannot predict, before anything is measured.

    Warns:
        UserWarning: as `measure` does.
    """
    predicted = [(config, lookup.predict(config)) for config in configs]
    if not predicted:
        raise ValueError("no networks to predict; wanted: at least one")
    found, threads = list[Prediction](), lookup.conditions.threads
    command = f"prediction_errors({lookup!r}, {len(predicted)} networks, rounds={rounds})"
    conditions = Conditions(command=command, resolution=lookup.resolution)
    for first in range(0, len(predicted), TOGETHER):
        if progress:
            print(f"{first} of {len(predicted)} networks measured", file=sys.stderr)
        some = predicted[first : first + TOGETHER]
        run_in = lookup.resolution, lookup.engine, threads
        subjects = {str(i): whole_network(one, *run_in) for i, (one, _) in enumerate(some)}
        subjects[REFERENCE] = whole_network(lookup.base, *run_in)
        with torch.inference_mode():
            timed = measure(subjects, conditions, rounds=rounds, num_threads=threads, progress=progress)
        for i, (config, seconds) in enumerate(some):
            at_speed = timed.ratio(str(i), REFERENCE).value * lookup.reference
            found.append(Prediction(config, seconds, timed[str(i)].estimate.value, at_speed))
        conditions = timed.conditions.complete(busy=conditions.busy or timed.conditions.busy)
    return Errors(conditions, tuple(found))


def _prediction(data: dict[str, Any]) -> Prediction:
    return Prediction(EfficientFormerConfig.from_dict(data["config"]), *(float(data[name]) for name in TIMES))
