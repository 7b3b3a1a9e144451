"""Run a network for detection or segmentation on images, and evaluate it on annotated ones.

Images are placed on the network's square input as described in `data.letterbox`. Predictions and scores are in each
image's original pixels, regardless of the network's input size. `plots.overlays` draws predictions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from efficientformer_edu.data.examples import IGNORED, Example, Examples
from efficientformer_edu.data.images import ImageLike, read_image
from efficientformer_edu.data.letterbox import Letterbox, LetterboxParams
from efficientformer_edu.dense.detection.boxes import box_area
from efficientformer_edu.dense.detection.postprocess import Detections, detect
from efficientformer_edu.dense.metrics import (
    DetectionScores,
    Gather,
    SegmentationScores,
    evaluate_detections,
    evaluate_segmentation,
)
from efficientformer_edu.dense.network import DenseNetwork
from efficientformer_edu.training.loading import UNSHARDED, Shard, loader

Scores = DetectionScores | SegmentationScores


@dataclass(frozen=True)
class DensePrediction:
    """Predictions for one image.

    Attributes:
        image: the image.
        classes: names of the labels: of objects, or of pixel classes.
        detections: boxes in pixels of the image, in descending order of score; None from a segmentation network.
        semantic: indices into `classes`; None from a detector.
    """

    image: UInt8[Tensor, "3 H W"]
    classes: tuple[str, ...]
    detections: Detections | None = None
    semantic: UInt8[Tensor, "H W"] | None = None


def predict_photo(network: DenseNetwork, classes: Sequence[str], photo: ImageLike, size: int) -> DensePrediction:
    """Predict objects or pixel classes in an image, rotated according to its EXIF data.

    Args:
        network: for detection or segmentation; it is evaluated, and its previous mode is restored.
        classes: names of the classes that its head predicts.
        photo: a file, a Pillow image or a uint8 array, as for `weights.preprocess`.
        size: height and width in pixels of the network's square input.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not an image or is broken; also as for `predict_image`.
    """
    return predict_image(network, classes, read_image(photo), size)


def predict_image(
    network: DenseNetwork, classes: Sequence[str], image: UInt8[Tensor, "3 H W"], size: int
) -> DensePrediction:
    """Like `predict_photo`, for an image tensor, such as that of an `Example`.

    Raises:
        ValueError: for a classification network, a number of class names that differs from that of the head, a size
            below 32, and weights that give non-finite outputs.
    """
    task, count = network.config.task, network.config.num_classes
    if task == "classification":
        raise ValueError("the network is for classification; allowed: detection or segmentation")
    if len(classes) != count:
        raise ValueError(f"{len(classes)} class names for a network with {count} classes")
    params = Letterbox(size).params(image.shape[1], image.shape[2])
    parameter = next(network.parameters())
    square = params.image(image)[None].to(parameter.device, parameter.dtype)  # (1, 3, size, size)
    was_training = network.training
    network.eval()
    try:
        (prediction,) = predict_batch(network, square, [params])
    finally:
        network.train(was_training)
    if isinstance(prediction, Tensor):
        return DensePrediction(image, tuple(classes), semantic=prediction)
    return DensePrediction(image, tuple(classes), prediction)


def evaluate_dense(
    network: DenseNetwork,
    examples: Examples,
    size: int,
    batch: int = 16,
    *,
    device: torch.device | str = "cpu",
    workers: int = 0,
    shard: Shard = UNSHARDED,
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
        shard: this process's shard of the images.
        gather: as for `metrics.evaluate_detections`, if several processes share the images.

    Raises:
        ValueError: if the network and the examples have different numbers of classes, if the examples contain neither
            images nor annotations for the task, or if the network's outputs are not finite.
        ImportError: if a package that `metrics` needs is missing.
    """
    task, count = network.config.task, network.config.num_classes
    classes = classes_of(examples, task)
    if len(classes) != count:
        raise ValueError(f"the network predicts {count} classes, but the data has {len(classes)}")
    if len(examples) == 0:
        raise ValueError("the evaluation data contains no images")
    was_training = network.training
    network.eval()
    try:
        batches = DenseEvalBatches(examples, Letterbox(size), batch, shard)
        predictions = _predictions(network, batches, device, workers)
        compute_scores: Any = evaluate_detections if task == "detection" else evaluate_segmentation
        scores: Scores = compute_scores(predictions, classes, len(examples), gather)
        return scores
    finally:
        network.train(was_training)


