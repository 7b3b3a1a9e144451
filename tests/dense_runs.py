"""Detection and segmentation runs small enough for tests; for this process and for the processes that tests start."""

from __future__ import annotations

import torch
from dense_networks import SMALL

from efficientformer_edu.data.examples import Example, Examples
from efficientformer_edu.data.shapes import Shapes
from efficientformer_edu.dense.evaluation import evaluate_dense
from efficientformer_edu.dense.network import default_config
from efficientformer_edu.dense.recipe import SHAPES, DenseRecipe
from efficientformer_edu.dense.trainer import DenseRun, DenseTrainer

SIZE = 64
RECIPE = SHAPES.replace(epochs=2, batch=4, warmup_steps=2, scale=(0.7, 1.4), drop_path=0.1, ema=0.9)
STILL = SHAPES.replace(epochs=1, batch=4, warmup_steps=0, flip=False, agc_clip=None)  # nothing is random
CLASSES = {"detection": 5, "segmentation": 6}
HEAD = {"detection": "anchor_free_decoupled_head", "segmentation": "all_mlp_decoder"}  # without dropout


class Listed(Examples):
    """A data set of exactly these examples."""

    def __init__(self, examples: list[Example], classes: tuple[str, ...], pixel_classes: tuple[str, ...]) -> None:
        self.examples, self.classes, self.pixel_classes = examples, classes, pixel_classes
        self.description = f"{len(examples)} images"

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]


def run(task: str = "segmentation", recipe: DenseRecipe = RECIPE, head: str | None = None, **more: object) -> DenseRun:
    fields = {
        "config": default_config(SMALL, task, CLASSES[task], head or HEAD[task]),
        "train": Shapes(8, SIZE),
        "test": Shapes(5, SIZE, "test"),  # two processes cannot share them equally
        "recipe": recipe,
        "size": SIZE,
    }
    return DenseRun(**{**fields, **more})  # type: ignore[arg-type]


def first_step(task: str, head: str | None, path: str) -> None:
    """Evaluate, take one step, and let the first process write the gradients, the statistics and the scores."""
    loop = DenseTrainer(run(task, STILL, head))
    before = loop.evaluate()
    if loop.accelerator.is_main_process:  # criteria and scores of a single process do not need the others
        batch, network = loop.batches()[0], loop.network.eval()
        loop.criterion(network(batch.images), batch.targets, getattr(network.head, "strides", ()))
        evaluate_dense(network, loop.run.test, SIZE, 4)
        network.train()
    loss = loop.step(loop.batches()[0], 0)
    if loop.accelerator.is_main_process:
        values = {name: parameter.grad for name, parameter in loop.network.named_parameters()}
        values |= {name: buffer for name, buffer in loop.network.named_buffers() if "running" in name}
        values |= {name: torch.tensor(value) for name, value in before.result.items()}
        torch.save({**values, "loss": loss}, path)
