"""Accuracy against measured latency: which way of finding a network leads to the better front.

Every network is trained from scratch with each seed, and timed as a whole. The claim to be tested, which is ours: at
equal latency slimming finds more accurate networks than uniform scaling does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from efficientformer_edu.audit import count
from efficientformer_edu.audit.tables import Cell, Table
from efficientformer_edu.latency.lookup_errors import Errors, Prediction
from efficientformer_edu.slimming.contenders import Contender, Method
from efficientformer_edu.slimming.protocol import SIZE, Material, Protocol, material
from efficientformer_edu.training.records import Record
from efficientformer_edu.training.run import Run
from efficientformer_edu.training.statistics import Difference, mean_interval
from efficientformer_edu.training.study import Study

AGREES = 0.10  # predicted over measured latency: how far both may be apart


@dataclass(frozen=True)
class Standing:
    """One network with what came out.

    Attributes:
        contender: the network.
        prediction: its latency, predicted and measured; None where it was not timed.
        top1: accuracy on the test images, by seed.
    """

    contender: Contender
    prediction: Prediction | None
    top1: Mapping[int, float]

    @property
    def accuracy(self) -> Difference | None:
        """The mean over the seeds with its interval; None before anything was trained."""
        return mean_interval(list(self.top1.values())) if self.top1 else None


@dataclass(frozen=True)
class Front:
    """All networks that are compared.

    Attributes:
        standings: target by target.
        resolution: height and width in pixels at which they are timed and counted.
    """

    standings: tuple[Standing, ...]
    resolution: tuple[int, int]

    def of(self, method: Method) -> tuple[Standing, ...]:
        """The networks that were found in one way, the slowest first."""
        return tuple(one for one in self.standings if one.contender.method == method)

    def difference(self, against: Method, target: float | None = None) -> Difference | None:
        """How much more accurate slimming's networks are, paired by target and seed.

        Args:
            against: another way.
            target: one target in seconds; None for all of them together.

        Returns:
            None where there is no pair.
        """
        theirs = {one.contender.target: one.top1 for one in self.of(against)}
        pairs = [
            accuracy - theirs[one.contender.target][seed]
            for one in self.of("slimming")
            if one.contender.target in theirs and target in (None, one.contender.target)
            for seed, accuracy in one.top1.items()
            if seed in theirs[one.contender.target]
        ]
        return mean_interval(pairs) if pairs else None

    def table(self) -> Table:
        """Target, predicted and measured latency, accuracy, parameters and MACs of each network.

        The error is that of the prediction, and the same with both latencies at one speed of the machine.
        """
        error = ("error", "at one speed")
        columns = ("network", "target ms", "predicted ms", "measured ms", *error, "top-1", "parameters", "MACs")
        return Table(columns, tuple(map(self._row, self.standings)))

    def _row(self, standing: Standing) -> tuple[Cell, ...]:
        contender, timed, accuracy = standing.contender, standing.prediction, standing.accuracy
        costs = count(contender.config, self.resolution)
        return (
            contender.method,
            f"{1e3 * contender.target:.2f}",
            f"{1e3 * contender.predicted:.2f}",
            f"{1e3 * timed.measured:.2f}" if timed else None,
            f"{timed.error:+.1%}" if timed else None,
            f"{timed.error_at_speed:+.1%}" if timed else None,
            f"{accuracy.mean:.2%}" if accuracy else None,
            costs.params,
            costs.macs,
        )


def get_study(
    folder: Path,
    protocol: Protocol,
    contenders: Sequence[Contender],
    seeds: int,
    *,
    resume: bool = False,
    data_dir: Path | None = None,
) -> Study:
    """The training of all networks from scratch. Arguments and errors are those of `Study`."""
    by_name = {one.name: one for one in contenders}
    return Study(folder, partial(_run, protocol, by_name, data_dir), tuple(by_name), seeds, resume=resume)


def get_front(
    contenders: Sequence[Contender], records: Sequence[Record], errors: Errors | None, resolution: tuple[int, int]
) -> Front:
    """What the records say of the networks.

    Args:
        contenders: the networks.
        records: of their training.
        errors: their latencies; None before they were timed.
        resolution: of the latencies.
    """
    timed = {one.config: one for one in errors.predictions} if errors else {}
    top1 = {one.name: dict[int, float]() for one in contenders}
    for record in records:
        if record.variant in top1:
            top1[record.variant][record.seed] = record.top1
    standings = [Standing(one, timed.get(one.config), top1[one.name]) for one in contenders]
    return Front(tuple(standings), resolution)


def _run(protocol: Protocol, contenders: Mapping[str, Contender], data_dir: Path | None, name: str, seed: int) -> Run:
    images: Material = material(protocol, data_dir)
    return Run(contenders[name].config, images.train, images.test, protocol.recipe, SIZE, seed, variant=name)
