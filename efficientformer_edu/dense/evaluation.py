"""Evaluate a network for detection or segmentation on annotated images.

Input: a `DenseNetwork` and `Examples`. Output: `DetectionScores` or `SegmentationScores`, computed in each image's
original pixels, regardless of the network's input size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from efficientformer_edu.data.examples import IGNORED, Example, Examples
from efficientformer_edu.data.letterbox import Placement, View
from efficientformer_edu.dense.detection.boxes import area
from efficientformer_edu.dense.detection.postprocess import Detections, detect
from efficientformer_edu.dense.metrics import (
    DetectionScores,
    Gather,
    SegmentationScores,
    judge_detections,
    judge_pixels,
)
from efficientformer_edu.dense.network import DenseNetwork
from efficientformer_edu.training.loading import ALONE, Share, loader

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
    """Evaluate a network in evaluation mode; its previous mode is restored afterwards.

    Args:
        network: for detection or segmentation, on the device.
        examples: evaluation data.
        size: height and width in pixels of the network's square input.
        batch: batch size.
        device: device of the network.
        workers: number of data-loading processes.
        share: this process's shard of the images.
        gather: as for `metrics.judge_detections`, if several processes share the images.

    Raises:
        ValueError: if the network and the examples have different numbers of classes, if there are no images or
            annotations to evaluate, or if the network's outputs are not finite.
        ImportError: if a package that `metrics` needs is missing.
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
        predictions = _answers(network, Squares(examples, View(size), batch, share), device, workers)
        compute_scores: Any = judge_detections if detects else judge_pixels
        scores: Scores = compute_scores(predictions, classes, len(examples), gather)
        return scores
    finally:
        network.train(was_training)


def answers(
    network: DenseNetwork, images: Float[Tensor, "B 3 size size"], placements: list[Placement]
) -> list[Detections] | list[UInt8[Tensor, "H W"]]:
    """Predict objects or pixel classes, in each image's original pixels and on the CPU.

    Args:
        network: for detection or segmentation, in evaluation mode.
        images: normalised input images, on the network's device.
        placements: position of each image on the square input.

    Returns:
        Detections, or the class of each pixel.

    Raises:
        ValueError: if an output is not finite.
    """
    with torch.inference_mode():
        output = network(images)
    if not all(tensor.isfinite().all() for tensor in ([output] if isinstance(output, Tensor) else output)):
        raise ValueError("the network's answers are no numbers; its weights may be broken, or overflow")
    size = images.shape[2], images.shape[3]
    if isinstance(output, Tensor):
        logits = F.interpolate(output.float(), size=size, mode="bilinear", align_corners=False)  # (B, classes, H, W)
        best = logits.argmax(dim=1).to(torch.uint8).cpu()
        return [placement.semantic_back(result) for result, placement in zip(best, placements, strict=True)]
    detections = detect(output, network.head.strides, size)  # type: ignore[arg-type]
    return [_on_image(result, placement) for result, placement in zip(detections, placements, strict=True)]


def _on_image(detections: Detections, placement: Placement) -> Detections:
    """Map detections to the image's original pixels; boxes entirely outside the image are dropped."""
    on_image = Detections(*(values.cpu() for values in detections))
    on_image = on_image._replace(boxes=placement.boxes_back(on_image.boxes))
    visible = area(on_image.boxes) > 0  # (detections,)
    return Detections(*(values[visible] for values in on_image))


def classes_of(examples: Examples, task: str) -> tuple[str, ...]:
    """Names of the classes that a head for the task predicts. Raises ValueError if the examples have none for it."""
    classes = examples.classes if task == "detection" else examples.pixel_classes
    if not classes:
        annotations, other_task = (
            ("objects to detect", "segmentation") if task == "detection" else ("classes of pixels", "detection")
        )
        raise ValueError(f"these data have no {annotations}: {examples.words}; train for {other_task} instead")
    if task == "segmentation" and len(classes) > IGNORED:
        count = f"these data have {len(classes):,} classes of pixels, and a map of pixels can hold {IGNORED}"
        raise ValueError(f"{count}: {examples.words}; train for detection instead")
    if task == "segmentation" and len(classes) == 1:
        raise ValueError(f"these data have one class of pixels, from which there is none to tell: {examples.words}")
    return classes


class Squares(Dataset[tuple[Tensor, list[Placement], list[Example]]]):
    """All images in order on square inputs, batch by batch; or the shard of one process."""

    def __init__(self, examples: Examples, view: View, batch: int, share: Share) -> None:
        self.examples, self.view = examples, view
        indices = share.of(range(len(examples)))
        self.shares = [indices[start : start + batch] for start in range(0, len(indices), batch)]

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
