"""Checks of chapter 4, parameters and MACs: one block, the released counter's bug, a misprint, a different image size.

Paper: the columns "Params (M)" and "GMACs" of Table 1. Each check compares the answer with the ledger of
`efficientformer_edu.audit`, on networks and sizes selected so that every mistake shows in at least one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import prod

from efficientformer_edu.audit import Costs, count, explain
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.exercises._check import call, describe, done, require

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
        require(
            isinstance(answer, tuple) and len(answer) == 2, "mb4d_costs must return two numbers: parameters and MACs."
        )
        params, macs = answer
        rows = [row for row in count(config, image).rows if row.name.startswith(f"stages.{stage}.mb4d.0.")]
        expected, expected_macs = sum(row.params for row in rows), sum(row.macs for row in rows)
        channels, hidden = config.embed_dims[stage], config.hidden_dim(stage)
        at = f"One MB4D of {channels} channels, {hidden} hidden, in stage {stage + 1} at {image[0]}×{image[1]}"
        scales = 0 if config.layer_scale_init is None else 2 * channels
        require(
            config.layer_scale_init is not None or params != expected + 2 * channels,
            "With layer_scale_init=None a block has no layer scale, but you count it.",
        )
        require(
            hidden == 4 * channels or macs != expected_macs * 4 * channels // hidden,
            "You take four times as many hidden channels; config.hidden_dim(stage) follows mlp_ratio.",
        )
        parts = {
            "the two batch norms have, a factor and an offset for each channel": 2 * (hidden + channels),
            "the biases of the two convolutions have": hidden + channels,
            "the two layer scales have": scales,
        }
        for part, amount in parts.items():
            require(
                amount == 0 or params != expected - amount, f"{at}: you have {amount:,} too few, as many as {part}."
            )
        require(
            params != expected + 2 * (hidden + channels),
            f"{at}: mean and variance of a batch norm are stored, not learned. They are not parameters.",
        )
        require(params == expected, f"{at} has {expected:,} parameters; you have {params:,}.")
        _check_block_macs(macs, expected_macs, at, channels * hidden, config.grids(image)[stage], image)
    done("2·C·H MACs per pixel, and all parameters, including layer scale.")


def _check_block_macs(macs: int, expected: int, at: str, weights: int, grid: Grid, image: Grid) -> None:
    require(
        macs != 2 * weights * prod(image),
        f"{at}: you count the image's pixels. The convolutions run on the stage's map of {grid[0]}×{grid[1]} pixels.",
    )
    require(
        macs != 2 * weights, f"{at}: these are the MACs of one pixel; the feature map has {grid[0]}·{grid[1]} pixels."
    )
    require(macs != weights * prod(grid), f"{at}: there are two convolutions, and they cost the same.")
    require(macs != 2 * expected, f"{at}: these are FLOPs. One MAC is a multiplication together with its addition.")
    require(
        macs == expected,
        f"{at} takes {expected:,} MACs; you have {macs:,}. Only its two convolutions have any, not the pooling, "
        "the norms, GELU or the biases.",
    )


def check_bias_slip(conv_params: Callable[[int, int, int], int], slip: Callable[[EfficientFormerConfig], int]) -> None:
    """Compare the fixed rule with arithmetic, and the error with the explanation of the released counter."""
    for c_in, c_out, kernel in CONVOLUTIONS:
        got, weights = call(conv_params, c_in, c_out, kernel), c_in * c_out * kernel**2
        at = f"A {kernel}×{kernel} convolution from {c_in} to {c_out} channels"
        require(
            got != weights + c_in or c_in == c_out,
            f"{at}: the released rule still has its slip. Is there one bias for each input, or for each output?",
        )
        require(got != weights, f"{at} has a bias: do not drop the term, fix it.")
        require(got == weights + c_out, f"{at} has {weights + c_out:,} parameters; you have {got:,}.")
    for config in NETWORKS:
        got, expected = call(slip, config), _slip(config)
        at = f"With embed_dims={config.embed_dims}, in_channels={config.in_channels}"
        first, last = config.embed_dims[0], config.embed_dims[3]
        require(
            got != -expected,
            f"{at} the sign is wrong: the released rule counts too few parameters, so the error is positive.",
        )
        require(
            got not in (first - config.in_channels, last - first),
            f"{at} you stop halfway: the outputs of one convolution are the inputs of the next, from the image to "
            "stage 4. Only the two ends are left.",
        )
        require(got != last, f"{at} the sum starts too late: the image's channels are the first inputs.")
        require(got == expected, f"{at} the rule is {expected:,} too small; your answer is {describe(got)}.")
    done(
        "one bias per output channel. The errors of all convolutions telescope to the last width minus image channels."
    )


def _slip(config: EfficientFormerConfig) -> int:
    as_printed, intended = (explain(rule, config, quantity="params").total for rule in ("toolbox", "toolbox-intended"))
    return intended - as_printed


def check_misprint(fitting: Callable[[EfficientFormerConfig, float], Collection[int]]) -> None:
    """Compare with every num_vit under mmpretrain's rule, for printed values with one, two or no solutions."""
    l3, deep = PRESETS["l3"], EfficientFormerConfig(depths=(2, 2, 2, 6), embed_dims=(16, 32, 48, 64), num_vit=0)
    for config in (l3, deep, PRESETS["l1"]):
        rule, own = _prints(config, "mmpretrain"), _prints(config, "ours")
        for printed in (*own, *rule[1:-1], rule[0], rule[-1], 9.99):  # the ends of the range last
            got = call(fitting, config, printed)
            at = f"For a printed {printed:.2f} G and depths={config.depths}"
            require(isinstance(got, Collection), f"{at}: return a list, got {describe(got)}.")
            answer, expected = list(got), [vits for vits, value in enumerate(rule) if value == printed]
            require(
                not answer
                or answer == expected
                or answer != [vits for vits, value in enumerate(own) if value == printed],
                f"{at}: you compare with our MACs. The table was made with a different counter, so apply its rule: "
                'explain("mmpretrain", …).total.',
            )
            inner = [vits for vits in expected if 0 < vits < config.depths[3]]
            require(
                answer or not inner,
                f"{at}: num_vit={inner} fits, but your result is empty. A printed number is rounded: round the total "
                "to two digits of G before you compare.",
            )
            require(
                answer == expected,
                f"{at}: {expected} fits, you return {answer}. Try every num_vit: 0 and the full depth count, too.",
            )
    done("the published L3 was counted with one MB3D instead of four.")


