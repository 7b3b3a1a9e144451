"""The paper's own networks under a lookup table: where their time goes, and what the slimming would do first.

Paper: section 4.2, Algorithm 1, and the networks of Table 6. Nothing is trained here, so nothing is said of accuracy:
`ledger` says what a network spends where, `neighbours` what uniform scaling makes of the same MACs, and `order`, which
stands in `paper_order`, how much each step of the slimming saves in one engine and in another. Tables are arguments,
and torch is not needed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import permutations, product
from typing import TYPE_CHECKING, Literal, get_args

from efficientformer_edu.audit import Form, count
from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.audit.tables import Table
from efficientformer_edu.config import PRESETS, EfficientFormerConfig, get_config
from efficientformer_edu.slimming.paper_order import Change, Order, kendall, order

if TYPE_CHECKING:
    from efficientformer_edu.latency.lookup_table import Lookup

__all__ = [
    "Change",
    "Ledger",
    "Neighbour",
    "Neighbours",
    "Order",
    "Share",
    "kendall",
    "ledger",
    "neighbours",
    "order",
    "scale",
]

NEAR = 0.05  # MACs that differ by no more than this part count as equal
HALVINGS = 20  # of the span in which a factor is sought: then it is known to a millionth

Scaled = Literal["widths", "depths", "both"]


@dataclass(frozen=True)
class Share:
    """What a network spends in the parts of one kind in one stage.

    Attributes:
        stage: "stem", "stage 1" to "stage 4" or "head".
        kind: "embedding", "MB4D" or "MB3D"; "" in the stem and the head.
        number: of such parts.
        macs: of all of them, in the form that the engine runs.
        seconds: of all of them.
    """

    stage: str
    kind: str
    number: int
    macs: int
    seconds: float


@dataclass(frozen=True)
class Ledger:
    """A network's latency by stage and kind; the seconds add up to what the table predicts."""

    shares: tuple[Share, ...]

    def table(self) -> Table:
        """One line for each kind in each stage: milliseconds, for each GMAC too, and the share of all of them."""
        macs, seconds = sum(one.macs for one in self.shares), sum(one.seconds for one in self.shares)
        rows = [
            (one.stage, one.kind, one.number, *_cost(one.macs, one.seconds), one.seconds / seconds)
            for one in self.shares
        ]
        rows.append(("all", "", sum(one.number for one in self.shares), *_cost(macs, seconds), 1.0))
        columns = ("stage", "part", "number", "GMACs", "ms", "ms per GMAC", "share")
        return Table(columns, tuple(rows), total=True, formats={"share": ".1%"})


@dataclass(frozen=True)
class Neighbour:
    """A published network scaled uniformly to the MACs of another.

    Attributes:
        target: the other one.
        start: the network that is scaled.
        scaled: its widths, its depths, or both by one factor.
        factor: the factor.
        config: what comes out.
        macs: MACs over the target's.
        seconds: predicted.
        latency: seconds over the target's.
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
        found: the neighbours with equal MACs, to within `NEAR`.
        left_out: a sentence for each of the others: too wide for the table, or not near enough.
        error: relative error of the table's predictions; a smaller difference in latency is inconclusive.
    """

    found: tuple[Neighbour, ...]
    left_out: tuple[str, ...]
    error: float

    def verdict(self, neighbour: Neighbour) -> Literal["faster", "slower", "inconclusive"]:
        """Whether a scaled network is faster or slower than the published one, by more than the table's error."""
        if abs(neighbour.latency - 1) < self.error:
            return "inconclusive"
        return "slower" if neighbour.latency > 1 else "faster"

    def table(self) -> Table:
        """One neighbour per row; above 1 it is larger or slower than the published network with its MACs."""
        rows = [
            (
                one.target,
                f"{one.start}, {one.scaled} × {one.factor:.2f}",
                ", ".join(map(str, one.config.embed_dims)),
                ", ".join(map(str, one.config.depths)),
                ", ".join(map(str, one.config.vits)),
                f"{one.macs:.3f}",
                f"{1e3 * one.seconds:.2f}",
                f"{one.latency:.3f}",
                self.verdict(one),
            )
            for one in self.found
        ]
        shape = ("widths", "depths", "MB3D")
        columns = ("network", "scaled", *shape, "times its MACs", "ms", "times its latency", "verdict")
        return Table(columns, tuple(rows))


def ledger(model: str | EfficientFormerConfig, lookup: Lookup) -> Ledger:
    """Where a network's milliseconds go. Raises ValueError for one that the table cannot predict."""
    config = get_config(model)
    form: Form = "folded" if lookup.engine.endswith("folded") else "trained"
    macs, blocks = Counter[tuple[str, str]](), dict[tuple[str, str], set[str]]()
    for row in count(config, lookup.resolution, form).rows:
        place = row.stage, row.block.partition(" ")[0]
        macs[place] += row.macs
        blocks.setdefault(place, set()).add(row.block)
    shares, grids = [], config.grids(lookup.resolution)
    for part, seconds in lookup.shares(config).items():
        ends = part.kind in ("stem", "head")
        stage, kind = (part.kind, "") if ends else (f"stage {grids.index(part.grid) + 1}", part.kind)
        shares.append(Share(stage, kind, len(blocks[stage, kind]), macs[stage, kind], seconds))
    return Ledger(tuple(shares))


def neighbours(lookup: Lookup, error: float) -> Neighbours:
    """Each published network scaled uniformly to the MACs of each other one, in three ways.

    Args:
        lookup: the table of latencies.
        error: relative error of its predictions. Two different networks share few parts, so that their errors do not
            cancel: the worst error (`Errors.worst_at_speed`) is the cautious choice.

    Raises:
        ValueError: if the table cannot predict the published networks themselves.
    """
    found, left_out = [], []
    for (start, target), scaled in product(permutations(PRESETS, 2), get_args(Scaled)):
        macs, seconds = count(target, lookup.resolution).macs, lookup.predict(target)
        factor, config = _nearest(PRESETS[start], scaled, macs, lookup.resolution)
        times = count(config, lookup.resolution).macs / macs
        words = f"{start} to {target}, {scaled} × {factor:.2f}"
        if abs(times - 1) > NEAR:
            left_out.append(f"{words}: {times:.2f} times the MACs is as near as it comes")
            continue
        try:
            predicted = lookup.predict(config)
        except ValueError as reason:
            left_out.append(f"{words}: {reason}")
            continue
        found.append(Neighbour(target, start, scaled, factor, config, times, predicted, predicted / seconds))
    return Neighbours(tuple(sorted(found, key=lambda one: one.target)), tuple(left_out), error)


def scale(config: EfficientFormerConfig, scaled: Scaled, factor: float) -> EfficientFormerConfig:
    """A network with all depths, all widths or both times a factor, rounded: widths to multiples of 16."""
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
    """The factor and the network whose MACs are nearest; they never shrink when the factor grows."""
    low, high = 0.0, 16.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if count(scale(start, scaled, middle), resolution).macs > macs else (middle, high)
    both = [(factor, scale(start, scaled, factor)) for factor in (low, high)]
    return min(both, key=lambda one: abs(count(one[1], resolution).macs - macs))


def _cost(macs: int, seconds: float) -> tuple[str, str, str]:
    """GMACs, milliseconds, and milliseconds for each GMAC."""
    return f"{macs / 1e9:.3f}", f"{1e3 * seconds:.2f}", f"{1e12 * seconds / macs:.1f}"
