"""The cost of every operation of an EfficientFormer, computed from its configuration alone.

Paper: section 4.1, Eq. 4 to 6, and the columns "Params (M)" and "GMACs" of Table 1. Released code: the
network in `models/efficientformer.py`. The authors' own counter, `toolbox.py`, follows different rules.

Each function below reads like the forward pass of the module that it counts. A row has the module's name, so you can
compare the rows with the network. Operations that compute nothing are left out: reshapes, and dropout, which is
inactive at inference. This module imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import NamedTuple, get_args

from efficientformer_edu.audit.costs import Costs, Form, Kind, Operation
from efficientformer_edu.config import EfficientFormerConfig, Resolution, get_config, resolution_pair

Grid = tuple[int, int]
Rows = Iterator[Operation]

FOLDED_KINDS: dict[Kind, Kind] = {"convolution": "linear", "convolution bias": "linear bias"}  # of an MB4D


def count(model: str | EfficientFormerConfig, resolution: Resolution = 224, form: Form = "trained") -> Costs:
    """List every operation of a network with its exact parameters, MACs and sizes.

    Args:
        model: a configuration, or the name of a published network such as `"l1"`.
        resolution: height and width of the image in pixels, or one number for both. Parameters do not depend on it.
        form: "trained", or "folded" for the network that `model.fold` returns.

    Returns:
        The costs for one image. MACs are counted for convolutions, linear layers (including both heads) and the two
        attention products.

    Raises:
        ValueError: for an unknown name or form, or a resolution below 32 pixels.
    """
    config, image = get_config(model), resolution_pair(resolution)
    if form not in get_args(Form):
        raise ValueError(f"form={form!r} is not possible; allowed: {', '.join(get_args(Form))}")
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


def _folded(rows: Iterable[Operation]) -> Rows:
    """Keep the operations that remain after folding.

    Batch norms, most layer scales and the second head are gone, and feature maps are channels-last.
    """
    for row in rows:
        part = row.name.rpartition(".")[2]
        on_map = ".mb4d." in row.name
        if row.kind in ("batch norm", "resize") or part == "scale" or row.name.startswith(("head_dist", "logits")):
            continue
        if on_map and row.kind != "pool":
            row = row._replace(output_shape=(*row.output_shape[1:], row.output_shape[0]))  # (H, W, C)
        if row.kind == "attention bias":  # looked up in the table once, when folding
            name = row.name.replace("attention_biases", "fixed_bias")
            yield row._replace(name=name, params=0, buffers=row.elements)
        elif on_map and row.kind in FOLDED_KINDS:
            yield row._replace(kind=FOLDED_KINDS[row.kind])
        elif row.kind == "layer scale" or (on_map and part in ("difference", "residual_1")):
            if on_map and part == "layer_scale_1":  # one operation with the difference and the residual
                yield row
        else:
            yield row


def _stem(config: EfficientFormerConfig, image: Grid) -> Rows:
    at = _RowFactory("stem.", "stem")
    channels = config.in_channels
    for i, width in enumerate((config.stem_width, config.embed_dims[0]), start=1):
        image = _half(image)
        shape = (width, *image)
        yield from at.convolution(f"conv{i}", channels, shape, kernel=3)
        yield at.batch_norm(f"norm{i}", shape)
        yield at.activation(f"act{i}", config.stem_act, shape)
        channels = width


def _embedding(config: EfficientFormerConfig, stage: int, channels: int, grid: Grid) -> Rows:
    at = _RowFactory(f"stages.{stage}.downsample.", f"stage {stage + 1}", "embedding")
    shape = (config.embed_dims[stage], *grid)
    yield from at.convolution("conv", channels, shape, kernel=3)
    yield at.batch_norm("norm", shape)


def _mb4d(config: EfficientFormerConfig, stage: int, block: int, grid: Grid) -> Rows:
    """x + γ₁ (Pool(x) - x), then x + γ₂ MLP(x), on a feature map (Eq. 4)."""
    at = _RowFactory(f"stages.{stage}.mb4d.{block}.", f"stage {stage + 1}", f"MB4D {block + 1}")
    channels, hidden = config.embed_dims[stage], config.hidden_dim(stage)
    shape = (channels, *grid)
    yield at("token_mixer.pool", "pool", shape, window=config.pool_size**2)
    yield at("token_mixer.difference", "arithmetic", shape)
    yield from _close_branch(config, at, 1, channels, shape)
    yield from at.convolution("mlp.fc1", channels, (hidden, *grid), kernel=1)
    yield at.batch_norm("mlp.norm1", (hidden, *grid))
    yield at.activation("mlp.act", config.act, (hidden, *grid))
    yield from at.convolution("mlp.fc2", hidden, shape, kernel=1)
    yield at.batch_norm("mlp.norm2", shape)
    yield from _close_branch(config, at, 2, channels, shape)


def _mb3d(config: EfficientFormerConfig, stage: int, block: int, grid: Grid) -> Rows:
    """x + γ₁ MHSA(LN(x)), then x + γ₂ MLP(LN(x)), on tokens (Eq. 5)."""
    at = _RowFactory(f"stages.{stage}.mb3d.{block}.", f"stage {stage + 1}", f"MB3D {block + 1}")
    channels, hidden, tokens = config.embed_dims[stage], config.hidden_dim(stage), prod(grid)
    shape = (tokens, channels)
    yield at.layer_norm("norm1", shape)
    yield from _attention(config, at, grid, channels)
    yield from _close_branch(config, at, 1, channels, shape)
    yield at.layer_norm("norm2", shape)
    yield from at.linear("mlp.fc1", channels, (tokens, hidden))
    yield at.activation("mlp.act", config.act, (tokens, hidden))
    yield from at.linear("mlp.fc2", hidden, shape)
    yield from _close_branch(config, at, 2, channels, shape)


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


def _close_branch(
    config: EfficientFormerConfig, at: _RowFactory, i: int, channels: int, shape: tuple[int, ...]
) -> Rows:
    if config.layer_scale_init is not None:
        yield at(f"layer_scale_{i}", "layer scale", shape, params=channels)
    yield at(f"residual_{i}", "residual", shape)


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


class _RowFactory(NamedTuple):
    """Create the rows of one module: the position in the network, and the cost of each kind of operation."""

    prefix: str
    stage: str
    block: str = ""

    def __call__(
        self, name: str, kind: Kind, shape: tuple[int, ...], params: int = 0, macs: int = 0, window: int = 1
    ) -> Operation:
        return Operation(self.prefix + name, self.stage, self.block, kind, shape, params, macs, 0, window)

    def convolution(self, name: str, channels: int, shape: tuple[int, int, int], kernel: int) -> Rows:
        width, height_out, width_out = shape
        weights = width * channels * kernel**2
        yield self(name, "convolution", shape, weights, weights * height_out * width_out, kernel**2)
        yield self(f"{name}.bias", "convolution bias", shape, params=width)

    def linear(self, name: str, channels: int, shape: tuple[int, ...]) -> Rows:
        yield self(name, "linear", shape, shape[-1] * channels, prod(shape) * channels)
        yield self(f"{name}.bias", "linear bias", shape, params=shape[-1])

    def batch_norm(self, name: str, shape: tuple[int, int, int]) -> Operation:
        channels = shape[0]  # weight and bias are parameters; running mean and variance are buffers
        return Operation(self.prefix + name, self.stage, self.block, "batch norm", shape, 2 * channels, 0, 2 * channels)

    def layer_norm(self, name: str, shape: tuple[int, int]) -> Operation:
        return self(name, "layer norm", shape, params=2 * shape[1])

    def activation(self, name: str, act: str, shape: tuple[int, ...]) -> Operation:
        return self(name, "activation", shape, params=int(act == "prelu"))  # PReLU has one learned slope


def _half(grid: Grid) -> Grid:
    """Return the size after a 3×3 convolution with stride 2 and padding 1, which rounds up."""
    height, width = grid
    return (height + 1) // 2, (width + 1) // 2
