"""Run detection or segmentation on one image of any size: predict boxes, or the class of each pixel.

Input: an image. It is placed on the network's square input as in evaluation (see `views`). Output: predictions in the
image's original pixels. `plots.overlays` draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from efficientformer_edu.data.images import Picture, open_image, to_rgb
from efficientformer_edu.data.letterbox import View
from efficientformer_edu.dense.detection.postprocess import Detections
from efficientformer_edu.dense.evaluation import answers
from efficientformer_edu.dense.network import DenseNetwork


@dataclass(frozen=True)
class Found:
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


def predict_photo(network: DenseNetwork, classes: Sequence[str], photo: Picture, size: int) -> Found:
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
    pixels = np.array(to_rgb(open_image(photo)))  # (H, W, 3)
    return predict_image(network, classes, torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), size)


def predict_image(network: DenseNetwork, classes: Sequence[str], image: UInt8[Tensor, "3 H W"], size: int) -> Found:
    """Like `predict_photo`, for an image tensor, such as that of an `Example`.

    Raises:
        ValueError: for a classification network, a number of class names that differs from that of the head, a size
            below 32, and weights that give non-finite outputs.
    """
    task, count = network.config.task, network.config.num_classes
    if task == "classification":
        raise ValueError("the network is for classification; wanted: one for detection or segmentation")
    if len(classes) != count:
        raise ValueError(f"{len(classes)} names of classes for a network with {count}; wanted: as many")
    placement = View(size).placement(image.shape[1], image.shape[2])
    parameter = next(network.parameters())
    square = placement.image(image)[None].to(parameter.device, parameter.dtype)  # (1, 3, size, size)
    was_training = network.training
    network.eval()
    try:
        (prediction,) = answers(network, square, [placement])
    finally:
        network.train(was_training)
    if isinstance(prediction, Tensor):
        return Found(image, tuple(classes), semantic=prediction)
    return Found(image, tuple(classes), prediction)
