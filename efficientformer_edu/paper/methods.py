"""Methods: experiment settings, Algorithm 1, and remarks that are not part of a table."""

from __future__ import annotations

from dataclasses import dataclass

from efficientformer_edu.paper.reading import fields, read, said, statement
from efficientformer_edu.paper.records import Reported, Statement, check_tags, find

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
        Setting(data["name"], **{side: said(value, data["name"]) for side, value in data.items() if side != "name"})
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
