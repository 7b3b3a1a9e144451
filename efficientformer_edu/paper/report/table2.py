"""Table 2 and its settings, section 5.2, compared with `dense.recipe` and `dense.network` (chapter 9).

The accuracies need data and GPUs. The settings are compared with the recipes for COCO and ADE20K, field by field, and
with the neck of the detector.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch

from efficientformer_edu import paper
from efficientformer_edu.config import PRESETS
from efficientformer_edu.data.letterbox import Letterbox
from efficientformer_edu.dense.necks import FPNConfig
from efficientformer_edu.dense.network import HEADS
from efficientformer_edu.dense.recipe import ADE20K, COCO, DenseRecipe
from efficientformer_edu.paper.report.rows import Row, Verdict, cells
from efficientformer_edu.paper.report.table1 import OTHERS
from efficientformer_edu.utils.rng import generator

DATA = "Needs the data set, which the kit reads as it is published but does not carry."
TRAINED = "Needs a backbone trained on ImageNet"
NEEDS = {
    "Mask R-CNN": f"{TRAINED}, COCO and several GPUs. The detector is Mask R-CNN, which this package does not build.",
    "Semantic FPN": (
        f"{TRAINED}, ADE20K and GPUs. With these, train --task segmentation --head semantic_fpn --recipe ade20k comes "
        "near; its loss has a term more, Dice."
    ),
}
"""The reason why a cell has no answer, by the network in its protocol."""
OPEN = {
    "COCO: images": DATA,
    "COCO: image size": (
        "Training on images of this size needs several GPUs. Here an image is resized until its longer side is that "
        "of a square, whatever its shape."
    ),
    "ADE20K: images": DATA,
    "ADE20K: classes": f"{DATA} The head then has a class for each name in the list beside the masks.",
}
"""Settings without an answer, with the reason."""
ADE20K_IMAGES = 20_210
"""Number of training images according to the data set; the paper rounds it."""


def rows() -> Iterator[Row]:
    """Yield a row for every other model, every sourced cell of the published networks, and every setting."""
    row = partial(Row, "Section 5.2: Table 2", "Table 2", chapter=9)
    for model in paper.table2().rows:
        if not model.preset:
            yield row(model.name, model, verdict=Verdict("not reproducible here", why=OTHERS))
    for model, item, cell in cells(paper.table2()):
        if model.preset:
            why = NEEDS[cell.protocol.partition(",")[0]]
            yield row(item, cell, verdict=Verdict("not reproducible here", why=why))
    for setting in paper.settings("table2"):
        item = f"set-up, {setting.name}"
        if setting.name in OPEN:
            yield row(item, setting, verdict=Verdict("not reproducible here", why=OPEN[setting.name]))
        else:
            command = f'report.table2.check("{setting.name}")'
            yield row(item, setting, verdict=check(setting.name), command=command)


def check(name: str) -> Verdict:
    """Check a stated setting of Table 2 against our recipes and networks. Raises KeyError for an unknown name."""
    stated = {setting.name: setting.paper for setting in paper.settings("table2")}
    return CHECKS[name](stated[name])


def epochs(stated: paper.Reported) -> Verdict:
    """Check the epochs on COCO."""
    return _compared(f"{COCO.epochs} epochs", COCO.epochs == stated.value)


def iterations(stated: paper.Reported) -> Verdict:
    """Check the iterations on ADE20K; our runs consist of complete epochs."""
    in_epoch = ADE20K_IMAGES // ADE20K.batch
    value = ADE20K.epochs * in_epoch
    why = f"A run here has whole epochs, of {in_epoch:,} iterations on {ADE20K_IMAGES:,} images. "
    nearest = abs(value - stated.value) <= in_epoch / 2
    why += "This number of them comes nearest." if nearest else "Another number of them would come nearer."
    return _compared(f"{value:,} iterations, {ADE20K.epochs} epochs", value == stated.value, why)


def images(stated: paper.Reported) -> Verdict:
    """Check the batch size on ADE20K."""
    return _compared(f"{ADE20K.batch} images", ADE20K.batch == stated.value)


def images_on_gpus(stated: paper.Statement) -> Verdict:
    """Check the total batch size on COCO, over all GPUs."""
    per_gpu, gpus = map(int, re.findall(r"\d+", stated.text))
    return _compared(f"{COCO.batch} images over all processes", COCO.batch == per_gpu * gpus)


def optimiser(recipe: DenseRecipe, stated: paper.Statement) -> Verdict:
    """Check the optimizer with its hyperparameters, and its schedule if one is stated."""
    value = f"AdamW, learning rate {_short(recipe.learning_rate)}, weight decay {_short(recipe.weight_decay)}"
    if "schedule" in stated.text:
        value += f", {schedule(recipe)}"
    return _compared(value, value == stated.text)


def schedule(recipe: DenseRecipe) -> str:
    """Describe the learning-rate schedule. The power of a polynomial is computed from the rate at half of the run."""
    if recipe.schedule != "poly":
        return f"{recipe.schedule} schedule"
    half_way = recipe.lr_at_step(recipe.epochs, 2)  # of two steps in each epoch
    return f"polynomial schedule of power {math.log2(recipe.max_lr / half_way):.6g}"


def crop(stated: paper.Reported) -> Verdict:
    """Check the crop that training at the stated size takes from a larger image."""
    size = int(stated.value)
    letterbox, random = Letterbox(size, ADE20K.scale, ADE20K.flip), generator(0)
    params = letterbox.params(2 * size, 3 * size, random)
    height, width = params.image(torch.zeros(3, 2 * size, 3 * size, dtype=torch.uint8)).shape[1:]
    least, most = (round(factor * size) for factor in letterbox.scale)
    value = f"{height}×{width} pixels of an image whose longer side was resized to {least:,} to {most:,}, at random"
    return _compared(value, height == width == stated.value)


def pyramid(stated: paper.Reported) -> Verdict:
    """Check the width of the feature pyramid of RetinaNet, for L1."""
    neck, _ = HEADS["anchor_decoupled_head"].default
    value = (isinstance(neck, FPNConfig) and neck.out_channels) or PRESETS["l1"].embed_dims[-1]
    why = "As NetsPresso has it, the pyramid before a detector is as wide as the backbone's last map. "
    why += f"FPNConfig(out_channels={stated.value:g}) makes the paper's."
    return _compared(f"{value} channels for L1", value == stated.value, why)


CHECKS: Mapping[str, Callable[..., Verdict]] = {
    "COCO: training": epochs,
    "COCO: optimiser": partial(optimiser, COCO),
    "COCO: FPN width": pyramid,
    "COCO: batch": images_on_gpus,
    "ADE20K: training": iterations,
    "ADE20K: batch": images,
    "ADE20K: optimiser": partial(optimiser, ADE20K),
    "ADE20K: crop": crop,
}


def _compared(value: str, same: bool, why: str = "The recipe here has another value.") -> Verdict:
    return Verdict("exact", value, "computed") if same else Verdict("disagrees", value, "computed", why)


def _short(number: float) -> str:
    """Format a number as papers write it: 2e-4."""
    digits, exponent = f"{number:e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"
