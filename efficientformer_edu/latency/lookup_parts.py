"""The parts whose latencies a lookup table contains, and their MACs.

Paper: section 4.2, step 2 of the slimming: a lookup table of the latency of MB4D and MB3D at widths that are multiples
of 16. Here it also contains the stem, the embeddings and the head, so that the sum covers the complete network.
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
    """The key of an entry in the table.

    Attributes:
        kind: "stem", "embedding", "MB4D", "MB3D" or "head".
        grid: height and width of the output feature map; for the head, of the last feature map.
        widths: channels (C,), or input and output channels (C_in, C) for an embedding.
    """

    kind: PartKind
    grid: Grid
    widths: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.kind} at {self.grid[0]}×{self.grid[1]}, {' to '.join(map(str, self.widths))} channels"


def parts(config: EfficientFormerConfig, resolution: Resolution) -> Counter[Part]:
    """The parts whose latencies add up to that of the network, with the number of times each occurs."""
    grids, dims = config.grids(resolution), config.embed_dims
    height, width = ((size + 3) // 4 for size in resolution_pair(resolution))  # halved twice, rounded up
    counts: Counter[Part] = Counter({Part("stem", (height, width), dims[:1]): 1})
    for stage, (grid, depth, vit) in enumerate(zip(grids, config.depths, config.vits, strict=True)):
        if config.downsamples[stage]:
            counts[Part("embedding", grid, (dims[max(stage - 1, 0)], dims[stage]))] += 1
        counts[Part("MB4D", grid, (dims[stage],))] += depth - vit
        counts[Part("MB3D", grid, (dims[stage],))] += vit
    counts[Part("head", grids[-1], dims[-1:])] += 1
    return +counts  # without parts that occur zero times


def macs(part: Part, base: EfficientFormerConfig, resolution: Grid) -> int:
    """MACs of one part of a network with the fields of `base`, for images of `resolution` pixels.

    For an embedding, the MACs of its convolution; for the head, the MACs of a single head.
    """
    width, positions = part.widths[-1], prod(part.grid)
    if part.kind == "stem":
        first_positions = prod((size + 1) // 2 for size in resolution)
        return 9 * (base.in_channels * (width // 2) * first_positions + (width // 2) * width * positions)
    if part.kind == "embedding":
        return 9 * prod(part.widths) * positions
    hidden = int(base.mlp_ratio * width)
    if part.kind == "MB4D":
        return mb4d_macs(width, hidden, positions)
    if part.kind == "MB3D":
        return mb3d_macs(width, hidden, positions, base.num_heads, base.key_dim, base.value_dim)
    return width * base.num_classes
