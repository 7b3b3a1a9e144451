"""The claim in the paper's title, tested on this machine, and the speedup of each folding step.

Paper: Fig. 1 and Table 1, where EfficientFormer-L1 and MobileNetV2×1.4 have the same latency on a phone's NPU. Here
both run in the same engine, with the same batch size and number of threads.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import nn

from efficientformer_edu.config import Resolution, resolution_pair
from efficientformer_edu.latency.observations import Claim
from efficientformer_edu.latency.records import Measurement
from efficientformer_edu.model import EfficientFormer, folding
from efficientformer_edu.paper import table1

L1, BASELINE = "EfficientFormer-L1", "MobileNetV2×1.4"  # the two networks of the title in Table 1


def title_claims(
    records: Mapping[str, Measurement], model: str = "l1", baseline: str = "timm:mobilenetv2_140"
) -> tuple[Claim, ...]:
    """L1 takes no longer than MobileNetV2×1.4: one claim per record and engine.

    Args:
        records: records of `efficientformer-edu bench` by name, with timings named "network engine".
        model: the first network's name in the records.
        baseline: the second network's name in the records.

    Returns:
        Claims about the ratio of the latencies, paired by round. The bound is the largest ratio that is consistent with
        the rounded values in Table 1.

    Raises:
        ValueError: if no engine ran both networks.
    """
    claims = [
        Claim(f"{engine}, {name}", record.ratio(f"{model} {engine}", f"{baseline} {engine}"), "below", largest_ratio())
        for name, record in records.items()
        for engine in record.engines
        if {f"{model} {engine}", f"{baseline} {engine}"} <= {timing.name for timing in record.timings}
    ]
    if not claims:
        raise ValueError(f"no engine ran both {model} and {baseline} in {', '.join(records) or 'no record'}")
    return tuple(claims)


def largest_ratio() -> float:
    """The largest ratio of L1 to MobileNetV2×1.4 on the NPU that is consistent with the rounded values in Table 1."""
    l1, baseline = (table1()[name, "npu"] for name in (L1, BASELINE))
    half_l1, half_baseline = (0.5 * 10**-cell.digits for cell in (l1, baseline))  # of a unit of the last digit
    return float((l1.value + half_l1) / (baseline.value - half_baseline))


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
        "batch norms into convolutions": folding.fold_norms,
        "layer scales into linear maps": folding.fold_layer_scales,
        "attention's bias looked up, its queries scaled": lambda network: folding.fold_attention(network, size),
        "two heads into one": folding.merge_heads,
        "channels-last memory format": folding.channels_last,
    }
    network = copy.deepcopy(model).eval()
    folding.drop_dropouts(network)
    networks: dict[str, nn.Module] = {"as trained": network}
    for name, step in steps.items():
        network = copy.deepcopy(network)
        step(network)
        networks[name] = network
    return networks
