"""Checks of chapter 4, parameters and MACs: one block, the released counter's slip, a misprint, another image size.

Paper: the columns "Params (M)" and "GMACs" of Table 1. Each check holds the answer against the ledger of
`efficientformer_edu.audit`, on networks and sizes of which no two hide the same mistake.
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
    """Compare both numbers with the ledger's rows of one MB4D; where one part explains the difference, name it."""
    for config, stage, image in BLOCKS:
        answer = call(mb4d_costs, config, stage, image)
        require(isinstance(answer, tuple) and len(answer) == 2, "mb4d_costs returns two numbers: parameters and MACs.")
        params, macs = answer
        rows = [row for row in count(config, image).rows if row.name.startswith(f"stages.{stage}.mb4d.0.")]
        wanted, wanted_macs = sum(row.params for row in rows), sum(row.macs for row in rows)
        channels, hidden = config.embed_dims[stage], config.hidden_dim(stage)
        at = f"One MB4D of {channels} channels, {hidden} hidden, in stage {stage + 1} at {image[0]}×{image[1]}"
        scales = 0 if config.layer_scale_init is None else 2 * channels
        require(
            config.layer_scale_init is not None or params != wanted + 2 * channels,
            "With layer_scale_init=None a block has no layer scale; you count it nevertheless.",
        )
        require(
            hidden == 4 * channels or macs != wanted_macs * 4 * channels // hidden,
            "You take four times as many hidden channels; config.hidden_dim(stage) follows mlp_ratio.",
        )
        parts = {
            "the two batch norms hold, a factor and an offset for each channel": 2 * (hidden + channels),
            "the biases of the two convolutions hold": hidden + channels,
            "the two layer scales hold": scales,
        }
        for part, amount in parts.items():
            require(amount == 0 or params != wanted - amount, f"{at}: you have {amount:,} too few, as many as {part}.")
        require(
            params != wanted + 2 * (hidden + channels),
            f"{at}: mean and variance of a batch norm are stored, not learned. They are no parameters.",
        )
        require(params == wanted, f"{at} has {wanted:,} parameters; you have {params:,}.")
        _check_block_macs(macs, wanted_macs, at, channels * hidden, config.grids(image)[stage], image)
    done("2·C·H MACs at each place, and every parameter down to the layer scale.")


def _check_block_macs(macs: int, wanted: int, at: str, weights: int, grid: Grid, image: Grid) -> None:
    require(
        macs != 2 * weights * prod(image),
        f"{at}: you count the image's pixels. The convolutions run on the stage's map, {grid[0]}×{grid[1]} places.",
    )
    require(macs != 2 * weights, f"{at}: this is the work at one place; the map has {grid[0]}·{grid[1]} of them.")
    require(macs != weights * prod(grid), f"{at}: there are two convolutions, and they cost the same.")
    require(macs != 2 * wanted, f"{at}: these are FLOPs. One MAC is a multiplication together with its addition.")
    require(
        macs == wanted,
        f"{at} takes {wanted:,} MACs; you have {macs:,}. Only its two convolutions have any, not the pooling, "
        "the norms, GELU or the biases.",
    )


def check_bias_slip(conv_params: Callable[[int, int, int], int], slip: Callable[[EfficientFormerConfig], int]) -> None:
    """Compare the mended rule with arithmetic, and the slip with the explanation of the released counter."""
    for c_in, c_out, kernel in CONVOLUTIONS:
        got, weights = call(conv_params, c_in, c_out, kernel), c_in * c_out * kernel**2
        at = f"A {kernel}×{kernel} convolution from {c_in} to {c_out} channels"
        require(
            got != weights + c_in or c_in == c_out,
            f"{at}: the released rule still has its slip. Is there one bias for each input, or for each output?",
        )
        require(got != weights, f"{at} has a bias: do not drop the term, mend it.")
        require(got == weights + c_out, f"{at} has {weights + c_out:,} parameters; you have {got:,}.")
    for config in NETWORKS:
        got, wanted = call(slip, config), _slip(config)
        at = f"With embed_dims={config.embed_dims}, in_channels={config.in_channels}"
        first, last = config.embed_dims[0], config.embed_dims[3]
        require(got != -wanted, f"{at} the sign is wrong: the released rule counts too few, so the slip is positive.")
        require(
            got not in (first - config.in_channels, last - first),
            f"{at} you stop halfway: the outputs of one convolution are the inputs of the next, from the image to "
            "stage 4. Only the two ends are left.",
        )
        require(got != last, f"{at} you forget where the sum begins: the image's own channels are the first inputs.")
        require(got == wanted, f"{at} the rule is {wanted:,} too small; you say {describe(got)}.")
    done("one bias for each output. The slips of all convolutions telescope to the last width minus the image's.")


