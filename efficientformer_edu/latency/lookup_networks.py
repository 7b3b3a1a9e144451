"""Random networks between two given ones, to test a lookup table."""

from __future__ import annotations

import random
from collections.abc import Sequence

from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.config import EfficientFormerConfig, get_config
from efficientformer_edu.latency.lookup_chains import MB3D_STAGES, WIDTHS

TRIES = 1000  # per network: a sample may repeat another, or have only widths of the table


def random_networks(
    seed: int,
    n: int,
    widths: Sequence[Sequence[int]] = WIDTHS,
    *,
    small: str | EfficientFormerConfig = "l1",
    large: str | EfficientFormerConfig = "l3",
) -> tuple[EfficientFormerConfig, ...]:
    """Sample distinct networks with depths and widths between those of two networks.

    MB4D blocks come first and MB3D blocks last, as in the search space of section 4.2: between none and all of the
    blocks of the last two stages are MB3D.

    Args:
        seed: the same seed gives the same networks.
        n: number of networks.
        widths: widths in the table. If some widths between the two networks are missing, each sample has at least one
            missing width.
        small: minimum depths and widths, and all other fields.
        large: maximum depths and widths.

    Raises:
        ValueError: if there are fewer than `n` such networks.
    """
    rng, low, high = random.Random(seed), get_config(small), get_config(large)
    known = [set(values) for values in widths]
    choices = [range(a, b + 1, STEP) for a, b in zip(low.embed_dims, high.embed_dims, strict=True)]
    complete = all(set(values) <= measured for values, measured in zip(choices, known, strict=True))
    networks: dict[EfficientFormerConfig, None] = {}
    for _ in range(TRIES * n):
        dims = tuple(rng.choice(values) for values in choices)
        depths = tuple(rng.randint(a, b) for a, b in zip(low.depths, high.depths, strict=True))
        remaining, vits = rng.randint(0, sum(depths[stage] for stage in MB3D_STAGES)), [0] * 4
        for stage in reversed(MB3D_STAGES):
            vits[stage] = min(remaining, depths[stage])
            remaining -= vits[stage]
        if complete or not all(width in measured for width, measured in zip(dims, known, strict=True)):
            networks[low.replace(embed_dims=dims, depths=depths, num_vit=tuple(vits))] = None
        if len(networks) == n:
            return tuple(networks)
    raise ValueError(f"n={n} is not possible; there are {len(networks)} such networks between {small!r} and {large!r}")
