"""From a photograph to the network's input, and the names of ImageNet's classes.

Released code: `build_transform` in `util/datasets.py`. It and its four ports divide by 255 and normalise with
ImageNet's mean and deviation; they differ in how they crop, which `crops` writes down.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from efficientformer_edu import config_values as values
from efficientformer_edu.config import SMALLEST_INPUT
from efficientformer_edu.weights.crops import get_rule

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's training images in [0, 1]: red, green, blue
STD = (0.229, 0.224, 0.225)

Picture = str | Path | Image.Image | np.ndarray


def preprocess(image: Picture, size: int | None = None, rule: str = "official") -> Float[Tensor, "1 3 size size"]:
    """A picture as the network wants it: cut to a square by a rule, divided by 255, normalised as ImageNet is.

    Before that a picture is turned as its EXIF data says, repeated from grey to three channels, converted from CMYK or
    a palette, and loses its alpha channel; 16 bits become 8.

    An accuracy belongs to the rule that it was measured with: the ports publish different ones for the same weights.

    Args:
        image: a file, a Pillow image, or an array of uint8: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        size: height and width of the result in pixels, at least 32; by default those of the rule. What a rule resizes
            to before it crops grows in proportion.
        rule: whose evaluation: `"official"`, the shorter edge to 256 and the middle 224; `"timm"`, 235 and 224;
            `"mmpretrain"`, 248 and 224; `"hf"`, both edges to 224, whatever the shape; `"netspresso"`, both edges to
            256. The last one interpolates bilinearly, the others bicubically.

    Returns:
        (1, 3, size, size), float32.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image or a broken one, naming the file; if the array has another shape or type; if
            `size` is below 32; if the rule is unknown, with those that exist.
    """
    cropping = get_rule(rule)
    size = cropping.size if size is None else values.natural("size", size, least=SMALLEST_INPUT)
    rgb = cropping.cut(to_rgb(open_image(image)), size)
    pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).to(torch.float32) / 255  # (3, size, size)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return ((pixels - mean) / std)[None]  # (1, 3, size, size)


def open_image(image: Picture) -> Image.Image:
    """The picture in memory, in whatever mode it has."""
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, Image.Image):
        return _loaded(image, getattr(image, "filename", None) or "the image")
    with Path(image).open("rb") as file:
        return _loaded(file, image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Eight bits of red, green and blue, the right way up."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # whole numbers of 16 bits, which Pillow would cut at 255
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(f"the image has values from {grey.min()} to {grey.max()}; allowed: 0 to 65535")
        image = Image.fromarray(np.round(grey / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("the image holds floating-point values of unknown range; give it as uint8")
    if image.mode in ("P", "PA"):  # a palette may have transparent colours, which RGB alone cannot hold
        image = image.convert("RGBA")
    return image.convert("RGB")


def class_names() -> list[str]:
    """ImageNet's thousand classes by label."""
    # From torchvision 0.29.2, `_IMAGENET_CATEGORIES` in models/_meta.py, BSD 3-Clause, © 2016 Soumith Chintala.
    text = resources.files(__package__).joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return text.splitlines()


def _loaded(source: Image.Image | BinaryIO, name: object) -> Image.Image:
    try:
        image = source if isinstance(source, Image.Image) else Image.open(source)
        image.load()  # until now Pillow may have read the size alone
    except Exception as error:  # what decoders raise for broken files has no common class
        raise ValueError(f"{name}: this is no image, or it is broken: {error}") from error
    if 0 in image.size:
        raise ValueError(f"{name}: the image has no pixels: it is {image.height}×{image.width}")
    return image


def _from_array(array: np.ndarray) -> Image.Image:
    shape = array.shape[:-1] if array.ndim == 3 and array.shape[-1] in (1, 3, 4) else array.shape
    if array.dtype != np.uint8 or len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"the array is {array.dtype} of shape {array.shape}; allowed: uint8 (H, W), (H, W, 1), (H, W, 3), (H, W, 4)"
        )
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array)
