"""How good a detector or a segmentation is: COCO's average precision, and the mean intersection over union.

Paper: the columns of Table 2. Sources: torchmetrics, with pycocotools for the average precision. Where several
processes share the images, the caller passes `gather`, which collects what each process has; without it the scores are
those of this process's images, and nothing is communicated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from itertools import zip_longest
from types import ModuleType
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from efficientformer_edu.audit.tables import Table
from efficientformer_edu.dense.detections import Detections
from efficientformer_edu.dense.examples import IGNORED, Example
from efficientformer_edu.torchvision_build import import_beside_torch

Gather = Callable[[Any], list[Any]]
"""What this process has, to what each process has, in the order of the processes. Every process has to call it."""

INSTALL = "pip install 'efficientformer-edu[dense]'"


@dataclass(frozen=True)
class DetectionScores:
    """What COCO's evaluation says of the boxes found.

    Attributes:
        classes: names.
        ap: average precision, a mean over IoU thresholds from 0.5 to 0.95 and over the classes that occur.
        ap50: at the threshold 0.5.
        ap75: at the threshold 0.75.
        by_class: AP of each class; None for one that does not occur.
        count: images.
    """

    classes: tuple[str, ...]
    ap: float
    ap50: float
    ap75: float
    by_class: tuple[float | None, ...]
    count: int

    @property
    def scores(self) -> dict[str, float]:
        """What a row of the log says of it."""
        return {"ap": self.ap, "ap50": self.ap50}

    @property
    def result(self) -> dict[str, float]:
        """What is stored of it in the end."""
        return {"ap": self.ap, "ap50": self.ap50, "ap75": self.ap75, "images": self.count}

    def table(self) -> Table:
        """Each class and its AP."""
        rows = [(name, _shown(value)) for name, value in zip(self.classes, self.by_class, strict=True)]
        return Table(("class", "AP"), (*rows, ("all", _shown(self.ap))), total=True)

    def __str__(self) -> str:
        return f"AP {self.ap:.4f}, AP50 {self.ap50:.4f}, AP75 {self.ap75:.4f} on {self.count:,} images"


@dataclass(frozen=True)
class SegmentationScores:
    """How well pixels were told apart.

    Attributes:
        classes: names.
        miou: intersection over union, a mean over the classes.
        pixel_accuracy: part of the pixels that have a class and got theirs.
        by_class: intersection over union of each class; None for one that neither occurs nor was answered.
        count: images.
    """

    classes: tuple[str, ...]
    miou: float
    pixel_accuracy: float
    by_class: tuple[float | None, ...]
    count: int

    @property
    def scores(self) -> dict[str, float]:
        """What a row of the log says of it."""
        return {"miou": self.miou, "pixel_accuracy": self.pixel_accuracy}

    @property
    def result(self) -> dict[str, float]:
        """What is stored of it in the end."""
        return {**self.scores, "images": self.count}

    def table(self) -> Table:
        """Each class and its IoU."""
        rows = [(name, _shown(value)) for name, value in zip(self.classes, self.by_class, strict=True)]
        return Table(("class", "IoU"), (*rows, ("all", _shown(self.miou))), total=True)

    def __str__(self) -> str:
        return f"mIoU {self.miou:.4f}, {self.pixel_accuracy:.2%} of the pixels right, on {self.count:,} images"


def judge_detections(
    pairs: Iterable[tuple[Detections, Example]], classes: tuple[str, ...], count: int, gather: Gather | None = None
) -> DetectionScores:
    """COCO's evaluation of the boxes found.

    Args:
        pairs: what was found in an image, in its own pixels, and the image. Each process brings its own.
        classes: names.
        count: images of all processes.
        gather: where several processes share the images.

    Raises:
        ValueError: if no image has an object.
        ImportError: if torchmetrics, pycocotools or torchvision is missing, with the command that installs them.
    """
    module = _torchmetrics("detection")
    # torchmetrics' own synchronization waits forever where one process has fewer images than another.
    metric = module.MeanAveragePrecision(class_metrics=True, sync_on_compute=False)
    metric.warn_on_many_detections = False  # COCO counts the best hundred; that there are more is no news
    mine = []
    for found, truth in pairs:
        wanted = {"boxes": truth.boxes, "labels": truth.labels, "iscrowd": truth.crowd.long()}
        mine.append(({name: value.cpu() for name, value in found._asdict().items()}, wanted))
    everyones = [mine] if gather is None else gather(mine)
    for turn in zip_longest(*everyones):  # in the order that one process has, which matters where scores are equal
        for found_and_wanted in filter(None, turn):
            metric.update(*([one] for one in found_and_wanted))
    told = metric.compute()
    if told["map"] < 0:
        raise ValueError("the images to judge by hold no object; take others")
    by_class = dict(zip(told["classes"].reshape(-1).tolist(), told["map_per_class"].reshape(-1).tolist(), strict=True))
    each = [by_class.get(label, -1.0) for label in range(len(classes))]
    ap, ap50, ap75 = (float(told[name]) for name in ("map", "map_50", "map_75"))
    return DetectionScores(classes, ap, ap50, ap75, tuple(None if one < 0 else one for one in each), count)


def judge_pixels(
    pairs: Iterable[tuple[UInt8[Tensor, "H W"], Example]],
    classes: tuple[str, ...],
    count: int,
    gather: Gather | None = None,
) -> SegmentationScores:
    """How well the classes of pixels were told.

    Args:
        pairs: the class of each pixel of an image as answered, and the image. Each process brings its own.
        classes: names.
        count: images of all processes.
        gather: where several processes share the images.

    Raises:
        ValueError: if no pixel has a class.
        ImportError: if torchmetrics is missing, with the command that installs it.
    """
    module = _torchmetrics("segmentation")
    more: Any = {"ignore_index": IGNORED, "sync_on_compute": False}
    if gather is not None:
        shared = {"distributed_available_fn": lambda: True, "dist_sync_fn": lambda counts, group: gather(counts)}
        more |= {**shared, "sync_on_compute": True}
    overlaps = module.MulticlassJaccardIndex(len(classes), "none", zero_division=float("nan"), **more)
    accuracy = module.MulticlassAccuracy(len(classes), average="micro", **more)
    for answered, truth in pairs:
        both = answered.long().cpu()[None], truth.semantic.long()[None]  # (1, H, W) each
        overlaps.update(*both)
        accuracy.update(*both)
    by_class = overlaps.compute()
    if by_class.isnan().all():
        raise ValueError("the images to judge by have no pixel with a class; take others")
    each = tuple(None if one.isnan() else float(one) for one in by_class)
    return SegmentationScores(classes, float(by_class.nanmean()), float(accuracy.compute()), each, count)


def check_installed(task: str) -> None:
    """Raise ImportError, with the command that installs it, if a package that evaluation needs is missing."""
    _torchmetrics(task)


def _torchmetrics(task: str) -> ModuleType:
    """torchmetrics' module for a task, with the parts of torchvision that it needs."""
    try:
        if task == "detection":
            import_module("pycocotools.mask")
            import_beside_torch("torchvision")
        return import_beside_torch(f"torchmetrics.{'detection.mean_ap' if task == 'detection' else 'classification'}")
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise ImportError(f"evaluating {task} needs {missing}; install it with: {INSTALL}") from error


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
