"""How the paper compares its networks with others in words, section 5.1, and whether Table 1 bears it out."""

from __future__ import annotations

from dataclasses import dataclass

from efficientformer_edu.paper.reading import fields, read
from efficientformer_edu.paper.records import Reported
from efficientformer_edu.paper.tables import Table, table1

UNITS = {"points": "percentage points more", "times": "times as fast", "percent": "% less time"}
"""The three ways of comparing, with the words for each."""


@dataclass(frozen=True)
class Ratio:
    """One comparison of two models as the paper states it.

    Attributes:
        model: the paper's network.
        against: the network that it is compared with.
        relation: a key of `UNITS`. `points`: model minus against. `times`: against over model. `percent`: what model
            saves, in per cent of against.
        stated: the number; its quantity is a column of Table 1, or `a100`.
        at_least: the text says "more than" the number.
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
        """The same comparison by arithmetic from two cells, not rounded; None where one of them is not sourced."""
        known_models = {row.name for row in table.rows}
        known_columns = {column.name for column in table.columns}
        if not {self.model, self.against} <= known_models or self.stated.quantity not in known_columns:
            return None
        mine = table.cell(self.model, self.stated.quantity)
        other = table.cell(self.against, self.stated.quantity)
        return None if mine is None or other is None else compare(self.relation, mine.value, other.value)


def compare(relation: str, mine: float, other: float) -> float:
    """One relation of two numbers: `points`, `times` or `percent`, as `Ratio` defines them.

    Raises:
        ValueError: for another relation.
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
    """The comparisons of section 5.1, in its order."""
    data = read("ratios")
    protocols = {column.name: column.protocol for column in table1().columns} | {"a100": data["a100"]["protocol"]}
    found = []
    for ratio in data["ratios"]:
        about = fields(ratio)
        quantity, relation = about.pop("quantity"), about["relation"]
        number = {name: about.pop(name) for name in ("value", "tags", "note") if name in about}
        stated = Reported(quantity, unit=UNITS[relation], protocol=protocols[quantity], **number)
        found.append(Ratio(stated=stated, **about))
    return tuple(found)
