"""Checks of chapter 4, parameters and MACs: one block, the released counter's bug, a misprint, a different image size.

Paper: the columns "Params (M)" and "GMACs" of Table 1. Each check compares the answer with the ledger of
`efficientformer_edu.audit`, on networks and sizes selected so that every mistake shows in at least one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from math import prod
from operator import eq

from efficientformer_edu.audit import Costs, count, explain
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.exercises._check import call, close, compare, describe, done, expect_items, require

Grid = tuple[int, int]

CONVOLUTIONS = ((3, 24, 3), (24, 48, 3), (48, 192, 1), (192, 48, 1), (5, 5, 7))  # channels in and out, kernel
NETWORKS = (
    *PRESETS.values(),
    EfficientFormerConfig(embed_dims=(16, 40, 64, 96), depths=(1, 2, 1, 2), in_channels=1),
    EfficientFormerConfig(embed_dims=(32, 32, 48, 80), downsamples=(False, False, True, True), mlp_ratio=3.0),
)
BLOCKS = (
    (PRESETS["l1"], 0, (224, 224)),
    (PRESETS["l3"], 3, (225, 320)),
    (EfficientFormerConfig(mlp_ratio=3.0), 1, (64, 96)),
    (EfficientFormerConfig(layer_scale_init=None), 2, (256, 192)),
)
SIZES = (384, 256, 448, 32)


def check_mb4d_costs(mb4d_costs: Callable[[EfficientFormerConfig, int, Grid], tuple[int, int]]) -> None:
    """Compare both counts with the ledger's rows of one MB4D; if one component explains the difference, name it."""
    for config, stage, image in BLOCKS:
        answer = call(mb4d_costs, config, stage, image)
        expect_items(answer, 2, "mb4d_costs must return two numbers: parameters and MACs.")
        params, macs = answer
        rows = [row for row in count(config, image).rows if row.name.startswith(f"stages.{stage}.mb4d.0.")]
        expected, expected_macs = sum(row.params for row in rows), sum(row.macs for row in rows)
        channels, hidden, grid = config.embed_dims[stage], config.hidden_dim(stage), config.grids(image)[stage]
        at = f"One MB4D of {channels} channels, {hidden} hidden, in stage {stage + 1} at {image[0]}×{image[1]}: "
        norms, scales = 2 * (hidden + channels), 2 * channels
        no_scale = config.layer_scale_init is None
        too_wide = "you take four times as many hidden channels; config.hidden_dim(stage) follows mlp_ratio."
        param_mistakes = {
            too_wide: expected + (2 * channels + 3) * (4 * channels - hidden),
            "with layer_scale_init=None a block has no layer scale, but you count it.": expected + scales * no_scale,
            f"you have {norms:,} too few, as many as the two batch norms have, a factor and an offset per channel.": (
                expected - norms
            ),
            f"you have {hidden + channels:,} too few, as many as the biases of the two convolutions have.": (
                expected - hidden - channels
            ),
            f"you have {scales:,} too few, as many as the two layer scales have.": expected - scales * (not no_scale),
            "mean and variance of a batch norm are stored, not learned. They are not parameters.": expected + norms,
        }
        mac_mistakes = {
            too_wide: expected_macs * 4 * channels // hidden,
            "you count the image's pixels. The convolutions run on the stage's feature map of "
            f"{grid[0]}×{grid[1]} pixels.": 2 * channels * hidden * prod(image),
            f"these are the MACs of one pixel; the feature map has {grid[0]}·{grid[1]} pixels.": 2 * channels * hidden,
            "there are two convolutions, and they cost the same.": channels * hidden * prod(grid),
            "these are FLOPs. One MAC is a multiplication together with its addition.": 2 * expected_macs,
        }
        message = f"the block has {expected:,} parameters; you have {params:,}."
        compare(params, expected, param_mistakes, message, eq, at)
        message = (
            f"the block takes {expected_macs:,} MACs; you have {macs:,}. Only its two convolutions have any, not the "
            "pooling, the norms, GELU or the biases."
        )
        compare(macs, expected_macs, mac_mistakes, message, eq, at)
    done("2·C·H MACs per pixel, and all parameters, including layer scale.")


