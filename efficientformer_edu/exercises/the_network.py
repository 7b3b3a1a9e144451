"""Checks of chapter 3, the network: sizes, layouts, parameters, the attention-bias table, and a budget.

Paper: section 4.1 and Table 6. Each check has an independent oracle: the configuration's grids, a layout computed by
indexing, the ledger of `efficientformer_edu.audit`, or the package's lookup in the attention-bias table.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, prod
from typing import TYPE_CHECKING

from efficientformer_edu.audit import count
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.exercises._check import call, describe, done, expect_shape, require

if TYPE_CHECKING:
    from torch import Tensor

Grid = tuple[int, int]

DOWNSAMPLES = ((False, True, True, True), (False, False, True, True), (False, False, False, False))
SIZES = ((224, 224), (256, 320), (225, 321), (500, 333), (32, 65))
GRIDS = ((7, 7), (5, 3), (1, 4))


def check_last_tokens(last_tokens: Callable[[EfficientFormerConfig, int, int], int]) -> None:
    """Compare the number of tokens with the grid of the last stage, for sizes that are and are not divisible by 32."""
    for downsamples in DOWNSAMPLES:
        config = EfficientFormerConfig(embed_dims=(48, 48, 48, 48), downsamples=downsamples)
        for height, width in SIZES:
            _check_tokens(call(last_tokens, config, height, width), config, (height, width))
    done("the stem and each embedding halve the feature map, and always round up.")


def _check_tokens(got: int, config: EfficientFormerConfig, size: Grid) -> None:
    (height, width), grid, stride = size, config.grids(size)[-1], 4 * 2 ** sum(config.downsamples)
    if got == prod(grid):
        return
    at = f"With downsamples={config.downsamples}, {height}×{width} pixels make {grid[0]}·{grid[1]} tokens, not {got}: "
    require(
        got != (height // stride) * (width // stride),
        at + "a convolution of stride 2 with padding 1 rounds up, so nothing is cut off at the border.",
    )
    require(
        got != ceil(height * width / stride**2),
        at + "height and width are rounded each by itself, not their product.",
    )
    require(
        got != ceil(height / 64) * ceil(width / 64),
        at + "only a stage whose downsamples is true has an embedding; stage 1 has none in any released network.",
    )
    require(
        got != ceil(height / 32) * ceil(width / 32),
        at + "the stride is not always 32. Count the embeddings of this configuration.",
    )
    require(False, at + "halve height and width twice in the stem and once in each embedding, and round up.")


def check_layouts(to_tokens: Callable[[Tensor], Tensor], to_map: Callable[[Tensor, Grid], Tensor]) -> None:
    """Compare both layouts with explicit indexing, on a feature map that is not square."""
    import torch

    batch, channels, height, width = 2, 3, 4, 5
    x = torch.arange(batch * channels * height * width, dtype=torch.float32).view(batch, channels, height, width)
    tokens = call(to_tokens, x)
    expect_shape(
        tokens,
        (batch, height * width, channels),
        f"to_tokens turns {tuple(x.shape)} into (B, N, C): tokens before channels.",
    )
    expected = torch.stack([x[:, :, y, z] for y in range(height) for z in range(width)], dim=1)
    require(
        not torch.equal(tokens, x.reshape(batch, height * width, channels)),
        "The shape is right, but the values are not: reshape reads the map in the order of memory, channel by channel, "
        "so that one token holds numbers of different places. Flatten height and width, then transpose.",
    )
    require(torch.equal(tokens, expected), "Token i must have the channels of pixel i, row by row.")
    back = call(to_map, expected, (height, width))
    require(
        tuple(back.shape) != (batch, channels, width, height),
        "to_map gives a map that is as wide as it should be high: the grid is (height, width).",
    )
    expect_shape(back, tuple(x.shape), f"to_map turns tokens back into a map of shape {tuple(x.shape)}.")
    require(
        not torch.equal(back, expected.reshape(x.shape)),
        "to_map reads the tokens in the order of memory, so that channels and pixels are mixed up. Transpose first.",
    )
    require(torch.equal(back, x), "to_map must undo to_tokens: to_map(to_tokens(x), grid) is x.")
    done("the round trip returns the same feature map.")


def check_mb3d_params(mb3d_params: Callable[[EfficientFormerConfig], int]) -> None:
    """Compare with the ledger; if one component of the block explains the difference, name it."""
    configs = [
        *PRESETS.values(),
        EfficientFormerConfig(num_heads=4, key_dim=16, attn_ratio=2.0, bias_grid=(5, 9), mlp_ratio=3.0),
        EfficientFormerConfig(layer_scale_init=None),
    ]
    for config in configs:
        got = call(mb3d_params, config)
        rows = [row for row in count(config).rows if row.stage == "stage 4" and row.block == "MB3D 1"]
        expected = sum(row.params for row in rows)
        channels = config.embed_dims[-1]
        parts = {
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
        for part, params in parts.items():
            require(got != expected - params or params == 0, f"You have {params:,} too few, just as many as {part}.")
        require(
            config.layer_scale_init is not None or got != expected + 2 * channels,
            "With layer_scale_init=None there are no layer scales, but you count them.",
        )
        require(got == expected, f"You have {got:,} and the block has {expected:,} (embed_dims[3] = {channels}).")
    done("all parameters of an MB3D block are counted, including the attention-bias table.")


def check_column_table(column_table: Callable[[Grid], Tensor]) -> None:
    """Apply the table to equal scores, and measure how much attention stays in the token's own column."""
    from efficientformer_edu.model import offset_bias

    for height, width in GRIDS:
        table = call(column_table, (height, width))
        offsets = height * width
        sentence = f"The table of a {height}×{width} grid has one value per offset: {offsets} values in one row."
        require(
            offsets == 1 or tuple(table.shape) != (offsets, offsets),
            f"{sentence} You made one for each pair of tokens; the package does that when it looks the offsets up.",
        )
        expect_shape(table, (offsets,), sentence)
        attention = offset_bias(table[None].float(), (height, width), (height, width)).softmax(-1)[0]
        pairs = attention.view(height, width, height, width)
        column = pairs.diagonal(dim1=1, dim2=3).sum(1)  # (height, width): attention of each query within its column
        row = pairs.diagonal(dim1=0, dim2=2).sum(1)
        require(
            min(height, width) == 1 or bool((row < 0.99).all()) or bool((column > 0.99).all()),
            "Your tokens attend to their row. A column is all tokens with the same x: free |Δx| = 0, not |Δy| = 0.",
        )
        kept = float(column.min())
        require(
            kept > 0.99,
            f"On a {height}×{width} grid a token keeps only {kept:.0%} of its attention in its column. Attention goes "
            "with the exponential of the bias: the offsets with |Δx| > 0 need a large negative number, such as −20.",
        )
        spread = pairs.diagonal(dim1=1, dim2=3)  # (height, height, width): query row, key row, column
        require(
            float(spread.amax() - spread.amin()) < 1e-3,
            "Within the column all tokens should get the same attention: leave every offset with |Δx| = 0 at 0.",
        )
    done("one value per offset is enough to attend along a column.")


