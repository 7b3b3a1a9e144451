"""The comparisons with other networks that section 5.1 states in words, and their values from Table 1."""

from __future__ import annotations

from dataclasses import dataclass

from efficientformer_edu.paper.reading import fields, read
from efficientformer_edu.paper.records import Reported
from efficientformer_edu.paper.tables import Table, table1

UNITS = {"points": "percentage points more", "times": "times as fast", "percent": "% less time"}
"""The three kinds of comparison, each with its unit."""


@dataclass(frozen=True)
class Ratio:
    """One comparison of two models as the paper states it.

    Attributes:
        model: the paper's network.
        against: the network that it is compared with.
        relation: a key of `UNITS`. `points`: model minus against. `times`: against over model. `percent`: what model
            saves, in per cent of against.
        stated: the stated number; its quantity is a column of Table 1, or `a100`.
        at_least: whether the text says "more than" the number.
    """

    model: str
    against: str
    relation: str
    stated: Reported
    at_least: bool = False

    def __str__(self) -> str:
        least = "more than " if self.at_least else ""
        return f"{self.model} against {self.against}, {self.stated.quantity}: {least}{self.stated}"

    def from_cells(self, table: Table) -> float | None:
        """Compute the comparison from two cells, without rounding; None if one of them is not sourced."""
        known_models = {row.name for row in table.rows}
        known_columns = {column.name for column in table.columns}
        if not {self.model, self.against} <= known_models or self.stated.quantity not in known_columns:
            return None
        value = table.cell(self.model, self.stated.quantity)
        baseline = table.cell(self.against, self.stated.quantity)
        return None if value is None or baseline is None else compare(self.relation, value.value, baseline.value)


def compare(relation: str, mine: float, other: float) -> float:
    """Compare two numbers by `points`, `times` or `percent`, as defined in `Ratio`.

    Raises:
        ValueError: for an unknown relation.
    """
    match relation:
        case "points":
            return mine - other
        case "times":
            return other / mine
        case "percent":
            return 100 * (1 - mine / other)
    raise ValueError(f"relation={relation!r} is not possible; allowed: {', '.join(UNITS)}")


def ratios() -> tuple[Ratio, ...]:
    """Return the comparisons of section 5.1, in order."""
    data = read("ratios")
    protocols = {column.name: column.protocol for column in table1().columns} | {"a100": data["a100"]["protocol"]}
    records = []
    for ratio in data["ratios"]:
        values = fields(ratio)
        quantity, relation = values.pop("quantity"), values["relation"]
        number = {name: values.pop(name) for name in ("value", "tags", "note") if name in values}
        stated = Reported(quantity, unit=UNITS[relation], protocol=protocols[quantity], **number)
        records.append(Ratio(stated=stated, **values))
    return tuple(records)
