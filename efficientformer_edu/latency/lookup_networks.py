"""Networks to test a lookup table on: drawn at random between two others."""

from __future__ import annotations

import random
from collections.abc import Sequence

from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.config import EfficientFormerConfig, get_config
from efficientformer_edu.latency.lookup_chains import MB3D_STAGES, WIDTHS

TRIES = 1000  # for each network that is wanted: a draw may repeat another, or have four widths of the table


def random_networks(
    seed: int,
    n: int,
    widths: Sequence[Sequence[int]] = WIDTHS,
    *,
    small: str | EfficientFormerConfig = "l1",
    large: str | EfficientFormerConfig = "l3",
) -> tuple[EfficientFormerConfig, ...]:
    """Different networks with depths and widths from one network's to another's.

    Their blocks are MB4D first and MB3D last, as in the search space of section 4.2: none to all of the last two
    stages are MB3D.

    Args:
        seed: the same seed gives the same networks.
        n: how many.
        widths: of the table. If it leaves out widths between the two networks', each draw has one of those at least.
        small: the least depths and widths, and all other fields.
        large: the greatest depths and widths.

    Raises:
        ValueError: if there are not so many.
    """
    draw, low, high = random.Random(seed), get_config(small), get_config(large)
    known = [set(some) for some in widths]
    choices = [range(a, b + 1, STEP) for a, b in zip(low.embed_dims, high.embed_dims, strict=True)]
    complete = all(set(some) <= one for some, one in zip(choices, known, strict=True))
    found: dict[EfficientFormerConfig, None] = {}
    for _ in range(TRIES * n):
        dims = tuple(draw.choice(some) for some in choices)
        depths = tuple(draw.randint(a, b) for a, b in zip(low.depths, high.depths, strict=True))
        left, vits = draw.randint(0, sum(depths[stage] for stage in MB3D_STAGES)), [0] * 4
        for stage in reversed(MB3D_STAGES):
            vits[stage] = min(left, depths[stage])
            left -= vits[stage]
        if complete or not all(width in one for width, one in zip(dims, known, strict=True)):
            found[low.replace(embed_dims=dims, depths=depths, num_vit=tuple(vits))] = None
        if len(found) == n:
            return tuple(found)
    raise ValueError(f"n={n} is not possible; there are {len(found)} such networks between {small!r} and {large!r}")
