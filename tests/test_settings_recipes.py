"""Every field of every recipe changes what it is documented to change when a network trains, and nothing else.

A tiny network trains for some steps. Each effect is observed directly: in the optimizer, the loader, the loss, the
blocks and the precision of the forward pass.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dense_runs
import numpy as np
import pytest
import torch
import training_runs
from accelerate import Accelerator
from PIL import Image
from settings_cases import ANY, Observations, check_all_have_cases, check_changes
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook

from efficientformer_edu.ablations import study as ablations
from efficientformer_edu.ablations.study import run_of
from efficientformer_edu.ablations.variants import BASE as BASE_VARIANT
from efficientformer_edu.ablations.variants import VARIANTS
from efficientformer_edu.data import datasets
from efficientformer_edu.data.examples import Target
from efficientformer_edu.data.images import MEAN, STD
from efficientformer_edu.data.shapes import Shapes
from efficientformer_edu.dense.detection.boxes import box_area
from efficientformer_edu.dense.recipe import SHAPES, DenseRecipe
from efficientformer_edu.dense.trainer import DenseTrainer
from efficientformer_edu.model.blocks import DropPath
from efficientformer_edu.model.network import Heads
from efficientformer_edu.model.stem import Stem
from efficientformer_edu.slimming import protocol as slimming
from efficientformer_edu.training import checkpoints, loading
from efficientformer_edu.training.classification import ClassificationTrainer
from efficientformer_edu.training.distillation import StoredLogits
from efficientformer_edu.training.recipe import Recipe

pytestmark = pytest.mark.slow

COUNT, SCENES = 8, 4  # images, in a single batch
SIDE = 64  # pixels of a scene
GRAY = 120
BASE = Recipe(
    epochs=4,
    batch=COUNT,
    learning_rate=0.128,  # a maximum learning rate of 1e-3
    warmup_epochs=2,
    agc_clip=None,
    ema=None,
    label_smoothing=0.0,
    mixup=0.0,
    cutmix=0.0,
    erasing=0.0,
    rand_augment=None,
    repeated_aug=1,
    flip=False,
    crop=0,
    distillation=None,
)
DENSE = SHAPES.replace(epochs=4, batch=SCENES, warmup_steps=2, flip=False, learning_rate=1e-3)
CONFIG = training_runs.CONFIG.replace(attn_drop_rate=0.0)


def observe(trainer: Any, folder: Path) -> Observations:
    """Train, and return what a recipe can change; batch, loss, gradients and precision are those of the first step."""
    steps: list[tuple[list[float], list[float]]] = []  # learning rates and weight decays of the parameter groups
    first: dict[str, Any] = {}
    gradients: dict[str, Tensor] = {}
    branches: dict[str, list[Tensor]] = {}
    network, step = trainer.network, trainer.step
    parameters = dict(network.named_parameters())
    start = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    def keep(name: str, value: Any, record: dict[str, Any] = first) -> None:  # hooks must return None
        record.setdefault(name, value)

    def before_optimizer_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        groups = optimizer.param_groups
        steps.append(([group["lr"] for group in groups], [group["weight_decay"] for group in groups]))
        keep("clipping", clipping(start, gradients, parameters))

    def watched_step(batch: Any, *args: Any) -> Tensor:
        loss = step(batch, *args)
        keep("batch", batch)
        keep("loss", loss.item())
        return loss

    def record_branch(module: nn.Module, args: tuple[Tensor], output: Tensor, path: str) -> None:
        factors = output.detach().flatten(1).norm(dim=1) / args[0].detach().flatten(1).norm(dim=1)
        branches.setdefault(path, []).append(factors)

    for name, parameter in parameters.items():
        parameter.register_post_accumulate_grad_hook(lambda p, name=name: keep(name, p.grad.clone(), gradients))
    for path, module in network.named_modules():
        if isinstance(module, DropPath):
            module.register_forward_hook(lambda *call, path=path: record_branch(*call, path))
        elif isinstance(module, Stem):
            module.register_forward_pre_hook(lambda _, args: keep("images", args[0].clone()))
            module.conv1.register_forward_hook(lambda *call: keep("precision", call[2].dtype))
        elif path in ("head", "head_dist") and isinstance(module, nn.Linear):
            module.register_forward_hook(lambda *call, path=path: keep(path, call[2].detach().float()))
    if hasattr(trainer, "criterion"):
        trainer.criterion = Watched(trainer.criterion, first)
    trainer.step, trainer.evaluate = watched_step, lambda: SimpleNamespace(scores={}, result={})
    handle = register_optimizer_step_pre_hook(before_optimizer_step)
    try:
        epochs = trainer.epochs()
        next(epochs)
        state = torch.load(folder / checkpoints.CHECKPOINT, weights_only=True)
        count = 1 + sum(1 for _ in epochs)
    finally:
        handle.remove()
    assert all(len(set(rates)) == 1 for rates, _ in steps)
    return {
        **first,
        "epochs": count,
        "learning rates": [rates[0] for rates, _ in steps],
        "weight decay": steps[0][1],
        "average": average(start, state["network"], state["average"]),
        "kept branches": {path: [tuple((f > 0).tolist()) for f in factors] for path, factors in branches.items()},
        "branch factors": {path: round(float(torch.cat(factors).max()), 3) for path, factors in branches.items()},
    }


class Watched:
    """A criterion that records the targets of its first call, in any of its methods."""

    def __init__(self, criterion: Any, record: dict[str, Any]) -> None:
        self.criterion, self.record = criterion, record

    def __call__(self, *args: Any) -> Any:
        return self._recorded(self.criterion)(*args)

    def __getattr__(self, name: str) -> Any:
        return self._recorded(getattr(self.criterion, name))

    def _recorded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            for targets in args:
                if isinstance(targets, list) and all(isinstance(target, Target) for target in targets):
                    self.record.setdefault("targets of the loss", targets)
            return method(*args)

        return call


def clipping(weights: dict[str, Tensor], before: dict[str, Tensor], parameters: dict[str, Any]) -> float | None:
    """The largest gradient of a unit over the norm of its weights, or None if no gradient was changed."""
    after = {name: parameters[name].grad for name in before}
    if all(torch.equal(before[name], after[name]) for name in before):
        return None
    return max(float((unit_norms(after[name]) / unit_norms(weights[name]).clamp(min=1e-3)).max()) for name in after)


def unit_norms(x: Tensor) -> Tensor:
    """A unit computes one output; a vector is a single unit."""
    return x.flatten(1).norm(dim=1) if x.ndim > 1 else x.norm()


def average(start: dict[str, Tensor], after: dict[str, Tensor], averaged: dict[str, Tensor] | None) -> float | None:
    """The decay with which one step changed the average of the weights; None without an average."""
    if averaged is None:
        return None
    step = torch.cat([(start[name] - after[name]).flatten() for name in start])
    kept = torch.cat([(averaged[name] - after[name]).flatten() for name in start])
    return float(kept @ step / (step @ step))


def norms_of_two_processes(build: Callable[[], Any]) -> set[str]:
    """The types of batch norms in a network trained by two processes."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Accelerator, "num_processes", property(lambda _: 2))
        network = build().network
    return {type(module).__name__ for module in network.modules() if "BatchNorm" in type(module).__name__}


