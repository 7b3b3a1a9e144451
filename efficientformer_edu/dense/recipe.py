"""How a network for detection or segmentation is trained, as data: the paper's protocols, and two for a laptop.

Paper: section 5.2; what is known of the protocols stands in `paper.settings("table2")`. Those of the released code are
mmdetection's and mmsegmentation's, whose schedules are here under their names.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from efficientformer_edu import config_values as values
from efficientformer_edu.training.recipe import CHECKS, Precision

Schedule = Literal["cosine", "poly", "step"]
SCHEDULES = ("cosine", "poly", "step")

POWER = 0.9  # of `poly`
DROPS, DROP = (2 / 3, 11 / 12), 0.1  # of `step`: after epochs 8 and 11 of 12, to a tenth each time


@dataclass(frozen=True)
class DenseRecipe:
    """Everything about a training run but the network, the data and their size.

    Attributes:
        epochs: how often all images are seen.
        batch: images in one step, over all processes.
        learning_rate: the highest, whatever the batch.
        schedule: how it falls over the run: `"cosine"` to 0; `"poly"`, as the 0.9th power of the part that is left;
            `"step"`, to a tenth after two thirds of the epochs and again after eleven twelfths.
        warm_up_steps: steps in which the rate rises to the schedule from a thousandth of it.
        weight_decay: AdamW's, for the parameters that are not exempt.
        clipping: largest gradient of a unit over the norm of its weights; None for no clipping.
        ema: decay of the moving average of the weights; None for no average.
        scale: an image's longer side is resized to the network's size times a factor between these two, at random;
            what is too large is cropped, what is too small is filled up.
        flip: whether half of the images are mirrored.
        drop_path: stochastic depth of the backbone's last block.
        sync_bn: whether batch norms share their statistics over the processes.
        precision: of the network's forward and backward pass, `"fp32"` or `"bf16"`.

    Raises:
        ValueError: naming the field, the value that came and what is allowed.
    """

    epochs: int
    batch: int
    learning_rate: float
    schedule: Schedule = "cosine"
    warm_up_steps: int = 0
    weight_decay: float = 1e-4
    clipping: float | None = None
    ema: float | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = True
    drop_path: float = 0.0
    sync_bn: bool = True
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        for name in (field.name for field in dataclasses.fields(self)):
            if name in CHECKS:
                object.__setattr__(self, name, CHECKS[name](name, getattr(self, name)))
        if self.schedule not in SCHEDULES:
            raise values.wrong("schedule", self.schedule, ", ".join(SCHEDULES))
        values.natural("warm_up_steps", self.warm_up_steps)
        allowed = "two factors above 0, the smaller first, such as (0.5, 2)"
        if not isinstance(self.scale, tuple | list) or len(self.scale) != 2:
            raise values.wrong("scale", self.scale, allowed)
        low, high = (values.positive("scale", factor) for factor in self.scale)
        if low > high:
            raise values.wrong("scale", self.scale, allowed)
        object.__setattr__(self, "scale", (low, high))

    @property
    def peak(self) -> float:
        """The highest learning rate."""
        return self.learning_rate

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole run."""
        return self.epochs

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of one step of the whole run, the first of which is 0."""
        part = step / (self.epochs * steps_per_epoch)  # of the run that lies behind
        if self.schedule == "cosine":
            falls = (1 + math.cos(math.pi * part)) / 2
        elif self.schedule == "poly":
            falls = (1 - part) ** POWER
        else:  # by whole epochs
            behind = step // steps_per_epoch / self.epochs
            falls = DROP ** sum(behind >= after for after in DROPS)
        rises = min(1.0, max(1e-3, step / self.warm_up_steps)) if self.warm_up_steps else 1.0
        return self.learning_rate * falls * rises

    def replace(self, **fields: Any) -> DenseRecipe:
        """A copy in which some fields have other values. Raises ValueError, for an unknown field too."""
        values.known_fields(fields, self.__dataclass_fields__)
        return dataclasses.replace(self, **fields)


ADE20K = DenseRecipe(
    epochs=63,  # 40,000 steps of 32 images are 63.3 times ADE20K's 20,210
    batch=32,
    learning_rate=2e-4,
    schedule="poly",
    scale=(0.5, 2.0),
)
"""The paper's for segmentation: 40K iterations, AdamW, poly 0.9, for images of 512 pixels."""

COCO = DenseRecipe(
    epochs=12,
    batch=16,  # 2 on each of 8 GPUs
    learning_rate=2e-4,
    schedule="step",
    warm_up_steps=500,
)
"""The paper's for detection: 12 epochs, AdamW; the paper's images are 1333×800, here they are squares."""

SHAPES = DenseRecipe(
    epochs=6,
    batch=8,
    learning_rate=2e-3,
    warm_up_steps=50,
    weight_decay=0.05,
)
"""Drawn scenes in some minutes on two cores."""

PRESETS: Mapping[str, DenseRecipe] = {"shapes": SHAPES, "ade20k": ADE20K, "coco": COCO}


def get_dense_recipe(recipe: str | DenseRecipe) -> DenseRecipe:
    """A recipe by name, `"shapes"`, `"ade20k"` or `"coco"`, or the one given. Raises ValueError for another name."""
    if isinstance(recipe, DenseRecipe):
        return recipe
    if recipe not in PRESETS:
        raise values.wrong("recipe", recipe, ", ".join(PRESETS))
    return PRESETS[recipe]
