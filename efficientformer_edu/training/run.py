"""The definition of a training run and its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.data.datasets import Images
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training.distillation import Teacher
from efficientformer_edu.training.evaluation import same_classes
from efficientformer_edu.training.recipe import Recipe
from efficientformer_edu.utils.files import fingerprint_tensors
from efficientformer_edu.weights import files
from efficientformer_edu.weights.conversion import detect, select_network
from efficientformer_edu.weights.layouts import get_layout
from efficientformer_edu.weights.networks import known_class_names
from efficientformer_edu.weights.store import adopt, read

InitFrom = str | Path | Mapping[str, Tensor]
"""Initial weights: a weights file in any layout, or a `state_dict`."""

N = TypeVar("N", bound=nn.Module)
E = TypeVar("E")


@dataclass(frozen=True)
class Run:
    """Everything that the result of a run depends on.

    Attributes:
        config: configuration of the network; its classes and channels match the images.
        train: training images.
        test: test images.
        recipe: training recipe.
        size: input height and width of the network, in pixels.
        seed: seed of the initial weights, the order of the images and all other randomness.
        teacher: teacher whose logits the network learns from, if the recipe uses distillation.
        teacher_words: description of the teacher, for the records.
        build: creates the network from its configuration; a function other than the class if a module is replaced.
        variant: description of what `build` replaces, for the records.
        init_from: initial weights for fine-tuning; None for random weights. The heads are loaded if their classes are
            those of the images (see `load_initial`), else they are initialized randomly.

    Raises:
        ValueError: if training and test data, network and recipe do not match.
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
        """Hashes of the content of data, teacher and initial weights; an empty string if there is nothing to hash."""
        return {
            "train": self.train.fingerprint,
            "test": self.test.fingerprint,
            "teacher": getattr(self.teacher, "fingerprint", ""),
            "init_from": fingerprint_init(self.init_from),
        }

    def described(self) -> dict[str, Any]:
        """The run as a dictionary, which is stored and compared when the run is resumed."""
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
    """A description of initial weights for the records: the file name."""
    if init_from is None:
        return ""
    return "a state_dict" if isinstance(init_from, Mapping) else Path(init_from).name


def fingerprint_init(init_from: InitFrom | None) -> str:
    """A hash of initial weights; empty without initial weights."""
    if init_from is None:
        return ""
    return fingerprint_tensors(init_from if isinstance(init_from, Mapping) else files.read(Path(init_from)))


def load_initial(network: EfficientFormer, init_from: InitFrom, classes: Sequence[str]) -> str:
    """Load initial weights.

    All weights except those of the heads must match. The heads are loaded if the file names the same classes in the
    same order or, if it does not name its classes, if it has the same number. Else they keep their random weights.

    Args:
        network: network for the classes of the training images.
        init_from: a file in any layout, or a `state_dict`.
        classes: class names of the training images.

    Returns:
        A sentence that says whether the heads were loaded.

    Raises:
        FileNotFoundError: if the file does not exist.
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
    """The result of a run.

    Attributes:
        network: the trained network, in evaluation mode, on the CPU.
        evaluation: evaluation on the test images after the last epoch.
        log: one row per epoch.
    """

    network: N
    evaluation: E
    log: tuple[dict[str, Any], ...]