def predict_batch(
    network: DenseNetwork, images: Float[Tensor, "B 3 size size"], all_params: list[LetterboxParams]
) -> list[Detections] | list[UInt8[Tensor, "H W"]]:
    """Predict objects or pixel classes, in each image's original pixels and on the CPU.

    Args:
        network: for detection or segmentation, in evaluation mode.
        images: normalised input images, on the network's device.
        all_params: position of each image on the square input.

    Returns:
        Detections, or the class of each pixel. Boxes entirely outside the image are dropped.

    Raises:
        ValueError: if an output is not finite.
    """
    with torch.inference_mode():
        output = network(images)
    if not all(tensor.isfinite().all() for tensor in ([output] if isinstance(output, Tensor) else output)):
        raise ValueError("the network's outputs are not finite; its weights may be broken, or activations overflow")
    size = images.shape[2], images.shape[3]
    if isinstance(output, Tensor):
        logits = F.interpolate(output.float(), size=size, mode="bilinear", align_corners=False)  # (B, classes, H, W)
        best = logits.argmax(dim=1).to(torch.uint8).cpu()
        return [params.restore_semantic(classes) for classes, params in zip(best, all_params, strict=True)]
    results = []
    detections = detect(output, network.head.strides, size)  # type: ignore[arg-type]
    for on_square, params in zip(detections, all_params, strict=True):
        boxes, scores, labels = (tensor.cpu() for tensor in on_square)
        boxes = params.restore_boxes(boxes)
        visible = box_area(boxes) > 0  # (detections,)
        results.append(Detections(boxes[visible], scores[visible], labels[visible]))
    return results


def classes_of(examples: Examples, task: str) -> tuple[str, ...]:
    """Names of the classes that a head for the task predicts. Raises ValueError if the examples have none for it."""
    if task == "detection":
        if not examples.classes:
            raise ValueError(f"the data has no objects to detect: {examples.description}; train for segmentation")
        return examples.classes
    classes = examples.pixel_classes
    if not classes:
        raise ValueError(f"the data has no pixel classes: {examples.description}; train for detection")
    if not 1 < len(classes) <= IGNORED:
        count = f"the data has {len(classes):,} pixel classes; allowed: 2 to {IGNORED}"
        raise ValueError(f"{count}: {examples.description}; train for detection")
    return classes


class DenseEvalBatches(Dataset[tuple[Tensor, list[LetterboxParams], list[Example]]]):
    """All images in order on square inputs, batch by batch; or the shard of one process."""

    def __init__(self, examples: Examples, letterbox: Letterbox, batch: int, shard: Shard) -> None:
        self.examples, self.letterbox = examples, letterbox
        indices = shard.select(range(len(examples)))
        self.batches = [indices[start : start + batch] for start in range(0, len(indices), batch)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Tensor, list[LetterboxParams], list[Example]]:
        examples = [self.examples[i] for i in self.batches[index]]
        all_params = [self.letterbox.params(*example.image.shape[1:]) for example in examples]
        images = [params.image(example.image) for params, example in zip(all_params, examples, strict=True)]
        return torch.stack(images), all_params, examples


def _predictions(
    network: DenseNetwork, batches: DenseEvalBatches, device: torch.device | str, workers: int
) -> Iterator[tuple[Any, Example]]:
    for images, all_params, examples in loader(batches, workers):
        yield from zip(predict_batch(network, images.to(device), all_params), examples, strict=True)
