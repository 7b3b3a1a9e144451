"""What the paper states outside of tables: observations, equations, networks, settings, Algorithm 1 and remarks.

Section 3 has the four observations and Fig. 2; section 4 the equations, the released networks and Table 6. The nine
differences between paper and released code are listed here, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from efficientformer_edu.paper.records import (
    Reported,
    Statement,
    check_tags,
    fields,
    find,
    read,
    reported,
    reported_or_statement,
    statement,
)


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


_SETTINGS = {
    "recipe": ("recipe", "settings"),
    "table1": ("table1", "settings"),
    "table2": ("table2", "settings"),
    "architecture": ("design", "shared"),
}
_REMARKS = ("slimming", "appendix_b", "recipe")


@dataclass(frozen=True)
class Setting:
    """One setting of an experiment, in up to three versions. None means not sourced.

    Attributes:
        name: the setting.
        paper: its value in the paper's text.
        code: its value in the released code.
        run: its value in the training that gave L1's 79.2 %, according to the authors.
    """

    name: str
    paper: Reported | Statement | None = None
    code: Reported | Statement | None = None
    run: Reported | Statement | None = None


@dataclass(frozen=True)
class Step:
    """One step or action of Algorithm 1, in our words."""

    number: int
    name: str
    what: str
    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        check_tags(self.name, self.tags)


def settings(topic: str) -> tuple[Setting, ...]:
    """Return the settings of one topic.

    Args:
        topic: `"recipe"` (section 5.1 and main.py), `"table1"` (how it was measured), `"table2"` (how its backbones
            were trained) or `"architecture"` (what L1, L3 and L7 share).

    Raises:
        ValueError: for an unknown topic.
    """
    file, key = find(topic, _SETTINGS, "topic with settings")
    return tuple(
        Setting(
            data["name"],
            **{side: reported_or_statement(value, data["name"]) for side, value in data.items() if side != "name"},
        )
        for data in read(file)[key]
    )


def remarks(topic: str) -> tuple[Statement, ...]:
    """Return the remarks on `"slimming"`, `"appendix_b"` or `"recipe"`. Raises ValueError for an unknown topic."""
    file = find(topic, {name: name for name in _REMARKS}, "topic with remarks")
    return tuple(statement(data) for data in read(file)["remarks"])


def algorithm1() -> tuple[Step, ...]:
    """Return the three steps of latency-driven slimming."""
    return tuple(Step(**fields(data)) for data in read("slimming")["steps"])


def slimming_actions() -> tuple[Step, ...]:
    """Return the three actions that step 3 of Algorithm 1 chooses from."""
    return tuple(Step(**fields(data)) for data in read("slimming")["actions"])


@dataclass(frozen=True)
class Share:
    """A range from `low` to `high`, in `unit`, of the quantity `label`, with tags as in `Reported`."""

    label: str
    low: float
    high: float
    unit: str
    tags: tuple[str, ...]
    note: str = ""

    def __post_init__(self) -> None:
        check_tags(self.label, self.tags)


@dataclass(frozen=True)
class Observation:
    """One claim of section 3.

    Attributes:
        number: 1 to 4, as in the paper.
        name: the paper's own heading.
        compared: the models that the paper compares, by their names in Table 1.
        reason: the explanation, in our words.
        consequence: the design decision in EfficientFormer.
        tags: keys of `TAGS`.
        share: the share of latency concerned, if that is sourced.
    """

    number: int
    name: str
    compared: tuple[str, ...]
    reason: str
    consequence: str
    tags: tuple[str, ...]
    share: Share | None = None

    def __post_init__(self) -> None:
        check_tags(self.name, self.tags)


@dataclass(frozen=True)
class Profile:
    """The sourced content of Fig. 2: the models, and the operator classes into which their latency is divided."""

    models: tuple[str, ...]
    operators: tuple[str, ...]
    notes: tuple[str, ...]
    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        check_tags("Fig. 2", self.tags)


def observations() -> tuple[Observation, ...]:
    """Return the four observations of section 3, in order."""
    records = []
    for data in read("observations")["observations"]:
        values = fields(data)
        share = Share(**fields(values.pop("share"))) if "share" in values else None
        records.append(Observation(share=share, **values))
    return tuple(records)


def figure2() -> Profile:
    """Return Fig. 2 as far as it is sourced, which excludes the milliseconds of single operators."""
    return Profile(**fields(read("observations")["figure2"]))
