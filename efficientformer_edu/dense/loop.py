"""Train a network for detection or segmentation, with the training loop of the classifiers.

Paper: section 5.2. Stopping and resuming, multiple processes, precision and progress come from `training.trainer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from efficientformer_edu.data.examples import Examples, Target
from efficientformer_edu.data.letterbox import View
from efficientformer_edu.dense.evaluation import Scores, classes_of, evaluate_dense
from efficientformer_edu.dense.files import header, load_backbone, load_dense, save_dense, to_dict
from efficientformer_edu.dense.losses import criterion
from efficientformer_edu.dense.metrics import check_installed
from efficientformer_edu.dense.network import DenseConfig, DenseNetwork
from efficientformer_edu.dense.recipe import DenseRecipe
from efficientformer_edu.training.loading import ALONE, Share, epoch_batches
from efficientformer_edu.training.run import InitFrom, describe_init, fingerprint_init
from efficientformer_edu.training.trainer import Trainer
from efficientformer_edu.utils.rng import generator


@dataclass(frozen=True)
class DenseRun:
    """Everything that the result of a run depends on.

    Attributes:
        config: network configuration; its head has as many classes as the data.
        train: training images.
        test: test images.
        recipe: training recipe.
        size: height and width in pixels of the network's square input.
        seed: seed of the initial weights, the order of the images and all other randomness.
        init_from: weights to start from, for fine-tuning: the file of a classifier or of another network for
            detection or segmentation, or the `state_dict` of a backbone; None for random ones. The backbone has to fit.
            Neck and head are loaded if the file has the same ones for the same classes, else initialized at random.

    Raises:
        ValueError: if training data, test data, network and recipe are not compatible.
    """

    config: DenseConfig
    train: Examples
    test: Examples
    recipe: DenseRecipe
    size: int
    seed: int = 0
    init_from: InitFrom | None = None

    def __post_init__(self) -> None:
        classes, others = (classes_of(data, self.config.task) for data in (self.train, self.test))
        if classes != others:
            raise ValueError(f"training has the classes {', '.join(classes)}, and testing has {', '.join(others)}")
        if self.config.num_classes != len(classes):
            count = self.config.num_classes
            raise ValueError(f"the network tells {count} classes apart, and the data have {len(classes)}")
        if len(self.train) < self.recipe.batch:
            count, batch = len(self.train), self.recipe.batch
            raise ValueError(f"{count} images do not fill a batch of {batch}; take a smaller batch, or more images")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the head predicts."""
        return classes_of(self.train, self.config.task)

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Hashes of the content of data and initial weights; empty strings for what has no files to hash."""
        data = {"train": self.train.fingerprint, "test": self.test.fingerprint}
        return {**data, "init_from": fingerprint_init(self.init_from)}

    def described(self) -> dict[str, Any]:
        """The description of the run that is stored, and compared when it is resumed."""
        return {
            "task": self.config.task,
            "config": to_dict(self.config),
            "recipe": {**asdict(self.recipe), "scale": list(self.recipe.scale)},
            "train": self.train.words,
            "test": self.test.words,
            "classes": list(self.classes),
            "size": self.size,
            "seed": self.seed,
            "init_from": describe_init(self.init_from),
            "fingerprints": self.fingerprints,
        }


class DenseBatch(NamedTuple):
    """The part of a batch that one process handles: square input images, and the target of each."""

    images: Float[Tensor, "B 3 size size"]
    targets: list[Target]


class DenseBatches(Dataset[DenseBatch]):
    """The batches of one epoch, or the shard of one process in each.

    Each batch depends only on the seed, the epoch and its index, regardless of the number of data-loading processes.
    """

    def __init__(self, run: DenseRun, epoch: int, share: Share = ALONE) -> None:
        recipe = run.recipe
        pixels = run.config.task == "segmentation"
        self.examples, self.view = run.train, View(run.size, recipe.scale, recipe.flip, pixels)
        self.numbers = run.seed, epoch, share.process
        batches = epoch_batches(len(run.train), recipe.batch, seed=run.seed, epoch=epoch)
        self.shares = [share.of_batch(batch) for batch in batches]

    def __len__(self) -> int:
        return len(self.shares)

    def __getitem__(self, number: int) -> DenseBatch:
        random = generator(*self.numbers, number)
        views = [self.view(self.examples[index], random) for index in self.shares[number]]
        return DenseBatch(torch.stack([view.image for view in views]), [view.target for view in views])


class DenseLoop(Trainer[DenseRun, DenseNetwork, Scores]):
    """Trains a network for detection or segmentation. Arguments, methods and errors are those of `Trainer`.

    Raises:
        ImportError: also if a package needed for evaluation is missing, with the command that installs it.
    """

    unused_parameters = True  # the backbone's last norm, and that of a feature map that the neck does not use

    def __init__(self, run: DenseRun, folder: Path | None = None, *, resume: bool = False, workers: int = 0) -> None:
        self.metric_names = ("ap", "ap50") if run.config.task == "detection" else ("miou", "pixel_accuracy")
        self.criterion = criterion(run.config)
        check_installed(run.config.task)
        super().__init__(run, folder, resume=resume, workers=workers)

    def build_model(self, drop_path: float | None = None) -> DenseNetwork:
        config = self.run.config
        if drop_path is not None:
            config = replace(config, backbone=config.backbone.replace(drop_path_rate=drop_path))
        return DenseNetwork(config)

    def initialize(self) -> None:
        if self.run.init_from is not None:
            self.notes.append(load_initial_dense(self.network, self.run.init_from, self.run.classes))

    @property
    def steps_per_epoch(self) -> int:
        return len(self.run.train) // self.run.recipe.batch

    def batches(self) -> DenseBatches:
        return DenseBatches(self.run, self.epoch, self.share)

    def lr_at_step(self, step: int, steps_per_epoch: int) -> float:
        return self.run.recipe.rate(step, steps_per_epoch)

    def compute_loss(self, images: Tensor, batch: DenseBatch) -> Tensor:
        targets = [target.to(images.device) for target in batch.targets]
        with self.autocast():
            output = self.ddp_model(images)
        sums = self.criterion.sums(output, targets, getattr(self.network.head, "strides", ()))
        terms = self.criterion.losses(self.sum_over_processes(sums))
        return torch.stack(list(terms.values())).sum()

    def score(self) -> Scores:
        run, device = self.run, self.accelerator.device
        gather = None if self.accelerator.num_processes == 1 else self.gather
        return evaluate_dense(
            self.network,
            run.test,
            run.size,
            run.recipe.batch,
            device=device,
            workers=self.workers,
            share=self.share,
            gather=gather,
        )

    def save(self, state: Mapping[str, Tensor], path: Path) -> None:
        save_dense(state, self.run.config, self.run.size, self.run.classes, path)


def _on(device: torch.device, target: Target) -> Target:
    semantic = None if target.semantic is None else target.semantic.to(device)
    return Target(target.boxes.to(device), target.labels.to(device), semantic)


def load_initial_dense(network: DenseNetwork, init_from: InitFrom, classes: tuple[str, ...]) -> str:
    """Load the weights that training starts from.

    Args:
        network: for the classes.
        init_from: the file of a classifier in any layout, that of a network for detection or segmentation, or the
            `state_dict` of a backbone.
        classes: names of the classes of the training images.

    Returns:
        A sentence that says whether neck and head were loaded or initialized at random.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the weights belong to a different backbone; the message names the file.
    """
    source, backbone = describe_init(init_from), network.config.backbone
    if isinstance(init_from, Mapping):
        weights: Mapping[str, Tensor] = init_from
    else:
        if header(init_from) is not None:
            stored = load_dense(init_from)
            if stored.classes == classes and replace(stored.network.config, backbone=backbone) == network.config:
                _load(network, stored.network.state_dict(), source)
                return f"{source} has the same neck, head and classes: all its weights are kept"
        weights = load_backbone(init_from, backbone)
    # The norms of the feature maps belong to the neck that reads them.
    norms = {name for name in (*weights, *network.backbone.state_dict()) if name.startswith("norms.")}
    weights = {name: value for name, value in weights.items() if name not in norms}
    _load(network.backbone, weights, source, may_lack=norms)
    return f"{source} gives the backbone; neck and head start at random"


def _load(module: nn.Module, weights: Mapping[str, Tensor], source: str, may_lack: Set[str] = frozenset()) -> None:
    state = module.state_dict()
    missing = [name for name in state if name not in weights and name not in may_lack]
    mismatched = [name for name, value in weights.items() if name not in state or state[name].shape != value.shape]
    if missing or mismatched:
        problem = f"{missing[0]} is missing" if missing else f"{mismatched[0]} is unknown or has another shape"
        raise ValueError(f"{source}: the weights do not fit this network: {problem}")
    module.load_state_dict(dict(weights), strict=False)
