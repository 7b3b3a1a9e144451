"""The ledger of a network: one row for each operation, and its sums.

Paper: the columns "Params (M)" and "GMACs" of Table 1. 1 MAC is one multiplication together with one addition. Bytes
are those of float32, four for each number.
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
    "attention product",  # Q·Kᵀ and softmax(·)·V: two matrices that both come from the image, so no parameters
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
    "resize",  # the table of offsets, on another token grid than the trained one
    "token mean",  # before the heads
    "arithmetic",  # Pool(x) - x, the scale of the attention, the mean of the heads
]
Level = Literal["op", "block", "stage", "kind"]
Form = Literal["trained", "folded"]

BYTES = 4  # of a float32


class Sums(NamedTuple):
    """What some rows cost together, for one image.

    Attributes:
        params: learned numbers.
        macs: multiply-accumulates.
        elements: numbers that come out of the operations.
        weight_bytes: memory of the parameters and of what is stored beside them.
        activation_bytes: memory that the operations write.
    """

    params: int
    macs: int
    elements: int
    weight_bytes: int
    activation_bytes: int


class Operation(NamedTuple):
    """One operation of a network on one image.

    Attributes:
        name: path of the module or parameter in `efficientformer_edu.model`; what is neither has a name below the
            module that it is in.
        stage: "stem", "stage 1" to "stage 4" or "head".
        block: "embedding", "MB4D 1", "MB3D 1", ... within the stage; "" in the stem and the head.
        kind: what sort of operation it is.
        output_shape: of the result without the batch: (C, H, W) for a map, (H, W, C) where folding has put the
            channels last, (N, C) for tokens, (heads, N, N) for attention, (heads, h, w) for a table of offsets,
            (classes,) for logits.
        params: learned numbers.
        macs: multiply-accumulates of convolutions, linears and attention products; 0 for everything else.
        buffers: numbers that are stored but not learned: mean and variance of a batch norm, the gathered bias of a
            folded attention.
        window: places that each output looks at: 9 for a 3×3 convolution, N for the mean over N tokens, 1 for most.
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
        """Numbers in the result."""
        return prod(self.output_shape)

    @property
    def weight_bytes(self) -> int:
        """Memory of parameters and buffers in float32."""
        return BYTES * (self.params + self.buffers)

    @property
    def activation_bytes(self) -> int:
        """Memory that the result takes in float32; 0 for a bias that is added while its product is written."""
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
        """Learned numbers of the whole network."""
        return sum([row.params for row in self.rows])

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole network for one image."""
        return sum([row.macs for row in self.rows])

    @property
    def sums(self) -> Sums:
        """What the whole network costs."""
        return sums(self.rows)

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
        return {label: sums(rows) for label, rows in groups.items()}

    def table(self, level: Level = "stage") -> Table:
        """The sums of `by(level)` as a table that ends with the total. Raises ValueError as `by` does."""
        rows = [(label, *costs) for label, costs in self.by(level).items()]
        columns = (level, "params", "MACs", "elements", "weight bytes", "activation bytes")
        return Table(columns, (*rows, ("total", *self.sums)), total=True)

    def to_markdown(self, level: Level = "stage") -> str:
        """A Markdown table of `by(level)` with the total in its last line. Raises ValueError as `by` does."""
        return self.table(level).to_markdown()

    def to_csv(self) -> str:
        """Every operation with all it costs, one a line."""
        columns = ("name", "stage", "block", "kind", "output_shape", *Sums._fields)
        return Table(columns, tuple(self._full(row) for row in self.rows)).to_csv()

    def to_json(self) -> str:
        """Everything, rows included, as one JSON object."""
        whole: dict[str, Any] = {
            "config": self.config.to_dict(),
            "resolution": self.resolution,
            "form": self.form,
            **self.sums._asdict(),
            "rows": [row._asdict() | sums([row])._asdict() for row in self.rows],
        }
        return json.dumps(whole, indent=2)

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
    """What some rows cost together."""
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
