"""How accurately the sums of a lookup table predict the latency of networks that were not measured for it."""

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
from efficientformer_edu.files import atomic_write
from efficientformer_edu.latency.lookup_chains import whole_network
from efficientformer_edu.latency.lookup_table import Lookup
from efficientformer_edu.latency.records import DIGITS, Conditions
from efficientformer_edu.latency.timer import measure

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
