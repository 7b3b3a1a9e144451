"""Section 4: equations, released networks, Table 6, and the nine differences between paper and code."""

from __future__ import annotations

from dataclasses import dataclass

from efficientformer_edu.paper.reading import fields, read, reported, statement
from efficientformer_edu.paper.records import Reported, Statement, check_tags, find


@dataclass(frozen=True)
class Equation:
    """One equation, as LaTeX without delimiters.

    Attributes:
        name: the argument of `equation`, such as `"mb4d"` or `"mhsa"`.
        latex: the formula.
        meaning: a description, in our words.
        tags: keys of `TAGS`.
        number: the paper's equation number; None if it is not sourced or the formula has none.
    """

    name: str
    latex: str
    meaning: str
    tags: tuple[str, ...]
    number: int | None = None

    def __post_init__(self) -> None:
        check_tags(self.name, self.tags)


@dataclass(frozen=True)
class Printed:
    """A stage for which Table 6 differs from the released code.

    Attributes:
        stage: 1 to 4.
        mb4d: MB4D blocks as printed.
        mb3d: MB3D blocks as printed.
        params: parameters (M) of the network if it were built as printed.
        tags: keys of `TAGS`.
    """

    stage: int
    mb4d: int
    mb3d: int
    params: Reported
    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        check_tags("Table 6", self.tags)


@dataclass(frozen=True)
class Architecture:
    """One released network.

    Attributes:
        preset: `"l1"`, `"l3"` or `"l7"`.
        widths: channels of the four stages.
        depths: blocks of the four stages, MB4D and MB3D together.
        mb3d: number of MB3D blocks at the end of stage 4.
        tags: keys of `TAGS`.
        printed: the stage as Table 6 prints it, if it differs.
    """

    preset: str
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    mb3d: int
    tags: tuple[str, ...]
    printed: Printed | None = None

    def __post_init__(self) -> None:
        check_tags(self.preset, self.tags)


@dataclass(frozen=True)
class Difference:
    """One difference between the paper and the released code. This package follows the code.

    Attributes:
        number: 1 to 9.
        topic: what differs.
        code: what the released code does.
        paper: what the paper states; None if it states nothing.
        consequence: the effect of the difference, if any.
    """

    number: int
    topic: str
    code: Statement
    paper: Statement | None = None
    consequence: Statement | None = None


def equations() -> tuple[Equation, ...]:
    """Return the equations of sections 4.1 and 4.2, in the paper's order."""
    return tuple(Equation(**fields(data)) for topic in ("design", "slimming") for data in read(topic)["equations"])


def equation(name: str) -> Equation:
    """Return an equation by name. Raises ValueError for an unknown name, with a suggestion."""
    return find(name, {record.name: record for record in equations()}, "equation")


def architectures() -> tuple[Architecture, ...]:
    """Return the three released networks L1, L3 and L7, with the misprints of Table 6."""
    networks = []
    for data in read("design")["architectures"]:
        values = fields(data)
        if "printed" in values:
            misprint = fields(values["printed"])
            values["printed"] = Printed(**misprint | {"params": reported(misprint["params"], "params")})
        networks.append(Architecture(**values))
    return tuple(networks)


def differences() -> tuple[Difference, ...]:
    """Return the nine differences between the paper and the released code, in order."""
    records = []
    for data in read("design")["differences"]:
        sides = {side: statement(data[side]) for side in ("paper", "code", "consequence") if side in data}
        records.append(Difference(**data | sides))
    return tuple(records)
