"""The ledger of a network: one row for each operation, and its sums.

Paper: the columns "Params (M)" and "GMACs" of Table 1. 1 MAC is one multiplication together with one addition.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple, get_args

from efficientformer_edu.config import EfficientFormerConfig

Kind = Literal[
    "convolution",
    "linear",
    "attention product",  # Q·Kᵀ and softmax(·)·V: two matrices that both come from the image, so no parameters
    "batch norm",
    "layer norm",
    "activation",
    "pool",
    "softmax",
    "attention bias",
    "layer scale",
    "residual",
    "arithmetic",  # Pool(x) - x, the scale of the attention, the mean over the tokens and the mean of the heads
]
Level = Literal["op", "block", "stage", "kind"]


class Sums(NamedTuple):
    """What some rows cost together: learned numbers, and multiply-accumulates for one image."""

    params: int
    macs: int


@dataclass(frozen=True)
class Operation:
    """One operation of a network on one image.

    Attributes:
        name: path of the module in `efficientformer_edu.model`; what is no module has a name below the one it is in.
        stage: "stem", "stage 1" to "stage 4" or "head".
        block: "embedding", "MB4D 1", "MB3D 1", ... within the stage; "" in the stem and the head.
        kind: what sort of operation it is.
        output_shape: of the result without the batch: (C, H, W) for a map, (N, C) for tokens, (heads, N, N) for
            attention, (classes,) for logits.
        params: learned numbers. The running mean and variance of a BatchNorm are not learned.
        macs: multiply-accumulates of convolutions, linears and attention products; 0 for everything else.
    """

    name: str
    stage: str
    block: str
    kind: Kind
    output_shape: tuple[int, ...]
    params: int
    macs: int


@dataclass(frozen=True, repr=False)
class Costs:
    """All operations of a network at one input size, in the order in which they run.

    Attributes:
        config: the network.
        resolution: height and width of the image in pixels.
        rows: the operations.
    """

    config: EfficientFormerConfig
    resolution: tuple[int, int]
    rows: tuple[Operation, ...]

    @property
    def params(self) -> int:
        """Learned numbers of the whole network."""
        return _sums(self.rows).params

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole network for one image."""
        return _sums(self.rows).macs

    def by(self, level: Level) -> dict[str, Sums]:
        """Sums over the rows that share a label, in the order in which the labels first occur.

        Args:
            level: "op" for every operation by its name, "block", "stage" or "kind".

        Raises:
            ValueError: for another level.
        """
        if level not in get_args(Level):
            raise ValueError(f"level={level!r} is not possible; allowed: {', '.join(get_args(Level))}")
        groups: dict[str, list[Operation]] = {}
        for row in self.rows:
            groups.setdefault(_label(row, level), []).append(row)
        return {label: _sums(rows) for label, rows in groups.items()}

    def to_markdown(self, level: Level = "stage") -> str:
        """A table of `by(level)` with the total in its last line. Raises ValueError as `by` does."""
        lines = [f"| {level} | params | MACs |", "|---|---:|---:|"]
        lines += [f"| {label} | {sums.params:,} | {sums.macs:,} |" for label, sums in self.by(level).items()]
        lines += [f"| **total** | **{self.params:,}** | **{self.macs:,}** |"]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Everything, rows included, as one JSON object."""
        return json.dumps(
            {
                "config": self.config.to_dict(),
                "resolution": self.resolution,
                "params": self.params,
                "macs": self.macs,
                "rows": [asdict(row) for row in self.rows],
            },
            indent=2,
        )

    def __repr__(self) -> str:
        height, width = self.resolution
        return f"Costs({self.params:,} params, {self.macs:,} MACs at {height}×{width}, {len(self.rows)} operations)"


def _sums(rows: Iterable[Operation]) -> Sums:
    rows = tuple(rows)
    return Sums(sum(row.params for row in rows), sum(row.macs for row in rows))


def _label(row: Operation, level: Level) -> str:
    if level == "op":
        return row.name
    if level == "block":
        return f"{row.stage}, {row.block}" if row.block else row.stage
    return row.stage if level == "stage" else row.kind
