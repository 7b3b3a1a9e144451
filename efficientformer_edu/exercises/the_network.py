"""Checks of chapter 3, the network: sizes, layouts, parameters, the attention-bias table, and a budget.

Paper: section 4.1 and Table 6. Each check has an independent oracle: the configuration's grids, a layout computed by
indexing, the ledger of `efficientformer_edu.audit`, or the package's lookup in the attention-bias table.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, prod
from operator import eq

import torch
from torch import Tensor

from efficientformer_edu.audit import count
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.exercises._check import call, close, compare, describe, done, expect_shape, require
from efficientformer_edu.model import offset_bias

Grid = tuple[int, int]

DOWNSAMPLES = ((False, True, True, True), (False, False, True, True), (False, False, False, False))
SIZES = ((224, 224), (256, 320), (225, 321), (500, 333), (32, 65))
GRIDS = ((7, 7), (5, 3), (1, 4))


def check_last_tokens(last_tokens: Callable[[EfficientFormerConfig, int, int], int]) -> None:
    """Compare the number of tokens with the grid of the last stage, for sizes that are and are not divisible by 32."""
    for downsamples in DOWNSAMPLES:
        config = EfficientFormerConfig(embed_dims=(48, 48, 48, 48), downsamples=downsamples)
        for height, width in SIZES:
            answer = call(last_tokens, config, height, width)
            grid, stride = config.grids((height, width))[-1], 4 * 2 ** sum(downsamples)
            mistakes = {
                "a convolution of stride 2 with padding 1 rounds up, so nothing is cut off at the border.": (
                    (height // stride) * (width // stride)
                ),
                "height and width are rounded separately, not their product.": ceil(height * width / stride**2),
                "only a stage whose downsamples is true has an embedding; stage 1 has none in any released network.": (
                    ceil(height / 64) * ceil(width / 64)
                ),
                "the stride is not always 32. Count the embeddings of this configuration.": (
                    ceil(height / 32) * ceil(width / 32)
                ),
            }
            message = "halve height and width twice in the stem and once in each embedding, and round up."
            at = f"With downsamples={downsamples}, {height}×{width} pixels make {grid[0]}·{grid[1]} tokens, "
            at += f"not {answer}: "
            compare(answer, prod(grid), mistakes, message, eq, at)
    done("the stem and each embedding halve the feature map, and always round up.")


def check_layouts(to_tokens: Callable[[Tensor], Tensor], to_map: Callable[[Tensor, Grid], Tensor]) -> None:
    """Compare both layouts with explicit indexing, on a feature map that is not square."""
    batch, channels, height, width = 2, 3, 4, 5
    x = torch.arange(batch * channels * height * width, dtype=torch.float32).view(batch, channels, height, width)
    tokens = call(to_tokens, x)
    message = f"to_tokens turns {tuple(x.shape)} into (B, N, C): tokens before channels."
    expect_shape(tokens, (batch, height * width, channels), message)
    expected = torch.stack([x[:, :, y, z] for y in range(height) for z in range(width)], dim=1)
    mistakes = {
        "The shape is correct, but the values are not: reshape reads the map in the order of memory, channel by "
        "channel, so that one token holds values of different pixels. Flatten height and width, then transpose.": (
            x.reshape(batch, height * width, channels)
        ),
    }
    compare(tokens, expected, mistakes, "Token i must have the channels of pixel i, row by row.")
    back = call(to_map, expected, (height, width))
    require(
        tuple(back.shape) != (batch, channels, width, height),
        "to_map swaps height and width: the grid is (height, width).",
    )
    expect_shape(back, tuple(x.shape), f"to_map turns tokens back into a map of shape {tuple(x.shape)}.")
    mistakes = {
        "to_map reads the tokens in the order of memory, so that channels and pixels are mixed up. Transpose first.": (
            expected.reshape(x.shape)
        ),
    }
    compare(back, x, mistakes, "to_map must undo to_tokens: to_map(to_tokens(x), grid) is x.")
    done("the round trip returns the same feature map.")


def check_mb3d_params(mb3d_params: Callable[[EfficientFormerConfig], int]) -> None:
    """Compare with the ledger; if one component of the block explains the difference, name it."""
    configs = [
        *PRESETS.values(),
        EfficientFormerConfig(num_heads=4, key_dim=16, attn_ratio=2.0, bias_grid=(5, 9), mlp_ratio=3.0),
        EfficientFormerConfig(layer_scale_init=None),
    ]
    for config in configs:
        answer = call(mb3d_params, config)
        rows = [row for row in count(config).rows if row.stage == "stage 4" and row.block == "MB3D 1"]
        expected, channels = sum(row.params for row in rows), config.embed_dims[-1]
        components = {
            "the table of offsets has: each head has one value per offset of the bias_grid": sum(
                row.params for row in rows if row.kind == "attention bias"
            ),
            "the biases of the four linear layers have": sum(
                row.output_shape[-1] for row in rows if row.kind == "linear"
            ),
            "the two layer norms have, a weight and a bias per channel": 4 * channels,
            "the two layer scales have": sum(row.params for row in rows if row.kind == "layer scale"),
            "wider values cost: a head's value has value_dim channels, not key_dim": (
                config.num_heads * (config.value_dim - config.key_dim) * (2 * channels + 1)
            ),
        }
        mistakes = {
            f"You have {params:,} too few, as many as {component}.": expected - params
            for component, params in components.items()
        }
        scales = 2 * channels * (config.layer_scale_init is None)
        mistakes["With layer_scale_init=None there are no layer scales, but you count them."] = expected + scales
        message = f"You have {answer:,} and the block has {expected:,} (embed_dims[3] = {channels})."
        compare(answer, expected, mistakes, message, eq)
    done("all parameters of an MB3D block are counted, including the attention-bias table.")


def check_column_table(column_table: Callable[[Grid], Tensor]) -> None:
    """Apply the table to equal scores, and measure how much attention stays in the token's own column."""
    for height, width in GRIDS:
        table, offsets = call(column_table, (height, width)), height * width
        message = f"The table of a {height}×{width} grid has one value per offset: {offsets} values in one row."
        require(
            offsets == 1 or tuple(table.shape) != (offsets, offsets),
            f"{message} You made one for each pair of tokens; the package does that when it looks the offsets up.",
        )
        expect_shape(table, (offsets,), message)
        attention = offset_bias(table[None].float(), (height, width), (height, width)).softmax(-1)[0]
        pairs = attention.view(height, width, height, width)
        spread = pairs.diagonal(dim1=1, dim2=3)  # (height, height, width): query row, key row, column
        column = spread.sum(1)  # (height, width): attention of each query within its column
        row = pairs.diagonal(dim1=0, dim2=2).sum(1)
        require(
            min(height, width) == 1 or bool((row < 0.99).all()) or bool((column > 0.99).all()),
            "Your tokens attend to their row. A column is all tokens with the same x: free |Δx| = 0, not |Δy| = 0.",
        )
        kept = float(column.min())
        require(
            kept > 0.99,
            f"On a {height}×{width} grid a token keeps only {kept:.0%} of its attention in its column. Attention is "
            "exponential in the bias: the offsets with |Δx| > 0 need a large negative number, such as −20.",
        )
        require(
            close(spread.amax(), spread.amin(), atol=1e-3),
            "Within the column all tokens should get the same attention: leave every offset with |Δx| = 0 at 0.",
        )
    done("one value per offset is enough to attend along a column.")


