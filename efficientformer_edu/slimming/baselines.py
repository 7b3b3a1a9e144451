"""What slimming has to beat: networks of the same latency that were found without it.

Paper: section 4.2 names brute force as the way that may find better ones at a higher cost. Here are three others:
scale everything alike, take the best of random networks, do without attention.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.latency.lookup_table import Lookup
from efficientformer_edu.slimming.subnet import Candidate, Subnet

NEAR = 0.05  # a network takes at most this part less than the target
FACTORS = tuple(number / 50 for number in range(1, 51))
TRIES = 100_000


def scaled(largest: Subnet, width: float, depth: float, narrowest: tuple[int, ...]) -> Subnet:
    """A network with all widths times one factor, and all depths times another.

    Args:
        largest: the network.
        width: from 0 to 1; widths are rounded to multiples of 16.
        depth: from 0 to 1; depths are rounded to whole blocks, the last ones of each stage.
        narrowest: fewest channels of each stage.
    """
    dims = (
        max(STEP * round(width * dim / STEP), least) for dim, least in zip(largest.embed_dims, narrowest, strict=True)
    )
    choices: list[tuple[Candidate, ...]] = []
    for chosen in largest.choices:
        gone = len(chosen) - max(1, round(depth * len(chosen)))
        choices.append(tuple("I" if place < gone else kind for place, kind in enumerate(chosen)))
    return Subnet(tuple(dims), tuple(choices))


def uniform_scaling(
    supernet: EfficientFormerConfig,
    lookup: Lookup,
    target: float,
    narrowest: tuple[int, ...],
    *,
    attention: bool = True,
) -> Subnet | None:
    """A network for the target, scaled down alike in all stages; None if none is quick enough.

    Of those that take as long as the target, or up to 5 % less, it is the one whose widths and depths are scaled most
    alike; if there is none, it is the slowest of those that take less.

    Args:
        supernet: whose largest network is scaled.
        lookup: latencies.
        target: seconds.
        narrowest: fewest channels of each stage.
        attention: whether the last two stages are MB3D; without, they are MB4D.
    """
    largest = Subnet.largest(supernet)
    if not attention:
        kind: Candidate = "MB4D"
        largest = Subnet(largest.embed_dims, tuple((kind,) * len(chosen) for chosen in largest.choices))
    apart: dict[Subnet, float] = {}  # the least difference between the factors that lead to a network
    for width, depth in product(FACTORS, FACTORS):
        subnet = scaled(largest, width, depth, narrowest)
        apart[subnet] = min(abs(width - depth), apart.get(subnet, 1.0))
    times = {subnet: lookup.predict(subnet.config(supernet)) for subnet in apart}
    quick = [subnet for subnet in apart if times[subnet] <= target]
    near = [subnet for subnet in quick if times[subnet] >= (1 - NEAR) * target]
    if near:
        return min(near, key=lambda subnet: (apart[subnet], -times[subnet]))
    return max(quick, key=lambda subnet: times[subnet], default=None)


def random_subnets(
    supernet: EfficientFormerConfig, lookup: Lookup, target: float, narrowest: tuple[int, ...], seed: int
) -> Iterator[Subnet]:
    """Random networks of the search space that take as long as the target, or up to 5 % less; each comes once.

    Args:
        supernet: the largest widths and depths.
        lookup: latencies.
        target: seconds.
        narrowest: fewest channels of each stage.
        seed: the same seed gives the same networks.
    """
    draw, seen = random.Random(seed), set[Subnet]()
    for _ in range(TRIES):
        subnet = _random(supernet, narrowest, draw)
        if subnet not in seen and (1 - NEAR) * target <= lookup.predict(subnet.config(supernet)) <= target:
            seen.add(subnet)
            yield subnet


def _random(supernet: EfficientFormerConfig, narrowest: tuple[int, ...], draw: random.Random) -> Subnet:
    """Widths, blocks and the first MB3D are drawn alike; which MetaPaths are blocks, too."""
    pairs = zip(narrowest, supernet.embed_dims, strict=True)
    dims = tuple(draw.randrange(least, most + 1, STEP) for least, most in pairs)
    left = [sorted(draw.sample(range(depth), draw.randint(1, depth))) for depth in supernet.depths]
    first = draw.randint(0, len(left[2]) + len(left[3]))  # of the blocks of the last two stages, the first MB3D
    maps = len(left[0]) + len(left[1]) + first
    choices, passed = [], 0
    for depth, blocks in zip(supernet.depths, left, strict=True):
        chosen: list[Candidate] = ["I"] * depth
        for block in blocks:
            chosen[block] = "MB4D" if passed < maps else "MB3D"
            passed += 1
        choices.append(tuple(chosen))
    return Subnet(dims, tuple(choices))
