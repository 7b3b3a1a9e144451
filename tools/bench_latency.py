"""Times L1 against timm's, side by side in one run, and stores the records in results/: a part of `make bench`.

timm's EfficientFormer-L1 stands for the public implementations. Every row is a ratio, taken round by round, beside its
target; the milliseconds, the machine and the share of its own matrix-multiply peak that each subject reaches go into
the records.
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
from efficientformer_edu.machine import cores
from efficientformer_edu.model import EfficientFormer, fold
from tools import ROOT

RECORDS, PROFILES = ROOT / "results" / "bench.json", ROOT / "results" / "profiles.json"
ROUNDS = 40
SIDE = 1024  # of the square matrices whose product is the peak
TIMM = "efficientformer_l1"
PEAK = "matrix product"
ALLOWED = 0.05  # of a profile's time: unexplained, and in no class
TARGETS: list[tuple[str, str, dict[int, float]]] = [  # subject, against, largest ratio by threads
    ("ours, folded", "timm, eager", {1: 0.60, 2: 0.55}),
    ("ours, ONNX Runtime", "timm, ONNX Runtime", {1: 0.92, 2: 0.92}),
    ("ours, OpenVINO", "timm, OpenVINO", {1: 1.0, 2: 1.0}),
    ("ours, training", "timm, training", {1: 1.0, 2: 1.0}),
]


def inference(threads: int) -> Measurement:
    """Both networks in every engine, and the product of two square matrices, in turns."""
    ours, theirs, images = EfficientFormer().eval(), peer(TIMM), torch.randn(1, 3, 224, 224)
    subjects: dict[str, Callable[[], object]] = {
        "timm, eager": prepare("eager", theirs, images, threads),
        "ours, eager": prepare("eager", ours, images, threads),
        "ours, folded": prepare("folded", ours, images, threads),
    }
    for engine, words in (("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")):
        subjects[f"timm, {words}"] = prepare(engine, theirs, images, threads)
        subjects[f"ours, {words}"] = prepare(f"{engine}-folded", ours, images, threads)
    square = torch.randn(SIDE, SIDE)
    subjects[PEAK] = lambda: square @ square
    with torch.inference_mode():
        return measure(subjects, Conditions("make bench"), rounds=ROUNDS, num_threads=threads)


def training(threads: int, batch: int = 4) -> Measurement:
    """Forward and backward of both networks in training mode."""
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
    """Each row: what is compared, the ratio, and its target."""
    for threads, measured in records.items():
        for subject, against, targets in TARGETS:
            for one in measured:
                if subject in (timing.name for timing in one.timings) and threads in targets:
                    label = f"{subject} / {against}, {threads} thread{'s' * (threads > 1)}"
                    yield label, one.ratio(subject, against).value, targets[threads]


def peaks(measured: Measurement) -> Iterator[tuple[str, float]]:
    """The share of the machine's own peak that each subject reaches, by the network's MACs."""
    peak = SIDE**3 / measured[PEAK].estimate.value
    for timing in measured.timings:
        if timing.name != PEAK:
            yield timing.name, count("l1").macs / timing.estimate.value / peak


def main() -> int:
    """Measure, store and print; returns how many targets are missed. Without timm there is nothing to compare with."""
    try:
        peer(TIMM)
    except ImportError as error:
        print(f"latency beside timm's: not measured: {error}")
        return 0
    numbers = sorted({1, min(2, cores())})
    records = {threads: (inference(threads), training(threads)) for threads in numbers}
    store(records, RECORDS)
    found = profiles()
    save_profiles(found, PROFILES)
    print(f"measured, as ratios to timm's EfficientFormer-L1 in the same run, medians of {ROUNDS} rounds")
    missed = 0
    for what, ratio, target in ratios(records):
        missed += ratio > target
        print(f"{what:58}{ratio:7.3f}{target:7.2f}{'  missed' if ratio > target else ''}")
    for threads, (measured, _) in records.items():
        for what, share in peaks(measured):
            print(f"share of the matrix-multiply peak, {threads} threads: {what:24}{share:6.1%}")
    print("Fig. 2: the sum of the classes against the clock, and what stays in no class")
    for one in found:
        fits = abs(one.ratio - 1) <= ALLOWED and one.shares["other"] <= ALLOWED
        missed += not fits
        print(f"{one.name:58}{one.ratio:7.1%}{one.shares['other']:7.1%}{'' if fits else '  missed'}")
    return missed


def profiles() -> list[Profile]:
    """Fig. 2 rebuilt: L1, folded L1 and the relatives of the paper, by class of operators, on one thread."""
    images = torch.randn(1, 3, 224, 224)
    networks: dict[str, nn.Module] = {PEERS[name]: peer(name) for name in FIGURE2}
    gelu_for_hardswish(networks["LeViT-256"])
    ours = EfficientFormer().eval()
    networks |= {"EfficientFormer-L1": ours, "EfficientFormer-L1, folded": fold(ours)}
    return [
        profile(network, images, name=name, num_threads=1, rounds=ROUNDS, command="make bench")
        for name, network in networks.items()
    ]


def store(records: Mapping[int, tuple[Measurement, ...]], path: Path) -> None:
    """Write all records into one file."""
    named = {
        f"{what}, {threads} threads": one
        for threads, measured in records.items()
        for what, one in zip(("inference", "training"), measured, strict=True)
    }
    path.parent.mkdir(exist_ok=True)
    save(named, path)


if __name__ == "__main__":
    raise SystemExit(main())
