"""The claim of the title on this machine, and what each step of folding gains.

Paper: Fig. 1 and Table 1, where EfficientFormer-L1 and MobileNetV2×1.4 take the same time on a phone's NPU. Here they
are compared like for like: both in the same engine, at the same batch and number of threads.
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
    """L1 takes no longer than MobileNetV2×1.4: one claim for each record and engine.

    Args:
        records: what `efficientformer-edu bench` stored, by name; its subjects are "network engine".
        ours: the first network's name there.
        rival: the second one's.

    Returns:
        Claims with the ratio of their times, round by round. The bound is the largest ratio that Table 1 can mean: both
        of its times are rounded.

    Raises:
        ValueError: if no engine ran both.
    """
    claims = [
        Claim(f"{engine}, {name}", one.ratio(f"{ours} {engine}", f"{rival} {engine}"), "below", largest_ratio())
        for name, one in records.items()
        for engine in engines(one)
        if {f"{ours} {engine}", f"{rival} {engine}"} <= {timing.name for timing in one.timings}
    ]
    if not claims:
        raise ValueError(f"no engine ran both {ours} and {rival} in {', '.join(records) or 'no record'}")
    return tuple(claims)


def largest_ratio() -> float:
    """L1's time over MobileNetV2×1.4's on the NPU, the largest that rounds to what Table 1 prints."""
    table = table1()
    ours, rival = table[OURS, "npu"], table[RIVAL, "npu"]
    return (ours.value + _half(ours)) / (rival.value - _half(rival))


def engines(measurement: Measurement) -> tuple[str, ...]:
    """The engines of a record whose subjects are "network engine", in their order."""
    return tuple(dict.fromkeys(timing.name.rpartition(" ")[2] for timing in measurement.timings))


def in_engine(measurement: Measurement, engine: str) -> Measurement:
    """The part of a record that one engine ran, its subjects named as networks.

    Raises:
        ValueError: if that engine ran nothing.
    """
    found = tuple(
        replace(timing, name=timing.name.removesuffix(f" {engine}"))
        for timing in measurement.timings
        if timing.name.endswith(f" {engine}")
    )
    if not found:
        raise ValueError(f"engine {engine!r} ran nothing here; there are {', '.join(engines(measurement))}")
    return Measurement(measurement.conditions, found)


def folding_steps(model: EfficientFormer, resolution: Resolution = 224) -> dict[str, nn.Module]:
    """The network after each step of `fold`, by what the step does; each has all steps before it.

    Args:
        model: the network as trained; it is left as it is.
        resolution: the one input size in pixels, a number or (height, width).

    Returns:
        Copies in evaluation mode, the first as trained, the last what `fold` returns.

    Raises:
        ValueError: if the model already is folded, or the resolution is below 32.
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
    found: dict[str, nn.Module] = {"as trained": current}
    for name, step in steps.items():
        current = copy.deepcopy(current)
        step(current)
        found[name] = current
    return found


def _half(cell: Reported) -> float:
    """Half of a printed number's last place."""
    return float(0.5 * 10**-cell.digits)
