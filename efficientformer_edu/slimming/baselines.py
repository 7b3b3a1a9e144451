"""Baselines for slimming: networks of the same latency that need no search.

Paper: section 4.2 mentions brute force, which may find better networks at a higher cost. The baselines here are uniform
scaling, the best of several random networks, and attention-free networks.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any, Literal

from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.latency.lookup_table import Lookup
from efficientformer_edu.slimming.protocol import Evaluator
from efficientformer_edu.slimming.records import Search
from efficientformer_edu.slimming.search import narrowest
from efficientformer_edu.slimming.subnet import Candidate, Subnet
from efficientformer_edu.slimming.supernet import Supernet, prune_to
from efficientformer_edu.utils.records import from_dict, load_json, save_json

NEAR = 0.05  # a network's latency is at most this share below the target
FACTORS = tuple(number / 50 for number in range(1, 51))
TRIES = 100_000


def scaled(largest: Subnet, width: float, depth: float, narrowest: tuple[int, ...]) -> Subnet:
    """Scale all widths of a network by one factor and all depths by another.

    Args:
        largest: the network to scale.
        width: from 0 to 1; widths are rounded to multiples of 16.
        depth: from 0 to 1; depths are rounded to whole blocks, the last ones of each stage.
        narrowest: fewest channels of each stage.
    """
    dims = (
        max(STEP * round(width * dim / STEP), least) for dim, least in zip(largest.embed_dims, narrowest, strict=True)
    )
    choices: list[tuple[Candidate, ...]] = []
    for candidates in largest.choices:
        removed = len(candidates) - max(1, round(depth * len(candidates)))
        choices.append(tuple("I" if index < removed else kind for index, kind in enumerate(candidates)))
    return Subnet(tuple(dims), tuple(choices))


def uniform_scaling(
    supernet: EfficientFormerConfig,
    lookup: Lookup,
    target: float,
    narrowest: tuple[int, ...],
    *,
    attention: bool = True,
) -> Subnet | None:
    """A network for the target, scaled down uniformly in all stages; None if no such network is fast enough.

    Among the networks that take as long as the target or up to 5 % less, this is the one whose width and depth factors
    are closest. If there are none, it is the slowest network below the target.

    Args:
        supernet: the largest network of this supernet is scaled.
        lookup: latencies.
        target: seconds.
        narrowest: fewest channels of each stage.
        attention: whether the last two stages are MB3D; if False, they are MB4D.
    """
    largest = Subnet.largest(supernet)
    if not attention:
        kind: Candidate = "MB4D"
        largest = Subnet(largest.embed_dims, tuple((kind,) * len(candidates) for candidates in largest.choices))
    distance: dict[Subnet, float] = {}  # the smallest difference between the two factors that lead to a network
    for width, depth in product(FACTORS, FACTORS):
        subnet = scaled(largest, width, depth, narrowest)
        distance[subnet] = min(abs(width - depth), distance.get(subnet, 1.0))
    times = {subnet: lookup.predict(subnet.config(supernet)) for subnet in distance}
    fast = [subnet for subnet in distance if times[subnet] <= target]
    near = [subnet for subnet in fast if times[subnet] >= (1 - NEAR) * target]
    if near:
        return min(near, key=lambda subnet: (distance[subnet], -times[subnet]))
    return max(fast, key=lambda subnet: times[subnet], default=None)


def random_subnets(
    supernet: EfficientFormerConfig, lookup: Lookup, target: float, narrowest: tuple[int, ...], seed: int
) -> Iterator[Subnet]:
    """Random networks that take as long as the target or up to 5 % less, without repetition. Arguments as above."""
    draw, seen = random.Random(seed), set[Subnet]()
    for _ in range(TRIES):
        subnet = _random(supernet, narrowest, draw)
        if subnet not in seen and (1 - NEAR) * target <= lookup.predict(subnet.config(supernet)) <= target:
            seen.add(subnet)
            yield subnet


def _random(supernet: EfficientFormerConfig, narrowest: tuple[int, ...], draw: random.Random) -> Subnet:
    """Sample widths, numbers of blocks, the MetaPaths that are blocks and the first MB3D, all uniformly."""
    pairs = zip(narrowest, supernet.embed_dims, strict=True)
    dims = tuple(draw.randrange(least, most + 1, STEP) for least, most in pairs)
    left = [sorted(draw.sample(range(depth), draw.randint(1, depth))) for depth in supernet.depths]
    first = draw.randint(0, len(left[2]) + len(left[3]))  # of the blocks of the last two stages, the first MB3D
    maps = len(left[0]) + len(left[1]) + first
    choices, passed = [], 0
    for depth, blocks in zip(supernet.depths, left, strict=True):
        candidates: list[Candidate] = ["I"] * depth
        for block in blocks:
            candidates[block] = "MB4D" if passed < maps else "MB3D"
            passed += 1
        choices.append(tuple(candidates))
    return Subnet(dims, tuple(choices))


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


def searched_networks(search: Search, lookup: Lookup) -> tuple[Contender, ...]:
    """The networks of the search, one for each target that it reached."""
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
        best = max(samples, key=lambda subnet: evaluator.accuracy(prune_to(supernet, subnet)), default=None)
        methods.append(("random", best))
        for method, subnet in methods:
            if subnet is not None:
                config = subnet.config(search.supernet)
                yield Contender(method, target, lookup.predict(config), config)


def save_contenders(contenders: Iterable[Contender], path: Path) -> None:
    """Write the networks as JSON, atomically. Raises OSError if that fails."""
    save_json({"networks": list(contenders)}, path, "networks")


def load_contenders(path: Path) -> tuple[Contender, ...]:
    """Read a file that `save_contenders` wrote.

    Raises:
        ValueError: if the file contains no such networks; the message names the file.
        OSError: if the file cannot be read.
    """

    def parse(data: Any) -> tuple[Contender, ...]:
        entries = data if isinstance(data, list) else data["networks"]  # files of earlier versions contain a list
        return tuple(from_dict(Contender, entry) for entry in entries)

    return load_json(path, "networks", parse)
