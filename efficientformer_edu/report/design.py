"""Section 4.1: equations, published networks, their common settings, and the misprinted stages of Table 6."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from efficientformer_edu import paper
from efficientformer_edu.audit import count
from efficientformer_edu.audit.published import Networks, as_printed
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.report.equations import CHECKS, check
from efficientformer_edu.report.rows import Row, Verdict
from efficientformer_edu.report.wording import blocks, described, reported

PART = "Section 4.1: the network, Eq. 4 to 6, Table 6"
BLOCKS, NETWORK = 2, 3  # the chapters


def rows(networks: Networks) -> Iterator[Row]:
    """Yield a row for every equation of section 4.1, published network, and common setting."""
    for equation in paper.equations():
        if equation.name in CHECKS:
            where = f"Eq. {equation.number}" if equation.number else "§4.1"
            chapter = NETWORK if equation.name == "network" else BLOCKS
            command = f'report.check("{equation.name}")'
            yield Row(PART, where, equation.name, equation, chapter, check(equation.name), command)
    for network in paper.architectures():
        name, preset = f"EfficientFormer-{network.preset.upper()}", f'get_config("{network.preset}")'
        config = networks[network.preset]
        record = replace(network, printed=None)  # the misprint has its own row
        yield Row(PART, "released code", name, record, NETWORK, released(record, config), preset)
        if misprint := network.printed:
            where = f"{name}, stage {misprint.stage} as printed"
            yield Row(
                PART,
                "Table 6",
                where,
                misprint,
                NETWORK,
                printed(misprint, config),
                f"{preset}.depths[{misprint.stage - 1}]",
            )
    for setting in paper.settings("architecture"):
        command = "[get_config(name) for name in ef.list_models()]"
        yield Row(PART, "released code", setting.name, setting, NETWORK, shared(setting, networks), command)


def released(network: paper.Architecture, config: EfficientFormerConfig) -> Verdict:
    """Check whether a configuration is the released network."""
    built = described(config.embed_dims, config.depths, config.vits[3])
    same = built == reported(network) and not any(config.vits[:3])
    return Verdict("exact" if same else "disagrees", built, "computed")


def printed(slip: paper.Printed, config: EfficientFormerConfig) -> Verdict:
    """Check whether a stage is as Table 6 prints it; if not, count the network as printed."""
    stage = slip.stage - 1
    mb4d, mb3d = config.depths[stage] - config.vits[stage], config.vits[stage]
    built = blocks(mb4d, mb3d)
    if (mb4d, mb3d) == (slip.mb4d, slip.mb3d):
        return Verdict("exact", built, "computed")
    params = count(as_printed(slip, config)).params
    shown = f"{built}; as printed {params:,} parameters"
    if slip.params.stands_for(params / 1e6):
        return Verdict(
            "follows the code", shown, "computed", "As printed, the network would miss Table 1's parameters."
        )
    return Verdict("disagrees", shown, "computed", "The network as printed has another count than the one derived.")


def shared(setting: paper.Setting, networks: Networks) -> Verdict:
    """Check whether all networks have a common setting.

    Raises:
        KeyError: for a setting without a check.
    """
    built = " / ".join(dict.fromkeys(SHARED[setting.name](config) for config in networks.values()))
    stated = setting.code
    expected = f"{stated.value:g}" if isinstance(stated, paper.Reported) else str(stated).partition(" pixels")[0]
    return Verdict("exact" if built == expected else "disagrees", built, "computed")


SHARED = {
    "input": lambda config: f"{count(config).resolution[0]}",
    "pooling window": lambda config: f"{config.pool_size}",
    "MLP expansion": lambda config: f"{config.mlp_ratio:g}",
    "attention heads": lambda config: f"{config.num_heads}",
    "key dimension": lambda config: f"{config.key_dim}",
    "value dimension": lambda config: f"{config.value_dim}",
    "map sizes": lambda config: "{}, {}, {} and {}".format(
        *(height for height, _ in config.grids(count(config).resolution))
    ),
}