def _prints(config: EfficientFormerConfig, whose: str) -> list[float]:
    """GMACs to two digits for every num_vit."""
    networks = [config.replace(num_vit=vits) for vits in range(config.depths[3] + 1)]
    totals = [count(network).macs if whose == "ours" else explain(whose, network).total for network in networks]
    return [round(total / 1e9, 2) for total in totals]


def check_predict(predict: Callable[[Costs, int], int]) -> None:
    """Compare with the ledger at the new size; name each component that you scaled incorrectly."""
    for name, config in PRESETS.items():
        costs = count(config, 224)
        for size in SIZES:
            got, expected = call(predict, costs, size), count(config, size).macs
            products, head = costs.by("kind")["attention product"].macs, costs.by("stage")["head"].macs
            ratio = (size / 224) ** 2
            linear = costs.macs - products - head
            mistakes = {
                "the attention products grow with N², because every token meets every token": (linear + products)
                * ratio
                + head,
                "the heads get one vector at every size, so they do not grow": (
                    (linear + head) * ratio + products * ratio**2
                ),
                "the heads stay and the attention products grow with N²; you scale everything by the places": (
                    costs.macs * ratio
                ),
                "twice as wide is also twice as high: the number of pixels grows with the square of the size": (
                    linear * size / 224 + products * (size / 224) ** 2 + head
                ),
            }
            for sentence, wrong in mistakes.items():
                require(abs(got - wrong) >= 1, f"{name.upper()} at {size}: {sentence}.")
            require(got == expected, f"{name.upper()} at {size} takes {expected:,} MACs; you predict {describe(got)}.")
    done("three laws: linear in the pixels, quadratic in the pixels, and constant.")
