"""Training recipes as data: the released code's, that of the paper's reported accuracies, and one for a laptop.

Paper: section 5.1. Released code: the defaults of `main.py`, which are the defaults of `Recipe()`. Two of them have no
effect there and are 0 here (`WITHOUT_EFFECT`). `paper.settings("recipe")` lists the settings of each source;
`differences` compares them with the recipes of this module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from efficientformer_edu import _validation as values
from efficientformer_edu import paper
from efficientformer_edu.utils.tables import Table

Kind = Literal["hard", "soft"]
Precision = Literal["fp32", "bf16"]

REFERENCE_BATCH = 1024  # batch size that a recipe's learning rate refers to


@dataclass(frozen=True)
class BaseRecipe:
    """The settings of every training run; subclasses add a learning-rate schedule and augmentation.

    Attributes:
        epochs: length of the learning-rate schedule in epochs, warm-up included.
        batch: number of images in one step, over all processes.
        learning_rate: highest learning rate; see `max_lr`.
        weight_decay: weight decay of AdamW, for the parameters that are not exempt.
        agc_clip: adaptive gradient clipping: maximum ratio of a unit's gradient norm to its weight norm; None for no
            clipping.
        ema: decay of the exponential moving average of the weights; None for no average.
        flip: whether half of the images are mirrored.
        drop_path: stochastic depth rate of the last block.
        sync_bn: whether batch norms are synchronized over the processes.
        precision: precision of the forward and backward pass, `"fp32"` or `"bf16"`.

    Raises:
        ValueError: if a value is not allowed; the message names the field, the value and the allowed values.
    """

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.025
    agc_clip: float | None = None
    ema: float | None = None
    flip: bool = True
    drop_path: float = 0.0
    sync_bn: bool = True
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name in CHECKS:
                object.__setattr__(self, field.name, CHECKS[field.name](field.name, getattr(self, field.name)))

    @property
    def max_lr(self) -> float:
        """The highest learning rate of the run."""
        return self.learning_rate

    @property
    def total_epochs(self) -> int:
        """Number of epochs in the run."""
        return self.epochs

    def replace(self, **fields: Any) -> Self:
        """A copy with some fields replaced. Raises ValueError for an invalid value or an unknown field."""
        values.known_fields(fields, self.__dataclass_fields__)
        return dataclasses.replace(self, **fields)


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """All settings of a classifier's training except network, data and teacher. Defaults are the released code's.

    Attributes:
        epochs: see `BaseRecipe`, as for the other fields that are not listed here.
        learning_rate: highest learning rate for a batch of 1024; it is scaled linearly with the batch, see `max_lr`.
        min_lr: learning rate at the end of the cosine, independent of the batch.
        warmup_epochs: length of the linear warm-up in epochs; can be a fraction.
        warmup_lr: learning rate at the start of the warm-up, independent of the batch.
        cooldown_epochs: additional epochs at `min_lr`, after `epochs`.
        label_smoothing: fraction of the target that is spread over all classes.
        mixup: α of the Beta distribution that mixes two images; 0 for no mixup.
        cutmix: α of the Beta distribution that pastes one image into another; 0 for no cutmix.
        erasing: probability that a rectangle of an image is replaced by noise.
        color_jitter: maximum relative change of brightness, contrast and saturation; 0 for none.
        rand_augment: magnitude of RandAugment, up to 10; None for no RandAugment.
        repeated_aug: how often an image occurs in an epoch; the number of distinct images decreases accordingly.
        crop: padding in pixels before random cropping of small images; None for a random resized crop.
        distillation: how the second head learns from a teacher, `"hard"` or `"soft"`; None for no teacher.
        alpha: weight of the teacher's term in the loss.
        tau: temperature of soft distillation.
    """

    epochs: int = 300
    batch: int = 1024  # 128 images on each of 8 GPUs, as in the authors' README for L1
    learning_rate: float = 1e-3
    agc_clip: float | None = 0.01
    ema: float | None = 0.99996
    min_lr: float = 1e-5
    warmup_epochs: float = 5.0
    warmup_lr: float = 1e-5
    cooldown_epochs: int = 0
    label_smoothing: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    erasing: float = 0.25
    color_jitter: float = 0.0
    rand_augment: float | None = 9.0
    repeated_aug: int = 3  # `RASampler` in util/samplers.py
    crop: int | None = None
    distillation: Kind | None = "hard"
    alpha: float = 0.5
    tau: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_epochs >= self.epochs:
            raise values.invalid_value("warmup_epochs", self.warmup_epochs, f"below epochs={self.epochs}")
        for name in ("min_lr", "warmup_lr"):
            if (lr := getattr(self, name)) > self.max_lr:
                scaled = f"{self.learning_rate:g} × {self.batch} / {REFERENCE_BATCH} = {self.max_lr:g}"
                raise values.invalid_value(name, lr, f"at most the highest learning rate, {scaled}")

    @property
    def max_lr(self) -> float:
        """The highest learning rate: `learning_rate` scaled to the batch."""
        return self.learning_rate * self.batch / REFERENCE_BATCH

    @property
    def total_epochs(self) -> int:
        """Number of epochs in the run, including cooldown."""
        return self.epochs + self.cooldown_epochs


OLD_NAMES = {
    "min_rate": "min_lr",
    "warm_up_epochs": "warmup_epochs",
    "warm_up_rate": "warmup_lr",
    "warm_up_steps": "warmup_steps",
    "clipping": "agc_clip",
    "repeats": "repeated_aug",
}


def rename_old_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored recipe under their current names; files of earlier versions have other names."""
    return {OLD_NAMES.get(name, name): value for name, value in fields.items()}


