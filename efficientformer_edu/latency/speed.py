"""The claim in the paper's title, tested on this machine, and the speedup of each folding step.

Paper: Fig. 1 and Table 1, where EfficientFormer-L1 and MobileNetV2×1.4 have the same latency on a phone's NPU. Here
both run in the same engine, with the same batch size and number of threads.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from efficientformer_edu.config import Resolution, resolution_pair
from efficientformer_edu.latency.claims import Claim
from efficientformer_edu.latency.records import Measurement
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.model.folding import (
    channels_last,
    drop_dropouts,
    fold_attention,
    fold_layer_scales,
    fold_norms,
    merge_heads,
)
from efficientformer_edu.paper import Reported, table1

OURS, RIVAL = "EfficientFormer-L1", "MobileNetV2×1.4"


def title_claims(
    records: Mapping[str, Measurement], ours: str = "l1", rival: str = "timm:mobilenetv2_140"
) -> tuple[Claim, ...]:
    """L1 takes no longer than MobileNetV2×1.4: one claim per record and engine.

    Args:
        records: records of `efficientformer-edu bench` by name, with subjects named "network engine".
        ours: the first network's name in the records.
        rival: the second network's name in the records.

    Returns:
        Claims about the ratio of the latencies, paired by round. The bound is the largest ratio that is consistent with
        the rounded values in Table 1.

    Raises:
        ValueError: if no engine ran both networks.
    """
    claims = [
        Claim(f"{engine}, {name}", record.ratio(f"{ours} {engine}", f"{rival} {engine}"), "below", largest_ratio())
        for name, record in records.items()
        for engine in engines(record)
        if {f"{ours} {engine}", f"{rival} {engine}"} <= {timing.name for timing in record.timings}
    ]
    if not claims:
        raise ValueError(f"no engine ran both {ours} and {rival} in {', '.join(records) or 'no record'}")
    return tuple(claims)


def largest_ratio() -> float:
    """The largest ratio of L1 to MobileNetV2×1.4 on the NPU that is consistent with the rounded values in Table 1."""
    table = table1()
    l1, baseline = table[OURS, "npu"], table[RIVAL, "npu"]
    return (l1.value + _half(l1)) / (baseline.value - _half(baseline))


def engines(measurement: Measurement) -> tuple[str, ...]:
    """The engines of a record whose subjects are named "network engine", in order."""
    return tuple(dict.fromkeys(timing.name.rpartition(" ")[2] for timing in measurement.timings))


def in_engine(measurement: Measurement, engine: str) -> Measurement:
    """The part of a record that was measured in one engine, with subjects named by network.

    Raises:
        ValueError: if the record has no subjects in this engine.
    """
    timings = tuple(
        replace(timing, name=timing.name.removesuffix(f" {engine}"))
        for timing in measurement.timings
        if timing.name.endswith(f" {engine}")
    )
    if not timings:
        raise ValueError(f"engine {engine!r} ran nothing here; there are {', '.join(engines(measurement))}")
    return Measurement(measurement.conditions, timings)


def folding_steps(model: EfficientFormer, resolution: Resolution = 224) -> dict[str, nn.Module]:
    """The network after each step of `fold`, by a description of the step. Each includes all previous steps.

    Args:
        model: the network in its trained form; it is not modified.
        resolution: the fixed input size in pixels, a number or (height, width).

    Returns:
        Copies in evaluation mode, from the trained form to the result of `fold`.

    Raises:
        ValueError: if the model is already folded, or the resolution is below 32.
    """
    size = resolution_pair(resolution)
    if model.input_size is not None:
        raise ValueError("the model is folded already; take the model as it was trained")
    steps = {
        "batch norms into convolutions": fold_norms,
        "layer scales into linear maps": fold_layer_scales,
        "attention's bias looked up, its queries scaled": lambda network: fold_attention(network, size),
        "two heads into one": merge_heads,
        "channels of a place side by side": channels_last,
    }
    current = copy.deepcopy(model).eval()
    drop_dropouts(current)
    networks: dict[str, nn.Module] = {"as trained": current}
    for name, step in steps.items():
        current = copy.deepcopy(current)
        step(current)
        networks[name] = current
    return networks


def _half(cell: Reported) -> float:
    """Half a unit of the last printed digit."""
    return float(0.5 * 10**-cell.digits)
