"""The networks that are compared at each target: the one that was found, and those that other ways lead to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.files import whole
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
    """A network that takes no longer than a target, by the lookup table.

    Attributes:
        method: how it was found, a key of `METHODS`.
        target: seconds.
        predicted: seconds that it takes, by the table.
        config: the network.
    """

    method: Method
    target: float
    predicted: float
    config: EfficientFormerConfig

    @property
    def name(self) -> str:
        """What records call it."""
        return f"{self.method}-{1e3 * self.target:.4g}ms"


def found(search: Search, lookup: Lookup) -> tuple[Contender, ...]:
    """What the slimming came to, one network for each target."""
    return tuple(
        Contender("slimming", target, lookup.predict(config), config) for target, config in search.family.items()
    )


def baselines(
    search: Search, lookup: Lookup, supernet: Supernet, evaluator: Evaluator, seed: int = 0
) -> Iterator[Contender]:
    """The other ways, for each target; a way that cannot reach a target is left out.

    Args:
        search: done.
        lookup: its table.
        supernet: as trained, for the weights that random networks inherit.
        evaluator: its accuracy chooses among them.
        seed: seed of the random networks.
    """
    least = narrowest(lookup)
    for target in search.family:
        ways: list[tuple[Method, Subnet | None]] = [
            ("uniform", uniform_scaling(search.supernet, lookup, target, least)),
            ("no-mb3d", uniform_scaling(search.supernet, lookup, target, least, attention=False)),
        ]
        steps = sum(seconds > target for seconds in search.seconds)
        tried = sum(len(step.trials) for step in search.steps[:steps])
        drawn = islice(random_subnets(search.supernet, lookup, target, least, seed), max(tried, 1))
        best = max(drawn, key=lambda subnet: evaluator.accuracy(brought_to(supernet, subnet)), default=None)
        ways.append(("random", best))
        for method, subnet in ways:
            if subnet is not None:
                config = subnet.config(search.supernet)
                yield Contender(method, target, lookup.predict(config), config)


def save_contenders(contenders: Iterable[Contender], path: Path) -> None:
    """Write them as JSON, whole or not at all. Raises OSError if that fails."""
    told = [{**asdict(one), "config": one.config.to_dict()} for one in contenders]
    with whole(path) as partial:
        partial.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def load_contenders(path: Path) -> tuple[Contender, ...]:
    """What `save_contenders` wrote.

    Raises:
        ValueError: naming the file, if it holds none.
        OSError: if it cannot be read.
    """

    def one(told: dict[str, Any]) -> Contender:
        return Contender(**{**told, "config": EfficientFormerConfig.from_dict(told["config"])})

    try:
        return tuple(map(one, json.loads(path.read_text(encoding="utf-8"))))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no networks to compare: {error}") from error