Check = Callable[[str, Any], Any]


def _from_zero(name: str, value: Any) -> float:
    number = values.finite_float(name, value, allowed := "a finite number, at least 0")
    if number < 0:
        raise values.invalid_value(name, value, allowed)
    return number


def _up_to(most: float) -> Check:
    def check(name: str, value: Any) -> float:
        number = values.finite_float(name, value, allowed := f"a number from 0 to {most:g}")
        if not 0 <= number <= most:
            raise values.invalid_value(name, value, allowed)
        return number

    return check


def _choice(*allowed: str | None) -> Check:
    def check(name: str, value: Any) -> Any:
        if value not in allowed:
            raise values.invalid_value(name, value, ", ".join(map(repr, allowed)))
        return value

    return check


def _or_none(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


CHECKS: Mapping[str, Check] = {
    "epochs": values.positive_int,
    "batch": values.positive_int,
    "learning_rate": values.positive_float,
    "min_lr": _from_zero,
    "warmup_epochs": _from_zero,
    "warmup_lr": _from_zero,
    "cooldown_epochs": values.non_negative_int,
    "weight_decay": _from_zero,
    "agc_clip": _or_none(values.positive_float),
    "ema": _or_none(values.probability),
    "label_smoothing": values.probability,
    "mixup": _from_zero,
    "cutmix": _from_zero,
    "erasing": _up_to(1),
    "color_jitter": _up_to(1),
    "rand_augment": _or_none(_up_to(10)),
    "repeated_aug": values.positive_int,
    "flip": values.boolean,
    "crop": _or_none(values.non_negative_int),
    "drop_path": values.probability,
    "distillation": _choice(None, "hard", "soft"),
    "alpha": _up_to(1),
    "tau": values.positive_float,
    "sync_bn": values.boolean,
    "precision": _choice("fp32", "bf16"),
}
"""Validation of each field: returns the normalized value or raises ValueError."""

CODE = Recipe()
"""The released code, with the command of its README."""

PAPER = CODE.replace(batch=3072)
"""The run that gave L1's 79.2 %: 128 images on each of 24 GPUs. Unreported settings are those of the released code."""

LAPTOP = Recipe(
    epochs=4,
    batch=128,
    learning_rate=0.048,  # highest learning rate 6e-3: a small network allows larger steps than L1
    warmup_epochs=0.5,
    ema=None,  # the released average covers about 25,000 steps, which is longer than the run
    mixup=0.0,  # with few epochs, every image should be seen unmodified
    cutmix=0.0,
    erasing=0.0,
    rand_augment=None,
    repeated_aug=1,
    crop=0,
    distillation=None,
)
"""Fashion-MNIST in a few minutes on two cores."""

PRESETS: Mapping[str, Recipe] = {"paper": PAPER, "code": CODE, "laptop": LAPTOP}


def get_recipe(recipe: str | Recipe) -> Recipe:
    """A recipe by name: `"paper"`, `"code"` or `"laptop"`; a `Recipe` is returned. ValueError for another name."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in PRESETS:
        raise values.invalid_value("recipe", recipe, ", ".join(PRESETS))
    return PRESETS[recipe]


WITHOUT_EFFECT: Mapping[str, str] = {
    "cooldown": "main.py drops the number of epochs that includes it, and stops with the cosine",
    "colour jitter": "timm omits it if RandAugment is used",
}
"""Settings of the released code that have no effect there, with the reason. The recipes here set them to 0."""

FIELDS: Mapping[str, str] = {
    "epochs": "epochs",
    "learning rate": "learning_rate",
    "batch": "batch",
    "minimum learning rate": "min_lr",
    "warm-up": "warmup_epochs",
    "warm-up learning rate": "warmup_lr",
    "cooldown": "cooldown_epochs",
    "weight decay": "weight_decay",
    "gradient clipping": "agc_clip",
    "weight average": "ema",
    "BatchNorm": "sync_bn",
    "precision": "precision",
    "colour jitter": "color_jitter",
    "RandAugment": "rand_augment",
    "label smoothing": "label_smoothing",
    "repeated augmentation": "repeated_aug",
    "random erasing": "erasing",
    "mixup": "mixup",
    "cutmix": "cutmix",
    "drop path": "drop_path",
    "distillation": "distillation",
}
"""The settings of `paper.settings("recipe")` that a recipe can represent, and their fields."""


def differences() -> Table:
    """Each setting in the paper, the authors' run and the released code, compared with the recipes here."""
    rows = []
    for setting in paper.settings("recipe"):
        if setting.name in FIELDS:
            reported = [str(side) if side else None for side in (setting.paper, setting.run, setting.code)]
            presets = [_shown(setting.name, recipe) for recipe in PRESETS.values()]
            rows.append((setting.name, *reported, *presets, WITHOUT_EFFECT.get(setting.name)))
    sources = ("paper", "the authors' run", "released code")
    return Table(("setting", *sources, *(f"here: {name}" for name in PRESETS), "why other than the code"), tuple(rows))


def _shown(name: str, recipe: Recipe) -> str:
    value = getattr(recipe, FIELDS[name])
    if name == "learning rate":
        return f"{value:g} × batch / {REFERENCE_BATCH} = {recipe.max_lr:g}"
    if name == "distillation" and value:
        return f"{value}, α {recipe.alpha:g}, τ {recipe.tau:g}"
    if value is None:
        return "off"
    if isinstance(value, bool):
        return "synchronised" if value else "each process alone"
    return value if isinstance(value, str) else f"{value:g}"
