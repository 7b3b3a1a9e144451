"""What a training run depends on, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from torch import nn

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training.data import Images
from efficientformer_edu.training.distillation import Teacher
from efficientformer_edu.training.recipe import Recipe

N = TypeVar("N", bound=nn.Module)
E = TypeVar("E")


@dataclass(frozen=True)
class Run:
    """Everything that the result of a run depends on.

    Attributes:
        config: of the network; its classes and channels are those of the images.
        train: images to learn from.
        test: images to judge by.
        recipe: how to learn.
        size: height and width in pixels that the network sees.
        seed: of the first weights, the order of the images and all that is random.
        teacher: whose logits the network learns from, where the recipe distils.
        teacher_words: what the teacher is, for the records.
        build: makes the network from its configuration; other than the class itself where a part is exchanged.
        variant: what `build` exchanges, for the records.
    """

    config: EfficientFormerConfig
    train: Images
    test: Images
    recipe: Recipe
    size: int
    seed: int = 0
    teacher: Teacher | None = None
    teacher_words: str = ""
    build: Callable[[EfficientFormerConfig], EfficientFormer] = EfficientFormer
    variant: str = ""

    def __post_init__(self) -> None:
        if self.recipe.distillation and self.teacher is None:
            raise ValueError(f"the recipe distils ({self.recipe.distillation}), and there is no teacher; give one")
        if self.recipe.distillation and not self.config.distillation:
            raise ValueError("a network with one head cannot learn from a teacher; set distillation=True")
        if len(self.train) < self.recipe.batch:
            count, batch = len(self.train), self.recipe.batch
            raise ValueError(f"{count} images do not fill a batch of {batch}; take a smaller batch, or more images")
        if self.train.classes != self.test.classes:
            raise ValueError(f"training has {len(self.train.classes)} classes, testing {len(self.test.classes)}")

    def described(self) -> dict[str, Any]:
        """The run in numbers and words, as it is stored and compared when it is resumed."""
        return {
            "config": self.config.to_dict(),
            "recipe": asdict(self.recipe),
            "train": self.train.words,
            "test": self.test.words,
            "size": self.size,
            "seed": self.seed,
            "teacher": self.teacher_words,
            "variant": self.variant,
        }


@dataclass(frozen=True)
class Trained(Generic[N, E]):
    """What came out.

    Attributes:
        network: in evaluation mode, on the CPU.
        evaluation: of the last epoch, on the test images.
        log: one row an epoch.
    """

    network: N
    evaluation: E
    log: tuple[dict[str, Any], ...]
