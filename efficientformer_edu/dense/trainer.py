"""Train a network for detection or segmentation, with the training loop of the classifiers.

Paper: section 5.2. Stopping and resuming, multiple processes, precision and progress come from `training.trainer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather_object
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from efficientformer_edu.data.examples import Examples, Target
from efficientformer_edu.data.letterbox import Letterbox
from efficientformer_edu.dense.evaluation import Scores, classes_of, evaluate_dense
from efficientformer_edu.dense.files import header, load_backbone, load_dense, save_dense, to_dict
from efficientformer_edu.dense.metrics import check_installed
from efficientformer_edu.dense.network import DenseConfig, DenseNetwork
from efficientformer_edu.dense.recipe import DenseRecipe
from efficientformer_edu.training.distributed import sum_over_processes
from efficientformer_edu.training.loading import UNSHARDED, Shard, epoch_batches
from efficientformer_edu.training.run import BaseRun, InitFrom, describe_init
from efficientformer_edu.training.trainer import Trainer
from efficientformer_edu.utils.rng import generator


@dataclass(frozen=True)
class DenseRun(BaseRun):
    """Everything that the result of a run depends on.

    Attributes:
        config: network configuration; its head has as many classes as the data.
        init_from: weights to start from, for fine-tuning: the file of a classifier or of another network for
            detection or segmentation, or the `state_dict` of a backbone; None for random ones. The backbone has to fit.
            Neck and head are loaded if the file has the same ones for the same classes, else initialized at random.
        train: see `BaseRun`, as for the other fields that are not listed here.
    """

    config: DenseConfig
    train: Examples
    test: Examples
    recipe: DenseRecipe

    def __post_init__(self) -> None:
        test_classes = classes_of(self.test, self.config.task)
        if self.classes != test_classes:
            names = ", ".join(self.classes), ", ".join(test_classes)
            raise ValueError(f"training images have the classes {names[0]}; test images have {names[1]}")
        if self.config.num_classes != len(self.classes):
            raise ValueError(
                f"the network has {self.config.num_classes} classes, but the data have {len(self.classes)}"
            )
        super().__post_init__()

    @property
    def classes(self) -> tuple[str, ...]:
        return classes_of(self.train, self.config.task)

    def described(self) -> dict[str, Any]:
        return {"task": self.config.task, "config": to_dict(self.config), **super().described()}


class DenseBatch(NamedTuple):
    """The part of a batch that one process handles: square input images, and the target of each."""

    images: Float[Tensor, "B 3 size size"]
    targets: list[Target]


class DenseBatches(Dataset[DenseBatch]):
    """The batches of one epoch, or the shard of one process in each.

    Each batch depends only on the seed, the epoch and its index, regardless of the number of data-loading processes.
    """

    def __init__(self, run: DenseRun, epoch: int, shard: Shard = UNSHARDED) -> None:
        recipe = run.recipe
        pixels = run.config.task == "segmentation"
        self.examples, self.letterbox = run.train, Letterbox(run.size, recipe.scale, recipe.flip, pixels)
        self.numbers = run.seed, epoch, shard.rank
        batches = epoch_batches(len(run.train), recipe.batch, seed=run.seed, epoch=epoch)
        self.batches = [shard.split_batch(batch) for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> DenseBatch:
        random = generator(*self.numbers, number)
        samples = [self.letterbox(self.examples[index], random) for index in self.batches[number]]
        return DenseBatch(torch.stack([sample.image for sample in samples]), [sample.target for sample in samples])


class DenseTrainer(Trainer):
    """Trains a network for detection or segmentation. Arguments, methods and errors are those of `Trainer`.

    Raises:
        ImportError: also if a package needed for evaluation is missing, with the command that installs it.
    """

    unused_parameters = True  # the backbone's last norm, and that of a feature map that the neck does not use
    run: DenseRun
    network: DenseNetwork

    def __init__(self, run: DenseRun, folder: Path | None = None, **options: Any) -> None:
        self.metric_names = ("ap", "ap50") if run.config.task == "detection" else ("miou", "pixel_accuracy")
        self.criterion = run.config.criterion
        check_installed(run.config.task)
        super().__init__(run, folder, **options)

    def build_model(self, drop_path: float | None = None) -> DenseNetwork:
        config = self.run.config
        if drop_path is not None:
            config = replace(config, backbone=config.backbone.replace(drop_path_rate=drop_path))
        return DenseNetwork(config)

    def load_initial(self, init_from: InitFrom) -> str:
        return load_initial_dense(self.network, init_from, self.run.classes)

    def batches(self) -> DenseBatches:
        return DenseBatches(self.run, self.epoch, self.shard)

    def lr_at_step(self, step: int) -> float:
        return self.run.recipe.lr_at_step(step, self.steps_per_epoch)

    def compute_loss(self, images: Tensor, batch: DenseBatch) -> Tensor:
        targets = [target.to(images.device) for target in batch.targets]
        with self.autocast():
            output = self.ddp_model(images)
        sums = self.criterion.sums(output, targets, getattr(self.network.head, "strides", ()))
        terms = self.criterion.losses(sum_over_processes(sums, self.accelerator))
        return torch.stack(list(terms.values())).sum()

    def evaluate_network(self) -> Scores:
        run = self.run
        return evaluate_dense(
            self.network,
            run.test,
            run.size,
            run.recipe.batch,
            device=self.accelerator.device,
            workers=self.workers,
            shard=self.shard,
            gather=None if self.shard.world_size == 1 else lambda value: gather_object([value]),
        )

    def save_weights(self, state: Mapping[str, Tensor], path: Path) -> None:
        save_dense(state, self.run.config, self.run.size, self.run.classes, path)


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
