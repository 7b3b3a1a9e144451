"""The paper's networks and a lookup table: latency by stage, networks of equal MACs, and the first slimming steps.

Paper: section 4.2, Algorithm 1, and the networks of Table 6. Nothing is trained here, so accuracy is not considered,
and torch is not needed. `ledger` splits a network's latency by stage and block type. `neighbours` scales networks
uniformly to the same MACs. `order` compares the savings of each slimming step between engines: of two steps that cost
the same accuracy the slimming takes the one that saves more milliseconds, and these differ between engines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations, product
from typing import TYPE_CHECKING, Literal, get_args

from efficientformer_edu.audit import Form, count
from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.config import PRESETS, EfficientFormerConfig, get_config
from efficientformer_edu.utils.tables import Cell, Table

if TYPE_CHECKING:
    from efficientformer_edu.latency.lookup_table import Lookup

NEAR = 0.05  # MACs that differ by at most this share count as equal
HALVINGS = 20  # bisection steps when searching for a factor; they determine it to within 16 / 2²⁰

Scaled = Literal["widths", "depths", "both"]


@dataclass(frozen=True)
class StageCost:
    """MACs and latency of all modules of one kind in one stage.

    Attributes:
        stage: "stem", "stage 1" to "stage 4" or "head".
        kind: "embedding", "MB4D" or "MB3D"; "" in the stem and the head.
        number: number of such modules.
        macs: their total MACs, in the form that the engine runs.
        seconds: their total latency.
    """

    stage: str
    kind: str
    number: int
    macs: int
    seconds: float


@dataclass(frozen=True)
class StageCosts:
    """A network's latency by stage and kind; the seconds add up to the prediction of the table."""

    shares: tuple[StageCost, ...]

    def table(self) -> Table:
        """One row per stage and kind: milliseconds, milliseconds per GMAC, and the share of the total latency."""
        number, macs, seconds = (
            sum(getattr(share, name) for share in self.shares) for name in ("number", "macs", "seconds")
        )
        total = StageCost("all", "", number, macs, seconds)
        rows = [
            (
                share.stage,
                share.kind,
                share.number,
                share.macs / 1e9,
                1e3 * share.seconds,
                1e12 * share.seconds / share.macs,
                share.seconds / seconds,
            )
            for share in (*self.shares, total)
        ]
        columns = ("stage", "part", "number", "GMACs", "ms", "ms per GMAC", "share")
        formats = {"GMACs": ".3f", "ms": ".2f", "ms per GMAC": ".1f", "share": ".1%"}
        return Table(columns, tuple(rows), total=True, formats=formats)


def ledger(model: str | EfficientFormerConfig, lookup: Lookup) -> StageCosts:
    """Latency of a network by stage and kind. Raises ValueError if the table cannot predict the network."""
    config = get_config(model)
    form: Form = "folded" if lookup.engine.endswith("folded") else "trained"
    macs, blocks = Counter[tuple[str, str]](), dict[tuple[str, str], set[str]]()
    for row in count(config, lookup.resolution, form).rows:
        key = row.stage, row.block.partition(" ")[0]
        macs[key] += row.macs
        blocks.setdefault(key, set()).add(row.block)
    shares, grids = [], config.grids(lookup.resolution)
    for part, seconds in lookup.shares(config).items():
        outside_stages = part.kind in ("stem", "head")
        stage, kind = (part.kind, "") if outside_stages else (f"stage {grids.index(part.grid) + 1}", part.kind)
        shares.append(StageCost(stage, kind, len(blocks[stage, kind]), macs[stage, kind], seconds))
    return StageCosts(tuple(shares))


@dataclass(frozen=True)
class Neighbour:
    """A published network scaled uniformly to the MACs of another.

    Attributes:
        target: the other network.
        start: the network that is scaled.
        scaled: whether its widths, its depths, or both are scaled by the factor.
        factor: the factor.
        config: the resulting network.
        macs: MACs relative to the target's.
        seconds: predicted latency.
        latency: predicted latency relative to the target's.
    """

    target: str
    start: str
    scaled: Scaled
    factor: float
    config: EfficientFormerConfig
    macs: float
    seconds: float
    latency: float


@dataclass(frozen=True)
class Neighbours:
    """Uniformly scaled networks next to the published networks.

    Attributes:
        matches: the neighbours with equal MACs, to within `NEAR`.
        left_out: for each of the others, the reason: too wide for the table, or MACs that differ too much.
        error: relative error of the table's predictions; a smaller difference in latency is inconclusive.
    """

    matches: tuple[Neighbour, ...]
    left_out: tuple[str, ...]
    error: float

    def verdict(self, neighbour: Neighbour) -> Literal["faster", "slower", "inconclusive"]:
        """Whether a scaled network is faster or slower than the published one, by more than the table's error."""
        if abs(neighbour.latency - 1) < self.error:
            return "inconclusive"
        return "slower" if neighbour.latency > 1 else "faster"

    def table(self) -> Table:
        """One neighbour per row; ratios above 1 mean larger or slower than the published network with its MACs."""
        rows: list[tuple[Cell, ...]] = [
            (
                neighbour.target,
                neighbour.start,
                neighbour.scaled,
                neighbour.factor,
                *(
                    ", ".join(map(str, sizes))
                    for sizes in (neighbour.config.embed_dims, neighbour.config.depths, neighbour.config.vits)
                ),
                neighbour.macs,
                1e3 * neighbour.seconds,
                neighbour.latency,
                self.verdict(neighbour),
            )
            for neighbour in self.matches
        ]
        shape = ("widths", "depths", "MB3D")
        scaling = ("from", "scaled", "factor")
        columns = ("network", *scaling, *shape, "times its MACs", "ms", "times its latency", "verdict")
        formats = {"factor": ".2f", "times its MACs": ".3f", "ms": ".2f", "times its latency": ".3f"}
        return Table(columns, tuple(rows), formats=formats)


