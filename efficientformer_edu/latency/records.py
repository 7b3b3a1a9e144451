"""Measurements as they are stored: every sample, and the conditions.

A latency is only meaningful together with the machine it was measured on. A record therefore contains the machine,
threads, versions, date and command in addition to the samples. Every plot and table is generated from records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from efficientformer_edu.utils.records import from_dict, load_json, save_json
from efficientformer_edu.utils.statistics import MIN_SAMPLES, Estimate, median_estimate, paired_ratio
from efficientformer_edu.utils.tables import Table

MEASUREMENTS = "measurements"
DIGITS = 9  # of stored seconds, which are rounded to nanoseconds
TOO_FEW = "too few rounds"  # printed instead of an interval or a verdict


@dataclass(frozen=True)
class Conditions:
    """The conditions of a measurement.

    Attributes:
        command: the command that repeats the measurement.
        batch: batch size; 0 if the input is not images.
        resolution: height and width of the images in pixels; (0, 0) if the input is not images.
        precision: data type, "float32" or "bfloat16".
        memory_format: memory format of feature maps, or "" if it differs between the functions.
        machine: processor or GPU.
        threads: number of torch threads.
        versions: versions of Python and the libraries.
        date: date of the measurement in ISO format.
        memory_kept: whether freed memory stayed with the process.
        busy: a sentence if the machine was busy, else "".
    """

    command: str = ""
    batch: int = 1
    resolution: tuple[int, int] = (224, 224)
    precision: str = "float32"
    memory_format: str = ""
    machine: str = ""
    threads: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str = ""
    memory_kept: bool = False
    busy: str = ""

    def complete(self, **values: Any) -> Conditions:
        """A copy with the fields that the timer determined."""
        return replace(self, **values)

    def where(self) -> dict[str, str]:
        """Command, machine, date and versions, for the report."""
        return {
            "command": self.command,
            "machine": f"{self.machine}, {self._threads}",
            "date": self.date,
            "versions": self._libraries,
        }

    def __str__(self) -> str:
        """One line for the caption of a figure or table."""
        return f"{self.machine}; {self._threads}; batch {self.batch}; {self._libraries}; {self.date}"

    @property
    def _threads(self) -> str:
        return f"{self.threads} thread{'s' * (self.threads != 1)}"

    @property
    def _libraries(self) -> str:
        return ", ".join(f"{name} {number}" for name, number in self.versions.items())


@dataclass(frozen=True)
class Timing:
    """The samples of one timed function.

    Attributes:
        name: its name.
        seconds: seconds of one call, one value per round.
        faults: page faults per call, averaged over all rounds.
        calls: calls per sample.
    """

    name: str
    seconds: tuple[float, ...]
    faults: float = 0.0
    calls: int = 1

    @cached_property
    def estimate(self) -> Estimate:
        """Median seconds of one call with its 95 % confidence interval over the rounds."""
        return median_estimate(self.seconds)

    @property
    def milliseconds(self) -> float:
        """The median in milliseconds."""
        return 1e3 * self.estimate.value

    def __str__(self) -> str:
        median, low, high = (1e3 * seconds for seconds in self.estimate[:3])
        digits = max(0, 2 - len(f"{median:.0f}") + 1)  # three significant digits without an exponent
        if self.estimate.samples < MIN_SAMPLES:
            return f"{median:.{digits}f} ms ({TOO_FEW}: {self.estimate.samples})"
        return f"{median:.{digits}f} ms ({low:.{digits}f} to {high:.{digits}f})"


@dataclass(frozen=True)
class Measurement:
    """Functions that were timed in turns.

    Attributes:
        conditions: the conditions of the measurement.
        timings: in the order in which the functions ran in each round.
    """

    conditions: Conditions
    timings: tuple[Timing, ...]

    def __getitem__(self, name: str) -> Timing:
        """The timing of a name. Raises KeyError with the available names."""
        timings = {timing.name: timing for timing in self.timings}
        if name not in timings:
            raise KeyError(f"{name!r} was not timed; allowed: {', '.join(timings)}")
        return timings[name]

    def ratio(self, name: str, against: str) -> Estimate:
        """Latency divided by that of another name: the median of the ratios by round, with its interval."""
        return paired_ratio(self[name].seconds, self[against].seconds)

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines of a record whose timings are named "network engine", in order."""
        return tuple(dict.fromkeys(timing.name.rpartition(" ")[2] for timing in self.timings))

    def in_engine(self, engine: str) -> Measurement:
        """The timings of one engine, named by network. Raises ValueError if there are none."""
        if engine not in self.engines:
            raise ValueError(f"nothing was timed in engine {engine!r}; allowed: {', '.join(self.engines)}")
        suffix = f" {engine}"
        timings = (timing for timing in self.timings if timing.name.endswith(suffix))
        return Measurement(
            self.conditions, tuple(replace(timing, name=timing.name.removesuffix(suffix)) for timing in timings)
        )

    def table(self, against: str | None = None) -> Table:
        """Milliseconds and the ratio to `against` (the first if None), both with intervals, and page faults."""
        base = against or self.timings[0].name
        rows = []
        for timing in self.timings:
            ratio = 1.0 if timing.name == base else self.ratio(timing.name, base)
            rows.append((timing.name, timing.estimate.scaled(1e3), ratio, round(timing.faults)))
        columns = ("subject", "ms", f"times {base}", "page faults")
        return Table(columns, tuple(rows), formats={"ms": ".3f"})

    def to_json(self) -> str:
        """The measurement as a JSON object."""
        return json.dumps(to_dict(self), indent=1)

    def _repr_markdown_(self) -> str:
        return f"{self.table().to_markdown()}\n\n{self.conditions}"


def to_dict(measurement: Measurement) -> dict[str, Any]:
    """The measurement as a JSON-serializable dictionary, with seconds rounded to nanoseconds."""
    data = asdict(measurement)
    for timing in data["timings"]:
        timing["seconds"] = [round(seconds, DIGITS) for seconds in timing["seconds"]]
    return data


def save(records: Mapping[str, Measurement], path: Path, **more: Any) -> None:
    """Write measurements by name to a JSON file, atomically, with additional top-level fields. Raises OSError."""
    data = {**more, "measurements": {name: to_dict(record) for name, record in records.items()}}
    save_json(data, path, MEASUREMENTS)


def load(path: Path) -> dict[str, Measurement]:
    """Load the measurements that `save` wrote. Raises ValueError, naming the file, if it contains something else."""
    return load_json(path, MEASUREMENTS, measurements)


def measurements(data: Mapping[str, Any]) -> dict[str, Measurement]:
    """The measurements in the content of a file, by name. Raises KeyError or ValueError if there are none."""
    return {name: from_dict(Measurement, record) for name, record in data["measurements"].items()}
