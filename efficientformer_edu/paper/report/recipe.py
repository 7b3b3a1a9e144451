"""Section 5.1: the recipes of `training.recipe` compared with the paper and the released main.py (chapter 6).

Also the rows without a check here: items that a chapter measures, whose stored results answer the row (see
`slimming.read_findings`), and items that need more than a laptop.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch.nn import functional as F

from efficientformer_edu import paper
from efficientformer_edu.model.network import Heads
from efficientformer_edu.paper.report.rows import Row, Verdict, cells
from efficientformer_edu.paper.report.table1 import NEEDS
from efficientformer_edu.training.distillation import DistillationLoss
from efficientformer_edu.training.recipe import (
    CODE,
    FIELDS,
    PAPER,
    REFERENCE_BATCH,
    WITHOUT_EFFECT,
    Recipe,
    differences,
)

WAITS = Verdict("not yet")
CLAIMS = ("CONV-BN is", "Users who trained", "L1 gains from", "With small batches")
"""First words of the remarks with a measurable claim; the other remarks are background."""


def observations() -> Iterator[Row]:
    """Yield the rows of section 3 (chapter 1)."""
    row = partial(Row, "Section 3: four observations and Fig. 2", chapter=1, verdict=WAITS)
    for observation in paper.observations():
        yield row("§3", f"observation {observation.number}", observation)
    yield row("Fig. 2", "latency by class of operators", paper.figure2())


def appendix_b() -> Iterator[Row]:
    """Yield the rows of Appendix B (chapter 7)."""
    row = partial(Row, "Appendix B: ablations", "Appendix B", chapter=7)
    for _, item, cell in cells(paper.appendix_b()):
        yield row(f"L3 with {item}", cell, verdict=Verdict("not reproducible here", why=NEEDS[cell.quantity]))
    for number, (remark, verdict) in enumerate(remarks("appendix_b"), start=1):
        yield row(f"remark {number}", remark, verdict=verdict)


def external_latencies() -> Iterator[Row]:
    """Yield the published networks on other phones, which are not comparable with Table 1."""
    for table in paper.external_latencies():
        for _, item, cell in cells(table):
            verdict = Verdict("not reproducible here", why=NEEDS["npu"])
            yield Row("The same networks measured elsewhere", table.title, item, cell, 5, verdict)


def external_accuracies() -> Iterator[Row]:
    """Yield the accuracies of the published checkpoints with other projects' crops."""
    for table in paper.external_accuracies():
        for _, item, cell in cells(table):
            verdict = Verdict("not reproducible here", why=NEEDS[cell.quantity])
            yield Row("The same checkpoints evaluated elsewhere", table.title, item, cell, 6, verdict)


def remarks(topic: str) -> Iterator[tuple[paper.Statement, Verdict]]:
    """Yield the remarks on a topic; the verdict of a measurable claim is `WAITS`."""
    for remark in paper.remarks(topic):
        yield remark, WAITS if remark.text.startswith(CLAIMS) else Verdict("background")


NEEDS_IMAGENET = "Needs ImageNet and GPUs; chapter 6 has the command."
TRAINING = ("start", "data", "input", "teacher", "teacher's top-1 accuracy")
SIDES: dict[str, Recipe] = {"paper": PAPER, "run": PAPER, "code": CODE}
NOTATION = {
    "RandAugment": f"m{CODE.rand_augment:g}-",
    "repeated augmentation": "on" if CODE.repeated_aug > 1 else "off",
}
"""Notation of the released code for settings that are numbers in our recipes."""


def rows() -> Iterator[Row]:
    """Yield a row for every setting and every remark."""
    row = partial(Row, "Section 5.1: the training recipe", "recipe", chapter=6)
    for setting in paper.settings("recipe"):
        verdict, command = check_setting(setting)
        yield row(setting.name, setting, verdict=verdict, command=command)
    for number, (remark, _) in enumerate(remarks("recipe"), start=1):
        yield row(f"remark {number}", remark, verdict=Verdict("not reproducible here", why=NEEDS_IMAGENET))


def check_setting(setting: paper.Setting) -> tuple[Verdict, str]:
    """Compare a stated setting with our recipes; also return the expression that gives our value."""
    if setting.name == "loss":
        return loss(), "report.recipe.loss()"
    if setting.name in TRAINING:
        return Verdict("not reproducible here", why=NEEDS_IMAGENET), ""
    if setting.name not in FIELDS:
        return Verdict("background"), ""
    shown = next(row for row in differences().rows if row[0] == setting.name)
    values, command = f"paper: {shown[4]}; code: {shown[5]}", "recipe.differences()"
    if setting.name in WITHOUT_EFFECT:
        return Verdict("disagrees", values, "computed", WITHOUT_EFFECT[setting.name]), command
    stated = {side: getattr(setting, side) for side in SIDES if getattr(setting, side) is not None}
    if all(_same(setting.name, side, reported, str(shown[5])) for side, reported in stated.items()):
        return Verdict("exact", values, "computed"), command
    return Verdict("disagrees", values, "computed", "The recipe here has another value."), command


def loss() -> Verdict:
    """Compare `DistillationLoss` with the released code's loss on random logits."""
    random = torch.Generator().manual_seed(0)
    cls, dist, teacher = torch.randn(3, 4, 10, generator=random, dtype=torch.float64)
    targets = torch.rand(4, 10, generator=random, dtype=torch.float64).softmax(1)
    expected = 0.5 * -(targets * cls.log_softmax(1)).sum(1).mean() + 0.5 * F.nll_loss(
        dist.log_softmax(1), teacher.argmax(1)
    )
    computed = DistillationLoss(CODE.distillation, CODE.alpha, CODE.tau)(Heads(cls, dist), targets, teacher)
    if torch.allclose(computed, expected, rtol=1e-12, atol=0):
        return Verdict("exact", "equal to the formula, to 1e-12", "computed")
    return Verdict("disagrees", "another value", "computed", "The loss here computes something else.")


def _same(name: str, side: str, stated: paper.Reported | paper.Statement, shown: str) -> bool:
    """Return whether a recipe has the stated number, or whether the stated text contains our value."""
    recipe = SIDES[side]
    if isinstance(stated, paper.Reported):
        return stated.value == (recipe.max_lr if name == "learning rate" else getattr(recipe, FIELDS[name]))
    if name == "learning rate":
        return stated.text == f"1e-3 × batch / {REFERENCE_BATCH}" and recipe.learning_rate == 1e-3
    if name == "distillation" and side == "paper":
        return stated.text == recipe.distillation
    return NOTATION.get(name, shown) in stated.text