def neighbours(lookup: Lookup, error: float) -> Neighbours:
    """Each published network, scaled uniformly in three ways to the MACs of each other published network.

    Args:
        lookup: the table of latencies.
        error: relative error of its predictions. Two different networks share few blocks, so their errors do not
            cancel: the worst error (`Errors.worst_at_speed`) is the conservative choice.

    Raises:
        ValueError: if the table cannot predict the published networks themselves.
    """
    matches, left_out = [], []
    for (start, target), scaled in product(permutations(PRESETS, 2), get_args(Scaled)):
        macs, seconds = count(target, lookup.resolution).macs, lookup.predict(target)
        factor, config = _nearest(PRESETS[start], scaled, macs, lookup.resolution)
        ratio = count(config, lookup.resolution).macs / macs
        description = f"{start} to {target}, {scaled} × {factor:.2f}"
        if abs(ratio - 1) > NEAR:
            left_out.append(f"{description}: the nearest network has {ratio:.2f} times the MACs")
            continue
        try:
            predicted = lookup.predict(config)
        except ValueError as reason:
            left_out.append(f"{description}: {reason}")
            continue
        matches.append(Neighbour(target, start, scaled, factor, config, ratio, predicted, predicted / seconds))
    return Neighbours(tuple(sorted(matches, key=lambda neighbour: neighbour.target)), tuple(left_out), error)


def scale(config: EfficientFormerConfig, scaled: Scaled, factor: float) -> EfficientFormerConfig:
    """Scale all depths, all widths or both by a factor. Widths are rounded to multiples of 16."""
    depths, vits, dims = config.depths, config.vits, config.embed_dims
    if scaled != "widths":
        depths = tuple(max(1, int(factor * depth + 0.5)) for depth in depths)
        vits = tuple(int(factor * vit + 0.5) for vit in vits)
    if scaled != "depths":
        dims = tuple(STEP * max(1, int(factor * width / STEP + 0.5)) for width in dims)
    return config.replace(depths=depths, embed_dims=dims, num_vit=vits)


def _nearest(
    start: EfficientFormerConfig, scaled: Scaled, macs: int, resolution: tuple[int, int]
) -> tuple[float, EfficientFormerConfig]:
    """The factor and the network with the closest MACs, by bisection: MACs never decrease when the factor grows."""
    low, high = 0.0, 16.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if count(scale(start, scaled, middle), resolution).macs > macs else (middle, high)
    both = [(factor, scale(start, scaled, factor)) for factor in (low, high)]
    return min(both, key=lambda pair: abs(count(pair[1], resolution).macs - macs))


@dataclass(frozen=True)
class Change:
    """A possible step of the slimming.

    Attributes:
        description: description of the step.
        macs: MACs saved.
        seconds: seconds saved according to each table.
    """

    description: str
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
        gains: dict[str, tuple[float | None, ...]] = {}
        for column, (name, limit) in enumerate(zip(self.tables, self.limits, strict=True)):
            pairs = [(change.seconds[column], change.macs if per_mac else 1) for change in self.changes]
            gains[name] = tuple(None if abs(seconds) < limit else seconds / macs for seconds, macs in pairs)
        return gains

    def table(self) -> Table:
        """One change per row with its milliseconds and its rank in each table.

        Rows are sorted by the first table; rank 1 saves the most. Inconclusive savings are None and come last.
        """
        columns = list[list[tuple[float | None, int | None]]]()
        for values in self.gains().values():
            saved = [value for value in values if value is not None]
            ranks = [None if value is None else 1 + sum(other > value for other in saved) for value in values]
            milliseconds = [None if value is None else 1e3 * value for value in values]
            columns.append(list(zip(milliseconds, ranks, strict=True)))
        rows = [
            (change.description, change.macs / 1e9, *(cell for pair in pairs for cell in pair))
            for change, *pairs in zip(self.changes, *columns, strict=True)
        ]
        by_rank = sorted(rows, key=lambda row: row[3] or len(rows) + 1)  # the rank in the first table
        heads = [head for name in self.tables for head in (f"{name}, ms", f"{name}, rank")]
        formats = {"GMACs saved": ".4f"} | {f"{name}, ms": ".3f" for name in self.tables}
        return Table(("step", "GMACs saved", *heads), tuple(by_rank), formats=formats, missing="inconclusive")

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
            per_mac = _conclusive(dense[first], dense[second]) if first in dense else []
            taus = [kendall(*zip(*both, strict=True)) if len(both) > 1 else None for both in (pairs, per_mac)]
            rows.append((first, second, len(pairs), *taus))
        names = ("τ of ms", "τ of ms per GMAC")
        return Table(("order by", "and by", "steps", *names), tuple(rows), formats=dict.fromkeys(names, ".2f"))


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


def _conclusive(first: Sequence[float | None], second: Sequence[float | None]) -> list[tuple[float, float]]:
    """Values of the steps that are conclusive in both orders."""
    return [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]


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
