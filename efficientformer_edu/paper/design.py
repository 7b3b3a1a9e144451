"""Section 4: the equations, the released networks, Table 6, and the nine places where paper and code differ."""

from __future__ import annotations

from dataclasses import dataclass

from efficientformer_edu.paper.reading import fields, read, reported, statement
from efficientformer_edu.paper.records import Reported, Statement, check_tags, find


@dataclass(frozen=True)
class Equation:
    """One equation, as LaTeX without delimiters.

    Attributes:
        name: `"mb4d"`, `"mhsa"` and so on, for `equation`.
        latex: the formula.
        meaning: what it says, in our words.
        tags: keys of `TAGS`.
        number: the paper's; None where it is not sourced or the formula has none.
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
    """A stage that Table 6 prints otherwise than the code builds it.

    Attributes:
        stage: 1 to 4.
        mb4d: MB4D blocks as printed.
        mb3d: MB3D blocks as printed.
        params: the whole network's parameters (M), were it built as printed.
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
        mb3d: how many blocks at the end of stage 4 are MB3D.
        tags: keys of `TAGS`.
        printed: what Table 6 prints instead, where it differs.
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
    """One place where the paper and the released code differ. This package follows the code.

    Attributes:
        number: 1 to 9.
        topic: what differs.
        code: what the released code does.
        paper: what the paper says; None where it says nothing.
        consequence: what follows, if anything.
    """

    number: int
    topic: str
    code: Statement
    paper: Statement | None = None
    consequence: Statement | None = None


def equations() -> tuple[Equation, ...]:
    """The equations of sections 4.1 and 4.2, in the paper's order."""
    return tuple(Equation(**fields(data)) for topic in ("design", "slimming") for data in read(topic)["equations"])


def equation(name: str) -> Equation:
    """The equation of that name. Raises ValueError for an unknown one, naming the nearest."""
    return find(name, {one.name: one for one in equations()}, "equation")


def architectures() -> tuple[Architecture, ...]:
    """The three released networks L1, L3 and L7, with Table 6's slips."""
    found = []
    for data in read("design")["architectures"]:
        about = fields(data)
        if "printed" in about:
            slip = fields(about["printed"])
            about["printed"] = Printed(**slip | {"params": reported(slip["params"], "params")})
        found.append(Architecture(**about))
    return tuple(found)


def differences() -> tuple[Difference, ...]:
    """The nine differences between the paper and the released code, in order."""
    found = []
    for data in read("design")["differences"]:
        sides = {side: statement(data[side]) for side in ("paper", "code", "consequence") if side in data}
        found.append(Difference(**data | sides))
    return tuple(found)
