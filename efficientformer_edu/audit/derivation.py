"""A published count, the computed count that rounds to it, and sentences about their agreement.

Paper: the columns "Params (M)" and "GMACs" of Table 1. `audit.published` derives the counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from efficientformer_edu.audit.tables import shown
from efficientformer_edu.paper import Reported

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
        ours: our count of the same network.
        value: the count by the rule behind the printed number.
        rule: short name of that rule; empty if it is our own.
        how: the rule in full.
    """

    who: str
    where: str
    model: str
    quantity: Literal["params", "macs", "flops"]
    printed: Reported
    ours: int
    value: int
    rule: str
    how: str

    @property
    def exact(self) -> bool:
        """Whether our own count rounds to the printed number."""
        return self.printed.stands_for(self.ours / SCALES[self.printed.unit])

    @property
    def holds(self) -> bool:
        """Whether the derived count rounds to the printed number."""
        return self.printed.stands_for(self.value / SCALES[self.printed.unit])


def printed_as(cell: Reported, *numbers: int) -> str:
    """Format counts with the unit and digits of a cell, without repeats."""
    return " and ".join(dict.fromkeys(f"{number / SCALES[cell.unit]:,.{cell.digits}f}" for number in numbers))


def ours_printed(ours: int, cell: Reported) -> str:
    """Return a sentence with our count in the format of a cell."""
    return f"Ours would be printed as {printed_as(cell, ours)}."


def nearest(cell: Reported, *numbers: int) -> int:
    """Return the count nearest to the printed number."""
    return min(numbers, key=lambda number: abs(number - cell.value * SCALES[cell.unit]))


def apart(cell: Reported, number: int) -> str:
    """Return a sentence with the difference between the printed number and a count, in per cent."""
    off = cell.value * SCALES[cell.unit] - number
    return f"The printed number is {shown(abs(off) / number, '.1%')} {'above' if off > 0 else 'below'} the nearer."
