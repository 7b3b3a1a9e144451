"""Reproduce Fig. 2: the share of a network's latency per operator class.

Paper: section 3, Fig. 2. PyTorch's profiler records when each operator starts and ends. In one untimed call, hooks
record in which module each operator runs, and `operators` assigns its class. The timed calls have no hooks, because
these would take longer than many operators. The time between two operators, in which Python runs and memory is
freed, is added to the class of the second one. The profiler's overhead is measured and subtracted
(`events.profiler_cost`). As a check, the network is also timed without the profiler, in turns, and both totals are
stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from efficientformer_edu.latency.operators import CLASSES, Classify, calls, classify, profiler_cost, record, sums
from efficientformer_edu.latency.records import Conditions
from efficientformer_edu.latency.timer import measure
from efficientformer_edu.utils.files import atomic_write
from efficientformer_edu.utils.statistics import MIN_SAMPLES
from efficientformer_edu.utils.tables import Table

RESHAPES = "LeViT-256"  # the paper calls the reshapes of this network a bottleneck


@dataclass(frozen=True)
class Profile:
    """The latency of a network by operator class.

    Attributes:
        name: name of the network.
        total_ms: median milliseconds of one call without the profiler, from `timer.measure`.
        parts: profiled milliseconds of every class of `CLASSES`, not scaled to the total.
        rounds: number of timed calls, and of profiled calls.
        conditions: the conditions of the measurement.
    """

    name: str
    total_ms: float
    parts: Mapping[str, float]
    rounds: int
    conditions: Conditions

    @property
    def profiled_ms(self) -> float:
        """The sum of the parts."""
        return sum(self.parts.values())

    @property
    def ratio(self) -> float:
        """The sum of the parts divided by the timed total: how much of the latency the profile explains."""
        return self.profiled_ms / self.total_ms

    @property
    def shares(self) -> dict[str, float]:
        """Each class's share of the sum."""
        return {name: ms / self.profiled_ms for name, ms in self.parts.items()}

    def table(self) -> Table:
        """The classes in milliseconds and as shares of their sum, then the sum and the timed total."""
        rows = [(name, ms, self.shares[name]) for name, ms in self.parts.items()]
        ends = [("profiled", self.profiled_ms, 1.0), ("timed", self.total_ms, 1 / self.ratio)]
        columns = (self.name, "ms", "of the profiled")
        return Table(columns, (*rows, *ends), formats={"ms": ".3f", "of the profiled": ".1%"})

    def to_dict(self) -> dict[str, Any]:
        """The profile as a JSON-serializable dictionary."""
        return asdict(self)

    def _repr_markdown_(self) -> str:
        return f"{self.table().to_markdown()}\n\n{self.conditions}"


def from_dict(data: Mapping[str, Any]) -> Profile:
    """The inverse of `Profile.to_dict`. Raises ValueError if a field is missing or unknown."""
    try:
        conditions = Conditions(**{**data["conditions"], "resolution": tuple(data["conditions"]["resolution"])})
        return Profile(**{**data, "parts": dict(data["parts"]), "conditions": conditions})
    except (KeyError, TypeError) as error:
        fields = ", ".join(Profile.__dataclass_fields__)
        raise ValueError(f"this is no profile: {error}; its fields are {fields}") from error


def save_profiles(profiles: Sequence[Profile], path: Path) -> None:
    """Write profiles to a JSON file, atomically, with the finding on Fig. 2 for the report.

    Raises:
        OSError: if the file cannot be written.
    """
    data = {
        **profiles[0].conditions.where(),
        "findings": findings(profiles),
        "profiles": [entry.to_dict() for entry in profiles],
    }
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def findings(profiles: Sequence[Profile]) -> list[dict[str, str]]:
    """Whether reshapes take a larger share in LeViT-256 than in any other network, as observation 2 states for Fig. 2.

    Empty without LeViT-256 and another network, or with too few rounds.
    """
    shares = {entry.name: entry.shares.get("reshape", 0.0) for entry in profiles if entry.rounds >= MIN_SAMPLES}
    others = {name: share for name, share in shares.items() if name != RESHAPES}
    if RESHAPES not in shares or not others:
        return []
    largest = max(others, key=others.__getitem__)
    summary = f"reshapes take {shares[RESHAPES]:.0%} of {RESHAPES}'s time, and {others[largest]:.0%} of {largest}'s"
    status = "same trend" if shares[RESHAPES] > others[largest] else "disagrees"
    why = (
        "No milliseconds of single operators are sourced. What section 3 says of them is that reshapes slow LeViT down."
    )
    return [{"row": "Fig. 2: latency by class of operators", "status": status, "ours": summary, "why": why}]


def load_profiles(path: Path) -> list[Profile]:
    """Load the profiles that `save_profiles` wrote. Raises ValueError with the file name if there are none."""
    try:
        return [from_dict(entry) for entry in json.loads(path.read_text(encoding="utf-8"))["profiles"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name} holds no profiles: {error}") from error


def profile(
    network: nn.Module,
    images: Tensor,
    classify: Classify = classify,
    *,
    name: str = "",
    num_threads: int | None = None,
    rounds: int = 10,
    command: str = "",
) -> Profile:
    """Time a network on the CPU, and break the latency down by operator class.

    Args:
        network: any network, in evaluation mode.
        images: the input, (B, C, H, W).
        classify: maps an operator to its class; the default is `operators.classify`.
        name: name of the network; the default is the name of its type.
        num_threads: torch threads; None for the current setting.
        rounds: number of timed calls, and of profiled calls in turns with them.
        command: the command that repeats the measurement, which is stored.

    Returns:
        The profile. Its parts are medians over the rounds, computed by `middle`.

    Raises:
        ValueError: for a network in training mode, images that are not on the CPU, a network that does not call the
            same operators each time, and as `measure` does.

    Warns:
        UserWarning: as `measure` does, also of the profiled calls.
    """
    if network.training or images.device.type != "cpu":
        mode = "training" if network.training else "evaluation"
        raise ValueError(f"a network in {mode} mode on {images.device.type}; wanted: evaluation mode on cpu")
    passes: list[dict[str, float]] = []
    name = name or type(network).__name__
    known = Conditions(command=command, batch=len(images), resolution=(images.shape[2], images.shape[3]))
    with torch.inference_mode():
        network(images)  # the first call of some networks computes and caches biases
        called, cost = calls(network, images, classify), profiler_cost()
        profiled = f"{name}, profiled"
        subjects = {
            name: lambda: network(images),
            profiled: lambda: passes.append(sums(record(network, images), called, cost)),
        }
        timed = measure(subjects, known, rounds=rounds, num_threads=num_threads)
    last = rounds * (1 + timed[profiled].calls)  # each sample follows an untimed call; before that, warm-up
    return Profile(name, timed[name].milliseconds, middle(passes[-last:]), rounds, timed.conditions)


def middle(passes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each class, scaled so that they sum to the median of the passes' sums.

    A disturbance usually affects a single class, so each class is disturbed in fewer passes than the total. Without
    scaling, the medians would sum to less than the latency of a call.
    """
    medians = {kind: median(times[kind] for times in passes) for kind in CLASSES}
    scale = median(sum(times.values()) for times in passes) / sum(medians.values())
    return {kind: ms * scale for kind, ms in medians.items()}
