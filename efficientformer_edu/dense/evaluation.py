"""Ask a network about images whose objects and pixels are known.

Comes: a `DenseNetwork` and `Examples`. Goes: `DetectionScores` or `SegmentationScores`, judged in each image's own
pixels, whatever the size that the network sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from efficientformer_edu.dense.boxes import area
from efficientformer_edu.dense.detections import Detections, detect
from efficientformer_edu.dense.examples import IGNORED, Example, Examples
from efficientformer_edu.dense.metrics import (
    DetectionScores,
    Gather,
    SegmentationScores,
    judge_detections,
    judge_pixels,
)
from efficientformer_edu.dense.network import DenseNetwork
from efficientformer_edu.dense.views import Placement, View
from efficientformer_edu.training.batches import ALONE, Share
from efficientformer_edu.training.loading import loader

Scores = DetectionScores | SegmentationScores


def evaluate_dense(
    network: DenseNetwork,
    examples: Examples,
    size: int,
    batch: int = 16,
    *,
    device: torch.device | str = "cpu",
    workers: int = 0,
    share: Share = ALONE,
    gather: Gather | None = None,
) -> Scores:
    """Evaluate a network, in evaluation mode; it is then put back into the mode it had.

    Args:
        network: for detection or segmentation, on the device.
        examples: to judge by.
        size: height and width in pixels of the square that the network sees.
        batch: images at once.
        device: where the network is.
        workers: processes that make images ahead.
        share: of the process among all.
        gather: as for `metrics.judge_detections`, where several processes share the images.

    Raises:
        ValueError: if the network has another number of classes than the examples, there is no image, nothing to judge
            by, or the network's answers are no numbers.
        ImportError: as `metrics` says.
    """
    detects = network.config.task == "detection"
    classes = classes_of(examples, network.config.task)
    if len(classes) != network.config.num_classes:
        count = network.config.num_classes
        raise ValueError(f"the network tells {count} classes apart, and the data have {len(classes)}")
    if len(examples) == 0:
        raise ValueError("there is no image to evaluate on")
    was_training = network.training
    network.eval()
    try:
        pairs = _answers(network, Squares(examples, View(size), batch, share), device, workers)
        judge: Any = judge_detections if detects else judge_pixels
        scores: Scores = judge(pairs, classes, len(examples), gather)
        return scores
    finally:
        network.train(was_training)


def answers(
    network: DenseNetwork, images: Float[Tensor, "B 3 size size"], placements: list[Placement]
) -> list[Detections] | list[UInt8[Tensor, "H W"]]:
    """What a network in evaluation mode finds in images, each in its own pixels and on the CPU.

    Args:
        network: for detection or segmentation.
        images: as it sees them, on its device.
        placements: where each image stands on the square.

    Returns:
        Detections, or the class of each pixel.

    Raises:
        ValueError: if an answer is no number.
    """
    with torch.inference_mode():
        output = network(images)
    if not all(part.isfinite().all() for part in ([output] if isinstance(output, Tensor) else output)):
        raise ValueError("the network's answers are no numbers; its weights may be broken, or overflow")
    size = images.shape[2], images.shape[3]
    if isinstance(output, Tensor):
        logits = F.interpolate(output.float(), size=size, mode="bilinear", align_corners=False)  # (B, classes, H, W)
        best = logits.argmax(dim=1).to(torch.uint8).cpu()
        return [placement.semantic_back(one) for one, placement in zip(best, placements, strict=True)]
    found = detect(output, network.head.strides, size)  # type: ignore[arg-type]  # both heads that detect have strides
    return [_on_image(one, placement) for one, placement in zip(found, placements, strict=True)]


def _on_image(found: Detections, placement: Placement) -> Detections:
    """Detections in the image's own pixels; what lies wholly beside the image shows nothing of it."""
    own = Detections(*(part.cpu() for part in found))
    own = own._replace(boxes=placement.boxes_back(own.boxes))
    shown = area(own.boxes) > 0  # (found,)
    return Detections(*(part[shown] for part in own))


def classes_of(examples: Examples, task: str) -> tuple[str, ...]:
    """What a head for the task tells apart. Raises ValueError if the examples have nothing for it."""
    classes = examples.classes if task == "detection" else examples.pixel_classes
    if not classes:
        what, other = (
            ("objects to detect", "segmentation") if task == "detection" else ("classes of pixels", "detection")
        )
        raise ValueError(f"these data have no {what}: {examples.words}; train for {other} instead")
    if task == "segmentation" and len(classes) > IGNORED:
        count = f"these data have {len(classes):,} classes of pixels, and a map of pixels can hold {IGNORED}"
        raise ValueError(f"{count}: {examples.words}; train for detection instead")
    if task == "segmentation" and len(classes) == 1:
        raise ValueError(f"these data have one class of pixels, from which there is none to tell: {examples.words}")
    return classes


class Squares(Dataset[tuple[Tensor, list[Placement], list[Example]]]):
    """All images in their order on their squares, batch by batch; or one process's share."""

    def __init__(self, examples: Examples, view: View, batch: int, share: Share) -> None:
        self.examples, self.view = examples, view
        mine = share.of(range(len(examples)))
        self.shares = [mine[first : first + batch] for first in range(0, len(mine), batch)]

    def __len__(self) -> int:
        return len(self.shares)

    def __getitem__(self, number: int) -> tuple[Tensor, list[Placement], list[Example]]:
        examples = [self.examples[index] for index in self.shares[number]]
        placements = [self.view.placement(*example.image.shape[1:]) for example in examples]
        images = [placement.image(example.image) for placement, example in zip(placements, examples, strict=True)]
        return torch.stack(images), placements, examples


def _answers(
    network: DenseNetwork, squares: Squares, device: torch.device | str, workers: int
) -> Iterator[tuple[Any, Example]]:
    for images, placements, examples in loader(squares, workers):
        yield from zip(answers(network, images.to(device), placements), examples, strict=True)
