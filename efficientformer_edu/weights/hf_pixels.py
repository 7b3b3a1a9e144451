"""The steps of Hugging Face's image processor, each for one image as an array (H, W, C).

Source: `image_transforms.py` of transformers 4.57.6: resizing uses 8-bit Pillow images, rescaling uses float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from efficientformer_edu import config_values as values

FIRST, LAST = FORMATS = ("channels_first", "channels_last")
SQUARE = {"height": 224, "width": 224}
BYTE = 255


def sides(name: str, size: Any) -> dict[str, int]:
    """A size in normalized form: height and width, or the shortest edge. Raises ValueError for anything else."""
    if size is None:
        return dict(SQUARE)
    if isinstance(size, Mapping):
        if set(size) not in ({"height", "width"}, {"shortest_edge"}):
            raise values.wrong(name, size, "{'height': …, 'width': …}, {'shortest_edge': …}, a number or a pair")
        return {side: values.count(f"{name}[{side!r}]", number) for side, number in size.items()}
    height, width = values.pair(name, size)
    return {"height": height, "width": width}


def channels_last(picture: object, input_format: str | None) -> tuple[np.ndarray, str]:
    """An image as an array (H, W, C), and its original format.

    Raises:
        ValueError: if it is not an image, or its channel dimension cannot be inferred and `input_format` is None.
    """
    if isinstance(picture, Image.Image):
        return np.array(picture.convert("RGB")), LAST
    array = picture.detach().cpu().numpy() if isinstance(picture, Tensor) else picture
    if not isinstance(array, np.ndarray) or array.ndim != 3 or array.size == 0:
        shape = f" of shape {array.shape}" if isinstance(array, np.ndarray) else ""
        raise ValueError(
            f"the image is {type(picture).__name__}{shape}; allowed: a Pillow image, or an array or tensor of three "
            "dimensions, or a list of them"
        )
    input_format = input_format or told_format(array.shape)
    return array.transpose(1, 2, 0) if input_format == FIRST else array, input_format


def told_format(shape: tuple[int, ...]) -> str:
    """Infer the channel dimension, of size 1 or 3. If both ends qualify, it is the first, with a warning."""
    first, last = shape[0] in (1, 3), shape[2] in (1, 3)
    if not first and not last:
        raise ValueError(f"where the channels of an image of shape {shape} are cannot be told; give input_data_format")
    if first and last:
        warnings.warn(
            f"the channels of an image of shape {shape} are taken to be first; input_data_format decides", stacklevel=5
        )
    return FIRST if first else LAST


def resize(image: np.ndarray, size: Mapping[str, int], resample: int) -> np.ndarray:
    """Resize an image with Pillow, which needs 8-bit values; floats from 0 to 1 are returned as floats from 0 to 1."""
    if "shortest_edge" in size:
        short, edge = min(image.shape[:2]), size["shortest_edge"]
        height, width = (int(edge * length / short) for length in image.shape[:2])
    else:
        height, width = size["height"], size["width"]
    fractions = image.dtype != np.uint8 and not np.allclose(image, image.astype(int))
    top = 1 if fractions else BYTE
    if image.min() < 0 or image.max() > top or image.shape[2] not in (1, 3, 4):
        raise ValueError(
            f"an image of {image.dtype} from {image.min()} to {image.max()} with {image.shape[2]} channels cannot be "
            "resized; allowed: whole numbers from 0 to 255 or fractions from 0 to 1, and 1, 3 or 4 channels"
        )
    if fractions:
        image = (image.astype(np.float64) * BYTE).astype(np.float32)
    channels = image[..., 0] if image.shape[2] == 1 else image
    resized = np.array(Image.fromarray(channels.astype(np.uint8)).resize((width, height), resample))
    resized = resized.reshape(height, width, -1)
    return (resized.astype(np.float64) / BYTE).astype(np.float32) if fractions else resized


def center_crop(image: np.ndarray, size: Mapping[str, int]) -> np.ndarray:
    """The center of the image. Missing pixels are zero; if their number is odd, one more is added before than after."""
    height, width = size["height"], size["width"]
    missing = [max(target - available, 0) for target, available in zip((height, width), image.shape[:2], strict=True)]
    image = np.pad(image, [*((padding - padding // 2, padding // 2) for padding in missing), (0, 0)])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def for_channels(name: str, numbers: float | Sequence[float], image: np.ndarray) -> np.ndarray:
    """One value per channel of the image, in its dtype."""
    channels = image.shape[2]
    per_channel = list(numbers) if isinstance(numbers, Iterable) else [numbers] * channels
    if len(per_channel) != channels:
        raise values.wrong(name, numbers, f"{channels} numbers, one for each channel of the image, or one for all")
    return np.array(per_channel, dtype=image.dtype)


def stacked(arrays: list[np.ndarray], kind: str | None) -> list[np.ndarray] | np.ndarray | Tensor:
    """A batch: "np" for an array, "pt" for a tensor, None for the list. Raises ValueError if the shapes differ."""
    if kind is None:
        return arrays
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise ValueError(f"the images have the shapes {', '.join(map(str, shapes))}; one tensor needs one shape")
    batch = np.stack(arrays)
    return torch.from_numpy(batch) if kind == "pt" else batch
