"""Table 2 and the settings behind it, section 5.2, beside `dense.recipe` and `dense.usual`, chapter 9.

The accuracies need data and GPUs. What the settings say is held against the recipes for COCO and ADE20K, field by
field, and against the neck that stands before a detector.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch

from efficientformer_edu import paper
from efficientformer_edu.config import PRESETS
from efficientformer_edu.dense.fpn import FPNConfig
from efficientformer_edu.dense.recipe import ADE20K, COCO, DenseRecipe
from efficientformer_edu.dense.usual import PARTS
from efficientformer_edu.dense.views import View
from efficientformer_edu.report.rows import Row, Verdict
from efficientformer_edu.report.table1 import OTHERS
from efficientformer_edu.report.wording import cells
from efficientformer_edu.training.batches import generator

DATA = "Needs the data set, which the kit reads as it is published but does not carry."
TRAINED = "Needs a backbone trained on ImageNet"
NEEDS = {
    "Mask R-CNN": f"{TRAINED}, COCO and several GPUs. The detector is Mask R-CNN, which this package does not build.",
    "Semantic FPN": (
        f"{TRAINED}, ADE20K and GPUs. With these, train --task segmentation --head semantic_fpn --recipe ade20k comes "
        "near; its loss has a term more, Dice."
    ),
}
"""Why a cell stays open, by the network in its protocol."""
OPEN = {
    "COCO: images": DATA,
    "COCO: image size": (
        "Training on images of this size needs several GPUs. Here an image is resized until its longer side is that "
        "of a square, whatever its shape."
    ),
    "ADE20K: images": DATA,
    "ADE20K: classes": f"{DATA} The head then has a class for each name in the list beside the masks.",
}
"""Settings that nothing here can answer."""
ADE20K_IMAGES = 20_210
"""To train on, by the data set's own count, which the paper rounds."""


def rows() -> Iterator[Row]:
    """Every model, every sourced cell of the published networks, and every setting behind the table."""
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
    """Whether the recipes and networks here have a setting of Table 2 as it is stated. KeyError for another name."""
    stated = {setting.name: setting.paper for setting in paper.settings("table2")}
    return CHECKS[name](stated[name])


def epochs(said: paper.Reported) -> Verdict:
    """The epochs on COCO."""
    return _compared(f"{COCO.epochs} epochs", COCO.epochs == said.value)


def iterations(said: paper.Reported) -> Verdict:
    """The steps on ADE20K, which are those of whole epochs here."""
    in_epoch = ADE20K_IMAGES // ADE20K.batch
    ours = ADE20K.epochs * in_epoch
    why = f"A run here has whole epochs, of {in_epoch:,} iterations on {ADE20K_IMAGES:,} images. "
    nearest = abs(ours - said.value) <= in_epoch / 2
    why += "This number of them comes nearest." if nearest else "Another number of them would come nearer."
    return _compared(f"{ours:,} iterations, {ADE20K.epochs} epochs", ours == said.value, why)


def images(said: paper.Reported) -> Verdict:
    """The images in a step on ADE20K."""
    return _compared(f"{ADE20K.batch} images", ADE20K.batch == said.value)


def images_on_gpus(said: paper.Statement) -> Verdict:
    """The images in a step on COCO, of all GPUs together."""
    on_each, gpus = map(int, re.findall(r"\d+", said.text))
    return _compared(f"{COCO.batch} images over all processes", COCO.batch == on_each * gpus)


def optimiser(recipe: DenseRecipe, said: paper.Statement) -> Verdict:
    """The optimiser and its numbers; its schedule where one is stated."""
    ours = f"AdamW, learning rate {_short(recipe.learning_rate)}, weight decay {_short(recipe.weight_decay)}"
    if "schedule" in said.text:
        ours += f", {schedule(recipe)}"
    return _compared(ours, ours == said.text)


def schedule(recipe: DenseRecipe) -> str:
    """How the rate falls, in words; of a polynomial with the power that its rate shows half-way."""
    if recipe.schedule != "poly":
        return f"{recipe.schedule} schedule"
    half_way = recipe.rate(recipe.epochs, 2)  # of two steps in each epoch
    return f"polynomial schedule of power {math.log2(recipe.peak / half_way):.6g}"


def crop(said: paper.Reported) -> Verdict:
    """What a network that is trained on squares of the stated size sees of a larger image."""
    size = int(said.value)
    view, random = View(size, ADE20K.scale, ADE20K.flip), generator(0)
    placement = view.placement(2 * size, 3 * size, random)
    height, width = placement.image(torch.zeros(3, 2 * size, 3 * size, dtype=torch.uint8)).shape[1:]
    least, most = (round(factor * size) for factor in view.scale)
    ours = f"{height}×{width} pixels of an image whose longer side was resized to {least:,} to {most:,}, at random"
    return _compared(ours, height == width == said.value)


def pyramid(said: paper.Reported) -> Verdict:
    """The width of the pyramid before RetinaNet's head, for L1."""
    neck, _ = PARTS["anchor_decoupled_head"]
    ours = (isinstance(neck, FPNConfig) and neck.out_channels) or PRESETS["l1"].embed_dims[-1]
    why = "As NetsPresso has it, the pyramid before a detector is as wide as the backbone's last map. "
    why += f"FPNConfig(out_channels={said.value:g}) makes the paper's."
    return _compared(f"{ours} channels for L1", ours == said.value, why)


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


def _compared(ours: str, same: bool, why: str = "The recipe here has another value.") -> Verdict:
    return Verdict("exact", ours, "computed") if same else Verdict("disagrees", ours, "computed", why)


def _short(number: float) -> str:
    """As a paper writes it: 2e-4."""
    digits, exponent = f"{number:e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"