@cache
def observe_classification(recipe: Recipe, folder: Path, gray: bool) -> Observations:
    fields = gray_images(folder / "gray") if gray else {"config": CONFIG, "train": training_runs.images("train", COUNT)}
    if recipe.distillation:
        fields["teacher"] = StoredLogits(torch.randn(COUNT, 10, generator=torch.Generator().manual_seed(5)))
    run = training_runs.run(recipe, **fields)
    strengths: list[float] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        operations = {"probe": lambda image, strength, *_: strengths.append(strength) or image}
        monkeypatch.setattr(sys.modules[loading.rand_augment.__module__], "OPERATIONS", operations)
        run_folder = folder / str(len(list(folder.iterdir())))
        seen = observe(ClassificationTrainer(run, run_folder), run_folder)
    batch = seen.pop("batch")
    assert torch.equal(seen["images"], batch.images)
    logits = Heads(seen.pop("head"), seen.pop("head_dist"))
    teacher = None if run.teacher is None else run.teacher(batch.images, batch.indices)
    assert seen["loss"] == pytest.approx(float(loss_of(recipe, logits, batch.targets, teacher)), rel=1e-4)
    return {
        **seen,
        "targets": batch.targets,
        "indices": batch.indices.tolist(),
        "logits": torch.stack(logits),
        "strengths": strengths,
        "batch norms": norms_of_two_processes(lambda: ClassificationTrainer(run)),
    }


