"""Stored record of a search: its settings, every step with all actions that were tried, and the resulting networks.

A record contains no weights: a search can be replayed from its steps and plotted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.slimming.subnet import Action, Kind, Subnet
from efficientformer_edu.utils.records import from_dict, load_json, save_json, to_dict
from efficientformer_edu.utils.tables import Cell, Table

if TYPE_CHECKING:
    from efficientformer_edu.utils.statistics import Estimate

SEARCH = "search.json"


@dataclass(frozen=True)
class Trial:
    """An action that was tried.

    Attributes:
        action: the action.
        gain: seconds that it saves, by the lookup table.
        drop: accuracy that it costs, from 0 to 1; negative if the accuracy rises.
        correct: whether the network after the action classifies each held-out image correctly, "1" or "0" per image.
            Empty in files of earlier versions.
    """

    action: Action
    gain: float
    drop: float
    correct: str = field(default="", repr=False)

    @property
    def score(self) -> tuple[bool, float]:
        """The objective that the slimming minimizes: accuracy drop per second. Actions that save nothing rank last.

        A measured table can contain such an action, because a library may be slower with fewer channels.
        """
        return (False, self.drop / self.gain) if self.gain > 0 else (True, self.drop)


@dataclass(frozen=True)
class Step:
    """One step of the slimming.

    Attributes:
        accuracy: accuracy of the network before the step on the held-out images, with its current weights.
        trials: the actions that were tried.
        correct: the same as in `Trial`, for the network before the step.
    """

    accuracy: float
    trials: tuple[Trial, ...]
    correct: str = field(default="", repr=False)

    @property
    def taken(self) -> Trial:
        """The action with the smallest accuracy drop per millisecond."""
        return min(self.trials, key=lambda trial: trial.score)

    @property
    def runner_up(self) -> Trial | None:
        """The action with the second smallest drop per millisecond; None if no other action saves time."""
        saving = sorted((trial for trial in self.trials if trial.gain > 0), key=lambda trial: trial.score)
        return saving[1] if len(saving) > 1 else None

    @property
    def margin(self) -> float | None:
        """How much more accuracy the taken action could have lost before the runner-up would have been chosen."""
        other = self.runner_up
        return None if other is None else self.taken.gain / other.gain * other.drop - self.taken.drop

    def margin_estimate(self) -> Estimate | None:
        """The margin with its 95 % interval over the held-out images; None if results per image are missing.

        The networks before and after both actions are evaluated on the same images, so the margin is the mean of one
        value per image (a paired bootstrap). An interval that contains 0 means that other images might have led to the
        other action.
        """
        other = self.runner_up
        if other is None or not (self.correct and self.taken.correct and other.correct):
            return None
        from efficientformer_edu.utils.statistics import mean_estimate  # a replay needs no NumPy

        ratio, answers = self.taken.gain / other.gain, (self.correct, self.taken.correct, other.correct)
        images = zip(*(map(int, digits) for digits in answers), strict=True)
        return mean_estimate([ratio * (before - second) - (before - taken) for before, taken, second in images])


@dataclass(frozen=True)
class Search:
    """Settings of a search and the steps taken so far.

    Attributes:
        supernet: configuration of the supernet, whose largest subnet is the start.
        importances: importance of each stage's MetaPaths after training the supernet.
        targets: target latencies in seconds.
        start: latency of the largest subnet in seconds, by the lookup table.
        made_of: descriptions and values of everything else that the search depends on.
        steps: steps that were taken.

    Raises:
        ValueError: if there is no target, or a target is not above 0.
    """

    supernet: EfficientFormerConfig
    importances: tuple[tuple[float, ...], ...]
    targets: tuple[float, ...]
    start: float
    made_of: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        if not self.targets or min(self.targets) <= 0:
            raise ValueError(f"targets={self.targets} are not possible; allowed: one or more latencies above 0")

    @cached_property
    def subnets(self) -> tuple[Subnet, ...]:
        """All subnets of the search, replayed from the actions: the start and one per step."""
        actions = [step.taken.action for step in self.steps]
        return tuple(accumulate(actions, Subnet.after, initial=Subnet.largest(self.supernet)))

    @cached_property
    def seconds(self) -> tuple[float, ...]:
        """Latency of each of these subnets in seconds, by the lookup table."""
        return tuple(accumulate((-step.taken.gain for step in self.steps), initial=self.start))

    @property
    def done(self) -> bool:
        """Whether the last target is reached."""
        return self.seconds[-1] <= min(self.targets)

    @property
    def family(self) -> dict[float, EfficientFormerConfig]:
        """For each target that is reached, the first network at or below it; the longest target first."""
        networks = {}
        for target in sorted(self.targets, reverse=True):
            for subnet, seconds in zip(self.subnets, self.seconds, strict=True):
                if seconds <= target:
                    networks[target] = subnet.config(self.supernet)
                    break
        return networks

    def with_step(self, step: Step) -> Search:
        """The search with one more step."""
        return replace(self, steps=(*self.steps, step))

    def same_as(self, begun: Search) -> Search:
        """Return this search if it has the same settings as `begun`. Raises ValueError that names the difference."""
        for name in ("supernet", "importances", "targets", "start", "made_of"):
            stored, current = getattr(self, name), getattr(begun, name)
            if stored != current:
                raise ValueError(
                    f"the search in the folder had {name} {stored!r}, and now it is {current!r}; take another folder"
                )
        return self

    def table(self) -> Table:
        """Each step: the action, the latency after it, the scores of all actions, and how clearly the step was decided.

        The score is the accuracy in percentage points that an action costs per millisecond; None for an action that
        saves no time or was not tried. The margin is the number of held-out images that the taken action could have
        lost in addition before another one would have been chosen, with its 95 % interval. The step is decided if the
        interval is above 0.
        """
        scores = {kind: f"points per ms, {kind}" for kind in get_args(Kind)}
        rows: list[tuple[Cell, ...]] = []
        for number, (step, seconds) in enumerate(zip(self.steps, self.seconds[1:], strict=True), start=1):
            saving = {trial.action.kind: trial for trial in step.trials if trial.gain > 0}
            by_kind = (saving[kind].drop / saving[kind].gain / 10 if kind in saving else None for kind in scores)
            margin = step.margin_estimate()
            decided = None if margin is None else margin.verdict() == "better"
            images = margin and margin.scaled(len(step.correct))
            rows.append((number, str(step.taken.action), 1e3 * seconds, step.accuracy, *by_kind, images, decided))
        columns = ("step", "action", "ms then", "top-1 before", *scores.values(), "margin, images", "decided")
        formats = {"ms then": ".2f", "top-1 before": ".1%", **dict.fromkeys(scores.values(), "+.2f")}
        return Table(columns, tuple(rows), formats={**formats, "margin, images": ".1f"}, missing="–")

    def save(self, path: Path) -> None:
        """Write everything as JSON, atomically. Raises OSError if that fails."""
        family = [{"target": target, "config": config.to_dict()} for target, config in self.family.items()]
        save_json({**to_dict(self), "family": family}, path, "search")

    @classmethod
    def load(cls, path: Path) -> Search:
        """A search that `save` wrote, replayed.

        Raises:
            ValueError: if the file holds no search, or the replay leads to other networks than the stored ones; the
                message names the file.
            OSError: if the file cannot be read.
        """

        def parse(data: dict[str, Any]) -> Search:
            entries = data.pop("family")
            search = from_dict(cls, data)
            if search.family != {item["target"]: EfficientFormerConfig.from_dict(item["config"]) for item in entries}:
                raise ValueError("its steps lead to other networks than it names; the file was edited")
            return search

        return load_json(path, "search", parse)
