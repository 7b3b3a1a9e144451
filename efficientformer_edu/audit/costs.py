"""The cost ledger of a network: one row per operation, and sums over the rows.

Paper: the columns "Params (M)" and "GMACs" of Table 1. One MAC is one multiplication and one addition. Bytes are
for float32, four per value.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, NamedTuple, get_args

from efficientformer_edu.audit.tables import Table
from efficientformer_edu.config import EfficientFormerConfig

Kind = Literal[
    "convolution",
    "linear",
    "attention product",  # Q·Kᵀ and softmax(·)·V: both factors are activations, so there are no parameters
    "batch norm",
    "layer norm",
    "activation",
    "pool",
    "softmax",
    "layer scale",
    "residual",
    "convolution bias",
    "linear bias",
    "attention bias",
    "resize",  # of the attention-bias table, for a token grid that differs from the trained one
    "token mean",  # before the heads
    "arithmetic",  # Pool(x) - x, the scale of the attention, the mean of the heads
]
Level = Literal["op", "block", "stage", "kind"]
Form = Literal["trained", "folded"]

BYTES = 4  # of a float32


class Sums(NamedTuple):
    """Total cost of several operations, for one image.

    Attributes:
        params: learned parameters.
        macs: multiply-accumulates.
        elements: number of output elements.
        weight_bytes: memory of the parameters and buffers, in bytes.
        activation_bytes: memory that the operations write, in bytes.
    """

    params: int
    macs: int
    elements: int
    weight_bytes: int
    activation_bytes: int


class Operation(NamedTuple):
    """One operation of a network on one image.

    Attributes:
        name: path of the module or parameter in `efficientformer_edu.model`; an operation that is neither has a name
            below the module that contains it.
        stage: "stem", "stage 1" to "stage 4" or "head".
        block: "embedding", "MB4D 1", "MB3D 1", ... within the stage; "" in the stem and the head.
        kind: one of `Kind`.
        output_shape: shape of the result without the batch axis: (C, H, W) for a feature map, (H, W, C) after folding,
            (N, C) for tokens, (heads, N, N) for attention, (heads, h, w) for an attention-bias table, (classes,) for
            logits.
        params: learned parameters.
        macs: multiply-accumulates of convolutions, linear layers and attention products; 0 for other operations.
        buffers: stored values that are not learned: running mean and variance of a batch norm, and the looked-up bias
            of folded attention.
        window: input positions that each output depends on: 9 for a 3×3 convolution, N for the mean over N tokens, and
            1 for most operations.
    """

    name: str
    stage: str
    block: str
    kind: Kind
    output_shape: tuple[int, ...]
    params: int = 0
    macs: int = 0
    buffers: int = 0
    window: int = 1

    @property
    def elements(self) -> int:
        """Number of elements in the result."""
        return prod(self.output_shape)

    @property
    def weight_bytes(self) -> int:
        """Memory of parameters and buffers in float32, in bytes."""
        return BYTES * (self.params + self.buffers)

    @property
    def activation_bytes(self) -> int:
        """Memory of the result in float32, in bytes; 0 for a bias, which is added while its product is written."""
        return 0 if self.kind in ("convolution bias", "linear bias") else BYTES * self.elements


@dataclass(frozen=True, repr=False)
class Costs:
    """All operations of a network at one input size, in the order in which they run.

    Attributes:
        config: the network.
        resolution: height and width of the image in pixels.
        form: "trained", or "folded" for inference.
        rows: the operations.
    """

    config: EfficientFormerConfig
    resolution: tuple[int, int]
    form: Form
    rows: tuple[Operation, ...]

    @property
    def params(self) -> int:
        """Learned parameters of the network."""
        return sum([row.params for row in self.rows])

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the network for one image."""
        return sum([row.macs for row in self.rows])

    @property
    def sums(self) -> Sums:
        """Total cost of the network."""
        return sums(self.rows)

    def by(self, level: Level) -> dict[str, Sums]:
        """Sum the rows that share a label. Labels are in order of first occurrence.

        Args:
            level: "op" for every operation by its name, "block", "stage" or "kind".

        Raises:
            ValueError: for an unknown level.
        """
        if level not in get_args(Level):
            raise ValueError(f"level={level!r} is not possible; allowed: {', '.join(get_args(Level))}")
        groups: dict[str, list[Operation]] = {}
        for row in self.rows:
            groups.setdefault(_label(row, level), []).append(row)
        return {label: sums(rows) for label, rows in groups.items()}

    def table(self, level: Level = "stage") -> Table:
        """Return the sums of `by(level)` as a table that ends with the total. Raises ValueError like `by`."""
        rows = [(label, *costs) for label, costs in self.by(level).items()]
        columns = (level, "params", "MACs", "elements", "weight bytes", "activation bytes")
        return Table(columns, (*rows, ("total", *self.sums)), total=True)

    def to_markdown(self, level: Level = "stage") -> str:
        """Return `by(level)` as a Markdown table that ends with the total. Raises ValueError like `by`."""
        return self.table(level).to_markdown()

    def to_csv(self) -> str:
        """Return all operations with their costs as CSV, one per line."""
        columns = ("name", "stage", "block", "kind", "output_shape", *Sums._fields)
        return Table(columns, tuple(self._full(row) for row in self.rows)).to_csv()

    def to_json(self) -> str:
        """Return the configuration, the totals and all operations as one JSON object."""
        record: dict[str, Any] = {
            "config": self.config.to_dict(),
            "resolution": self.resolution,
            "form": self.form,
            **self.sums._asdict(),
            "rows": [row._asdict() | sums([row])._asdict() for row in self.rows],
        }
        return json.dumps(record, indent=2)

    def _full(self, row: Operation) -> tuple[str | int, ...]:
        shape = "×".join(map(str, row.output_shape))
        return (row.name, row.stage, row.block, row.kind, shape, *sums([row]))

    def _repr_markdown_(self) -> str:
        return f"{self!r}\n\n{self.to_markdown()}"

    def __repr__(self) -> str:
        height, width = self.resolution
        where = f"{height}×{width}" + (", folded" if self.form == "folded" else "")
        return f"Costs({self.params:,} params, {self.macs:,} MACs at {where}, {len(self.rows)} operations)"


def sums(rows: Iterable[Operation]) -> Sums:
    """Sum the costs of several operations."""
    rows = tuple(rows)
    return Sums(
        sum(row.params for row in rows),
        sum(row.macs for row in rows),
        sum(row.elements for row in rows),
        sum(row.weight_bytes for row in rows),
        sum(row.activation_bytes for row in rows),
    )


def _label(row: Operation, level: Level) -> str:
    if level == "op":
        return row.name
    if level == "block":
        return f"{row.stage}, {row.block}" if row.block else row.stage
    return row.stage if level == "stage" else row.kind
