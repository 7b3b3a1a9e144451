"""What a drawing of the network shows: the ledger folded to stem, embeddings, runs of equal blocks, and head.

Paper: Fig. 3. All shapes and repeats come from `efficientformer_edu.audit.count`; none is worked out a second time.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from efficientformer_edu.audit import Costs, Operation, count
from efficientformer_edu.config import EfficientFormerConfig, Resolution

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """A run of equal blocks, an embedding, the stem or the head.

    Attributes:
        kind: "stem", "embedding", "MB4D", "MB3D" or "head".
        stage: "stem", "stage 1" to "stage 4" or "head".
        repeats: how many equal blocks follow each other.
        input_shape: of the first block: (C, H, W) for a map, (N, C) for tokens.
        operations: rows of the ledger of the whole run.
    """

    kind: str
    stage: str
    repeats: int
    input_shape: Shape
    operations: tuple[Operation, ...]

    @property
    def output_shape(self) -> Shape:
        """(C, H, W) for a map, (N, C) for tokens, (classes,) for logits."""
        return self.operations[-1].output_shape

    @property
    def first(self) -> tuple[Operation, ...]:
        """The rows of the first block of the run."""
        return tuple(row for row in self.operations if row.block == self.operations[0].block)


def parts(costs: Costs) -> list[Part]:
    """The network's parts in the order in which they run."""
    maps = [
        (dim, *grid) for dim, grid in zip(costs.config.embed_dims, costs.config.grids(costs.resolution), strict=True)
    ]
    current: Shape = (costs.config.in_channels, *costs.resolution)  # the map that an embedding or the stem would get
    found = []
    for (stage, kind), run in groupby(costs.rows, key=lambda row: (row.stage, _kind(row))):
        operations = tuple(run)
        # Norms and pooling keep the shape, so the first row of a block, or of the head, has the shape of its input.
        entry = current if kind in ("stem", "embedding") else operations[0].output_shape
        found.append(Part(kind, stage, len({row.block for row in operations}), entry, operations))
        current = maps[int(stage[-1]) - 1] if stage.startswith("stage") else operations[-1].output_shape
    return found


def shape_text(shape: Shape) -> str:
    """A shape in words that hold one line: 48×56×56 for a map, 49×448 for tokens."""
    return "×".join(str(size) for size in shape)


def alt_text(model: str | EfficientFormerConfig, resolution: Resolution = 224) -> str:
    """What a drawing of the network says, for readers who do not see it. Arguments and errors as for `count`."""
    costs = count(model, resolution)
    stages = []
    for stage, run in groupby(parts(costs), key=lambda part: part.stage):
        if stage.startswith("stage"):
            blocks = [part for part in run if part.kind != "embedding"]
            said = " and ".join(f"{part.repeats} {part.kind} on {shape_text(part.output_shape)}" for part in blocks)
            stages.append(f"{stage} has {said}")
    heads = "two heads" if costs.config.distillation else "one head"
    return (
        f"EfficientFormer on an image of {shape_text(costs.resolution)} pixels: after the stem, {'; '.join(stages)}; "
        f"then layer norm, the mean over the tokens and {heads} for {costs.config.num_classes} classes."
    )


def _kind(row: Operation) -> str:
    return row.block.split()[0] if row.block else row.stage
