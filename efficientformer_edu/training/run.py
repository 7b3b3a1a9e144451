"""What a training run depends on, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training.checkpoints import fingerprint_tensors
from efficientformer_edu.training.data import Images
from efficientformer_edu.training.distillation import Teacher
from efficientformer_edu.training.evaluation import same_classes
from efficientformer_edu.training.recipe import Recipe
from efficientformer_edu.weights import files
from efficientformer_edu.weights.infer import detect, select_network
from efficientformer_edu.weights.layouts import get_layout
from efficientformer_edu.weights.networks import known_class_names
from efficientformer_edu.weights.store import adopt, read

InitFrom = str | Path | Mapping[str, Tensor]
"""Weights that training starts from: a file of weights in any layout, or a `state_dict`."""

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
        init_from: weights to start from, for fine-tuning; None for random ones. The heads are kept if their classes are
            those of the images (see `load_initial`), and start at random otherwise.

    Raises:
        ValueError: for data that do not fit each other, the network or the recipe.
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
    init_from: InitFrom | None = None

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

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Hashes of the content of data, teacher and initial weights; empty where there is nothing to hash."""
        return {
            "train": self.train.fingerprint,
            "test": self.test.fingerprint,
            "teacher": getattr(self.teacher, "fingerprint", ""),
            "init_from": fingerprint_init(self.init_from),
        }

    def described(self) -> dict[str, Any]:
        """The run as it is stored, and compared when it is resumed."""
        return {
            "config": self.config.to_dict(),
            "recipe": asdict(self.recipe),
            "train": self.train.words,
            "test": self.test.words,
            "classes": list(self.train.classes),
            "size": self.size,
            "seed": self.seed,
            "teacher": self.teacher_words,
            "variant": self.variant,
            "init_from": describe_init(self.init_from),
            "fingerprints": self.fingerprints,
        }


def describe_init(init_from: InitFrom | None) -> str:
    """Initial weights for the records: the name of the file."""
    if init_from is None:
        return ""
    return "a state_dict" if isinstance(init_from, Mapping) else Path(init_from).name


def fingerprint_init(init_from: InitFrom | None) -> str:
    """A hash of initial weights; empty if there are none."""
    if init_from is None:
        return ""
    return fingerprint_tensors(init_from if isinstance(init_from, Mapping) else files.read(Path(init_from)))


def load_initial(network: EfficientFormer, init_from: InitFrom, classes: Sequence[str]) -> str:
    """Load the weights that training starts from.

    Everything but the heads has to fit. The heads are loaded if the file names the same classes in the same order or,
    where it names none, if it has as many. Otherwise they keep their random weights.

    Args:
        network: for the classes.
        init_from: a file in any layout, or a `state_dict`.
        classes: names of the classes of the training images.

    Returns:
        What became of the heads, as a sentence.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the weights belong to another network; the message names the file.
    """
    source = describe_init(init_from)
    try:
        tensors = select_network(init_from, None) if isinstance(init_from, Mapping) else read(Path(init_from))
        names = None if isinstance(init_from, Mapping) else known_class_names(Path(init_from))
        heads = [tensors[f"{head}.weight"] for head in get_layout(detect(tensors)).heads if f"{head}.weight" in tensors]
        count, own = (len(heads[0]) if heads else 0), 1 + network.config.distillation
        fits = count == len(classes) and len(heads) >= own
        keep = fits and (names is None or same_classes(names, classes))
        network.load_state_dict(adopt(tensors, network.config, head=keep), strict=keep)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{source}: {error}") from error
    if keep and names is None:
        return f"{source} has {count} classes without names, as many as the data: its head is kept"
    if keep:
        return f"{source} has the same classes as the data: its head is kept"
    if count != len(classes):
        return f"{source} has {count} classes and the data {len(classes)}: the head starts at random"
    if len(heads) < own:
        return f"{source} has one head and the network two: both heads start at random"
    return f"{source} has other classes than the data: the head starts at random"


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