def _slip(config: EfficientFormerConfig) -> int:
    as_printed, intended = (explain(rule, config, quantity="params").total for rule in ("toolbox", "toolbox-intended"))
    return intended - as_printed


def check_misprint(fitting: Callable[[EfficientFormerConfig, float], Collection[int]]) -> None:
    """Compare with every num_vit of the network under mmpretrain's rule, for numbers that one, two or none fits."""
    l3, deep = PRESETS["l3"], EfficientFormerConfig(depths=(2, 2, 2, 6), embed_dims=(16, 32, 48, 64), num_vit=0)
    for config in (l3, deep, PRESETS["l1"]):
        rule, ours = _prints(config, "mmpretrain"), _prints(config, "ours")
        for printed in (*ours, *rule[1:-1], rule[0], rule[-1], 9.99):  # the ends of the range after its middle
            got = call(fitting, config, printed)
            at = f"For a printed {printed:.2f} G and depths={config.depths}"
            require(isinstance(got, Collection), f"{at}: return a list; {describe(got)} came.")
            found, wanted = list(got), [vits for vits, value in enumerate(rule) if value == printed]
            require(
                not found or found == wanted or found != [vits for vits, value in enumerate(ours) if value == printed],
                f"{at}: you compare with our MACs. The table was made by another counter, so its rule must be applied: "
                'explain("mmpretrain", …).total.',
            )
            inner = [vits for vits in wanted if 0 < vits < config.depths[3]]
            require(
                found or not inner,
                f"{at}: num_vit={inner} fits and you found none. A printed number is rounded: round the total to two "
                "digits of G before you compare.",
            )
            require(
                found == wanted,
                f"{at}: {wanted} fits, you found {found}. Try every num_vit: 0 and the full depth count, too.",
            )
    done("the published L3 was counted with one MB3D in place of four.")


def _prints(config: EfficientFormerConfig, whose: str) -> list[float]:
    """GMACs to two digits for every num_vit."""
    networks = [config.replace(num_vit=vits) for vits in range(config.depths[3] + 1)]
    totals = [count(one).macs if whose == "ours" else explain(whose, one).total for one in networks]
    return [round(total / 1e9, 2) for total in totals]


def check_predict(predict: Callable[[Costs, int], int]) -> None:
    """Compare with the ledger at the other size; each part that grows otherwise is named."""
    for name, config in PRESETS.items():
        costs = count(config, 224)
        for size in SIZES:
            got, wanted = call(predict, costs, size), count(config, size).macs
            products, head = costs.by("kind")["attention product"].macs, costs.by("stage")["head"].macs
            ratio = (size / 224) ** 2
            rest = costs.macs - products - head
            slips = {
                "the attention products grow with N², for every token meets every token": (rest + products) * ratio
                + head,
                "the heads see one vector whatever the size, so they do not grow": (
                    (rest + head) * ratio + products * ratio**2
                ),
                "the heads stay and the attention products grow with N²; you scale everything by the places": (
                    costs.macs * ratio
                ),
                "twice as wide is also twice as high: places grow with the square of the size": (
                    rest * size / 224 + products * (size / 224) ** 2 + head
                ),
            }
            for sentence, slip in slips.items():
                require(abs(got - slip) >= 1, f"{name.upper()} at {size}: {sentence}.")
            require(got == wanted, f"{name.upper()} at {size} takes {wanted:,} MACs; you predict {describe(got)}.")
    done("three laws: places, places squared, and not at all.")
