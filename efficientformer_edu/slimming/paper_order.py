"""Which steps of the slimming save the most time, compared between engines.

Paper: section 4.2 and Algorithm 1. If two steps cost the same accuracy, the slimming takes the one that saves more
milliseconds. The savings differ between engines and devices, and so does the order of the steps. Nothing is trained
here, so accuracy is not considered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from efficientformer_edu.audit import count
from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.audit.tables import Table
from efficientformer_edu.config import EfficientFormerConfig, get_config

if TYPE_CHECKING:
    from efficientformer_edu.latency.lookup_table import Lookup


@dataclass(frozen=True)
class Change:
    """A possible step of the slimming.

    Attributes:
        words: description of the step.
        macs: MACs saved.
        seconds: seconds saved according to each table.
    """

    words: str
    macs: int
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Order:
    """Savings of each step of the slimming according to several tables.

    A saving that is smaller than the table's own error is inconclusive. Such savings have no value and no rank and are
    excluded from comparisons.

    Attributes:
        tables: names of the tables.
        limits: seconds for each table; a smaller saving, positive or negative, is inconclusive.
        changes: the possible steps.
    """

    tables: tuple[str, ...]
    limits: tuple[float, ...]
    changes: tuple[Change, ...]

    def gains(self, per_mac: bool = False) -> dict[str, tuple[float | None, ...]]:
        """Seconds that each change saves, or seconds per MAC, by table name; None if the saving is inconclusive."""
        return {
            name: tuple(
                None
                if abs(change.seconds[column]) < limit
                else change.seconds[column] / (change.macs if per_mac else 1)
                for change in self.changes
            )
            for column, (name, limit) in enumerate(zip(self.tables, self.limits, strict=True))
        }

    def table(self, per_mac: bool = False) -> Table:
        """One change per row with its milliseconds, or milliseconds per GMAC, and its rank in each table.

        Rows are sorted by the first table; rank 1 saves the most. Inconclusive savings come last.
        """
        scale, unit = (1e12, "ms per GMAC") if per_mac else (1e3, "ms")
        gains = self.gains(per_mac)
        ranks = {name: [_rank(value, values) for value in values] for name, values in gains.items()}

        def cells(name: str, row: int) -> tuple[str, int | None]:
            value = gains[name][row]
            return "inconclusive" if value is None else f"{scale * value:.3f}", ranks[name][row]

        first = ranks[self.tables[0]]
        rows = [
            (
                self.changes[row].words,
                f"{self.changes[row].macs / 1e9:.4f}",
                *(cell for name in self.tables for cell in cells(name, row)),
            )
            for row in sorted(range(len(self.changes)), key=lambda row: first[row] or len(first) + 1)
        ]
        heads = [head for name in self.tables for head in (f"{name}, {unit}", "rank")]
        return Table(("step", "GMACs saved", *heads), tuple(rows))

    def agreement(self) -> Table:
        """Kendall's τ between each pair of orders: by MACs saved and by each table. 1 means the same order.

        Only steps whose saving is conclusive in both tables are compared; `steps` is their number.
        """
        macs = tuple(float(change.macs) for change in self.changes)
        orders: dict[str, tuple[float | None, ...]] = {"MACs": macs, **self.gains()}
        dense = self.gains(per_mac=True)
        rows = []
        for first, second in combinations(orders, 2):
            pairs = _conclusive(orders[first], orders[second])
            per_mac = _conclusive(dense[first], dense[second]) if first in dense else ([], [])
            taus = [f"{kendall(*values):.2f}" if len(values[0]) > 1 else None for values in (pairs, per_mac)]
            rows.append((first, second, len(pairs[0]), *taus))
        return Table(("order by", "and by", "steps", "τ of ms", "τ of ms per GMAC"), tuple(rows))


def order(start: str | EfficientFormerConfig, tables: Mapping[str, Lookup], errors: Mapping[str, float]) -> Order:
    """Savings of each slimming step from a network, by each table. Steps that a table does not cover are omitted.

    Args:
        start: the network, such as a supernet with MB3D blocks in its last two stages.
        tables: lookup tables of different engines or devices by name, all at the same resolution.
        errors: relative error of each table's predictions, such as `Errors.median_at_speed`. A saving below this share
            of the network's latency is inconclusive. The errors of two networks that share nearly all blocks largely
            cancel, so the median error of complete networks is a conservative limit for a single step.

    Raises:
        ValueError: if a table cannot predict the network, they have different resolutions, or an error is missing.
    """
    config, changes = get_config(start), []
    resolutions = {table.resolution for table in tables.values()}
    if len(resolutions) != 1:
        raise ValueError(f"tables at {sorted(resolutions)} are not possible; allowed: tables at one resolution")
    if missing := sorted(tables.keys() - errors.keys()):
        raise ValueError(f"no error of the table {missing[0]!r}; measure it with lookup.prediction_errors")
    (resolution,) = resolutions
    before = {name: table.predict(config) for name, table in tables.items()}
    macs = count(config, resolution).macs
    for description, smaller in _steps(config):
        try:
            saved = tuple(before[name] - table.predict(smaller) for name, table in tables.items())
        except ValueError:
            continue
        changes.append(Change(description, macs - count(smaller, resolution).macs, saved))
    limits = tuple(errors[name] * before[name] for name in tables)
    return Order(tuple(tables), limits, tuple(changes))


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's τ: concordant minus discordant pairs, divided by all pairs; a tie counts as neither."""
    products = [(a - c) * (b - d) for (a, b), (c, d) in combinations(zip(first, second, strict=True), 2)]
    return sum((product > 0) - (product < 0) for product in products) / len(products)


def _rank(value: float | None, values: Sequence[float | None]) -> int | None:
    return None if value is None else 1 + sum(other > value for other in values if other is not None)


def _conclusive(
    first: Sequence[float | None], second: Sequence[float | None]
) -> tuple[Sequence[float], Sequence[float]]:
    """Values of the steps that are conclusive in both orders."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _steps(config: EfficientFormerConfig) -> Iterator[tuple[str, EfficientFormerConfig]]:
    """The three actions of Algorithm 1 in each stage; depth reduction takes an MB4D or an MB3D."""

    def less(values: tuple[int, ...], stage: int, by: int = 1) -> tuple[int, ...]:
        return tuple(value - by * (index == stage) for index, value in enumerate(values))

    depths, vits, dims = config.depths, config.vits, config.embed_dims
    for stage in range(4):
        where = f"stage {stage + 1}"
        if depths[stage] > max(vits[stage], 1):
            yield f"an MB4D of {where}", config.replace(depths=less(depths, stage), num_vit=vits)
        if vits[stage]:
            if depths[stage] > 1:
                yield f"an MB3D of {where}", config.replace(depths=less(depths, stage), num_vit=less(vits, stage))
            yield f"MB4D for an MB3D of {where}", config.replace(num_vit=less(vits, stage))
        if dims[stage] > STEP:
            yield f"{STEP} channels off {where}", config.replace(embed_dims=less(dims, stage, STEP))
