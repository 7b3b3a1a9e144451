"""Training recipes for detection and segmentation: the paper's protocols, and a small one for a laptop.

Paper: section 5.2; the known parts of the protocols are in `paper.settings("table2")`. The released code uses the
protocols of mmdetection and mmsegmentation, whose schedules have the same names here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from efficientformer_edu import _validation as values
from efficientformer_edu.training.recipe import BaseRecipe

Schedule = Literal["cosine", "poly", "step"]
SCHEDULES = ("cosine", "poly", "step")

POWER = 0.9  # of `poly`
DROPS, DROP = (2 / 3, 11 / 12), 0.1  # of `step`: after epochs 8 and 11 of 12, by a factor of 10 each


@dataclass(frozen=True)
class DenseRecipe(BaseRecipe):
    """All settings of a training run except the network, the data and the image size.

    Attributes:
        epochs: see `BaseRecipe`, as for the other fields that are not listed here.
        learning_rate: highest learning rate, independent of the batch.
        schedule: decay over the run: `"cosine"` to 0; `"poly"`, the 0.9th power of the remaining fraction; `"step"`, by
            a factor of 10 after two thirds of the epochs and again after eleven twelfths.
        warmup_steps: steps in which the learning rate rises from a thousandth of the schedule's value to that value.
        scale: an image's longer side is resized to the network's size times a random factor between these two; larger
            images are cropped, smaller ones padded.
    """

    weight_decay: float = 1e-4
    schedule: Schedule = "cosine"
    warmup_steps: int = 0
    scale: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule not in SCHEDULES:
            raise values.invalid_value("schedule", self.schedule, ", ".join(SCHEDULES))
        values.non_negative_int("warmup_steps", self.warmup_steps)
        allowed = "two factors above 0, the smaller first, such as (0.5, 2)"
        if not isinstance(self.scale, tuple | list) or len(self.scale) != 2:
            raise values.invalid_value("scale", self.scale, allowed)
        low, high = (values.positive_float("scale", factor) for factor in self.scale)
        if low > high:
            raise values.invalid_value("scale", self.scale, allowed)
        object.__setattr__(self, "scale", (low, high))

    def lr_at_step(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of one step; steps of the run are counted from 0."""
        progress = step / (self.epochs * steps_per_epoch)  # completed fraction of the run
        if self.schedule == "cosine":
            decay = (1 + math.cos(math.pi * progress)) / 2
        elif self.schedule == "poly":
            decay = (1 - progress) ** POWER
        else:  # changes only between epochs
            epoch_progress = step // steps_per_epoch / self.epochs
            decay = DROP ** sum(epoch_progress >= milestone for milestone in DROPS)
        warmup = min(1.0, max(1e-3, step / self.warmup_steps)) if self.warmup_steps else 1.0
        return self.learning_rate * decay * warmup


ADE20K = DenseRecipe(
    epochs=63,  # 40,000 steps of 32 images are 63.3 times ADE20K's 20,210
    batch=32,
    learning_rate=2e-4,
    schedule="poly",
    scale=(0.5, 2.0),
)
"""The paper's segmentation recipe: 40K iterations, AdamW, poly 0.9, for images of 512 pixels."""

COCO = DenseRecipe(
    epochs=12,
    batch=16,  # 2 on each of 8 GPUs
    learning_rate=2e-4,
    schedule="step",
    warmup_steps=500,
)
"""The paper's detection recipe: 12 epochs, AdamW; the paper's images are 1333×800, here they are square."""

SHAPES = DenseRecipe(
    epochs=6,
    batch=8,
    learning_rate=2e-3,
    warmup_steps=50,
    weight_decay=0.05,
)
"""For synthetic scenes, in a few minutes on two cores."""

PRESETS: Mapping[str, DenseRecipe] = {"shapes": SHAPES, "ade20k": ADE20K, "coco": COCO}


def get_dense_recipe(recipe: str | DenseRecipe) -> DenseRecipe:
    """A recipe by name, `"shapes"`, `"ade20k"` or `"coco"`, or the recipe itself. Raises ValueError for other names."""
    if isinstance(recipe, DenseRecipe):
        return recipe
    if recipe not in PRESETS:
        raise values.invalid_value("recipe", recipe, ", ".join(PRESETS))
    return PRESETS[recipe]
