"""A study small enough for tests, with planted variants; for this process and for the processes that tests start."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import nn
from training_runs import CONFIG

from efficientformer_edu.ablations.study import AblationProtocol, run_of
from efficientformer_edu.ablations.variants import BASE, VARIANTS, Variant
from efficientformer_edu.data import datasets
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training.recipe import LAPTOP
from efficientformer_edu.training.study import Study

TINY = CONFIG.replace(depths=(1, 1, 1, 2), attn_drop_rate=0.0)
RECIPE = LAPTOP.replace(epochs=1, batch=100, learning_rate=0.0625)  # a peak of 6e-3, as the laptop has
QUICK = AblationProtocol("tests", datasets.FASHION_MNIST_SMALL, 200, RECIPE, TINY)  # 2,000 images, 20 steps


def explode(network: EfficientFormer) -> None:
    """Weights so large that the first loss is not finite."""
    nn.init.constant_(network.head.weight, 1e38)


def freeze(network: EfficientFormer, stage: int) -> None:
    """A stage that always returns 0 and never learns: no information about the image remains after it."""
    for parameter in network.stages[stage].parameters():
        nn.init.zeros_(parameter)
        parameter.requires_grad_(False)


IDENTICAL = Variant("planted", "nothing is changed")
BROKEN = Variant("planted", "the second stage is 0 and frozen", change=partial(freeze, stage=1))
EXPLODING = Variant("planted", "weights beyond all measure", change=explode)
PLANTED = {BASE: VARIANTS[BASE], "identical": IDENTICAL, "broken": BROKEN}
TWO = {name: PLANTED[name] for name in (BASE, "broken")}


def study_of(folder: Path, variants: Mapping[str, Variant], seeds: int, *, resume: bool = False) -> Study:
    """A study of some variants by the quick protocol."""
    build_run = partial(run_of, protocol=QUICK, variants=variants)
    return Study(folder, build_run, tuple(variants), seeds, resume=resume)