def gray_images(folder: Path) -> dict[str, Any]:
    """Gray images without texture, so that all crops look the same."""
    (folder / "gray").mkdir(parents=True, exist_ok=True)
    for number in range(COUNT):
        Image.new("RGB", (40, 50), (GRAY,) * 3).save(folder / "gray" / f"{number}.png")
    images = datasets.load_data(folder, "train")
    return {"config": CONFIG.replace(in_channels=3, num_classes=1), "train": images, "test": images}


def loss_of(recipe: Recipe, logits: Heads, targets: Tensor, teacher: Tensor | None) -> Tensor:
    """The documented loss: of both heads, and of the second one with a teacher."""
    labels = F.cross_entropy(logits.cls, targets)
    if recipe.distillation is None:
        return (labels + F.cross_entropy(logits.dist, targets)) / 2
    if recipe.distillation == "hard":
        distilled = F.cross_entropy(logits.dist, teacher.argmax(1))
    else:
        student, target = (F.softmax(x / recipe.tau, dim=1) for x in (logits.dist, teacher))
        distilled = recipe.tau**2 / 10 * (target * (target / student).log()).sum(1).mean()
    return (1 - recipe.alpha) * labels + recipe.alpha * distilled


@cache
def observe_dense(recipe: DenseRecipe, folder: Path, task: str) -> Observations:
    run = dense_runs.run(task, recipe, train=Shapes(SCENES, SIDE))
    run_folder = folder / f"{task}{len(list(folder.iterdir()))}"
    seen = observe(DenseTrainer(run, run_folder), run_folder)
    batch = seen.pop("batch")
    assert torch.equal(seen["images"], batch.images)
    for target, loaded in zip(seen.pop("targets of the loss"), batch.targets, strict=True):
        assert torch.equal(target.boxes, loaded.boxes) and torch.equal(target.labels, loaded.labels)
    return {
        **seen,
        "boxes": [target.boxes for target in batch.targets],
        "pixels": [target.semantic for target in batch.targets],
        "batch norms": norms_of_two_processes(lambda: DenseTrainer(run)),
    }


def rates(
    epochs: int = 4, top: float = 1e-3, low: float = 1e-5, warm_up: float = 2, start: float = 1e-5, **more: int
) -> Any:
    """The documented learning rate of each step: a linear warm-up, then a cosine that counts from the first step."""
    per_epoch, cooldown = more.get("per_epoch", 1), more.get("cooldown", 0)
    values = []
    for step in range((epochs + cooldown) * per_epoch):
        epoch = step / per_epoch
        cosine = low + (top - low) * (1 + math.cos(math.pi * min(epoch / epochs, 1))) / 2
        values.append(start + (top - start) * epoch / warm_up if epoch < warm_up else cosine)
    return pytest.approx(values)


