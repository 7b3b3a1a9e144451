"""Runs small enough for tests, for this process and for those that tests start."""

from __future__ import annotations

import torch

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.training import fashion_mnist
from efficientformer_edu.training.data import Images
from efficientformer_edu.training.loading import TrainBatches
from efficientformer_edu.training.loop import Loop
from efficientformer_edu.training.recipe import LAPTOP, Recipe
from efficientformer_edu.training.run import Run

CONFIG = EfficientFormerConfig(
    depths=(1, 1, 1, 1),
    embed_dims=(8, 16, 16, 16),
    downsamples=(False, True, False, False),
    num_classes=10,
    in_channels=1,
    num_heads=2,
    key_dim=8,
    bias_grid=(4, 4),
    layer_scale_init=0.1,
    attn_drop_rate=0.1,
)
RECIPE = LAPTOP.replace(epochs=2, batch=50, warm_up_epochs=0.5, drop_path=0.1, ema=0.9)


def images(split: str, count: int) -> Images:
    """The first images of a split; small, so that an epoch takes a moment."""
    pictures, labels = fashion_mnist.small(split)
    return Images(pictures[:count], labels[:count], fashion_mnist.CLASSES, f"{count} images to {split}")


def run(recipe: Recipe = RECIPE, **more: object) -> Run:
    fields = {
        "config": CONFIG,
        "train": images("train", 200),
        "test": images("test", 100),
        "recipe": recipe,
        "size": 32,
    }
    return Run(**{**fields, **more})  # type: ignore[arg-type]


LONG = RECIPE.replace(epochs=8)
STILL = RECIPE.replace(epochs=1, crop=0, flip=False, drop_path=0.0, clipping=None, ema=None)  # nothing is random
ALIKE = {"recipe": STILL, "config": CONFIG.replace(attn_drop_rate=0.0)}


def first_step(path: str) -> None:
    """Take one step, evaluate, and let the first process write the gradients and the counts."""
    loop = Loop(run(**ALIKE))
    batches = TrainBatches(loop.run.train, STILL, 32, 1, seed=0, epoch=0, share=loop.share)
    before = loop.evaluate()
    loop.step(batches[0], 0, 4)
    if loop.accelerator.is_main_process:
        found = {name: parameter.grad for name, parameter in loop.network.named_parameters()}
        found |= {name: buffer for name, buffer in loop.network.named_buffers() if "running" in name}
        found["confusion"], found["in top 5"] = before.confusion, torch.tensor(before.in_top5)
        torch.save(found, path)
