"""Compare the latency of L1 with timm's in one run, and store the records in the package: a part of `make bench`.

timm's EfficientFormer-L1 represents the public implementations. Every row is a ratio of paired rounds, next to its
target. The records contain the milliseconds, the machine, and the fraction of the machine's matrix-multiply peak that
each subject reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from efficientformer_edu.audit import count
from efficientformer_edu.latency import Conditions, Measurement, measure, save
from efficientformer_edu.latency.engines import prepare
from efficientformer_edu.latency.peers import FIGURE2, PEERS, gelu_for_hardswish, peer
from efficientformer_edu.latency.profile import Profile, profile, save_profiles
from efficientformer_edu.model import EfficientFormer, fold
from efficientformer_edu.utils.hardware import cores
from efficientformer_edu.utils.records import stored

RECORDS, PROFILES = stored("bench.json"), stored("profiles.json")
ROUNDS = 40
SIDE = 1024  # of the square matrices whose product defines the peak
TIMM = "efficientformer_l1"
PEAK = "matrix product"
ALLOWED = 0.05  # largest share of a profile's time that is unexplained, or in no class
TARGETS: list[tuple[str, str, dict[int, float]]] = [  # subject, against, largest ratio by threads
    ("ours, folded", "timm, eager", {1: 0.60, 2: 0.55}),
    ("ours, ONNX Runtime", "timm, ONNX Runtime", {1: 0.92, 2: 0.92}),
    ("ours, OpenVINO", "timm, OpenVINO", {1: 1.0, 2: 1.0}),
    ("ours, training", "timm, training", {1: 1.0, 2: 1.0}),
]


def inference(threads: int) -> Measurement:
    """Measure both networks in every engine, and a product of two square matrices, in interleaved rounds."""
    network, timm_network, images = EfficientFormer().eval(), peer(TIMM), torch.randn(1, 3, 224, 224)
    subjects: dict[str, Callable[[], object]] = {
        "timm, eager": prepare("eager", timm_network, images, threads),
        "ours, eager": prepare("eager", network, images, threads),
        "ours, folded": prepare("folded", network, images, threads),
    }
    for engine, label in (("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")):
        subjects[f"timm, {label}"] = prepare(engine, timm_network, images, threads)
        subjects[f"ours, {label}"] = prepare(f"{engine}-folded", network, images, threads)
    square = torch.randn(SIDE, SIDE)
    subjects[PEAK] = lambda: square @ square
    with torch.inference_mode():
        return measure(subjects, Conditions("make bench"), rounds=ROUNDS, num_threads=threads)


def training(threads: int, batch: int = 4) -> Measurement:
    """Measure forward and backward passes of both networks in training mode."""
    images, labels = torch.randn(batch, 3, 224, 224), torch.arange(batch)

    def step(network: nn.Module) -> Callable[[], Tensor]:
        def call() -> Tensor:
            network.zero_grad()
            logits = network(images)
            logits = logits if isinstance(logits, Tensor) else (logits[0] + logits[1]) / 2  # timm trains two heads
            loss: Tensor = nn.functional.cross_entropy(logits, labels)
            loss.backward()
            return loss

        return call

    subjects = {"timm, training": step(peer(TIMM).train()), "ours, training": step(EfficientFormer().train())}
    return measure(subjects, Conditions("make bench", batch=batch), rounds=10, num_threads=threads)


def ratios(records: Mapping[int, tuple[Measurement, ...]]) -> Iterator[tuple[str, float, float]]:
    """Yield the rows: what is compared, the ratio, and its target."""
    for threads, measured in records.items():
        for subject, against, targets in TARGETS:
            for measurement in measured:
                if subject in (timing.name for timing in measurement.timings) and threads in targets:
                    label = f"{subject} / {against}, {threads} thread{'s' * (threads > 1)}"
                    yield label, measurement.ratio(subject, against).value, targets[threads]


def peaks(measured: Measurement) -> Iterator[tuple[str, float]]:
    """Yield the share of the machine's peak that each subject reaches, from the network's MACs."""
    peak = SIDE**3 / measured[PEAK].estimate.value
    for timing in measured.timings:
        if timing.name != PEAK:
            yield timing.name, count("l1").macs / timing.estimate.value / peak


def main() -> int:
    """Measure, store and print; return the number of missed targets. Does nothing if timm is missing."""
    try:
        peer(TIMM)
    except ImportError as error:
        print(f"latency compared with timm: not measured: {error}")
        return 0
    numbers = sorted({1, min(2, cores())})
    records = {threads: (inference(threads), training(threads)) for threads in numbers}
    store(records, RECORDS)
    breakdowns = profiles()
    save_profiles(breakdowns, PROFILES)
    print(f"measured, as ratios to timm's EfficientFormer-L1 in the same run, medians of {ROUNDS} rounds")
    missed = 0
    for what, ratio, target in ratios(records):
        missed += ratio > target
        print(f"{what:58}{ratio:7.3f}{target:7.2f}{'  missed' if ratio > target else ''}")
    for threads, (measured, _) in records.items():
        for what, share in peaks(measured):
            print(f"share of the matrix-multiply peak, {threads} threads: {what:24}{share:6.1%}")
    print("Fig. 2: sum of the classes divided by the measured time, and the share in no class")
    for breakdown in breakdowns:
        fits = abs(breakdown.ratio - 1) <= ALLOWED and breakdown.shares["other"] <= ALLOWED
        missed += not fits
        print(f"{breakdown.name:58}{breakdown.ratio:7.1%}{breakdown.shares['other']:7.1%}{'' if fits else '  missed'}")
    return missed


def profiles() -> list[Profile]:
    """Reproduce Fig. 2: L1, folded L1 and the paper's baselines, by class of operators, on one thread."""
    images = torch.randn(1, 3, 224, 224)
    networks: dict[str, nn.Module] = {PEERS[name]: peer(name) for name in FIGURE2}
    gelu_for_hardswish(networks["LeViT-256"])
    l1 = EfficientFormer().eval()
    networks |= {"EfficientFormer-L1": l1, "EfficientFormer-L1, folded": fold(l1)}
    return [
        profile(network, images, name=name, num_threads=1, rounds=ROUNDS, command="make bench")
        for name, network in networks.items()
    ]


def store(records: Mapping[int, tuple[Measurement, ...]], path: Path) -> None:
    """Write all records to one file."""
    named = {
        f"{what}, {threads} threads": measurement
        for threads, measured in records.items()
        for what, measurement in zip(("inference", "training"), measured, strict=True)
    }
    save(named, path)


if __name__ == "__main__":
    raise SystemExit(main())