def dense_rates(
    epochs: int = 4, top: float = 1e-3, schedule: str = "cosine", warm_up: int = 2, per_epoch: int = 1
) -> Any:
    """The documented learning rate of each step: a schedule with linear warm-up."""
    steps = epochs * per_epoch
    falls = {
        "cosine": lambda step: (1 + math.cos(math.pi * step / steps)) / 2,
        "poly": lambda step: (1 - step / steps) ** 0.9,
        "step": lambda step: 0.1 ** sum(step // per_epoch >= after * epochs for after in (2 / 3, 11 / 12)),
    }[schedule]
    rise = [min(1, max(1e-3, step / warm_up)) if warm_up else 1 for step in range(steps)]
    return pytest.approx([top * falls(step) * rise[step] for step in range(steps)])


def mirrored(before: Any, after: Any) -> None:
    """Some images, feature maps of classes or boxes are mirrored; the others are unchanged."""
    changed = 0
    for old, new in zip(before, after, strict=True):
        mirror = old.flip(-1)
        if old.shape[-1:] == (4,) and old.ndim == 2:  # boxes
            mirror = torch.stack([SIDE - old[:, 2], old[:, 1], SIDE - old[:, 0], old[:, 3]], dim=1)
        assert close(new, old) or close(new, mirror)
        changed += not close(new, old)
    assert 0 < changed < len(before)


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.float(), b.float(), atol=1e-5)


def shifted(most: int) -> Callable[[Tensor, Tensor], None]:
    """Each image is shifted by up to this many pixels and filled with black; some are shifted by exactly as many."""

    def check(before: Tensor, after: Tensor) -> None:
        largest, black = 0, float(before.min())
        for old, new in zip(before, after, strict=True):
            padded = F.pad(old, [most] * 4, value=black)
            offsets = [(y, x) for y in range(2 * most + 1) for x in range(2 * most + 1)]
            (y, x), *_ = [(y, x) for y, x in offsets if torch.allclose(padded[:, y : y + 32, x : x + 32], new)]
            largest = max(largest, abs(y - most), abs(x - most))
        assert largest == most

    return check


def erased(before: Tensor, after: Tensor) -> None:
    """In some images a rectangle has other values, of 2 % to 33 % of the area."""
    changed = [(old != new).any(0) for old, new in zip(before, after, strict=True)]
    for pixels in filter(torch.any, changed):
        check_rectangle(pixels, 0.015, 0.35)
    assert 0 < sum(bool(pixels.any()) for pixels in changed) < COUNT


def check_rectangle(pixels: Tensor, least: float, most: float) -> None:
    """The pixels fill a rectangle whose share of the image is within these limits."""
    rows, columns = pixels.any(1).nonzero(), pixels.any(0).nonzero()
    inside = pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert inside.float().mean() > 0.9  # noise, or a pixel of the partner, may have the same value
    assert least < inside.numel() / pixels.numel() < most


def averaged(before: Tensor, after: Tensor) -> None:
    """Each image or target is the mean of itself and its partner: mixup with a huge α keeps one half."""
    torch.testing.assert_close(after, (before + before.flip(0)) / 2, rtol=0, atol=0.01)


def pasted(before: Tensor, after: Tensor) -> None:
    """A rectangle of each image comes from its partner: about half of the area, less the part outside the image."""
    partner = before.flip(0)
    assert ((after == before) | (after == partner)).all()
    check_rectangle((after != before).any(0)[0], 0.1, 0.51)


