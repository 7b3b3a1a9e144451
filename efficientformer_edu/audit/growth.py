"""What one block costs, as a formula, and how a network's costs grow with its input and its shape.

Paper: section 3.1, observation 2 (attention is no worse than a convolution where the tokens are few), and Eq. 4 to 6.
With C channels, M hidden channels, N places or tokens, and h heads of key width k and value width v, one block takes

    MB4D: N·2·C·M MACs, linear in N
    MB3D: N·(2·C·M + 2·C·h·(k + v)) + N²·h·(k + v) MACs, of which the attention products grow with N²

The formulas hold for blocks as trained: with biases, norms and both layer scales, and with an activation that learns
nothing, which is all of them but PReLU. The sweeps ask the ledger and hold for every configuration. Standard library
only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from efficientformer_edu.audit.analytic import count
from efficientformer_edu.audit.costs import Costs
from efficientformer_edu.config import EfficientFormerConfig, Resolution, get_config
from efficientformer_edu.config_values import count as whole_number
from efficientformer_edu.config_values import positive

STEP = 16  # widths are multiples of it, as in the search space of section 4.2


class Point(NamedTuple):
    """One network of a sweep.

    Attributes:
        value: what was varied: a resolution, a factor, or a number of MB3D blocks.
        costs: its ledger.
    """

    value: Resolution | float
    costs: Costs


def mb4d_params(channels: int, hidden: int) -> int:
    """Learned numbers of an MB4D block as trained: pooling learns none, so they are those of the MLP and its norms."""
    convolutions = (channels * hidden + hidden) + (hidden * channels + channels)
    batch_norms = 2 * hidden + 2 * channels
    layer_scales = 2 * channels
    return convolutions + batch_norms + layer_scales


def mb4d_macs(channels: int, hidden: int, places: int) -> int:
    """MACs of an MB4D block on a map of so many places: linear in them."""
    return 2 * channels * hidden * places


def mb3d_params(channels: int, hidden: int, heads: int, key_dim: int, value_dim: int, offsets: int) -> int:
    """Learned numbers of an MB3D block as trained.

    Args:
        channels: width of the tokens.
        hidden: width inside the MLP.
        heads: attention heads.
        key_dim: width of one head's query and of its key.
        value_dim: width of one head's value.
        offsets: numbers in one head's table of attention biases; 49 for the 7×7 tokens of 224 pixels.
    """
    query_key_value = heads * (2 * key_dim + value_dim)
    attention = (channels * query_key_value + query_key_value) + (heads * value_dim * channels + channels)
    mlp = (channels * hidden + hidden) + (hidden * channels + channels)
    layer_norms = 2 * 2 * channels
    layer_scales = 2 * channels
    return attention + heads * offsets + mlp + layer_norms + layer_scales


def mb3d_macs(channels: int, hidden: int, tokens: int, heads: int, key_dim: int, value_dim: int) -> int:
    """MACs of an MB3D block on so many tokens: its linears grow with them, its attention products with their square."""
    linears = 2 * channels * heads * (key_dim + value_dim) + 2 * channels * hidden
    return tokens * linears + attention_products(tokens, heads, key_dim, value_dim)


def attention_products(tokens: int, heads: int, key_dim: int, value_dim: int) -> int:
    """MACs of Q·Kᵀ and of softmax(·)·V in one block: every token meets every token."""
    return tokens**2 * heads * (key_dim + value_dim)


def crossover_tokens(channels: int, hidden: int, heads: int, key_dim: int, value_dim: int) -> int:
    """The fewest tokens with which the two products take more than half of an MB3D block's MACs.

    That is where N² overtakes N: N·h·(k + v) > 2·C·h·(k + v) + 2·C·M, so N > 2·C·(1 + M / (h·(k + v))).
    """
    both = heads * (key_dim + value_dim)
    return 2 * channels * (both + hidden) // both + 1


def attention_share(costs: Costs) -> float:
    """The part of all MACs that the attention products take, from 0 to 1."""
    return costs.by("kind")["attention product"].macs / costs.macs if any(costs.config.vits) else 0.0


def sweep_resolution(model: str | EfficientFormerConfig, resolutions: Iterable[Resolution]) -> tuple[Point, ...]:
    """A network on images of several sizes, in pixels. Raises ValueError for a size below 32."""
    return tuple(Point(resolution, count(model, resolution)) for resolution in resolutions)


def sweep_width(
    model: str | EfficientFormerConfig, factors: Iterable[float], resolution: Resolution = 224
) -> tuple[Point, ...]:
    """A network with all four widths times a factor, rounded to a multiple of 16 and at least 16.

    Raises:
        ValueError: for a factor that is not above 0.
    """
    config, points = get_config(model), []
    for factor in factors:
        scaled = (positive("factor", factor) * width / STEP for width in config.embed_dims)
        widths = tuple(STEP * max(1, int(steps + 0.5)) for steps in scaled)
        points.append(Point(factor, count(config.replace(embed_dims=widths), resolution)))
    return tuple(points)


def sweep_depth(
    model: str | EfficientFormerConfig, factors: Iterable[int], resolution: Resolution = 224
) -> tuple[Point, ...]:
    """A network with a whole number of times as many blocks of each kind in each stage.

    Raises:
        ValueError: for a factor that is no whole number above 0.
    """
    config, points = get_config(model), []
    for factor in factors:
        times = whole_number("factor", factor)
        deeper = config.replace(
            depths=tuple(times * depth for depth in config.depths), num_vit=tuple(times * vit for vit in config.vits)
        )
        points.append(Point(factor, count(deeper, resolution)))
    return tuple(points)


def sweep_num_vit(
    model: str | EfficientFormerConfig, values: Iterable[int] | None = None, resolution: Resolution = 224
) -> tuple[Point, ...]:
    """A network whose last stage ends with 0, 1, 2, ... MB3D blocks in place of MB4D blocks.

    Args:
        model: a configuration or the name of one; the MB3D blocks of its earlier stages stay.
        values: how many; from 0 to the depth of the last stage if not given.
        resolution: height and width of the image in pixels, or one number for both.

    Raises:
        ValueError: for more than the last stage has blocks.
    """
    config = get_config(model)
    numbers = range(config.depths[-1] + 1) if values is None else values
    return tuple(
        Point(number, count(config.replace(num_vit=(*config.vits[:-1], number)), resolution)) for number in numbers
    )
