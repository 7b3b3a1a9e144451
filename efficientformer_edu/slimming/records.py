"""A search as it is stored: what was asked, every step with all that was tried, and the networks that came out.

It holds no weights and needs no torch: what a search has found can be replayed from its steps, and drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from efficientformer_edu.audit.tables import Table
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.files import whole
from efficientformer_edu.slimming.subnet import Action, Subnet

SEARCH = "search.json"


@dataclass(frozen=True)
class Trial:
    """An action that was tried.

    Attributes:
        action: which.
        gain: seconds that it saves, by the lookup table.
        drop: accuracy that it costs, of 1; below 0 where it helps.
    """

    action: Action
    gain: float
    drop: float

    @property
    def score(self) -> tuple[bool, float]:
        """What the slimming minimises: accuracy drop per second. An action that saves nothing comes behind all others.

        There can be one: a table is measured, and a library may be slower with fewer channels.
        """
        return (False, self.drop / self.gain) if self.gain > 0 else (True, self.drop)


@dataclass(frozen=True)
class Step:
    """One step of the slimming.

    Attributes:
        accuracy: of the network before it, with the weights that it has, on the images held out.
        trials: what was tried.
    """

    accuracy: float
    trials: tuple[Trial, ...]

    @property
    def taken(self) -> Trial:
        """The least drop per millisecond."""
        return min(self.trials, key=lambda trial: trial.score)


@dataclass(frozen=True)
class Search:
    """What was asked and what was done.

    Attributes:
        supernet: configuration of the supernet, whose largest subnet is the start.
        importances: of each stage's MetaPaths, after the supernet's training.
        targets: seconds.
        start: seconds that the largest subnet takes, by the lookup table.
        made_of: in words and numbers all else that the search depends on.
        steps: those that were taken.

    Raises:
        ValueError: without a target, or with one that is not above 0.
    """

    supernet: EfficientFormerConfig
    importances: tuple[tuple[float, ...], ...]
    targets: tuple[float, ...]
    start: float
    made_of: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        if not self.targets or min(self.targets) <= 0:
            raise ValueError(f"targets={self.targets} are not possible; wanted: at least one time above 0")

    @cached_property
    def subnets(self) -> tuple[Subnet, ...]:
        """Where the slimming has been, replayed from the actions: one more than there are steps."""
        actions = [step.taken.action for step in self.steps]
        return tuple(accumulate(actions, Subnet.after, initial=Subnet.largest(self.supernet)))

    @cached_property
    def seconds(self) -> tuple[float, ...]:
        """What each of them takes, by the lookup table."""
        return tuple(accumulate((-step.taken.gain for step in self.steps), initial=self.start))

    @property
    def done(self) -> bool:
        """Whether the last target is reached."""
        return self.seconds[-1] <= min(self.targets)

    @property
    def family(self) -> dict[float, EfficientFormerConfig]:
        """For each target that is reached the first network that takes no longer; the longest target first."""
        found = {}
        for target in sorted(self.targets, reverse=True):
            for subnet, seconds in zip(self.subnets, self.seconds, strict=True):
                if seconds <= target:
                    found[target] = subnet.config(self.supernet)
                    break
        return found

    def with_step(self, step: Step) -> Search:
        """The search with one more step."""
        return replace(self, steps=(*self.steps, step))

    def same_as(self, begun: Search) -> Search:
        """This search, if it began as the other one; else a ValueError that says what differs."""
        for name in ("supernet", "importances", "targets", "start", "made_of"):
            was, now = getattr(self, name), getattr(begun, name)
            if was != now:
                raise ValueError(
                    f"the search in the folder had {name} {was!r}, and now it is {now!r}; take another folder"
                )
        return self

    def table(self) -> Table:
        """Each step: what was taken, what the network takes then, and the quotients of all that was tried."""
        rows = []
        for number, (step, seconds) in enumerate(zip(self.steps, self.seconds[1:], strict=True), start=1):
            tried = "; ".join(f"{trial.action.kind} {_quotient(trial)}" for trial in step.trials)
            rows.append((number, str(step.taken.action), f"{1e3 * seconds:.2f}", f"{step.accuracy:.1%}", tried))
        return Table(
            ("step", "action", "ms then", "top-1 before", "points of accuracy per ms, of all tried"), tuple(rows)
        )

    def save(self, path: Path) -> None:
        """Write everything as JSON, whole or not at all. Raises OSError if that fails."""
        found = [{"target": target, "config": config.to_dict()} for target, config in self.family.items()]
        data = {**asdict(self), "supernet": self.supernet.to_dict(), "family": found}
        with whole(path) as partial:
            partial.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Search:
        """A search that `save` wrote, replayed.

        Raises:
            ValueError: naming the file, if it holds none, or if the replay ends in other networks than are written.
            OSError: if it cannot be read.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            written = {one["target"]: EfficientFormerConfig.from_dict(one["config"]) for one in data.pop("family")}
            data["supernet"] = EfficientFormerConfig.from_dict(data["supernet"])
            data["importances"] = tuple(map(tuple, data["importances"]))
            data["targets"], data["steps"] = tuple(data["targets"]), tuple(map(_step, data["steps"]))
            search = cls(**data)
            family = search.family
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path} holds no search: {error}") from error
        if family != written:
            raise ValueError(f"{path}: its steps lead to other networks than it names; it has been changed by hand")
        return search


def _step(data: Mapping[str, Any]) -> Step:
    trials = tuple(Trial(Action(**one["action"]), one["gain"], one["drop"]) for one in data["trials"])
    return Step(data["accuracy"], trials)


def _quotient(trial: Trial) -> str:
    return f"{trial.drop / trial.gain / 10:+.2f}" if trial.gain > 0 else "saves nothing"  # 100 points over 1000 ms
