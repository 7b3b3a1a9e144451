"""What the slimming would do first, in one engine and in another.

Paper: section 4.2 and Algorithm 1. Of two steps that cost the same accuracy the slimming takes the one that saves more
milliseconds. A step's milliseconds differ between engines and devices, and so does the order of the steps. Nothing is
trained here, so nothing is said of accuracy.
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
    """A step of the slimming.

    Attributes:
        words: what it does.
        macs: that it saves.
        seconds: that it saves, by each table.
    """

    words: str
    macs: int
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Order:
    """What each step of the slimming saves, by several tables.

    Attributes:
        tables: their names.
        changes: the steps that are possible.
    """

    tables: tuple[str, ...]
    changes: tuple[Change, ...]

    def gains(self, per_mac: bool = False) -> dict[str, tuple[float, ...]]:
        """Seconds that each change saves, or seconds for each MAC, by the name of the table."""
        return {
            name: tuple(one.seconds[place] / (one.macs if per_mac else 1) for one in self.changes)
            for place, name in enumerate(self.tables)
        }

    def table(self, per_mac: bool = False) -> Table:
        """One change a line with its milliseconds, or milliseconds for each GMAC, and its rank by each table.

        The lines stand in the order of the first table. The one of rank 1 saves most.
        """
        scale, unit = (1e12, "ms per GMAC") if per_mac else (1e3, "ms")
        gains = self.gains(per_mac)
        ranks = {name: [1 + sum(other > one for other in some) for one in some] for name, some in gains.items()}
        lines = sorted(range(len(self.changes)), key=lambda i: ranks[self.tables[0]][i])
        rows = [
            (
                self.changes[i].words,
                f"{self.changes[i].macs / 1e9:.4f}",
                *(cell for name in self.tables for cell in (f"{scale * gains[name][i]:.3f}", ranks[name][i])),
            )
            for i in lines
        ]
        heads = [head for name in self.tables for head in (f"{name}, {unit}", "rank")]
        return Table(("step", "GMACs saved", *heads), tuple(rows))

    def agreement(self) -> Table:
        """Kendall's τ between each two of the orders: by MACs saved, and by each table. 1 is the same order."""
        macs = tuple(float(one.macs) for one in self.changes)
        orders = {"MACs": macs, **self.gains()}
        dense = self.gains(per_mac=True)
        rows = [
            (
                first,
                second,
                f"{kendall(orders[first], orders[second]):.2f}",
                f"{kendall(dense[first], dense[second]):.2f}" if first in dense else None,
            )
            for first, second in combinations(orders, 2)
        ]
        return Table(("order by", "and by", "τ of ms", "τ of ms per GMAC"), tuple(rows))


def order(start: str | EfficientFormerConfig, tables: Mapping[str, Lookup]) -> Order:
    """What each step of the slimming saves from a network on, by each table. Steps out of a table are left out.

    Args:
        start: the network, such as a supernet with MB3D blocks in its last two stages.
        tables: by name, at one resolution: of other engines or devices.

    Raises:
        ValueError: if a table cannot predict the network, or they have different resolutions.
    """
    config, changes = get_config(start), []
    resolutions = {table.resolution for table in tables.values()}
    if len(resolutions) != 1:
        raise ValueError(f"tables at {sorted(resolutions)} are not possible; wanted: tables at one resolution")
    (resolution,) = resolutions
    before = {name: table.predict(config) for name, table in tables.items()}
    macs = count(config, resolution).macs
    for words, smaller in _steps(config):
        try:
            saved = tuple(before[name] - table.predict(smaller) for name, table in tables.items())
        except ValueError:
            continue
        changes.append(Change(words, macs - count(smaller, resolution).macs, saved))
    return Order(tuple(tables), tuple(changes))


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's τ: pairs that stand in the same order less those that do not, over all pairs; a tie is neither."""
    products = [(a - c) * (b - d) for (a, b), (c, d) in combinations(zip(first, second, strict=True), 2)]
    return sum((one > 0) - (one < 0) for one in products) / len(products)


def _steps(config: EfficientFormerConfig) -> Iterator[tuple[str, EfficientFormerConfig]]:
    """The three actions of Algorithm 1 in each stage; depth reduction takes an MB4D or an MB3D."""

    def less(numbers: tuple[int, ...], stage: int, by: int = 1) -> tuple[int, ...]:
        return tuple(number - by * (place == stage) for place, number in enumerate(numbers))

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
