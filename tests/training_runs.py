"""Runs small enough for tests; for this process and for the processes that tests start."""

from __future__ import annotations

import torch

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.data import fashion_mnist
from efficientformer_edu.data.datasets import Images
from efficientformer_edu.training.classification import ClassificationTrainer, Run
from efficientformer_edu.training.evaluation import evaluate
from efficientformer_edu.training.loading import EvalBatches, TrainBatches, loader
from efficientformer_edu.training.nan_checks import NotFiniteError, check_loss
from efficientformer_edu.training.recipe import LAPTOP, Recipe

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
RECIPE = LAPTOP.replace(epochs=2, batch=50, warmup_epochs=0.5, drop_path=0.1, ema=0.9)


def images(split: str, count: int) -> Images:
    """The first images of a split; few, so that an epoch is short."""
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
STILL = RECIPE.replace(epochs=1, crop=0, flip=False, drop_path=0.0, agc_clip=None, ema=None)  # nothing is random
ALIKE = {"recipe": STILL, "config": CONFIG.replace(attn_drop_rate=0.0)}


def first_step(path: str) -> None:
    """Take one step, evaluate, and let the first process write the gradients and the counts."""
    loop = ClassificationTrainer(run(**ALIKE))
    batches = TrainBatches(loop.run.train, STILL, 32, 1, seed=0, epoch=0, shard=loop.shard)
    before = loop.evaluate()
    loop.step(batches[0], 0)
    if loop.accelerator.is_main_process:
        values = {name: parameter.grad for name, parameter in loop.network.named_parameters()}
        values |= {name: buffer for name, buffer in loop.network.named_buffers() if "running" in name}
        values["confusion"], values["in top 5"] = before.confusion, torch.tensor(before.in_top5)
        torch.save(values, path)


def several_processes(folder: str) -> None:
    """Checks that two processes make together, for `test_distributed`; each writes its results into the folder."""
    results: dict[str, object] = {}
    unshared = run(STILL.replace(sync_bn=False, learning_rate=0.1), config=ALIKE["config"])
    loop = ClassificationTrainer(unshared)
    row = next(loop.epochs())
    rank = loop.shard.rank
    results["batch norms"] = {
        type(module).__name__ for module in loop.network.modules() if "BatchNorm" in str(type(module))
    }
    all_batches = EvalBatches(unshared.test, 32, 1, 50)
    # of this process alone, without waiting for others
    alone = evaluate(loop.network, loader(all_batches), unshared.test.classes)
    results["logged"], results["alone"] = row["test_loss"], alone.loss
    results["running"] = loop.network.get_buffer("stem.norm1.running_mean").tolist()
    results["train_loss"] = row["train_loss"]

    synchronized = ClassificationTrainer(run(**ALIKE))  # type: ignore[arg-type]
    batch = synchronized.batches()[0]
    if rank == 0:  # finding the cause of a non-finite loss needs no other process
        try:
            check_loss(torch.tensor(float("nan")), synchronized.network, batch.images, 0)
        except NotFiniteError:
            results["looked"] = True
    if rank == 1:
        batch.images[0, 0, 0, 0] = float("nan")
    try:  # without synchronized batch norms, which would show it to the other process
        loop.step(batch, 7)
    except NotFiniteError as error:
        results["stopped"] = str(error)
    torch.save(results, f"{folder}/{rank}.pt")
