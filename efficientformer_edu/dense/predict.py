"""What a network for a task finds in one photograph of any size: boxes, or the class of each pixel.

Comes: a photograph. The network sees it on its square, as `views` puts it there for judging. Goes: what it found, in
the photograph's own pixels. `figures.overlays` draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from efficientformer_edu.dense.detections import Detections
from efficientformer_edu.dense.evaluation import answers
from efficientformer_edu.dense.network import DenseNetwork
from efficientformer_edu.dense.views import View
from efficientformer_edu.weights.images import Picture, open_image, to_rgb


@dataclass(frozen=True)
class Found:
    """What was found in a photograph.

    Attributes:
        image: the photograph.
        classes: names of the labels: of objects, or of what a pixel can show.
        detections: boxes in its pixels, the surest first; None from a network for segmentation.
        semantic: places in `classes`; None from a detector.
    """

    image: UInt8[Tensor, "3 H W"]
    classes: tuple[str, ...]
    detections: Detections | None = None
    semantic: UInt8[Tensor, "H W"] | None = None


def predict_photo(network: DenseNetwork, classes: Sequence[str], photo: Picture, size: int) -> Found:
    """What a network finds in a photograph, turned as its EXIF data says.

    Args:
        network: for detection or segmentation; it is evaluated and then put back into the mode it had.
        classes: names of what its head tells apart.
        photo: a file, a Pillow image or an array of uint8, as for `weights.preprocess`.
        size: height and width in pixels of the square that the network sees.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image or a broken one; and as `predict_image`.
    """
    pixels = np.array(to_rgb(open_image(photo)))  # (H, W, 3)
    return predict_image(network, classes, torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), size)


def predict_image(network: DenseNetwork, classes: Sequence[str], image: UInt8[Tensor, "3 H W"], size: int) -> Found:
    """The same for an image in memory, such as that of an `Example`.

    Raises:
        ValueError: for a network for classification, another number of classes than its head has, a size below 32, and
            weights that give no numbers.
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
        (found,) = answers(network, square, [placement])
    finally:
        network.train(was_training)
    if isinstance(found, Tensor):
        return Found(image, tuple(classes), semantic=found)
    return Found(image, tuple(classes), found)
