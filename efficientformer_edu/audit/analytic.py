"""Parameters and MACs of an EfficientFormer, worked out from its configuration alone.

Paper: section 4.1, Eq. 4 to 6, and the columns "Params (M)" and "GMACs" of Table 1. Released code: what
`models/efficientformer.py` computes; its own counter, `toolbox.py`, counts by other rules.

Each function below reads like the forward pass of the module that it counts. A row has the module's name, so that the
ledger can be laid beside the network. Left out is what computes nothing: reshapes, and dropout, which rests at
inference. This module imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from efficientformer_edu.audit.costs import Costs, Kind, Operation
from efficientformer_edu.config import EfficientFormerConfig, Resolution, get_config, resolution_pair

Grid = tuple[int, int]
Rows = Iterator[Operation]


def count(model: str | EfficientFormerConfig, resolution: Resolution = 224) -> Costs:
    """Every operation of a network with its parameters and MACs, both exact.

    Args:
        model: a configuration, or the name of a published network such as `"l1"`.
        resolution: height and width of the image in pixels, or one number for both. Parameters do not depend on it.

    Returns:
        The costs for one image. MACs are those of convolutions, linears (both heads) and the two attention products.

    Raises:
        ValueError: for an unknown name, or a resolution below 32 pixels.
    """
    config, image = get_config(model), resolution_pair(resolution)
    return Costs(config, image, tuple(_network(config, image)))


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
    at = _Place("stem", "stem")
    channels = config.in_channels
    for i, width in enumerate((config.stem_width, config.embed_dims[0]), start=1):
        image = _half(image)
        shape = (width, *image)
        yield at.convolution(f"conv{i}", channels, shape, kernel=3)
        yield at.batch_norm(f"norm{i}", shape)
        yield at.activation(f"act{i}", config.stem_act, shape)
        channels = width


def _embedding(config: EfficientFormerConfig, stage: int, channels: int, grid: Grid) -> Rows:
    at = _Place(f"stages.{stage}.downsample", f"stage {stage + 1}", "embedding")
    shape = (config.embed_dims[stage], *grid)
    yield at.convolution("conv", channels, shape, kernel=3)
    yield at.batch_norm("norm", shape)


def _mb4d(config: EfficientFormerConfig, stage: int, block: int, grid: Grid) -> Rows:
    """x + γ₁ (Pool(x) - x), then x + γ₂ MLP(x), on a map (Eq. 4)."""
    at = _Place(f"stages.{stage}.mb4d.{block}", f"stage {stage + 1}", f"MB4D {block + 1}")
    channels, hidden = config.embed_dims[stage], config.hidden_dim(stage)
    shape = (channels, *grid)
    yield at.other("token_mixer.pool", "pool", shape)
    yield at.other("token_mixer.difference", "arithmetic", shape)
    yield from _close_branch(config, at, 1, channels, shape)
    yield at.convolution("mlp.fc1", channels, (hidden, *grid), kernel=1)
    yield at.batch_norm("mlp.norm1", (hidden, *grid))
    yield at.activation("mlp.act", config.act, (hidden, *grid))
    yield at.convolution("mlp.fc2", hidden, shape, kernel=1)
    yield at.batch_norm("mlp.norm2", shape)
    yield from _close_branch(config, at, 2, channels, shape)


def _mb3d(config: EfficientFormerConfig, stage: int, block: int, grid: Grid) -> Rows:
    """x + γ₁ MHSA(LN(x)), then x + γ₂ MLP(LN(x)), on tokens (Eq. 5)."""
    at = _Place(f"stages.{stage}.mb3d.{block}", f"stage {stage + 1}", f"MB3D {block + 1}")
    channels, hidden, tokens = config.embed_dims[stage], config.hidden_dim(stage), prod(grid)
    shape = (tokens, channels)
    yield at.layer_norm("norm1", shape)
    yield from _attention(config, at, shape)
    yield from _close_branch(config, at, 1, channels, shape)
    yield at.layer_norm("norm2", shape)
    yield at.linear("mlp.fc1", channels, (tokens, hidden))
    yield at.activation("mlp.act", config.act, (tokens, hidden))
    yield at.linear("mlp.fc2", hidden, shape)
    yield from _close_branch(config, at, 2, channels, shape)


def _attention(config: EfficientFormerConfig, at: _Place, shape: tuple[int, int]) -> Rows:
    """softmax(Q·Kᵀ / √key_dim + b)·V (Eq. 6, with the scale of the released code)."""
    tokens, channels = shape
    heads, key, value = config.num_heads, config.key_dim, config.value_dim
    pairs = (heads, tokens, tokens)
    yield at.linear("token_mixer.qkv", channels, (tokens, heads * (2 * key + value)))
    yield at.other("token_mixer.scores", "attention product", pairs, macs=prod(pairs) * key)
    yield at.other("token_mixer.scale", "arithmetic", pairs)
    yield at.other("token_mixer.attention_biases", "attention bias", pairs, params=heads * prod(config.bias_grid))
    yield at.other("token_mixer.softmax", "softmax", pairs)
    yield at.other("token_mixer.values", "attention product", (heads, tokens, value), macs=prod(pairs) * value)
    yield at.linear("token_mixer.proj", heads * value, shape)


def _close_branch(config: EfficientFormerConfig, at: _Place, i: int, channels: int, shape: tuple[int, ...]) -> Rows:
    if config.layer_scale_init is not None:
        yield at.other(f"layer_scale_{i}", "layer scale", shape, params=channels)
    yield at.other(f"residual_{i}", "residual", shape)


def _head(config: EfficientFormerConfig, grid: Grid) -> Rows:
    """LayerNorm over the tokens, their mean, then one or two classifiers."""
    at = _Place("", "head")
    channels, classes = config.embed_dims[3], (config.num_classes,)
    yield at.layer_norm("norm", (prod(grid), channels))
    yield at.other("pooled", "arithmetic", (channels,))
    yield at.linear("head", channels, classes)
    if config.distillation:
        yield at.linear("head_dist", channels, classes)
        yield at.other("logits", "arithmetic", classes)


@dataclass(frozen=True)
class _Place:
    """Where in the network an operation stands, and the rule for what each kind of operation costs."""

    prefix: str
    stage: str
    block: str = ""

    def convolution(self, name: str, channels: int, shape: tuple[int, int, int], kernel: int) -> Operation:
        width, height_out, width_out = shape
        weights = width * channels * kernel**2
        return self.other(name, "convolution", shape, weights + width, weights * height_out * width_out)

    def linear(self, name: str, channels: int, shape: tuple[int, ...]) -> Operation:
        *tokens, width = shape
        weights = width * channels
        return self.other(name, "linear", shape, weights + width, weights * prod(tokens))

    def batch_norm(self, name: str, shape: tuple[int, int, int]) -> Operation:
        return self.other(name, "batch norm", shape, params=2 * shape[0])

    def layer_norm(self, name: str, shape: tuple[int, int]) -> Operation:
        return self.other(name, "layer norm", shape, params=2 * shape[1])

    def activation(self, name: str, act: str, shape: tuple[int, ...]) -> Operation:
        return self.other(name, "activation", shape, params=int(act == "prelu"))  # PReLU learns one slope

    def other(self, name: str, kind: Kind, shape: tuple[int, ...], params: int = 0, macs: int = 0) -> Operation:
        path = f"{self.prefix}.{name}" if self.prefix else name
        return Operation(path, self.stage, self.block, kind, shape, params, macs)


def _half(grid: Grid) -> Grid:
    """Size after a 3×3 convolution of stride 2 and padding 1: it rounds up."""
    height, width = grid
    return (height + 1) // 2, (width + 1) // 2
