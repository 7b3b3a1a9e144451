"""Costs of the same changes in the full-size network: parameters, MACs, and measured latency at 224 pixels.

Accuracy is trained on small images, but latency is not measured on them: on a grid of 4×4 tokens the call overhead, a
few microseconds per operation, dominates, and the latency of a variant would only reflect its number of operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from efficientformer_edu.ablations.variants import BASE, Variant
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.latency.engines import Prepared, prepare
from efficientformer_edu.latency.records import MEASUREMENTS, Conditions, Measurement, measurements, save
from efficientformer_edu.latency.timer import measure
from efficientformer_edu.latency.workloads import ChannelNorm, Workload
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.model.folding import folded_maps
from efficientformer_edu.utils.records import load_json
from efficientformer_edu.utils.statistics import Estimate, median_estimate, paired_ratio

EAGER, FOLDED = "eager", "folded"


@dataclass(frozen=True)
class Costs:
    """Costs of variants of a network.

    Attributes:
        measurement: subjects "variant eager" and, if it can be folded, "variant folded".
        params: number of parameters by variant.
        macs: multiply-accumulates for one image by variant, in convolutions and matrix products.
    """

    measurement: Measurement
    params: Mapping[str, int]
    macs: Mapping[str, int]

    def milliseconds(self, variant: str, form: str) -> Estimate | None:
        """Median latency of one image in milliseconds, in a form (`EAGER` or `FOLDED`); None if it was not timed."""
        seconds = self._seconds(variant, form)
        return median_estimate([1e3 * duration for duration in seconds]) if seconds else None

    def ratio(self, variant: str, form: str) -> Estimate | None:
        """How many times as long as the base a variant takes in a form; None if one of the two was not timed.

        The ratio is paired: variant and base run in the same round, so that a slow phase of the machine affects both.
        Medians of separate samples are not comparable on a machine whose speed changes between rounds.
        """
        seconds, base = self._seconds(variant, form), self._seconds(BASE, form)
        return paired_ratio(seconds, base) if seconds and base else None

    def save(self, path: Path) -> None:
        """Write everything as JSON, atomically. Raises OSError if that fails."""
        save({"costs": self.measurement}, path, params=dict(self.params), macs=dict(self.macs))

    def _seconds(self, variant: str, form: str) -> tuple[float, ...]:
        timings = {timing.name: timing.seconds for timing in self.measurement.timings}
        return timings.get(f"{variant} {form}", ())


def load_costs(path: Path) -> Costs:
    """Read a file that `Costs.save` wrote.

    Raises:
        ValueError: if the file has other contents; the message names the file.
        OSError: if the file cannot be read.
    """
    return load_json(path, MEASUREMENTS, lambda data: Costs(measurements(data)["costs"], data["params"], data["macs"]))


def measure_costs(
    variants: Mapping[str, Variant],
    base: EfficientFormerConfig = PRESETS["l1"],
    resolution: int = 224,
    rounds: int = 30,
    *,
    progress: bool = False,
) -> Costs:
    """Count parameters and MACs of the variants of a network and time them interleaved, one image on one thread.

    The folded form is that for a graph compiler (`folded_maps`), in the channels-last memory format: it is the same for
    every token mixer. Group norm and layer norm cannot be folded.

    Args:
        variants: variants by name. Those that only change the recipe are counted but not timed.
        base: configuration of the network that is changed.
        resolution: height and width of the image in pixels.
        rounds: number of interleaved rounds. With fewer than five there is no verdict, and differences of a few percent
            need at least 30.
        progress: show a bar on the terminal.

    Warns:
        UserWarning: as `measure` does.
    """
    images = torch.randn(1, base.in_channels, resolution, resolution, generator=torch.Generator().manual_seed(0))
    subjects: dict[str, Prepared] = {}
    params, macs = dict[str, int](), dict[str, int]()
    for name, variant in variants.items():
        network = variant.network(base.replace(**variant.fields(base))).eval()
        params[name] = sum(parameter.numel() for parameter in network.parameters())
        macs[name] = Workload(network, images).macs
        if variant.keeps_network:
            continue
        subjects[f"{name} {EAGER}"] = prepare("eager", network, images, 1)
        if folds(network):
            subjects[f"{name} {FOLDED}"] = prepare("channels-last", folded_maps(network, resolution), images, 1)
    conditions = Conditions("efficientformer-edu ablate", resolution=(resolution, resolution))
    return Costs(measure(subjects, conditions, rounds=rounds, num_threads=1, progress=progress), params, macs)


def folds(network: EfficientFormer) -> bool:
    """Whether the network can be folded: every normalization of a feature map is a batch norm, if there is any."""
    return not any(isinstance(module, nn.GroupNorm | ChannelNorm) for module in network.modules())
