"""The networks that are compared at each target: the result of the search and those of the baselines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.files import atomic_write
from efficientformer_edu.latency.lookup_table import Lookup
from efficientformer_edu.slimming.baselines import random_subnets, uniform_scaling
from efficientformer_edu.slimming.evaluator import Evaluator
from efficientformer_edu.slimming.narrow import brought_to
from efficientformer_edu.slimming.records import Search
from efficientformer_edu.slimming.search import narrowest
from efficientformer_edu.slimming.subnet import Subnet
from efficientformer_edu.slimming.supernet import Supernet

Method = Literal["slimming", "uniform", "random", "no-mb3d"]

METHODS: dict[Method, str] = {
    "slimming": "latency-driven slimming",
    "uniform": "uniform scaling of widths and depths",
    "random": "the best of as many random networks as the search tried",
    "no-mb3d": "uniform scaling without MB3D",
}
CONTENDERS = "contenders.json"


@dataclass(frozen=True)
class Contender:
    """A network whose latency in the lookup table does not exceed a target.

    Attributes:
        method: the method that produced it, a key of `METHODS`.
        target: seconds.
        predicted: latency in seconds, predicted by the table.
        config: the network.
    """

    method: Method
    target: float
    predicted: float
    config: EfficientFormerConfig

    @property
    def name(self) -> str:
        """Name of the network in records."""
        return f"{self.method}-{1e3 * self.target:.4g}ms"


def found(search: Search, lookup: Lookup) -> tuple[Contender, ...]:
    """The networks that the search found, one for each target."""
    return tuple(
        Contender("slimming", target, lookup.predict(config), config) for target, config in search.family.items()
    )


def baselines(
    search: Search, lookup: Lookup, supernet: Supernet, evaluator: Evaluator, seed: int = 0
) -> Iterator[Contender]:
    """The networks of the baselines for each target. A method that cannot reach a target is omitted.

    Args:
        search: a finished search.
        lookup: its lookup table.
        supernet: the trained supernet; random networks inherit its weights.
        evaluator: measures the accuracy by which the best random network is selected.
        seed: seed of the random networks.
    """
    least = narrowest(lookup)
    for target in search.family:
        methods: list[tuple[Method, Subnet | None]] = [
            ("uniform", uniform_scaling(search.supernet, lookup, target, least)),
            ("no-mb3d", uniform_scaling(search.supernet, lookup, target, least, attention=False)),
        ]
        steps = sum(seconds > target for seconds in search.seconds)
        tried = sum(len(step.trials) for step in search.steps[:steps])
        samples = islice(random_subnets(search.supernet, lookup, target, least, seed), max(tried, 1))
        best = max(samples, key=lambda subnet: evaluator.accuracy(brought_to(supernet, subnet)), default=None)
        methods.append(("random", best))
        for method, subnet in methods:
            if subnet is not None:
                config = subnet.config(search.supernet)
                yield Contender(method, target, lookup.predict(config), config)


def save_contenders(contenders: Iterable[Contender], path: Path) -> None:
    """Write the networks as JSON, atomically. Raises OSError if that fails."""
    records = [{**asdict(contender), "config": contender.config.to_dict()} for contender in contenders]
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def load_contenders(path: Path) -> tuple[Contender, ...]:
    """Read a file that `save_contenders` wrote.

    Raises:
        ValueError: if the file contains no such networks; the message names the file.
        OSError: if the file cannot be read.
    """

    def one(record: dict[str, Any]) -> Contender:
        return Contender(**{**record, "config": EfficientFormerConfig.from_dict(record["config"])})

    try:
        return tuple(map(one, json.loads(path.read_text(encoding="utf-8"))))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no networks to compare: {error}") from error
