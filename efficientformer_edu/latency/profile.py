"""Fig. 2 rebuilt: which class of operators takes how much of a network's time.

Paper: section 3, Fig. 2. PyTorch's profiler notes when each operator starts and ends. In one call, which is not timed,
hooks note in which module each runs, and `operators` says to which class it belongs; the timed calls have no hooks,
for those would take longer than many an operator. The time between two operators, in which Python works and memory is
freed, goes to the class of the operator that it leads to. The profiler costs time too, which is measured and taken off
(`events.profiler_cost`). Whether that is right can be seen: the network is also timed without the profiler, in turns,
and both totals are kept.
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

from efficientformer_edu.audit.tables import Table
from efficientformer_edu.files import whole
from efficientformer_edu.latency.events import calls, profiler_cost, record, sums
from efficientformer_edu.latency.operators import CLASSES, Classify, classify
from efficientformer_edu.latency.records import Conditions
from efficientformer_edu.latency.timer import measure
from efficientformer_edu.utils.statistics import MIN_SAMPLES

RESHAPES = "LeViT-256"  # the network whose reshapes the paper calls a bottleneck


@dataclass(frozen=True)
class Profile:
    """What a network's time is spent on.

    Attributes:
        name: of the network.
        total_ms: milliseconds of one call without the profiler, the median by the kit's clock.
        parts: milliseconds of each class by the profiler, not scaled to the total; every class of `CLASSES`.
        rounds: timed calls, and as many profiled ones.
        conditions: what the measurement depends on.
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
        """The sum of the parts against the clock's total: how far the profile accounts for the time."""
        return self.profiled_ms / self.total_ms

    @property
    def shares(self) -> dict[str, float]:
        """Each class's share of the sum."""
        return {name: ms / self.profiled_ms for name, ms in self.parts.items()}

    def table(self) -> Table:
        """The classes in milliseconds and as shares of their sum, then that sum and the timer's total."""
        rows = [(name, ms, self.shares[name]) for name, ms in self.parts.items()]
        ends = [("profiled", self.profiled_ms, 1.0), ("timed", self.total_ms, 1 / self.ratio)]
        columns = (self.name, "ms", "of the profiled")
        return Table(columns, (*rows, *ends), formats={"ms": ".3f", "of the profiled": ".1%"})

    def to_dict(self) -> dict[str, Any]:
        """The profile as JSON holds it."""
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
    """Write profiles into one JSON file, atomically, with the finding on Fig. 2 for the report.

    Raises:
        OSError: if it cannot be written.
    """
    data = {
        **profiles[0].conditions.where(),
        "findings": findings(profiles),
        "profiles": [one.to_dict() for one in profiles],
    }
    with whole(path) as partial:
        partial.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def findings(profiles: Sequence[Profile]) -> list[dict[str, str]]:
    """Whether reshapes take a larger share of LeViT-256 than of any other network, as observation 2 says of Fig. 2.

    No finding without LeViT-256 and another network, or with too few rounds.
    """
    shares = {one.name: one.shares.get("reshape", 0.0) for one in profiles if one.rounds >= MIN_SAMPLES}
    others = {name: share for name, share in shares.items() if name != RESHAPES}
    if RESHAPES not in shares or not others:
        return []
    largest = max(others, key=others.__getitem__)
    ours = f"reshapes take {shares[RESHAPES]:.0%} of {RESHAPES}'s time, and {others[largest]:.0%} of {largest}'s"
    status = "same trend" if shares[RESHAPES] > others[largest] else "disagrees"
    why = (
        "No milliseconds of single operators are sourced. What section 3 says of them is that reshapes slow LeViT down."
    )
    return [{"row": "Fig. 2: latency by class of operators", "status": status, "ours": ours, "why": why}]


def load_profiles(path: Path) -> list[Profile]:
    """The profiles of a file that `save_profiles` wrote. Raises ValueError, naming the file, if it holds none."""
    try:
        return [from_dict(one) for one in json.loads(path.read_text(encoding="utf-8"))["profiles"]]
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
    """Time a network on the CPU, and say on what the time is spent.

    Args:
        network: any network, in evaluation mode.
        images: what it takes, (B, C, H, W).
        classify: the class of an operator; the default is `operators.classify`.
        name: of the network; the default is its type's.
        num_threads: torch's threads; None for what is set.
        rounds: timed calls, and as many profiled ones in turns with them.
        command: what measures it again, for the record.

    Returns:
        The profile; its parts are medians over the rounds, as `middle` computes them.

    Raises:
        ValueError: for a network in training mode, images that are not on the CPU, or a network that does not call the
            same operators each time; and as `measure` does.

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
        network(images)  # what is computed at the first call only, some networks' biases
        called, cost = calls(network, images, classify), profiler_cost()
        profiled = f"{name}, profiled"
        subjects = {
            name: lambda: network(images),
            profiled: lambda: passes.append(sums(record(network, images), called, cost)),
        }
        timed = measure(subjects, known, rounds=rounds, num_threads=num_threads)
    last = rounds * (1 + timed[profiled].calls)  # each sample follows a call that is not timed; before that, warm-up
    return Profile(name, timed[name].milliseconds, middle(passes[-last:]), rounds, timed.conditions)


def middle(passes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each class's median, all brought to the sum that is the median of the passes' sums.

    A disturbance hits one class or another, so each class is disturbed in fewer passes than the whole; medians alone
    would sum to less than a call takes.
    """
    medians = {each: median(one[each] for one in passes) for each in CLASSES}
    scale = median(sum(one.values()) for one in passes) / sum(medians.values())
    return {each: ms * scale for each, ms in medians.items()}
