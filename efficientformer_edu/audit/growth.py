"""Formulas for the cost of a block, and how a network's costs grow with its input and its shape.

Paper: section 3.1, observation 2 (attention is no slower than convolution if there are few tokens), and Eq. 4 to 6.
With C channels, M hidden channels, N pixels or tokens, and h heads with key dimension k and value dimension v, one
block takes

    MB4D: N·2·C·M MACs, linear in N
    MB3D: N·(2·C·M + 2·C·h·(k + v)) + N²·h·(k + v) MACs; the attention products grow with N²

The formulas are for blocks as trained: with biases, normalization layers, both layer scales, and an activation without
parameters (any except PReLU). The sweeps use the ledger, so they are valid for every configuration. Standard library
only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from efficientformer_edu._validation import positive_float, positive_int
from efficientformer_edu.audit.ledger import Costs, count
from efficientformer_edu.config import EfficientFormerConfig, Resolution, get_config

STEP = 16  # widths are multiples of it, as in the search space of section 4.2


class Point(NamedTuple):
    """One network of a sweep.

    Attributes:
        value: the varied setting: a resolution, a factor, or a number of MB3D blocks.
        costs: its ledger.
    """

    value: Resolution | float
    costs: Costs


def mb4d_params(channels: int, hidden: int) -> int:
    """Count the parameters of an MB4D block as trained. Pooling has none."""
    convolutions = (channels * hidden + hidden) + (hidden * channels + channels)
    batch_norms = 2 * hidden + 2 * channels
    layer_scales = 2 * channels
    return convolutions + batch_norms + layer_scales


def mb4d_macs(channels: int, hidden: int, positions: int) -> int:
    """Count the MACs of an MB4D block on a feature map with `positions` pixels. Linear in `positions`."""
    return 2 * channels * hidden * positions


def mb3d_params(channels: int, hidden: int, heads: int, key_dim: int, value_dim: int, offsets: int) -> int:
    """Count the parameters of an MB3D block as trained.

    Args:
        channels: dimension of the tokens.
        hidden: hidden dimension of the MLP.
        heads: number of attention heads.
        key_dim: dimension of query and key per head.
        value_dim: dimension of the value per head.
        offsets: entries per head in the table of attention biases; 49 for the 7×7 tokens of 224 pixels.
    """
    query_key_value = heads * (2 * key_dim + value_dim)
    attention = (channels * query_key_value + query_key_value) + (heads * value_dim * channels + channels)
    mlp = (channels * hidden + hidden) + (hidden * channels + channels)
    layer_norms = 2 * 2 * channels
    layer_scales = 2 * channels
    return attention + heads * offsets + mlp + layer_norms + layer_scales


def mb3d_macs(channels: int, hidden: int, tokens: int, heads: int, key_dim: int, value_dim: int) -> int:
    """Count the MACs of an MB3D block: linear layers grow with `tokens`, attention products with its square."""
    linears = 2 * channels * heads * (key_dim + value_dim) + 2 * channels * hidden
    return tokens * linears + attention_products(tokens, heads, key_dim, value_dim)


def attention_products(tokens: int, heads: int, key_dim: int, value_dim: int) -> int:
    """Count the MACs of Q·Kᵀ and softmax(·)·V in one block, where every token attends to every token."""
    return tokens**2 * heads * (key_dim + value_dim)


def crossover_tokens(channels: int, hidden: int, heads: int, key_dim: int, value_dim: int) -> int:
    """Return the smallest number of tokens at which the two products take more than half of an MB3D block's MACs.

    From there on the N² term dominates: N·h·(k + v) > 2·C·h·(k + v) + 2·C·M, so N > 2·C·(1 + M / (h·(k + v))).
    """
    both = heads * (key_dim + value_dim)
    return 2 * channels * (both + hidden) // both + 1


def attention_share(costs: Costs) -> float:
    """Return the fraction of all MACs in attention products, from 0 to 1."""
    return costs.by("kind")["attention product"].macs / costs.macs if any(costs.config.vits) else 0.0


def sweep_resolution(model: str | EfficientFormerConfig, resolutions: Iterable[Resolution]) -> tuple[Point, ...]:
    """Count a network at several resolutions, in pixels. Raises ValueError for a size below 32."""
    return tuple(Point(resolution, count(model, resolution)) for resolution in resolutions)


def sweep_width(
    model: str | EfficientFormerConfig, factors: Iterable[float], resolution: Resolution = 224
) -> tuple[Point, ...]:
    """Count a network with all four widths scaled by a factor, rounded to a multiple of 16, at least 16.

    Raises:
        ValueError: for a factor that is not above 0.
    """
    config, points = get_config(model), []
    for factor in factors:
        scaled = (positive_float("factor", factor) * width / STEP for width in config.embed_dims)
        widths = tuple(STEP * max(1, int(steps + 0.5)) for steps in scaled)
        points.append(Point(factor, count(config.replace(embed_dims=widths), resolution)))
    return tuple(points)


def sweep_depth(
    model: str | EfficientFormerConfig, factors: Iterable[int], resolution: Resolution = 224
) -> tuple[Point, ...]:
    """Count a network with the blocks of each kind in each stage repeated an integer number of times.

    Raises:
        ValueError: for a factor that is not a positive integer.
    """
    config, points = get_config(model), []
    for factor in factors:
        times = positive_int("factor", factor)
        deeper = config.replace(
            depths=tuple(times * depth for depth in config.depths), num_vit=tuple(times * vit for vit in config.vits)
        )
        points.append(Point(factor, count(deeper, resolution)))
    return tuple(points)


def sweep_num_vit(
    model: str | EfficientFormerConfig, values: Iterable[int] | None = None, resolution: Resolution = 224
) -> tuple[Point, ...]:
    """Count a network whose last stage ends with 0, 1, 2, ... MB3D blocks instead of MB4D blocks.

    Args:
        model: a configuration or its name; MB3D blocks in earlier stages are kept.
        values: numbers of MB3D blocks; default: from 0 to the depth of the last stage.
        resolution: height and width of the image in pixels, or one number for both.

    Raises:
        ValueError: for a number above the depth of the last stage.
    """
    config = get_config(model)
    numbers = range(config.depths[-1] + 1) if values is None else values
    return tuple(
        Point(number, count(config.replace(num_vit=(*config.vits[:-1], number)), resolution)) for number in numbers
    )
