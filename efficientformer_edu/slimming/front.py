"""Accuracy against measured latency: which method finds better networks, and the stored contents of a slimming.

Every network is trained from scratch with each seed and timed end to end. The tested claim is our own, not the paper's:
at equal latency, slimming (section 4.2) finds more accurate networks than uniform scaling. `efficientformer-edu slim`
writes the folder; nothing is trained or measured here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from efficientformer_edu.audit import count
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.latency.lookup import Errors, Prediction
from efficientformer_edu.latency.lookup_table import Lookup
from efficientformer_edu.slimming.baselines import (
    CONTENDERS,
    METHODS,
    Contender,
    Method,
    load_contenders,
    searched_networks,
)
from efficientformer_edu.slimming.records import SEARCH, Search
from efficientformer_edu.training.study import Record, load_records
from efficientformer_edu.utils.records import exists, stored
from efficientformer_edu.utils.statistics import Estimate, mean_estimate
from efficientformer_edu.utils.tables import Cell, Table

AGREES = 0.10  # largest relative error at which a predicted latency agrees with the measured one
LOOKUP, TRAINED, LATENCY = "lookup.json", "trained", "latency.json"
POINTS = "more accurate by, points"  # a column of percentage points


@dataclass(frozen=True)
class ParetoPoint:
    """One network with its latency and accuracy.

    Attributes:
        contender: the network.
        prediction: its latency, predicted and measured; None if it was not timed.
        top1: accuracy on the test images by seed, from 0 to 1.
    """

    contender: Contender
    prediction: Prediction | None
    top1: Mapping[int, float]

    @property
    def accuracy(self) -> Estimate | None:
        """The mean over the seeds with its interval; None before anything was trained."""
        return mean_estimate(list(self.top1.values())) if self.top1 else None


@dataclass(frozen=True)
class Comparison:
    """Slimming compared with another method.

    Attributes:
        difference: how much more accurate slimming's networks are. Pairs have the same target and seed, and each target
            is resampled separately, so that the differences between targets do not widen the interval. It covers other
            training seeds of these networks, not other targets or another search.
        targets: seconds, the targets that are compared.
        networks: number of distinct networks behind the difference.
        trainings: number of distinct trainings behind it.
        left_out: targets at which one of the networks is the same as at a tighter target, and that tighter target.
    """

    difference: Estimate
    targets: tuple[float, ...]
    networks: int
    trainings: int
    left_out: Mapping[float, float]

    def __str__(self) -> str:
        return (
            f"{self.difference.points}, {self.difference.verdict()}; "
            f"{self.networks} networks, {self.trainings} trainings, {len(self.targets)} targets"
        )

    def cells(self, same_as: float | None = None) -> tuple[Cell, ...]:
        """Networks, trainings, pairs, difference in points, verdict, and the target of the same network in ms."""
        difference = self.difference
        outcome = (difference.verdict(), None) if same_as is None else (None, 1e3 * same_as)
        return self.networks, self.trainings, difference.samples, difference.scaled(100), *outcome


@dataclass(frozen=True)
class Front:
    """All networks that are compared.

    Attributes:
        points: the networks, target by target.
        resolution: height and width in pixels at which they are timed and counted.
    """

    points: tuple[ParetoPoint, ...]
    resolution: tuple[int, int]

    def by_method(self, method: Method) -> tuple[ParetoPoint, ...]:
        """The networks of one method, the slowest first."""
        return tuple(point for point in self.points if point.contender.method == method)

    def compare(self, against: Method, target: float | None = None) -> Comparison | None:
        """Compare slimming with another method.

        If a method has the same network at several targets, the network enters once: at the tightest of these targets,
        which is closest to its latency.

        Args:
            against: the other method.
            target: a single target in seconds; None for all of them.

        Returns:
            The comparison, or None without a pair.
        """
        slimmed, baseline = (
            {point.contender.target: point for point in self.by_method(method) if point.top1}
            for method in ("slimming", against)
        )
        shared = sorted(slimmed.keys() & baseline.keys())
        compared = dict[EfficientFormerConfig, float]()  # the target at which each network is compared
        strata, trainings, left_out = dict[float, list[float]](), set[tuple[EfficientFormerConfig, int]](), {}
        for seconds in shared if target is None else {target} & set(shared):
            pair = slimmed[seconds], baseline[seconds]
            configs = {point.contender.config for point in pair}
            if tighter := [compared[config] for config in configs if config in compared]:
                left_out[seconds] = tighter[0]
                continue
            first, second = (point.top1 for point in pair)
            if seeds := sorted(first.keys() & second.keys()):
                strata[seconds] = [first[seed] - second[seed] for seed in seeds]
                compared |= dict.fromkeys(configs, seconds)
                trainings |= {(config, seed) for config in configs for seed in seeds}
        if not strata:
            return None
        difference = mean_estimate(*strata.values())
        return Comparison(difference, tuple(strata), len(compared), len(trainings), left_out)

    def comparisons(self) -> Table:
        """Slimming against each other method, over all targets and at each of them, with verdicts.

        The row over all targets has no `target ms`. A target at which a network is the same as at a tighter target is
        not part of it and has no verdict; `same network at ms` names the tighter target.
        """
        counts = ("targets", "target ms", "networks", "trainings", "pairs")
        columns = ("slimming against", *counts, POINTS, "verdict", "same network at ms")
        rows = list[tuple[Cell, ...]]()
        for method in METHODS:
            overall = self.compare(method)
            if method == "slimming" or overall is None:
                continue
            rows.append((method, len(overall.targets), None, *overall.cells()))
            for target in sorted((*overall.targets, *overall.left_out), reverse=True):
                single = self.compare(method, target)
                assert single
                rows.append((method, 1, 1e3 * target, *single.cells(overall.left_out.get(target))))
        return Table(columns, tuple(rows), formats={"target ms": ".2f", POINTS: "+.2f", "same network at ms": ".2f"})

    def table(self) -> Table:
        """Target, predicted and measured latency, mean accuracy from 0 to 1, parameters and MACs of each network.

        `error` is the relative error of the prediction. `at one speed` is the same error with both latencies converted
        to the same machine speed.
        """
        rows = []
        for point in self.points:
            contender, timed, accuracy = point.contender, point.prediction, point.accuracy
            costs = count(contender.config, self.resolution)
            rows.append(
                (
                    contender.method,
                    1e3 * contender.target,
                    1e3 * contender.predicted,
                    1e3 * timed.measured if timed else None,
                    timed.error if timed else None,
                    timed.error_at_speed if timed else None,
                    accuracy.value if accuracy else None,
                    costs.params,
                    costs.macs,
                )
            )
        error = ("error", "at one speed")
        columns = ("network", "target ms", "predicted ms", "measured ms", *error, "top-1", "parameters", "MACs")
        milliseconds, errors = dict.fromkeys(columns[1:4], ".2f"), dict.fromkeys(error, "+.1%")
        return Table(columns, tuple(rows), formats={**milliseconds, **errors, "top-1": ".2%"})


def get_front(
    contenders: Sequence[Contender], records: Sequence[Record], errors: Errors | None, resolution: tuple[int, int]
) -> Front:
    """Networks with the results of their records.

    Args:
        contenders: the networks.
        records: records of their trainings; those of a network count for every contender that is the same network.
        errors: their latencies; None before they were timed.
        resolution: height and width of the images for which they were timed.
    """
    timed = {prediction.config: prediction for prediction in errors.predictions} if errors else {}
    configs = {contender.name: contender.config for contender in contenders}
    top1 = {config: dict[int, float]() for config in configs.values()}
    for record in records:
        if record.variant in configs:
            top1[configs[record.variant]][record.seed] = record.top1
    points = [ParetoPoint(network, timed.get(network.config), top1[network.config]) for network in contenders]
    return Front(tuple(points), resolution)


@dataclass(frozen=True)
class Slimmed:
    """Contents of the folder of a slimming.

    Attributes:
        search: the search with every step.
        lookup: the lookup table that the search used.
        contenders: the networks of the search and, if available, those that they are compared with.
        records: records of their completed trainings from scratch.
        errors: their measured latencies; None before they were timed.
    """

    search: Search
    lookup: Lookup
    contenders: tuple[Contender, ...]
    records: tuple[Record, ...]
    errors: Errors | None

    @cached_property
    def front(self) -> Front:
        """Accuracy and latency of all networks."""
        return get_front(self.contenders, self.records, self.errors, self.lookup.resolution)


def load_slimming(folder: Path) -> Slimmed:
    """Load the slimming in a folder, or in the file into which it was packed.

    Raises:
        ValueError: if a file has other contents, or a record belongs to a different network than its name indicates.
        OSError: if the search or its table cannot be read.
    """
    search, lookup, path = Search.load(folder / SEARCH), Lookup.load(folder / LOOKUP), folder / CONTENDERS
    contenders = load_contenders(path) if exists(path) else searched_networks(search, lookup)
    records = load_records(folder / TRAINED)
    configs = {contender.name: contender.config.to_dict() for contender in contenders}
    for record in records:
        if configs.get(record.variant) != record.run["config"]:
            raise ValueError(f"{folder}: {record.variant}, seed {record.seed} is not one of the networks to compare")
    errors = Errors.load(folder / LATENCY) if exists(folder / LATENCY) else None
    return Slimmed(search, lookup, contenders, records, errors)


def stored_slimming() -> Slimmed:
    """The slimming that the package contains."""
    return load_slimming(stored("slimming.json"))
