"""A lookup table of the latencies of a network's parts, and the latency of a network as their sum.

Paper: section 4.2, step 2 of the slimming, which measures MB4D and MB3D at widths that are multiples of 16. Here the
table also contains the stem, the embeddings and the head, so that the sum covers the complete network.

Between two measured widths the latency of a part is interpolated linearly in its MACs, because most of the time is
spent in matrix products, whose MACs grow with the square of the width. The interpolation is piecewise, because a
library selects a different algorithm above some size. An embedding has two widths and is interpolated in both. There is
no extrapolation beyond the measured widths.

The speed of a machine drifts. Each part is therefore timed in the same rounds as a complete network, the reference, and
all entries are scaled to the median of the reference's times. A network also takes a little longer than its parts,
because less of each part's code and feature maps is in the cache. All sums are therefore multiplied by the ratio
measured for the reference.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

from efficientformer_edu.audit.growth import STEP, mb3d_macs, mb4d_macs
from efficientformer_edu.config import EfficientFormerConfig, Resolution, get_config, resolution_pair
from efficientformer_edu.latency.records import Conditions
from efficientformer_edu.utils.records import from_dict, load_json, save_json, to_dict
from efficientformer_edu.utils.tables import Table

Grid = tuple[int, int]

SHAPE_FIELDS = {"depths", "embed_dims", "num_vit", "downsamples"}  # they select the parts of a sum
TRAINING_FIELDS = {"drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"}
FOLDED_FIELDS = {"distillation", "bias_grid"}  # a folded network has one head and a fixed bias


class Part(NamedTuple):
    """The key of an entry in the table.

    Attributes:
        kind: "stem", "embedding", "MB4D", "MB3D" or "head".
        grid: height and width of the output feature map; for the head, of the last feature map.
        widths: channels (C,), or input and output channels (C_in, C) for an embedding.
    """

    kind: Literal["stem", "embedding", "MB4D", "MB3D", "head"]
    grid: Grid
    widths: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.kind} at {self.grid[0]}×{self.grid[1]}, {' to '.join(map(str, self.widths))} channels"


def parts(config: EfficientFormerConfig, resolution: Resolution) -> Counter[Part]:
    """The parts whose latencies add up to that of the network, with the number of times each occurs."""
    grids, dims = config.grids(resolution), config.embed_dims
    height, width = ((size + 3) // 4 for size in resolution_pair(resolution))  # halved twice, rounded up
    counts: Counter[Part] = Counter({Part("stem", (height, width), dims[:1]): 1})
    for stage, (grid, depth, vit) in enumerate(zip(grids, config.depths, config.vits, strict=True)):
        if config.downsamples[stage]:
            counts[Part("embedding", grid, (dims[max(stage - 1, 0)], dims[stage]))] += 1
        counts[Part("MB4D", grid, (dims[stage],))] += depth - vit
        counts[Part("MB3D", grid, (dims[stage],))] += vit
    counts[Part("head", grids[-1], dims[-1:])] += 1
    return +counts  # without parts that occur zero times


def macs(part: Part, base: EfficientFormerConfig, resolution: Grid) -> int:
    """MACs of one part of a network with the fields of `base`, for images of `resolution` pixels.

    For an embedding, the MACs of its convolution; for the head, the MACs of a single head.
    """
    width, positions = part.widths[-1], prod(part.grid)
    if part.kind == "stem":
        first_positions = prod((size + 1) // 2 for size in resolution)
        return 9 * (base.in_channels * (width // 2) * first_positions + (width // 2) * width * positions)
    if part.kind == "embedding":
        return 9 * prod(part.widths) * positions
    hidden = int(base.mlp_ratio * width)
    if part.kind == "MB4D":
        return mb4d_macs(width, hidden, positions)
    if part.kind == "MB3D":
        return mb3d_macs(width, hidden, positions, base.num_heads, base.key_dim, base.value_dim)
    return width * base.num_classes


class Entry(NamedTuple):
    """The latency of a part.

    Attributes:
        part: the part.
        seconds: seconds of one such part within a network, rounded to nanoseconds.
        reference: seconds of the reference network in the same rounds, rounded to nanoseconds.
    """

    part: Part
    seconds: float
    reference: float


@dataclass(frozen=True, repr=False)
class Lookup:
    """Latencies of parts for one input size and one engine.

    Attributes:
        engine: a key of `lookup.FORMS`.
        resolution: height and width of the images in pixels.
        base: the reference network; its fields other than depths and widths apply to every part.
        conditions: the conditions of the measurement.
        entries: the parts that were measured.
    """

    engine: str
    resolution: Grid
    base: EfficientFormerConfig
    conditions: Conditions
    entries: tuple[Entry, ...] = ()

    @cached_property
    def reference(self) -> float:
        """Seconds of the reference network, the median over the measured groups. Raises ValueError without any."""
        if not self.entries:
            raise ValueError("the table is empty; it needs at least one entry")
        return median({entry.reference for entry in self.entries})

    @cached_property
    def seconds(self) -> dict[Part, float]:
        """The latency of each measured part, all at the same machine speed."""
        return {entry.part: entry.seconds / entry.reference * self.reference for entry in self.entries}

    @cached_property
    def network_over_parts(self) -> float:
        """Latency of the reference network divided by the sum of its parts; 1 if the table lacks one of them."""
        try:
            counts = parts(self.base, self.resolution).items()
            return self.reference / sum(count * self.part(part) for part, count in counts)
        except ValueError:
            return 1.0

    def predict(
        self,
        model: str | EfficientFormerConfig,
        *,
        resolution: Resolution | None = None,
        engine: str | None = None,
    ) -> float:
        """The latency of a network, measured or not, as the sum of its parts times `network_over_parts`.

        Args:
            model: a configuration, or the name of a published network. Its depths, widths and MB3D blocks
                may differ from those of `base`.
            resolution: the input size, which has to be that of the table; None skips the check.
            engine: the engine, which has to be that of the table; None skips the check.

        Returns:
            Seconds for one image.

        Raises:
            ValueError: for a resolution, engine, width or other field that the table does not cover.
        """
        if resolution is not None and resolution_pair(resolution) != self.resolution:
            raise ValueError(f"resolution={resolution!r} is not in the table; it was measured at {self.resolution}")
        if engine is not None and engine != self.engine:
            raise ValueError(f"engine={engine!r} is not in the table; it was measured with {self.engine!r}")
        return sum(self.shares(model).values())

    def shares(self, model: str | EfficientFormerConfig) -> dict[Part, float]:
        """Seconds that a network spends in each part, equal blocks grouped. Raises ValueError as `predict` does."""
        config = get_config(model)
        self._check_fields(config)
        counts = parts(config, self.resolution).items()
        return {part: count * self.part(part) * self.network_over_parts for part, count in counts}

    def gain(self, model: str | EfficientFormerConfig, smaller: str | EfficientFormerConfig) -> float:
        """Seconds that the smaller network saves. Raises ValueError as `predict` does."""
        return self.predict(model) - self.predict(smaller)

    def part(self, part: Part) -> float:
        """Seconds of one part, measured or interpolated. Raises ValueError if neither is possible."""
        if part in self.seconds:
            return self.seconds[part]
        if any(width % STEP for width in part.widths):
            raise ValueError(f"{part}: not in the table; allowed: widths that are multiples of {STEP}")
        for axis, width in reversed(list(enumerate(part.widths))):
            known = sorted({other.widths[axis] for other in self.seconds if other[:2] == part[:2]})
            if width in known:
                continue
            index = bisect_left(known, width)
            if not 0 < index < len(known):
                span = f"{known[0]} to {known[-1]} channels" if known else "none on this grid"
                raise ValueError(f"{part}: {width} is outside of the table, which has {span}")
            low, high = (
                part._replace(widths=(*part.widths[:axis], end, *part.widths[axis + 1 :]))
                for end in known[index - 1 : index + 1]
            )
            at, left, right = (macs(point, self.base, self.resolution) for point in (part, low, high))
            low_seconds = self.part(low)
            return low_seconds + (at - left) / (right - left) * (self.part(high) - low_seconds)
        raise ValueError(f"{part}: not in the table, which is not complete; build it to the end")

    def table(self) -> Table:
        """Every measured part with its latency in microseconds."""
        rows = [
            (part.kind, "×".join(map(str, part.grid)), " to ".join(map(str, part.widths)), 1e6 * seconds)
            for part, seconds in self.seconds.items()
        ]
        return Table(("part", "grid", "channels", "µs"), tuple(rows), formats={"µs": ".1f"})

    def save(self, path: Path) -> None:
        """Write the table as JSON, atomically. Raises OSError if the file cannot be written."""
        entries = [
            {**entry.part._asdict(), "seconds": entry.seconds, "reference": entry.reference} for entry in self.entries
        ]
        save_json(to_dict(self) | {"entries": entries}, path, "lookup table")

    @classmethod
    def load(cls, path: Path) -> Lookup:
        """Load what `save` wrote. Raises ValueError, naming the file, if it contains something else."""

        def parse(data: dict[str, Any]) -> Lookup:
            times = Entry._fields[1:]
            entries = [
                {"part": {name: entry[name] for name in Part._fields}, **{name: entry[name] for name in times}}
                for entry in data["entries"]
            ]
            return from_dict(cls, data | {"entries": entries})

        return load_json(path, "lookup table", parse)

    def _check_fields(self, config: EfficientFormerConfig) -> None:
        """Raise ValueError if the parts of the network differ from those that were measured."""
        ignored = SHAPE_FIELDS | TRAINING_FIELDS | (FOLDED_FIELDS if self.engine.endswith("folded") else set())
        base = self.base.to_dict()
        for name, value in config.to_dict().items():
            expected = base[name]
            if name == "layer_scale_init":  # its value does not affect the latency, its presence does
                value, expected = value is not None, expected is not None
            if name not in ignored and value != expected:
                allowed = getattr(self.base, name)
                raise ValueError(f"{name}={getattr(config, name)!r} is not in the table; allowed: {allowed!r}")

    def __repr__(self) -> str:
        height, width = self.resolution
        return f"Lookup({len(self.entries)} parts, {self.engine}, {height}×{width})"

    def _repr_markdown_(self) -> str:
        return f"{self.table().to_markdown()}\n\n{self.conditions}"
