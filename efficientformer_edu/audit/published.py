"""Derive every published count of parameters and operations exactly.

Paper: the columns "Params (M)" and "GMACs" of Table 1, and Table 6 as printed. Also the tables of mmpretrain, timm and
NetsPresso. The printed numbers come from `efficientformer_edu.paper`; all others are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from efficientformer_edu import paper
from efficientformer_edu.audit import deit
from efficientformer_edu.audit.explain import Explanation, explain
from efficientformer_edu.audit.ledger import count
from efficientformer_edu.audit.rules import Quantity
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.paper import Reported
from efficientformer_edu.utils.tables import Table, format_cell

Networks = Mapping[str, EfficientFormerConfig]

SCALES = {"M": 10**6, "G": 10**9, "GMACs": 10**9, "": 1}
"""Factor from a printed number to a count, by unit."""


@dataclass(frozen=True)
class Derivation:
    """A published number and the count behind it.

    Attributes:
        who: "paper", "mmpretrain", "timm" or "NetsPresso".
        where: the table that prints it.
        model: "l1", "l3", "l7" or "DeiT-S".
        quantity: what is counted. "flops" counts two per MAC, regardless of the printed heading.
        printed: the reported number.
        own_count: our count of the same network.
        value: the count by the rule behind the printed number.
        rule: short name of that rule; empty if it is our own.
        how: the rule in full.
    """

    who: str
    where: str
    model: str
    quantity: Literal["params", "macs", "flops"]
    printed: Reported
    own_count: int
    value: int
    rule: str
    how: str

    @property
    def exact(self) -> bool:
        """Whether our own count rounds to the printed number."""
        return self.printed.stands_for(self.own_count / SCALES[self.printed.unit])

    @property
    def holds(self) -> bool:
        """Whether the derived count rounds to the printed number."""
        return self.printed.stands_for(self.value / SCALES[self.printed.unit])


def printed_as(cell: Reported, *numbers: int) -> str:
    """Format counts with the unit and digits of a cell, without repeats."""
    return " and ".join(dict.fromkeys(f"{number / SCALES[cell.unit]:,.{cell.digits}f}" for number in numbers))


def own_sentence(own_count: int, cell: Reported) -> str:
    """Return a sentence with our count in the format of a cell."""
    return f"Ours would be printed as {printed_as(cell, own_count)}."


def derivations(networks: Networks = PRESETS) -> tuple[Derivation, ...]:
    """Derive every published count: the paper's, then those of other projects.

    Args:
        networks: the configurations to compare with the published `"l1"`, `"l3"` and `"l7"`.
    """
    tables = {table.title: table for table in paper.external_counts()}
    return (
        *_table1(networks),
        *_table6(networks),
        *_mmpretrain(tables["mmpretrain, table of models"], networks),
        *_mmpretrain(tables["mmpretrain, metafile"], networks),
        *_timm(tables["timm, benchmark results"], networks),
        *_netspresso(tables["NetsPresso, table of models"], networks),
    )


def table() -> Table:
    """Return all derivations as a table, one per row."""
    rows = [
        (
            f"{derivation.who}: {derivation.where}" if derivation.who == "paper" else derivation.where,
            derivation.model,
            derivation.quantity,
            f"{derivation.printed.printed} {derivation.printed.unit}".strip(),
            derivation.value,
            derivation.holds,
            derivation.how,
        )
        for derivation in derivations()
    ]
    return Table(("where", "model", "quantity", "printed", "derived", "rounds to it", "how"), tuple(rows))


def as_printed(misprint: paper.Printed, config: EfficientFormerConfig) -> EfficientFormerConfig:
    """Return the configuration with one stage as Table 6 prints it."""
    depths, vits = list(config.depths), list(config.vits)
    depths[misprint.stage - 1], vits[misprint.stage - 1] = misprint.mb4d + misprint.mb3d, misprint.mb3d
    return config.replace(depths=tuple(depths), num_vit=tuple(vits))


def _table1(networks: Networks) -> Iterator[Derivation]:
    table = paper.table1()
    for model, quantity, cell in _cells(table):
        explanation = explain("toolbox", networks[model], quantity=quantity)
        own = own_sentence(explanation.start, cell)
        how = f"The repository's counter, toolbox.py, gives {_steps(explanation)}. {own}"
        rule = "by the rule of toolbox.py"
        yield Derivation("paper", table.title, model, quantity, cell, explanation.start, explanation.total, rule, how)
    yield from _deit(table)


def _deit(table: paper.Table) -> Iterator[Derivation]:
    counts: dict[Quantity, tuple[int, int, str]] = {
        "params": (deit.params(), deit.params(distilled=True), "has {:,} parameters"),
        "macs": (deit.macs(), deit.macs(distilled=True), "needs {:,} MACs"),
    }
    for quantity, (base, distilled, statement) in counts.items():
        cell = table["DeiT-S", quantity]
        value = min(base, distilled, key=lambda number: abs(number - cell.value * SCALES[cell.unit]))
        off = cell.value * SCALES[cell.unit] - value
        how = (
            f"DeiT-S {statement.format(base)}, and {distilled:,} with the token and head of distillation: they would "
            f"be printed as {printed_as(cell, base, distilled)}. The printed number is "
            f"{format_cell(abs(off) / value, '.1%')} {'above' if off > 0 else 'below'} the nearer."
        )
        if quantity == "macs":
            how += (
                f" FLOPs would be {printed_as(cell, 2 * value)}, so the number is one of MACs. The undistilled "
                "network's blocks alone, without the patch embedding and the head, would be printed as "
                f"{printed_as(cell, deit.block_macs())}."
            )
        yield Derivation("paper", table.title, "DeiT-S", quantity, cell, value, value, "", how)


def _table6(networks: Networks) -> Iterator[Derivation]:
    for network in paper.architectures():
        if misprint := network.printed:
            right = count(networks[network.preset]).params
            params = count(as_printed(misprint, networks[network.preset])).params
            cell = paper.table1()[network.preset, "params"]
            blocks = f"{misprint.mb4d} MB4D and {misprint.mb3d} MB3D in stage {misprint.stage}"
            how = (
                f"All parameters of the network with {blocks}. Table 1 prints {cell.printed} M, and the released "
                f"network has {right:,}: the code is right."
            )
            yield Derivation("paper", "Table 6", network.preset, "params", misprint.params, params, params, "", how)


def _mmpretrain(table: paper.Table, networks: Networks) -> Iterator[Derivation]:
    heading = next(column.label for column in table.columns if column.name == "macs")
    for model, quantity, cell in _cells(table):
        config = networks[model]
        costs, explanation = count(config), explain("mmpretrain", config)
        own, value, rule = costs.params, costs.params, ""
        how = "All parameters, those of both heads included."
        if quantity == "params" and model == "l1":
            stem = costs.by("stage")["stem"].params
            value, rule = costs.params - stem, "without the stem"
            how = f"All parameters that a training changes: the stem's {stem:,} were frozen. {own_sentence(own, cell)}"
        elif quantity == "macs":
            own, value, rule = costs.macs, explanation.total, "by the rule of mmpretrain"
            how = f"The counter of mmcv 1.x, on the maps without the heads, gives {_steps(explanation)}."
            if model == "l3":
                fewer = config.replace(num_vit=1)
                value = explain("mmpretrain", fewer).total
                rule = f"{rule} with num_vit={sum(fewer.vits)}"
                how += (
                    f" Counted on {sum(fewer.vits)} MB3D block instead of {sum(config.vits)}: a network of "
                    f"{count(fewer).params:,} parameters, not {costs.params:,}. L3 itself would be printed as "
                    f"{printed_as(cell, explanation.total)}."
                )
            how += f' The heading says "{heading}"; these are MACs.'
        yield Derivation("mmpretrain", table.title, model, quantity, cell, own, value, rule, how)


def _timm(table: paper.Table, networks: Networks) -> Iterator[Derivation]:
    for model, quantity, cell in _cells(table):
        explanation = explain("fvcore", networks[model], quantity=quantity)
        rule, how = (
            "by the rule of fvcore",
            f"fvcore gives {_steps(explanation)}. {own_sentence(explanation.start, cell)}",
        )
        if quantity == "params":
            rule, how = "", "All parameters, those of both heads included."
        yield Derivation("timm", table.title, model, quantity, cell, explanation.start, explanation.total, rule, how)


def _netspresso(table: paper.Table, networks: Networks) -> Iterator[Derivation]:
    single = networks["l1"].replace(distillation=False)
    costs, counted = count(single), explain("fvcore", single)
    cell = table["l1", "params"]
    how = f"All parameters of the network with one head; with both it has {count(networks['l1']).params:,}."
    yield Derivation("NetsPresso", table.title, "l1", "params", cell, costs.params, costs.params, "", how)
    cell = table["l1", "flops"]
    how = (
        f"Two for each MAC that fvcore counts of the network with one head, {counted.total:,}: {_steps(counted)}. "
        f"{own_sentence(2 * costs.macs, cell)}"
    )
    rule = "by the rule of fvcore"
    yield Derivation("NetsPresso", table.title, "l1", "flops", cell, 2 * costs.macs, 2 * counted.total, rule, how)


def _cells(table: paper.Table) -> Iterator[tuple[str, Quantity, Reported]]:
    """Yield the parameter and MAC cells of the published networks."""
    quantities: tuple[Quantity, ...] = ("params", "macs")
    for row in table.rows:
        for quantity in quantities:
            if row.preset:
                yield row.preset, quantity, table[row.preset, quantity]


def _steps(explanation: Explanation) -> str:
    """Join the steps: `our count + 2 × each element of batch norm`, and so on."""
    return " ".join(("our count", *(step.description for step in explanation.steps)))
