"""Accuracy of a classifier: top-1, top-5 and the confusion matrix.

Paper: the column "Top-1" of Table 1. Report an accuracy together with its crop rule (`data.images`) and its data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor, nn

from efficientformer_edu.data.images import class_names
from efficientformer_edu.utils.tables import Cell, Table, format_cell


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating a network on labelled images.

    Attributes:
        classes: names of the classes.
        confusion: number of images of each class (row) that were predicted as each class (column).
        in_top5: number of images whose class was among the five most likely.
        total_loss: cross-entropy of the logits, summed over the images.
    """

    classes: tuple[str, ...]
    confusion: Int[Tensor, "classes classes"]
    in_top5: int
    total_loss: float

    @classmethod
    def total(cls, parts: Sequence[Evaluation]) -> Evaluation:
        """Combine the evaluations of parts of the images."""
        confusion = torch.stack([part.confusion for part in parts]).sum(0)
        in_top5, loss = sum(part.in_top5 for part in parts), sum(part.total_loss for part in parts)
        return cls(parts[0].classes, confusion, in_top5, loss)

    @cached_property
    def count(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Fraction of the images whose class was the most likely."""
        return int(self.confusion.trace()) / self.count

    @property
    def top5(self) -> float:
        """Fraction of the images whose class was among the five most likely."""
        return self.in_top5 / self.count

    @property
    def loss(self) -> float:
        """Mean cross-entropy of the logits."""
        return self.total_loss / self.count

    @property
    def scores(self) -> dict[str, float]:
        """The metrics in a row of the log."""
        return {"test_loss": self.loss, "top1": self.top1, "top5": self.top5}

    @property
    def result(self) -> dict[str, float]:
        """The metrics stored at the end of a run."""
        return {"top1": self.top1, "top5": self.top5, "images": self.count}

    def table(self) -> Table:
        """For each class: number of images, accuracy from 0 to 1, most frequent wrong prediction, and its count."""
        rows: list[tuple[Cell, ...]] = []
        for label, name in enumerate(self.classes):
            predictions = self.confusion[label].tolist()
            count, correct = sum(predictions), predictions[label]
            predictions[label] = 0
            worst = max(range(len(predictions)), key=predictions.__getitem__)
            mistake = (self.classes[worst], predictions[worst]) if predictions[worst] else (None, None)
            rows.append((name, count, correct / count if count else None, *mistake))
        rows.append(("all", self.count, self.top1, f"top-5 {format_cell(self.top5, '.2%')}", ""))
        columns = ("class", "images", "top-1", "most often confused with", "times")
        return Table(columns, tuple(rows), total=True, formats={"top-1": ".2%"}, missing="–")

    def __str__(self) -> str:
        return f"top-1 {self.top1:.2%}, top-5 {self.top5:.2%} of {self.count:,} images"


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    classes: tuple[str, ...],
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Evaluate a network on all images in evaluation mode, and restore its mode afterwards.

    Args:
        network: maps images (B, C, H, W) to logits (B, classes).
        batches: batches of images and labels, (B,).
        classes: names of the classes.
        device: device of the network.

    Raises:
        ValueError: if there are no images, the network has a different number of classes, or a logit is not finite.
    """
    was_training = network.training
    network.eval()
    confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    in_top5, loss = 0, 0.0
    try:
        for images, labels in batches:
            logits = network(images.to(device)).float().cpu()  # (B, classes)
            if logits.shape[1] != len(classes):
                raise ValueError(f"the network has {logits.shape[1]} classes, but the data have {len(classes)}")
            if not logits.isfinite().all():
                raise ValueError(
                    "logits of the network are NaN or infinite; its weights may be damaged, or the activations overflow"
                )
            best = logits.topk(min(5, len(classes))).indices  # (B, 5)
            confusion.index_put_((labels, best[:, 0]), torch.ones_like(labels), accumulate=True)
            in_top5 += int((best == labels[:, None]).sum())
            loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
    finally:
        network.train(was_training)
    if not confusion.any():
        raise ValueError("there are no images to evaluate")
    return Evaluation(classes, confusion, in_top5, loss)


WORDNET = re.compile(r"n\d{8}")  # names of ImageNet's class folders; sorted, they are in the order of its labels


def same_classes(names: Sequence[str], classes: Sequence[str]) -> bool:
    """Whether the class names stored with weights are equal to those of a data set, label by label.

    ImageNet's names also fit a data set whose classes are ImageNet's identifiers, such as n01440764.
    """
    if tuple(names) == tuple(classes):
        return True
    identifiers = len(classes) == len(names) and all(WORDNET.fullmatch(name) for name in classes)
    return identifiers and list(names) == class_names()


def check_classes(names: Sequence[str] | None, classes: Sequence[str], source: str) -> str:
    """Compare the class names stored with weights to those of a data set.

    Args:
        names: class names stored with the weights; None if they are not known.
        classes: class names of the data.
        source: source of the weights, for the messages.

    Returns:
        A sentence if the names are not known, else "".

    Raises:
        ValueError: if the names differ; the message gives the first difference.
    """
    if names is None:
        return f"{source} does not name its classes; they are assumed to be in the order of the data's"
    if len(names) != len(classes):
        raise ValueError(
            f"{source} has {len(names)} classes, {_some(names)}; the data have {len(classes)}, {_some(classes)}"
        )
    if same_classes(names, classes):
        return ""
    label = next(label for label, (name, other) in enumerate(zip(names, classes, strict=True)) if name != other)
    raise ValueError(f"class {label} is {names[label]!r} in {source} and {classes[label]!r} in the data")


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
