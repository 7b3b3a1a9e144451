"""The parts of which a lookup table has the latencies, and what each costs in MACs.

Paper: section 4.2, step 2 of the slimming: a lookup table of the latency of MB4D and MB3D at widths that are multiples
of 16. Here it also has the stem, the embeddings and the head, so that the sum is the whole network.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import Literal, NamedTuple

from efficientformer_edu.audit.growth import mb3d_macs, mb4d_macs
from efficientformer_edu.config import EfficientFormerConfig, Resolution, resolution_pair

Grid = tuple[int, int]
PartKind = Literal["stem", "embedding", "MB4D", "MB3D", "head"]


class Part(NamedTuple):
    """What the table has an entry for.

    Attributes:
        kind: "stem", "embedding", "MB4D", "MB3D" or "head".
        grid: height and width of the map that comes out, of the last map for the head.
        widths: channels (C,), and of an embedding those before and behind it, (C_in, C).
    """

    kind: PartKind
    grid: Grid
    widths: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.kind} at {self.grid[0]}×{self.grid[1]}, {' to '.join(map(str, self.widths))} channels"


def parts(config: EfficientFormerConfig, resolution: Resolution) -> Counter[Part]:
    """The parts whose latencies add up to the network's, with how often each occurs."""
    grids, dims = config.grids(resolution), config.embed_dims
    height, width = ((size + 3) // 4 for size in resolution_pair(resolution))  # halved twice, rounded up
    found: Counter[Part] = Counter({Part("stem", (height, width), dims[:1]): 1})
    for stage, (grid, depth, vit) in enumerate(zip(grids, config.depths, config.vits, strict=True)):
        if config.downsamples[stage]:
            found[Part("embedding", grid, (dims[max(stage - 1, 0)], dims[stage]))] += 1
        found[Part("MB4D", grid, (dims[stage],))] += depth - vit
        found[Part("MB3D", grid, (dims[stage],))] += vit
    found[Part("head", grids[-1], dims[-1:])] += 1
    return +found  # without those that occur zero times


def macs(part: Part, base: EfficientFormerConfig, resolution: Grid) -> int:
    """MACs of one part of a network that has `base`'s fields, for images of `resolution` pixels.

    An embedding's are those of its convolution, the head's those of one head.
    """
    width, places = part.widths[-1], prod(part.grid)
    if part.kind == "stem":
        first = prod((size + 1) // 2 for size in resolution)
        return 9 * (base.in_channels * (width // 2) * first + (width // 2) * width * places)
    if part.kind == "embedding":
        return 9 * prod(part.widths) * places
    hidden = int(base.mlp_ratio * width)
    if part.kind == "MB4D":
        return mb4d_macs(width, hidden, places)
    if part.kind == "MB3D":
        return mb3d_macs(width, hidden, places, base.num_heads, base.key_dim, base.value_dim)
    return width * base.num_classes