def check_bias_slip(conv_params: Callable[[int, int, int], int], slip: Callable[[EfficientFormerConfig], int]) -> None:
    """Compare the fixed rule with arithmetic, and the error with the explanation of the released counter."""
    for c_in, c_out, kernel in CONVOLUTIONS:
        answer, weights = call(conv_params, c_in, c_out, kernel), c_in * c_out * kernel**2
        at = f"A {kernel}×{kernel} convolution from {c_in} to {c_out} channels "
        mistakes = {
            "still has the bug of the released rule. Is there one bias for each input, or for each output?": (
                weights + c_in
            ),
            "has a bias: do not drop the term, fix it.": weights,
        }
        message = f"has {weights + c_out:,} parameters; you have {answer:,}."
        compare(answer, weights + c_out, mistakes, message, eq, at)
    for config in NETWORKS:
        answer = call(slip, config)
        as_printed, intended = (explain(rule, config, quantity="params") for rule in ("toolbox", "toolbox-intended"))
        expected, (first, *_, last) = intended.total - as_printed.total, config.embed_dims
        halves = (first - config.in_channels, last - first)
        typical: dict[str, int | None] = {
            "the sign is wrong: the released rule counts too few parameters, so the error is positive.": -expected,
            "you stop halfway: the outputs of one convolution are the inputs of the next, from the image to stage 4. "
            "Only the two ends are left.": answer if answer in halves else None,
            "the sum starts too late: the image's channels are the first inputs.": last,
        }
        message = f"the rule is {expected:,} too small; your answer is {describe(answer)}."
        at = f"With embed_dims={config.embed_dims}, in_channels={config.in_channels} "
        compare(answer, expected, typical, message, eq, at)
    done(
        "one bias per output channel. The errors of all convolutions telescope to the last width minus image channels."
    )


def check_misprint(fitting: Callable[[EfficientFormerConfig, float], Collection[int]]) -> None:
    """Compare with every num_vit under mmpretrain's rule, for printed values with one, two or no solutions."""
    l3, deep = PRESETS["l3"], EfficientFormerConfig(depths=(2, 2, 2, 6), embed_dims=(16, 32, 48, 64), num_vit=0)
    for config in (l3, deep, PRESETS["l1"]):
        networks = [config.replace(num_vit=num_vit) for num_vit in range(config.depths[3] + 1)]
        rule = [round(explain("mmpretrain", network).total / 1e9, 2) for network in networks]
        own = [round(count(network).macs / 1e9, 2) for network in networks]
        for printed in (*own, *rule[1:-1], rule[0], rule[-1], 9.99):  # the ends of the range last
            answer = call(fitting, config, printed)
            at = f"For a printed {printed:.2f} G and depths={config.depths}: "
            require(isinstance(answer, Collection), f"{at}return a list, got {describe(answer)}.")
            expected, wrong = ([n for n, value in enumerate(values) if value == printed] for values in (rule, own))
            inner = [num_vit for num_vit in expected if 0 < num_vit < config.depths[3]]
            mistakes: dict[str, list[int] | None] = {
                "you compare with our MACs. The table was made with a different counter, so apply its rule: "
                'explain("mmpretrain", …).total.': wrong or None,
                f"num_vit={inner} fits, but your result is empty. A printed number is rounded: round the total "
                "to two digits of G before you compare.": [] if inner else None,
            }
            message = f"{expected} fits, you return {list(answer)}. Try every num_vit: 0 and the full depth, too."
            compare(list(answer), expected, mistakes, message, eq, at)
    done("the published L3 was counted with one MB3D instead of four.")


def check_predict(predict: Callable[[Costs, int], int]) -> None:
    """Compare with the ledger at the new size; name each component that you scaled incorrectly."""
    for name, config in PRESETS.items():
        costs = count(config, 224)
        for size in SIZES:
            answer, expected = call(predict, costs, size), count(config, size).macs
            products, head = costs.by("kind")["attention product"].macs, costs.by("stage")["head"].macs
            ratio, linear = (size / 224) ** 2, costs.macs - products - head
            mistakes = {
                "the attention products grow with N², because every token meets every token.": (
                    (linear + products) * ratio + head
                ),
                "the heads get one vector at every size, so they do not grow.": (
                    (linear + head) * ratio + products * ratio**2
                ),
                "the heads stay and the attention products grow with N²; you scale everything by the pixels.": (
                    costs.macs * ratio
                ),
                "twice as wide is also twice as high: the number of pixels grows with the square of the size.": (
                    linear * size / 224 + products * ratio + head
                ),
            }
            message = f"the network takes {expected:,} MACs; you predict {describe(answer)}."
            exact = partial(close, rtol=0, atol=0.99)
            compare(answer, expected, mistakes, message, exact, f"{name.upper()} at {size}: ")
    done("three laws: linear in the pixels, quadratic in the pixels, and constant.")
