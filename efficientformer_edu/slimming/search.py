"""The slimming: reduce the supernet step by step to each target, by the smallest accuracy drop per millisecond.

Paper: section 4.2, step 3, and Algorithm 1. Each possible action has a latency gain, from the lookup table, and a
measured accuracy drop. The action with the smallest ratio of drop to gain is taken, until the target is reached. With
several targets the search continues from one to the next and yields a family of networks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import safetensors.torch

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.latency.lookup_table import Lookup
from efficientformer_edu.slimming.protocol import Evaluator
from efficientformer_edu.slimming.records import SEARCH, Search, Step, Trial
from efficientformer_edu.slimming.subnet import Action, Subnet, actions
from efficientformer_edu.slimming.supernet import Supernet, prune_to
from efficientformer_edu.utils.files import atomic_write

WEIGHTS = "weights_{}.safetensors"  # weights of the supernet after this number of steps


def begin(
    supernet: Supernet, lookup: Lookup, targets: Sequence[float], made_of: Mapping[str, Any] | None = None
) -> Search:
    """A new search without steps.

    Args:
        supernet: the trained supernet.
        lookup: latencies at 224 pixels.
        targets: target latencies in seconds.
        made_of: everything else that the search depends on, for the record.

    Raises ValueError as `check_targets` does.
    """
    check_targets(supernet.config, lookup, targets)
    start = lookup.predict(Subnet.largest(supernet.config).config(supernet.config))
    return Search(supernet.config, supernet.importances(), tuple(targets), start, dict(made_of or {}))


class Slimming:
    """A search in progress.

    Args:
        supernet: the trained supernet with which the search began; it is not changed.
        search: a search from `begin`, or a stored one that is not done.
        lookup: latencies at 224 pixels.
        evaluator: measures accuracies and fine-tunes.
        folder: where the search and its current weights are stored after each step; None to store nothing.

    Attributes:
        search: the search with all steps so far.

    Raises:
        OSError: if the weights of a stored search are missing.
        ValueError: if the search has steps and no folder with its weights was passed.
    """

    def __init__(
        self, supernet: Supernet, search: Search, lookup: Lookup, evaluator: Evaluator, folder: Path | None = None
    ) -> None:
        self.search, self.lookup, self.evaluator, self.folder = search, lookup, evaluator, folder
        self._narrowest = narrowest(lookup)
        self._current = copy.deepcopy(supernet)
        if search.steps:
            if folder is None:
                raise ValueError(f"the search has taken {len(search.steps)} steps; pass the folder with its weights")
            self._current = Supernet(supernet.config.replace(embed_dims=search.subnets[-1].embed_dims))
            self._current.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS.format(len(search.steps))))
        self._current.choose(search.subnets[-1])
        self._current.eval()

    def steps(self) -> Iterator[Step]:
        """Continue to the last target and yield each step once it is stored. Raises OSError if storing fails."""
        if not self.search.steps:
            self.evaluator.finetune(self._current, 0)  # its blocks only ran in mixtures so far
        while not self.search.done:
            step, self._current = self._try_actions()
            self.search = self.search.with_step(step)
            self.evaluator.finetune(self._current, len(self.search.steps))
            self._store()
            yield step

    def _try_actions(self) -> tuple[Step, Supernet]:
        """Try all possible actions. Returns the step and the resulting network."""
        subnet, before = self._current.subnet, self.evaluator.correct(self._current)
        trials: dict[Trial, Supernet] = {}
        for action in actions(subnet, self.search.importances, self._narrowest):
            after = applied(self._current, action)
            gain = self.lookup.gain(*(network.config(self.search.supernet) for network in (subnet, after.subnet)))
            correct = self.evaluator.correct(after)
            trials[Trial(action, gain, (sum(before) - sum(correct)) / len(before), _digits(correct))] = after
        step = Step(sum(before) / len(before), tuple(trials), _digits(before))
        return step, trials[step.taken]

    def _store(self) -> None:
        """Write the weights first, then the search: if the process is killed in between, only that step is lost."""
        if self.folder is None:
            return
        number = len(self.search.steps)
        with atomic_write(self.folder / WEIGHTS.format(number)) as partial:
            state = {name: value.contiguous() for name, value in self._current.state_dict().items()}
            safetensors.torch.save_file(state, partial)
        self.search.save(self.folder / SEARCH)
        (self.folder / WEIGHTS.format(number - 1)).unlink(missing_ok=True)


def _digits(correct: Sequence[bool]) -> str:
    return "".join("1" if answer else "0" for answer in correct)


def applied(supernet: Supernet, action: Action) -> Supernet:
    """A copy of the supernet after one step, with inherited weights."""
    return prune_to(supernet, supernet.subnet.after(action))


def narrowest(lookup: Lookup) -> tuple[int, ...]:
    """The smallest width of each stage in the table. Raises ValueError if the table lacks a stage."""
    blocks, least = [part for part in lookup.seconds if part.kind == "MB4D"], []
    for height, width in lookup.base.grids(lookup.resolution):
        widths = [part.widths[0] for part in blocks if part.grid == (height, width)]
        if not widths:
            raise ValueError(f"{lookup!r} has no MB4D at {height}×{width}; build it to the end")
        least.append(min(widths))
    return tuple(least)


def check_targets(supernet: EfficientFormerConfig, lookup: Lookup, targets: Sequence[float]) -> None:
    """Raise ValueError for targets that no network of the space reaches and for a table with missing widths."""
    for dims in product(*zip(narrowest(lookup), supernet.embed_dims, strict=True)):
        for last in ("MB4D", "MB3D"):
            lookup.predict(Subnet(dims, (("MB4D",), ("MB4D",), (last,), (last,))).config(supernet))
    smallest = Subnet(narrowest(lookup), (("MB4D",),) * 4).config(supernet)
    least = lookup.predict(smallest)
    if (target := min(targets)) < least:
        description = f"one block in each stage, of {smallest.embed_dims} channels, takes {1e3 * least:.3g} ms"
        raise ValueError(f"target {1e3 * target:.3g} ms is not possible: the smallest network, {description}")