def check_deepest(deepest: Callable[[EfficientFormerConfig, int, int], EfficientFormerConfig]) -> None:
    """Compare with the depth computed from the budget and the cost of one block."""
    for name, budget, most in (("l1", 2_000_000_000, 40), ("l1", 1_300_000_000, 40), ("l3", 10_000_000_000, 20)):
        config = PRESETS[name]
        got = call(deepest, config, budget, most)
        prefix = f"{name.upper()} with a budget of {budget:,} MACs: "
        require(isinstance(got, EfficientFormerConfig), prefix + f"return a configuration, got {describe(got)}.")
        require(
            got.replace(depths=config.depths) == config,
            prefix + "only depths may change; another field has changed too.",
        )
        first, second, third, fourth = config.depths
        require(
            got.depths[:2] == (first, second) and got.depths[3] == fourth,
            prefix + f"the new blocks belong to stage 3, which is depths[2]; you return {got.depths}.",
        )
        fits = third + (budget - count(config).macs) // count(config).by("block")["stage 3, MB4D 1"].macs
        macs = count(got).macs
        require(
            macs <= budget or got.depths[2] != fits + 1,
            prefix + f"your network needs {macs:,}, one block more than fits. Return the last one within the budget.",
        )
        require(macs <= budget, prefix + f"your network needs {macs:,}. Compare macs with the budget, not params.")
        expected = min(fits, most)
        require(
            got.depths[2] == expected,
            prefix + f"you stop at {got.depths[2]} blocks in stage 3; {expected} fit, with at most {most} allowed.",
        )
    done("as deep as the budget allows, and not one block deeper.")
