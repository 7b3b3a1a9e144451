"""How good a detector or a segmentation is: COCO's average precision, and the mean intersection over union.

Paper: the columns of Table 2. Sources: torchmetrics, with pycocotools behind the average precision. Of several
processes each brings its images, and gets the scores of all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from itertools import zip_longest
from types import ModuleType
from typing import Any, TypeVar

import torch.distributed as dist
from jaxtyping import UInt8
from torch import Tensor

from efficientformer_edu.audit.tables import Table
from efficientformer_edu.dense.detections import Detections
from efficientformer_edu.dense.examples import IGNORED, Example
from efficientformer_edu.torchvision_build import import_beside_torch

T = TypeVar("T")

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
    pairs: Iterable[tuple[Detections, Example]], classes: tuple[str, ...], count: int
) -> DetectionScores:
    """COCO's evaluation of the boxes found.

    Args:
        pairs: what was found in an image, in its own pixels, and the image. Each process brings its own.
        classes: names.
        count: images of all processes.

    Raises:
        ValueError: if no image has an object.
        ImportError: if torchmetrics, pycocotools or torchvision is missing, with the command that installs them.
    """
    module = _torchmetrics("torchmetrics.detection.mean_ap")
    # Its own way to put processes together waits for ever where one has fewer images than another.
    metric = module.MeanAveragePrecision(class_metrics=True, sync_on_compute=False)
    metric.warn_on_many_detections = False  # COCO counts the best hundred; that there are more is no news
    mine = []
    for found, truth in pairs:
        wanted = {"boxes": truth.boxes, "labels": truth.labels, "iscrowd": truth.crowd.long()}
        mine.append(({name: value.cpu() for name, value in found._asdict().items()}, wanted))
    for turn in zip_longest(*_everyones(mine)):  # the order of one process: where scores are alike, it counts
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
    pairs: Iterable[tuple[UInt8[Tensor, "H W"], Example]], classes: tuple[str, ...], count: int
) -> SegmentationScores:
    """How well the classes of pixels were told.

    Args:
        pairs: the class of each pixel of an image as answered, and the image. Each process brings its own.
        classes: names.
        count: images of all processes.

    Raises:
        ValueError: if no pixel has a class.
        ImportError: if torchmetrics is missing, with the command that installs it.
    """
    module = _torchmetrics("torchmetrics.classification")
    more: Any = {"ignore_index": IGNORED, "dist_sync_fn": lambda counts, group: _everyones(counts)}
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


def _everyones(mine: T) -> list[T]:
    """What each process has, on every device: the wire of some carries nothing that lies on the CPU as it is."""
    if not dist.is_initialized():
        return [mine]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, mine)
    return found


def _torchmetrics(name: str) -> ModuleType:
    """A module of torchmetrics, with what it needs of torchvision in place."""
    try:
        if name.startswith("torchmetrics.detection"):
            import_module("pycocotools.mask")
            import_beside_torch("torchvision")
        return import_beside_torch(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"to judge this needs {error.name}; install it with: {INSTALL}") from error


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