def jittered(before: Tensor, after: Tensor) -> None:
    """The gray of each image is multiplied by a factor from 0.6 to 1.4."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    factors = ((after * std + mean) * 255 / GRAY).mean((1, 2, 3))
    assert 0.59 < factors.min() < 0.8 and factors.max() < 1.41


def about(value: float, tolerance: float) -> Callable[[Any, list[float]], None]:
    """Check that the values have this mean."""

    def check(_: Any, after: list[float]) -> None:
        assert np.mean(after) == pytest.approx(value, abs=tolerance)

    return check


def dropped(_: Any, after: dict[str, list[tuple[bool, ...]]]) -> None:
    """Branches are dropped per sample, different ones in every step; none in the first block."""
    first, *_, last = after.values()
    assert all(all(kept) for kept in first)
    assert len(set(last)) > len(last) // 2
    assert 0.3 < np.mean(last) < 0.7


def halved(before: list[Tensor], after: list[Tensor]) -> None:
    """Each box is half as wide and high."""
    assert all(torch.allclose(box_area(old) / 4, box_area(new)) for old, new in zip(before, after, strict=True))


def smoothed(before: Tensor, after: Tensor) -> None:
    """A smoothing of 0.3 is spread over ten classes."""
    torch.testing.assert_close(after, 0.7 * before + 0.03)


FORWARD = {"logits|loss": ANY}  # follow from images and targets
IMAGES = {"images": ANY, "targets": ANY, **FORWARD}
PARTS = {"crop": None}  # a random part of each image, which the augmentations of single images need

# fmt: off
# The task, what its base recipe changes, the field, its other value and what that changes.
CASES: list[tuple[str, dict[str, Any], str, Any, dict[str, Any]]] = [
    ("classification", {}, "epochs", 6, {"epochs": 6, "learning rates": rates(epochs=6), "kept branches": ANY}),
    ("classification", {}, "batch", 4, {"learning rates": rates(top=5e-4, per_epoch=2),
        "indices": lambda before, after: check_sizes(before, after, 4), "kept branches": ANY, **IMAGES}),
    ("classification", {}, "learning_rate", 0.256, {"learning rates": rates(top=2e-3)}),
    ("classification", {}, "min_lr", 1e-4, {"learning rates": rates(low=1e-4)}),
    ("classification", {}, "warmup_epochs", 3, {"learning rates": rates(warm_up=3)}),
    ("classification", {}, "warmup_lr", 1e-4, {"learning rates": rates(start=1e-4)}),
    ("classification", {}, "cooldown_epochs", 2, {"epochs": 6, "learning rates": rates(cooldown=2),
        "kept branches": ANY}),
    ("classification", {}, "weight_decay", 0.5, {"weight decay": [0.5, 0.0]}),
    ("classification", {}, "agc_clip", 1e-3, {"clipping": pytest.approx(1e-3, rel=1e-3)}),
    ("classification", {}, "ema", 0.75, {"average": pytest.approx(0.75, abs=1e-3)}),
    ("classification", {}, "label_smoothing", 0.3, {"targets": smoothed, "loss": ANY}),
    ("classification", {}, "mixup", 1e6, {"images": averaged, "targets": averaged, **FORWARD}),
    ("classification", {}, "cutmix", 1e6, {"images": pasted, "targets": ANY, **FORWARD}),
    ("classification", {}, "erasing", 0.5, {"images": erased, **FORWARD}),
    ("classification", PARTS, "color_jitter", 0.4, {"images": jittered, "logits": ANY}),
    ("classification", PARTS, "rand_augment", 6.0, {"strengths": about(0.6, 0.03), "images": ANY, **FORWARD}),
    ("classification", {}, "repeated_aug", 2, {"indices": lambda _, after: check_repeats(after, 2), **IMAGES}),
    ("classification", {}, "flip", True, {"images": mirrored, **FORWARD}),
    ("classification", PARTS, "flip", True, {"images": ANY, **FORWARD}),
    ("classification", {}, "crop", 3, {"images": shifted(3), **FORWARD}),
    ("classification", {}, "crop", None, {"images": ANY, **FORWARD}),
    ("classification", {}, "drop_path", 0.5, {"kept branches": dropped,
        "branch factors": {"stages.0.mb4d.0.drop_path": 1.0, "stages.1.mb4d.0.drop_path": 1.2,
        "stages.2.mb4d.0.drop_path": 1.5, "stages.3.mb3d.0.drop_path": 2.0}, **FORWARD}),
    ("classification", {}, "distillation", "hard", {"loss": ANY}),
    ("classification", {"distillation": "hard"}, "distillation", "soft", {"loss": ANY}),
    ("classification", {"distillation": "hard"}, "alpha", 0.25, {"loss": ANY}),
    ("classification", {"distillation": "soft"}, "tau", 3.0, {"loss": ANY}),
    ("classification", {}, "sync_bn", False, {"batch norms": {"BatchNorm2d"}}),
    ("classification", {}, "precision", "bf16", {"precision": torch.bfloat16, **FORWARD}),
    ("detection", {}, "epochs", 6, {"epochs": 6, "learning rates": dense_rates(epochs=6), "kept branches": ANY}),
    ("detection", {}, "batch", 2, {"learning rates": dense_rates(per_epoch=2),
        "boxes": lambda before, after: check_sizes(before, after, 2), "pixels|images|loss|kept branches": ANY}),
    ("detection", {}, "learning_rate", 2e-3, {"learning rates": dense_rates(top=2e-3)}),
    ("detection", {}, "schedule", "poly", {"learning rates": dense_rates(schedule="poly")}),
    ("detection", {}, "schedule", "step", {"learning rates": dense_rates(schedule="step")}),
    ("detection", {}, "warmup_steps", 3, {"learning rates": dense_rates(warm_up=3)}),
    ("detection", {}, "weight_decay", 0.5, {"weight decay": [0.5, 0.0]}),
    ("detection", {}, "agc_clip", 1e-3, {"clipping": pytest.approx(1e-3, rel=1e-3)}),
    ("detection", {}, "ema", 0.75, {"average": pytest.approx(0.75, abs=1e-3)}),
    ("detection", {}, "scale", (0.5, 0.5), {"boxes": halved, "images|loss": ANY}),
    ("detection", {}, "flip", True, {"images": mirrored, "boxes": mirrored, "loss": ANY}),
    ("segmentation", {}, "flip", True, {"images": mirrored, "boxes": mirrored, "pixels": mirrored, "loss": ANY}),
    ("detection", {}, "drop_path", 0.5, {"kept branches": dropped,
        "branch factors": {"backbone.stages.0.mb4d.0.drop_path": 1.0, "backbone.stages.1.mb4d.0.drop_path": 1.2,
        "backbone.stages.2.mb4d.0.drop_path": 1.5, "backbone.stages.3.mb3d.0.drop_path": 2.0}, "loss": ANY}),
    ("detection", {}, "sync_bn", False, {"batch norms": {"BatchNorm2d"}}),
    ("detection", {}, "precision", "bf16", {"precision": torch.bfloat16, "loss": ANY}),
]
# fmt: on


def check_sizes(before: list[Any], after: list[Any], size: int) -> None:
    """A batch of this many images, the first images of the larger batch."""
    assert len(after) == size < len(before)


def check_repeats(after: list[int], times: int) -> None:
    """Each image of the batch is repeated this many times; the batch size is unchanged."""
    assert set(Counter(after).values()) == {times} and len(after) == COUNT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize(("task", "recipe"), [("classification", Recipe), ("detection", DenseRecipe)])
def test_every_field_of_a_recipe_has_a_case(task: str, recipe: type) -> None:
    fields = [field.name for field in dataclasses.fields(recipe)]
    check_all_have_cases(
        fields, [field for name, _, field, *_ in CASES if name == task], f"fields of {recipe.__name__}"
    )


@pytest.mark.parametrize(
    ("task", "base", "field", "value", "expected"),
    CASES,
    ids=[f"{task}-{field}-{value}" for task, _, field, value, _ in CASES],
)
def test_fields_of_recipes_have_their_documented_effect(
    task: str, base: dict[str, Any], field: str, value: Any, expected: dict[str, Any], folder: Path
) -> None:
    recipe = (BASE if task == "classification" else DENSE).replace(**base)
    recipes = recipe, recipe.replace(**{field: value})
    if task == "classification":
        before, after = (observe_classification(r, folder, gray=field == "color_jitter") for r in recipes)
    else:
        before, after = (observe_dense(r, folder, task) for r in recipes)
    check_changes(before, after, expected)


SLIMMING = slimming.SlimmingProtocol("", datasets.FASHION_MNIST_SMALL, 20, 3, BASE, compared=10, tested=5)
ABLATIONS = ablations.AblationProtocol("", datasets.FASHION_MNIST_SMALL, 20, BASE, CONFIG, size=32)
OTHER = BASE.replace(epochs=6)
# fmt: off
# The protocol, a field, its other value and what that changes. `description` appears in messages only.
PROTOCOLS: list[tuple[Any, str, Any, dict[str, Any]]] = [
    (SLIMMING, "data", datasets.FASHION_MNIST, {"data": [datasets.FASHION_MNIST] * 2}),
    (SLIMMING, "per_class", 15, {"learn": 120}),
    (SLIMMING, "held_out", 4, {"held_out": 40, "learn": 160}),
    (SLIMMING, "recipe", OTHER, {"recipe of the supernet|recipe of the evaluator": OTHER}),
    (SLIMMING, "compared", 8, {"train": 80}),
    (SLIMMING, "tested", 4, {"test": 40}),
    (ABLATIONS, "data", datasets.FASHION_MNIST, {"data": [datasets.FASHION_MNIST] * 2}),
    (ABLATIONS, "per_class", 15, {"train": 150}),
    (ABLATIONS, "recipe", OTHER, {"recipe": OTHER}),
    (ABLATIONS, "config", CONFIG.replace(pool_size=5), {"config": CONFIG.replace(pool_size=5)}),
    (ABLATIONS, "size", 64, {"size": 64}),
]
# fmt: on


def observe_protocol(protocol: Any) -> Observations:
    """The images of a protocol, and the runs that it defines."""
    names: list[str] = []

    def load(name: str, split: str, **_: Any) -> datasets.Images:
        names.append(name)
        return training_runs.images(split, 400)

    slimming.load_slimming_images.cache_clear()
    ablations.load_images.cache_clear()
    with pytest.MonkeyPatch.context() as monkeypatch:
        for module in (slimming, ablations):
            monkeypatch.setattr(module, "load_data", load)
        if isinstance(protocol, ablations.AblationProtocol):
            run = run_of(BASE_VARIANT, 0, protocol=protocol, variants=VARIANTS)
            return {
                "data": names,
                "train": len(run.train),
                "recipe": run.recipe,
                "config": run.config,
                "size": run.size,
            }
        images = slimming.load_slimming_images(protocol)
    return {
        "data": names,
        **{name: len(getattr(images, name)) for name in ("learn", "held_out", "train", "test")},
        "recipe of the supernet": slimming.supernet_run(protocol, images).recipe,
        "recipe of the evaluator": slimming.get_evaluator(protocol, images).recipe,
    }


@pytest.mark.parametrize("protocol", [SLIMMING, ABLATIONS], ids=["slimming", "ablations"])
def test_every_field_of_a_protocol_has_a_case(protocol: Any) -> None:
    fields = {field.name for field in dataclasses.fields(protocol)} - {"description"}
    check_all_have_cases(fields, [field for owner, field, *_ in PROTOCOLS if owner is protocol], "fields of a protocol")


@pytest.mark.parametrize(
    ("protocol", "field", "value", "expected"),
    PROTOCOLS,
    ids=[f"{type(protocol).__module__.split('.')[1]}-{field}" for protocol, field, *_ in PROTOCOLS],
)
def test_fields_of_protocols_have_their_documented_effect(
    protocol: Any, field: str, value: Any, expected: dict[str, Any]
) -> None:
    changed = dataclasses.replace(protocol, **{field: value})
    check_changes(observe_protocol(protocol), observe_protocol(changed), expected)
