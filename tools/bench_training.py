"""Times training steps of L1 beside timm's, and the kit's loop beside a bare one: a part of `make bench`.

Each step is forward, backward and AdamW at 224 pixels, with the loss of both heads. Every row is a ratio, taken round
by round, beside its target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from efficientformer_edu.data.datasets import Images
from efficientformer_edu.latency import Conditions, Measurement, measure, save
from efficientformer_edu.latency.peers import peer
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training.classification import ClassificationTrainer, Run
from efficientformer_edu.training.loading import Batch
from efficientformer_edu.training.optimization import parameter_groups
from efficientformer_edu.training.recipe import CODE
from efficientformer_edu.utils.hardware import cores
from efficientformer_edu.utils.records import stored

RECORDS = stored("bench_training.json")
ROUNDS, BATCH = 8, 16
RECIPE = CODE.replace(distillation=None, agc_clip=None, ema=None, batch=BATCH)  # what a bare loop has, too
LAYOUT = torch.channels_last
TARGETS = [("the kit's loop", "ours, bare loop", 1.03), ("ours, bare loop", "timm, bare loop", 1.0)]


def bare(network: nn.Module, batch: Batch) -> Callable[[], Tensor]:
    """A loop with nothing but forward, backward and optimizer, and the layout of memory that the kit's has."""
    network.train().to(memory_format=LAYOUT)  # type: ignore[call-overload]
    heads: Callable[[Tensor], Any] = network.forward_heads if isinstance(network, EfficientFormer) else network
    optimizer = torch.optim.AdamW(parameter_groups(network, RECIPE.weight_decay), lr=RECIPE.max_lr)

    def step() -> Tensor:
        images = batch.images.to(memory_format=LAYOUT)
        cls, dist = heads(images)
        loss = (nn.functional.cross_entropy(cls, batch.targets) + nn.functional.cross_entropy(dist, batch.targets)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def training() -> Measurement:
    """All subjects in turns."""
    torch.manual_seed(0)
    targets = nn.functional.one_hot(torch.arange(BATCH), 1000).float()
    batch = Batch(torch.randn(BATCH, 3, 224, 224), targets, torch.arange(BATCH))
    none = Images([], [], tuple(map(str, range(1000))), "no images: the batch is made up")
    loop = ClassificationTrainer(Run(EfficientFormer().config, none, none, RECIPE, size=224))
    loop.ddp_model.train()
    theirs: Any = peer("efficientformer_l1")
    theirs.set_distilled_training(True)  # else it returns the mean of both heads
    subjects = {
        "timm, bare loop": bare(theirs, batch),
        "ours, bare loop": bare(EfficientFormer(), batch),
        "the kit's loop": lambda: loop.step(batch, 0),
    }
    return measure(subjects, Conditions("make bench", batch=BATCH), rounds=ROUNDS, num_threads=cores())


def main() -> int:
    """Measure, store and print; returns how many targets are missed. Without timm there is nothing to compare with."""
    try:
        peer("efficientformer_l1")
    except ImportError as error:
        print(f"training beside timm's: not measured: {error}")
        return 0
    found = training()
    save({"training": found}, RECORDS)
    for timing in found.timings:
        print(f"{timing.name:20}{BATCH / timing.estimate.value:8.1f} images/s of L1 at 224, batch {BATCH}")
    missed = 0
    for subject, against, target in TARGETS:
        ratio = found.ratio(subject, against)
        missed += ratio.value > target
        print(f"{subject} / {against}: {ratio}, at most {target}{'  missed' if ratio.value > target else ''}")
    return missed


if __name__ == "__main__":
    raise SystemExit(main())
