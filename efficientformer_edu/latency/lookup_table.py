"""The parts whose latencies a lookup table contains, and their MACs.

Paper: section 4.2, step 2 of the slimming: a lookup table of the latency of MB4D and MB3D at widths that are multiples
of 16. Here it also contains the stem, the embeddings and the head, so that the sum covers the complete network.

A table of the latencies of a network's parts, and the latency of a network as their sum.

Paper: section 4.2, step 2 of the slimming. The parts are defined in `lookup_parts`.

Between two measured widths, the latency of a part is interpolated linearly in its MACs. Most of the time is spent in
matrix products, whose MACs grow with the square of the width, so linear interpolation in the width would overestimate.
The interpolation is piecewise, because a library selects a different algorithm above some size. An embedding has two
widths. Its latency is interpolated linearly in each, which includes their product and therefore its MACs. There is no
extrapolation beyond the measured widths.

The speed of a machine drifts. Each part is therefore timed in the same rounds as a complete network, the reference, and
the seconds of all entries are scaled to the median of the reference's times.

The reference also corrects the sum: a network takes a little longer than its parts, because less of each part's code
and feature maps is in the cache. All sums are multiplied by the ratio measured for the reference.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

from efficientformer_edu.audit.growth import STEP, mb3d_macs, mb4d_macs
from efficientformer_edu.config import EfficientFormerConfig, Resolution, get_config, resolution_pair
from efficientformer_edu.latency.records import Conditions
from efficientformer_edu.utils.files import atomic_write
from efficientformer_edu.utils.tables import Table

Grid = tuple[int, int]
PartKind = Literal["stem", "embedding", "MB4D", "MB3D", "head"]


class Part(NamedTuple):
    """The key of an entry in the table.

    Attributes:
        kind: "stem", "embedding", "MB4D", "MB3D" or "head".
        grid: height and width of the output feature map; for the head, of the last feature map.
        widths: channels (C,), or input and output channels (C_in, C) for an embedding.
    """

    kind: PartKind
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


__all__ = ["Entry", "Lookup", "Part", "macs", "parts"]

VARIED = {"depths", "embed_dims", "num_vit", "downsamples"}  # fields that select the parts of a sum
RESTING = {"drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"}  # only active in training
FOLDED_AWAY = {"distillation", "bias_grid"}  # one head, one fixed bias


class Entry(NamedTuple):
    """The latency of a part.

    Attributes:
        part: the part.
        seconds: seconds of one such part within a network, derived as in `lookup_chains`, rounded to nanoseconds.
        reference: seconds of the reference network in the same rounds, rounded to nanoseconds.
    """

    part: Part
    seconds: float
    reference: float


@dataclass(frozen=True, repr=False)
class Lookup:
    """Latencies of parts for one input size and one engine.

    Attributes:
        engine: one of `lookup_chains.FORMS`.
        resolution: height and width of the images in pixels.
        base: the reference network; its fields other than depths and widths apply to every part.
        conditions: what the measurements depend on.
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
            raise ValueError("the table is empty; wanted: at least one entry")
        return median({entry.reference for entry in self.entries})

    @cached_property
    def seconds(self) -> dict[Part, float]:
        """The latency of each measured part, all at the same machine speed."""
        return {entry.part: entry.seconds / entry.reference * self.reference for entry in self.entries}

    @cached_property
    def whole_over_parts(self) -> float:
        """Latency of the reference network divided by the sum of its parts; 1 if the table lacks one of them."""
        try:
            counted = parts(self.base, self.resolution).items()
            return self.reference / sum(number * self.part(part) for part, number in counted)
        except ValueError:
            return 1.0

    def predict(
        self,
        model: str | EfficientFormerConfig,
        *,
        resolution: Resolution | None = None,
        engine: str | None = None,
    ) -> float:
        """The latency of a network, measured or not, as the sum of its parts times `whole_over_parts`.

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
        config = get_config(model)
        if resolution is not None and resolution_pair(resolution) != self.resolution:
            raise ValueError(f"resolution={resolution!r} is not in the table; it was measured at {self.resolution}")
        if engine is not None and engine != self.engine:
            raise ValueError(f"engine={engine!r} is not in the table; it was measured with {self.engine!r}")
        return sum(self.shares(config).values())

    def shares(self, model: str | EfficientFormerConfig) -> dict[Part, float]:
        """Seconds that a network spends in each part, equal blocks grouped. Raises ValueError as `predict` does."""
        config = get_config(model)
        _check_same(config, self.base, self.engine)
        counted = parts(config, self.resolution).items()
        return {part: number * self.part(part) * self.whole_over_parts for part, number in counted}

    def gain(self, model: str | EfficientFormerConfig, smaller: str | EfficientFormerConfig) -> float:
        """Seconds that the smaller network saves. Raises ValueError as `predict` does."""
        return self.predict(model) - self.predict(smaller)

    def part(self, part: Part) -> float:
        """Seconds of one part, measured or interpolated. Raises ValueError if neither is possible."""
        if part in self.seconds:
            return self.seconds[part]
        if any(width % STEP for width in part.widths):
            raise ValueError(f"{part}: not in the table; allowed: widths that are multiples of {STEP}")
        if part.kind == "embedding":
            return self._embedding(part)
        below, above = self._neighbours(part, 0)
        ends = [part._replace(widths=(width,)) for width in (below, above)]
        return _line(
            macs(part, self.base, self.resolution),
            [macs(end, self.base, self.resolution) for end in ends],
            [self._measured(end) for end in ends],
        )

    def _embedding(self, part: Part) -> float:
        """Bilinear interpolation in the two widths, from the four measured pairs around it."""
        (before, after), ends = part.widths, [self._neighbours(part, axis) for axis in (0, 1)]
        sides = [
            _line(before, ends[0], [self._measured(part._replace(widths=(width, other_width))) for width in ends[0]])
            for other_width in ends[1]
        ]
        return _line(after, ends[1], sides)

    def _measured(self, part: Part) -> float:
        if part not in self.seconds:
            raise ValueError(f"{part}: not in the table, which is not complete; build it to the end")
        return self.seconds[part]

    def _neighbours(self, part: Part, axis: int) -> tuple[int, int]:
        """The measured widths below and above one of the part's widths; both are the same if it was measured itself."""
        candidates = (candidate for candidate in self.seconds if candidate[:2] == part[:2])
        known, width = sorted({candidate.widths[axis] for candidate in candidates}), part.widths[axis]
        if not known or not known[0] <= width <= known[-1]:
            span = f"{known[0]} to {known[-1]} channels" if known else "none on this grid"
            raise ValueError(f"{part}: {width} is outside of the table, which has {span}")
        above = bisect_left(known, width)
        return known[above - (known[above] != width)], known[above]

    def table(self) -> Table:
        """Every measured part with its latency in microseconds."""
        rows = [
            (part.kind, "×".join(map(str, part.grid)), " to ".join(map(str, part.widths)), f"{1e6 * seconds:.1f}")
            for part, seconds in self.seconds.items()
        ]
        return Table(("part", "grid", "channels", "µs"), tuple(rows))

    def save(self, path: Path) -> None:
        """Write the table as JSON, atomically. Raises OSError if the file cannot be written."""
        entries = [
            {**entry.part._asdict(), "seconds": entry.seconds, "reference": entry.reference} for entry in self.entries
        ]
        data = asdict(self) | {"base": self.base.to_dict(), "entries": entries}
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Lookup:
        """Load a table that `save` wrote.

        Raises:
            ValueError: if the file does not contain a lookup table; the message names the file.
            OSError: if the file cannot be read.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            conditions = Conditions(**{**data["conditions"], "resolution": tuple(data["conditions"]["resolution"])})
            base, entries = EfficientFormerConfig.from_dict(data["base"]), tuple(map(_entry, data["entries"]))
            return cls(data["engine"], resolution_pair(data["resolution"]), base, conditions, entries)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path.name} holds no lookup table: {error}") from error

    def __repr__(self) -> str:
        height, width = self.resolution
        return f"Lookup({len(self.entries)} parts, {self.engine}, {height}×{width})"

    def _repr_markdown_(self) -> str:
        return f"{self.table().to_markdown()}\n\n{self.conditions}"


def _line(at: float, positions: Sequence[float], values: Sequence[float]) -> float:
    """Linear interpolation between two points; the first value if both positions are the same."""
    (left, right), (low, high) = positions, values
    return low if left == right else low + (at - left) / (right - left) * (high - low)


def _check_same(config: EfficientFormerConfig, base: EfficientFormerConfig, engine: str) -> None:
    """Raise ValueError if the parts of the network differ from those that were measured."""
    free = VARIED | RESTING | (FOLDED_AWAY if engine.endswith("folded") else set())
    for name, value in config.to_dict().items():
        expected = base.to_dict()[name]
        if name == "layer_scale_init":  # its value does not affect the latency, its presence does
            value, expected = value is not None, expected is not None
        if name not in free and value != expected:
            raise ValueError(f"{name}={getattr(config, name)!r} is not in the table; wanted: {getattr(base, name)!r}")


def _entry(data: dict[str, Any]) -> Entry:
    (height, width), widths = data["grid"], tuple(map(int, data["widths"]))
    return Entry(Part(data["kind"], (height, width), widths), float(data["seconds"]), float(data["reference"]))
