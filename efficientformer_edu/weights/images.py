"""From a photograph to the network's input, as the authors evaluate, and the names of ImageNet's classes.

Released code: `build_transform` in `util/datasets.py`: the shorter edge to 256, the middle 224×224, ImageNet's mean and
deviation. The ports crop otherwise, which is why their published accuracies differ.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from efficientformer_edu import config_values as values
from efficientformer_edu.config import SMALLEST_INPUT

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's training images in [0, 1]: red, green, blue
STD = (0.229, 0.224, 0.225)
CROP = 224, 256  # the crop over the shorter edge before it, 0.875

Picture = str | Path | Image.Image | np.ndarray


def preprocess(image: Picture, size: int = 224) -> Float[Tensor, "1 3 size size"]:
    """A picture as the network wants it.

    The shorter edge is resized (bicubic) to size · 256 / 224, the middle size × size pixels are taken, divided by 255,
    and normalised with ImageNet's mean and deviation. A picture is turned as its EXIF data says, repeated from grey to
    three channels, converted from CMYK or a palette, and loses its alpha channel; 16 bits become 8.

    Args:
        image: a file, a Pillow image, or an array of uint8: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        size: height and width of the result in pixels, at least 32.

    Returns:
        (1, 3, size, size), float32.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image or a broken one, naming the file; if the array has another shape or type; if
            `size` is below 32.
    """
    size = values.natural("size", size, least=SMALLEST_INPUT)
    rgb = center_crop(resize_shorter(to_rgb(open_image(image)), size * CROP[1] // CROP[0]), size)
    pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).to(torch.float32) / 255  # (3, size, size)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return ((pixels - mean) / std)[None]  # (1, 3, size, size)


def open_image(image: Picture) -> Image.Image:
    """The picture in memory, in whatever mode it has."""
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray):
        return _from_array(image)
    with Path(image).open("rb") as file:
        try:
            opened = Image.open(file)
            opened.load()
        except Exception as error:  # what decoders raise for broken files has no common class
            raise ValueError(f"{image}: this is no image, or it is broken: {error}") from error
    return opened


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


def resize_shorter(image: Image.Image, edge: int) -> Image.Image:
    """The image with its shorter edge at `edge` pixels, the longer one in proportion, rounded down."""
    shorter = min(image.size)
    width, height = (length * edge // shorter for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """The middle size × size pixels; half a pixel goes to the even side, as in torchvision."""
    left, top = (round((length - size) / 2) for length in image.size)
    return image.crop((left, top, left + size, top + size))


def class_names() -> list[str]:
    """ImageNet's thousand classes by label."""
    # From torchvision 0.29.2, `_IMAGENET_CATEGORIES` in models/_meta.py, BSD 3-Clause, © 2016 Soumith Chintala.
    text = resources.files(__package__).joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return text.splitlines()


def _from_array(array: np.ndarray) -> Image.Image:
    shape = array.shape[:-1] if array.ndim == 3 and array.shape[-1] in (1, 3, 4) else array.shape
    if array.dtype != np.uint8 or len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"the array is {array.dtype} of shape {array.shape}; allowed: uint8 (H, W), (H, W, 1), (H, W, 3), (H, W, 4)"
        )
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array)
