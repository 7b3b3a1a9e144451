"""The definition of a training run and its result, for all tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from efficientformer_edu.training.recipe import BaseRecipe
from efficientformer_edu.utils.files import fingerprint_tensors
from efficientformer_edu.weights import files

InitFrom = str | Path | Mapping[str, Tensor]
"""Initial weights: a weights file in any layout, or a `state_dict`."""


@dataclass(frozen=True)
class BaseRun:
    """Everything that the result of a run depends on; subclasses narrow the types and add fields.

    Attributes:
        config: configuration of the network; its classes match those of the images.
        train: training images.
        test: test images.
        recipe: training recipe.
        size: input height and width of the network, in pixels.
        seed: seed of the initial weights, the order of the images and all other randomness.
        init_from: initial weights for fine-tuning; None for random weights.

    Raises:
        ValueError: if training and test data, network and recipe do not match.
    """

    config: Any
    train: Any
    test: Any
    recipe: BaseRecipe
    size: int
    seed: int = 0
    init_from: InitFrom | None = None

    def __post_init__(self) -> None:
        if len(self.train) < self.recipe.batch:
            count, batch = len(self.train), self.recipe.batch
            raise ValueError(f"{count} images do not fill a batch of {batch}; take a smaller batch, or more images")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the network predicts."""
        raise NotImplementedError

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Hashes of the content of data and initial weights; an empty string if there is nothing to hash."""
        data = {"train": self.train.fingerprint, "test": self.test.fingerprint}
        return {**data, "init_from": fingerprint_init(self.init_from)}

    def described(self) -> dict[str, Any]:
        """The run as a dictionary for JSON, which is stored and compared when the run is resumed."""
        recipe = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self.recipe).items()
        }
        return {
            "recipe": recipe,
            "train": self.train.description,
            "test": self.test.description,
            "classes": list(self.classes),
            "size": self.size,
            "seed": self.seed,
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


@dataclass(frozen=True)
class TrainingResult:
    """The result of a run.

    Attributes:
        network: the trained network, in evaluation mode, on the CPU.
        evaluation: evaluation on the test images after the last epoch.
        log: one row per epoch.
    """

    network: Any
    evaluation: Any
    log: tuple[dict[str, Any], ...]