def check_deepest(deepest: Callable[[EfficientFormerConfig, int, int], EfficientFormerConfig]) -> None:
    """Compare with the depth computed from the budget and the cost of one block."""
    for name, budget, max_depth in (("l1", 2_000_000_000, 40), ("l1", 1_300_000_000, 40), ("l3", 10_000_000_000, 20)):
        config = PRESETS[name]
        answer = call(deepest, config, budget, max_depth)
        at = f"{name.upper()} with a budget of {budget:,} MACs: "
        require(isinstance(answer, EfficientFormerConfig), f"{at}return a configuration, got {describe(answer)}.")
        same_shape = answer.replace(depths=config.depths) == config
        require(same_shape, f"{at}only depths may change; another field has changed too.")
        first, second, third, fourth = config.depths
        depth = answer.depths[2]
        require(
            answer.depths == (first, second, depth, fourth),
            f"{at}the new blocks belong to stage 3, which is depths[2]; you return {answer.depths}.",
        )
        macs = count(answer).macs
        fits = third + (budget - count(config).macs) // count(config).by("block")["stage 3, MB4D 1"].macs
        require(
            macs <= budget or depth != fits + 1,
            f"{at}your network needs {macs:,}, one block more than fits. Return the last one within the budget.",
        )
        require(macs <= budget, f"{at}your network needs {macs:,}. Compare macs with the budget, not params.")
        expected = min(fits, max_depth)
        message = f"you stop at {depth} blocks in stage 3; {expected} fit, with at most {max_depth} allowed."
        require(depth == expected, at + message)
    done("as deep as the budget allows, and not one block deeper.")
