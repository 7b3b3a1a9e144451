"""The cost ledger of a network: one row per operation, computed from the configuration alone.

Paper: section 4.1, Eq. 4 to 6, and the columns "Params (M)" and "GMACs" of Table 1. One MAC is one multiplication and
one addition. Bytes are for float32. The authors' own counter, `toolbox.py`, follows different rules (`audit.rules`).

The functions below `count` read like the forward passes of the modules that they count, and a row has the name of its
module. Operations that compute nothing are left out: reshapes, and dropout, which is inactive at inference. This module
imports neither torch nor numpy.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, NamedTuple, get_args

from efficientformer_edu._validation import invalid_value
from efficientformer_edu.config import EfficientFormerConfig, Resolution, get_config, halve, resolution_pair
from efficientformer_edu.utils.tables import Table

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

Grid = tuple[int, int]
Rows = Iterator["Operation"]

BYTES = 4  # of a float32


class Sums(NamedTuple):
    """Total cost of several operations, for one image. The fields are those of `Operation`, summed."""

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
        output_shape: shape of the result without the batch axis, such as (C, H, W) for a feature map, (H, W, C) after
            folding, (N, C) for tokens, (heads, N, N) for attention.
        params: learned parameters.
        macs: multiply-accumulates of convolutions, linear layers and attention products; 0 for other operations.
        buffers: stored values that are not learned: running statistics, and the looked-up bias of folded attention.
        window: input positions that each output depends on, such as 9 for a 3×3 convolution or N for a token mean.
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

    def label(self, level: Level) -> str:
        """The group that the operation belongs to at a level of detail."""
        if level == "op":
            return self.name
        if level == "block" and self.block:
            return f"{self.stage}, {self.block}"
        return self.kind if level == "kind" else self.stage


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
        """Sum the rows per operation ("op"), "block", "stage" or "kind", in order of first occurrence.

        Raises:
            ValueError: for an unknown level.
        """
        if level not in get_args(Level):
            raise invalid_value("level", level, ", ".join(get_args(Level)))
        groups: dict[str, list[Operation]] = {}
        for row in self.rows:
            groups.setdefault(row.label(level), []).append(row)
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
        rows = [(*row[:4], "×".join(map(str, row.output_shape)), *sums([row])) for row in self.rows]
        return Table(columns, tuple(rows)).to_csv()

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

    def _repr_markdown_(self) -> str:
        return f"{self!r}\n\n{self.to_markdown()}"

    def __repr__(self) -> str:
        height, width = self.resolution
        size = f"{height}×{width}" + (", folded" if self.form == "folded" else "")
        return f"Costs({self.params:,} params, {self.macs:,} MACs at {size}, {len(self.rows)} operations)"


def sums(rows: Iterable[Operation]) -> Sums:
    """Sum the costs of several operations."""
    rows = tuple(rows)
    return Sums(*(sum(getattr(row, cost) for row in rows) for cost in Sums._fields))


def count(model: str | EfficientFormerConfig, resolution: Resolution = 224, form: Form = "trained") -> Costs:
    """List every operation of a network with its exact parameters, MACs and sizes.

    MACs are those of convolutions, linear layers (including both heads) and the two attention products, for one image.

    Args:
        model: a configuration, or the name of a published network such as `"l1"`.
        resolution: height and width of the image in pixels, or one number for both. Parameters do not depend on it.
        form: "trained", or "folded" for the network that `model.fold` returns.

    Raises:
        ValueError: for an unknown name or form, or a resolution below 32 pixels.
    """
    config, image = get_config(model), resolution_pair(resolution)
    if form not in get_args(Form):
        raise invalid_value("form", form, ", ".join(get_args(Form)))
    rows = _network(config, image)
    return Costs(config, image, form, tuple(_folded(rows) if form == "folded" else rows))


def _network(config: EfficientFormerConfig, image: Grid) -> Rows:
    yield from _stem(config, image)
    channels = config.embed_dims[0]
    for stage, (grid, depth, vit) in enumerate(zip(config.grids(image), config.depths, config.vits, strict=True)):
        if config.downsamples[stage]:
            yield from _embedding(config, stage, channels, grid)
        channels = config.embed_dims[stage]
        for block in range(depth - vit):
            yield from _mb4d(config, stage, block, grid)
        for block in range(vit):
            yield from _mb3d(config, stage, block, grid)
    yield from _head(config, grid)


def _stem(config: EfficientFormerConfig, image: Grid) -> Rows:
    at = _RowFactory("stem.", "stem")
    channels = config.in_channels
    for i, width in enumerate((config.stem_width, config.embed_dims[0]), start=1):
        image = halve(image)
        yield from at.conv_norm(f"conv{i}", f"norm{i}", channels, (width, *image), kernel=3)
        yield at.activation(f"act{i}", config.stem_act, (width, *image))
        channels = width


def _embedding(config: EfficientFormerConfig, stage: int, channels: int, grid: Grid) -> Rows:
    at = _RowFactory(f"stages.{stage}.downsample.", f"stage {stage + 1}", "embedding")
    yield from at.conv_norm("conv", "norm", channels, (config.embed_dims[stage], *grid), kernel=3)


def _mb4d(config: EfficientFormerConfig, stage: int, block: int, grid: Grid) -> Rows:
    """x + γ₁ (Pool(x) - x), then x + γ₂ MLP(x), on a feature map (Eq. 4)."""
    at = _RowFactory(f"stages.{stage}.mb4d.{block}.", f"stage {stage + 1}", f"MB4D {block + 1}")
    channels, hidden = config.embed_dims[stage], config.hidden_dim(stage)
    shape, scaled = (channels, *grid), config.layer_scale_init is not None
    yield at("token_mixer.pool", "pool", shape, window=config.pool_size**2)
    yield at("token_mixer.difference", "arithmetic", shape)
    yield from at.end_of_branch(1, channels, shape, scaled)
    yield from at.conv_norm("mlp.fc1", "mlp.norm1", channels, (hidden, *grid), kernel=1)
    yield at.activation("mlp.act", config.act, (hidden, *grid))
    yield from at.conv_norm("mlp.fc2", "mlp.norm2", hidden, shape, kernel=1)
    yield from at.end_of_branch(2, channels, shape, scaled)


def _mb3d(config: EfficientFormerConfig, stage: int, block: int, grid: Grid) -> Rows:
    """x + γ₁ MHSA(LN(x)), then x + γ₂ MLP(LN(x)), on tokens (Eq. 5)."""
    at = _RowFactory(f"stages.{stage}.mb3d.{block}.", f"stage {stage + 1}", f"MB3D {block + 1}")
    channels, hidden, tokens = config.embed_dims[stage], config.hidden_dim(stage), prod(grid)
    shape, scaled = (tokens, channels), config.layer_scale_init is not None
    yield at.layer_norm("norm1", shape)
    yield from _attention(config, at, grid, channels)
    yield from at.end_of_branch(1, channels, shape, scaled)
    yield at.layer_norm("norm2", shape)
    yield from at.linear("mlp.fc1", channels, (tokens, hidden))
    yield at.activation("mlp.act", config.act, (tokens, hidden))
    yield from at.linear("mlp.fc2", hidden, shape)
    yield from at.end_of_branch(2, channels, shape, scaled)


def _attention(config: EfficientFormerConfig, at: _RowFactory, grid: Grid, channels: int) -> Rows:
    """softmax(Q·Kᵀ / √key_dim + b)·V (Eq. 6, with the scale of the released code)."""
    heads, key, value, tokens = config.num_heads, config.key_dim, config.value_dim, prod(grid)
    pairs = (heads, tokens, tokens)
    yield from at.linear("token_mixer.qkv", channels, (tokens, heads * (2 * key + value)))
    yield at("token_mixer.scores", "attention product", pairs, macs=prod(pairs) * key)
    yield at("token_mixer.scale", "arithmetic", pairs)
    if grid != config.bias_grid:
        yield at("token_mixer.resize", "resize", (heads, *grid))
    yield at("token_mixer.attention_biases", "attention bias", pairs, params=heads * prod(config.bias_grid))
    yield at("token_mixer.softmax", "softmax", pairs)
    yield at("token_mixer.values", "attention product", (heads, tokens, value), macs=prod(pairs) * value)
    yield from at.linear("token_mixer.proj", heads * value, (tokens, channels))


def _head(config: EfficientFormerConfig, grid: Grid) -> Rows:
    """Layer norm, mean over the tokens, then one or two classifiers."""
    at = _RowFactory("", "head")
    channels, classes = config.embed_dims[3], (config.num_classes,)
    yield at.layer_norm("norm", (prod(grid), channels))
    yield at("pooled", "token mean", (channels,), window=prod(grid))
    yield from at.linear("head", channels, classes)
    if config.distillation:
        yield from at.linear("head_dist", channels, classes)
        yield at("logits", "arithmetic", classes)


FOLDED_KINDS: dict[Kind, Kind] = {"convolution": "linear", "convolution bias": "linear bias"}  # of an MB4D


def _folded(rows: Iterable[Operation]) -> Rows:
    """Keep the operations that `model.fold` keeps, with feature maps in channels-last order."""
    for row in rows:
        name, on_map = row.name.rpartition(".")[2], ".mb4d." in row.name
        if row.kind in ("batch norm", "resize") or name == "scale" or row.name.startswith(("head_dist", "logits")):
            continue
        if on_map and row.kind != "pool":
            row = row._replace(output_shape=(*row.output_shape[1:], row.output_shape[0]))  # (H, W, C)
        if row.kind == "attention bias":  # looked up in the table once, when folding
            fixed = row.name.replace("attention_biases", "fixed_bias")
            yield row._replace(name=fixed, params=0, buffers=row.elements)
        elif on_map and row.kind in FOLDED_KINDS:
            yield row._replace(kind=FOLDED_KINDS[row.kind])
        elif row.kind == "layer scale" or (on_map and name in ("difference", "residual_1")):
            if on_map and name == "layer_scale_1":  # one operation with the difference and the residual
                yield row
        else:
            yield row


class _RowFactory(NamedTuple):
    """Create the rows of one module: the position in the network, and the cost of each kind of operation."""

    prefix: str
    stage: str
    block: str = ""

    def __call__(self, name: str, kind: Kind, shape: tuple[int, ...], **costs: int) -> Operation:
        return Operation(self.prefix + name, self.stage, self.block, kind, shape, **costs)

    def conv_norm(self, conv: str, norm: str, channels: int, shape: tuple[int, int, int], kernel: int) -> Rows:
        width, height_out, width_out = shape
        weights = width * channels * kernel**2
        macs = weights * height_out * width_out
        yield self(conv, "convolution", shape, params=weights, macs=macs, window=kernel**2)
        yield self(f"{conv}.bias", "convolution bias", shape, params=width)
        # weight and bias of the norm are parameters, its running mean and variance are buffers
        yield self(norm, "batch norm", shape, params=2 * width, buffers=2 * width)

    def linear(self, name: str, channels: int, shape: tuple[int, ...]) -> Rows:
        yield self(name, "linear", shape, params=shape[-1] * channels, macs=prod(shape) * channels)
        yield self(f"{name}.bias", "linear bias", shape, params=shape[-1])

    def layer_norm(self, name: str, shape: tuple[int, int]) -> Operation:
        return self(name, "layer norm", shape, params=2 * shape[1])

    def activation(self, name: str, act: str, shape: tuple[int, ...]) -> Operation:
        return self(name, "activation", shape, params=int(act == "prelu"))  # PReLU has one learned slope

    def end_of_branch(self, i: int, channels: int, shape: tuple[int, ...], scaled: bool) -> Rows:
        if scaled:
            yield self(f"layer_scale_{i}", "layer scale", shape, params=channels)
        yield self(f"residual_{i}", "residual", shape)
