"""Metrics of detection and segmentation: COCO's average precision, and the mean intersection over union.

Paper: the columns of Table 2. Sources: torchmetrics, with pycocotools for the average precision. If several processes
share the images, the caller passes `gather`, which collects the values of all processes; without it the scores are
those of this process's images, and nothing is communicated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from types import ModuleType
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from efficientformer_edu.data.examples import IGNORED, Example
from efficientformer_edu.dense.detection.postprocess import Detections
from efficientformer_edu.utils.optional import import_optional
from efficientformer_edu.utils.tables import Table

Gather = Callable[[Any], list[Any]]
"""Maps the value of this process to the values of all processes, in rank order. Every process has to call it."""


@dataclass(frozen=True)
class DetectionScores:
    """Results of COCO's evaluation of predicted boxes.

    Attributes:
        classes: names.
        ap: average precision, averaged over IoU thresholds from 0.5 to 0.95 and over the classes that occur.
        ap50: at the threshold 0.5.
        ap75: at the threshold 0.75.
        by_class: AP of each class; None for a class that does not occur.
        count: number of images.
    """

    classes: tuple[str, ...]
    ap: float
    ap50: float
    ap75: float
    by_class: tuple[float | None, ...]
    count: int

    @property
    def scores(self) -> dict[str, float]:
        """The scores shown in the training log."""
        return {"ap": self.ap, "ap50": self.ap50}

    @property
    def result(self) -> dict[str, float]:
        """The scores stored in the final result."""
        return {**self.scores, "ap75": self.ap75, "images": self.count}

    def table(self) -> Table:
        """A row per class with its AP."""
        return _by_class_table("AP", self.classes, self.by_class, self.ap)

    def __str__(self) -> str:
        return f"AP {self.ap:.4f}, AP50 {self.ap50:.4f}, AP75 {self.ap75:.4f} on {self.count:,} images"


@dataclass(frozen=True)
class SegmentationScores:
    """Results of the evaluation of pixel classes.

    Attributes:
        classes: names.
        miou: intersection over union, averaged over the classes.
        pixel_accuracy: fraction of the pixels with a class that are predicted correctly.
        by_class: intersection over union of each class; None for a class that neither occurs nor is predicted.
        count: number of images.
    """

    classes: tuple[str, ...]
    miou: float
    pixel_accuracy: float
    by_class: tuple[float | None, ...]
    count: int

    @property
    def scores(self) -> dict[str, float]:
        """The scores shown in the training log."""
        return {"miou": self.miou, "pixel_accuracy": self.pixel_accuracy}

    @property
    def result(self) -> dict[str, float]:
        """The scores stored in the final result."""
        return {**self.scores, "images": self.count}

    def table(self) -> Table:
        """A row per class with its IoU."""
        return _by_class_table("IoU", self.classes, self.by_class, self.miou)

    def __str__(self) -> str:
        return f"mIoU {self.miou:.4f}, pixel accuracy {self.pixel_accuracy:.2%} on {self.count:,} images"


def evaluate_detections(
    pairs: Iterable[tuple[Detections, Example]], classes: tuple[str, ...], count: int, gather: Gather | None = None
) -> DetectionScores:
    """Evaluate predicted boxes with COCO's metrics.

    Args:
        pairs: the detections in an image, in its original pixels, and the image. Each process passes its own.
        classes: names.
        count: number of images of all processes.
        gather: required if several processes share the images.

    Raises:
        ValueError: if no image contains an object.
        ImportError: if torchmetrics, pycocotools or torchvision is missing, with the command that installs them.
    """
    module = _torchmetrics("detection")
    # torchmetrics' own synchronization waits forever if one process has fewer images than another.
    metric = module.MeanAveragePrecision(class_metrics=True, sync_on_compute=False)
    metric.warn_on_many_detections = False  # COCO evaluates the best 100; more detections are expected
    own_pairs = []
    for detections, truth in pairs:
        targets = {"boxes": truth.boxes, "labels": truth.labels, "iscrowd": truth.crowd.long()}
        own_pairs.append(({name: value.cpu() for name, value in detections._asdict().items()}, targets))
    # Update in the order of a single process, because the order decides between equal scores.
    for same_index in zip_longest(*([own_pairs] if gather is None else gather(own_pairs))):
        for pair in filter(None, same_index):
            metric.update(*([value] for value in pair))
    result = metric.compute()
    if result["map"] < 0:
        raise ValueError("the evaluation images contain no objects")
    labels, values = (result[name].reshape(-1).tolist() for name in ("classes", "map_per_class"))
    ap_by_label = {label: value for label, value in zip(labels, values, strict=True) if value >= 0}
    ap, ap50, ap75 = (float(result[name]) for name in ("map", "map_50", "map_75"))
    return DetectionScores(classes, ap, ap50, ap75, tuple(map(ap_by_label.get, range(len(classes)))), count)


def evaluate_segmentation(
    pairs: Iterable[tuple[UInt8[Tensor, "H W"], Example]],
    classes: tuple[str, ...],
    count: int,
    gather: Gather | None = None,
) -> SegmentationScores:
    """Evaluate predicted pixel classes.

    Args:
        pairs: the predicted class of each pixel of an image, and the image. Each process passes its own.
        classes: names.
        count: number of images of all processes.
        gather: required if several processes share the images.

    Raises:
        ValueError: if no pixel has a class.
        ImportError: if torchmetrics is missing, with the command that installs it.
    """
    module = _torchmetrics("segmentation")
    options: Any = {"ignore_index": IGNORED, "sync_on_compute": False}
    if gather is not None:
        shared = {"distributed_available_fn": lambda: True, "dist_sync_fn": lambda counts, group: gather(counts)}
        options |= {**shared, "sync_on_compute": True}
    iou_metric = module.MulticlassJaccardIndex(len(classes), "none", zero_division=float("nan"), **options)
    accuracy = module.MulticlassAccuracy(len(classes), average="micro", **options)
    for predicted, truth in pairs:
        predicted_and_true = predicted.long().cpu()[None], truth.semantic.long()[None]  # (1, H, W) each
        iou_metric.update(*predicted_and_true)
        accuracy.update(*predicted_and_true)
    by_class = iou_metric.compute()
    if by_class.isnan().all():
        raise ValueError("the evaluation images contain no pixel with a class")
    iou_by_class = tuple(None if value.isnan() else float(value) for value in by_class)
    return SegmentationScores(classes, float(by_class.nanmean()), float(accuracy.compute()), iou_by_class, count)


def check_installed(task: str) -> None:
    """Raise ImportError, with the command that installs it, if a package that evaluation needs is missing."""
    _torchmetrics(task)


def _torchmetrics(task: str) -> ModuleType:
    """torchmetrics' module for a task, with the modules that it needs."""
    if task == "detection":
        import_optional("pycocotools.mask")
        import_optional("torchvision")
    return import_optional(f"torchmetrics.{'detection.mean_ap' if task == 'detection' else 'classification'}")


def _by_class_table(metric: str, classes: tuple[str, ...], by_class: tuple[float | None, ...], mean: float) -> Table:
    rows = zip(classes, by_class, strict=True)
    return Table(("class", metric), (*rows, ("all", mean)), total=True, formats={metric: ".4f"}, missing="–")
