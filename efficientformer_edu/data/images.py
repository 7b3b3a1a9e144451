"""Image files: find, open, check, orient, convert to RGB and to the network's input; and ImageNet's class names.

All image files in the package are read here, so that `predict`, class folders, COCO and mask folders handle formats,
orientation and broken files in the same way.

Released code: `build_transform` in `util/datasets.py`; it does not use the `crop_pct` of 0.9 in the model's
`default_cfg`. It and its four ports divide by 255 and normalize with ImageNet's mean and standard deviation. They crop
differently, which changes the scale of the objects and so the accuracy of the same weights: see `RULES`.
"""

from __future__ import annotations

import io
import os
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image
from torch import Tensor

from efficientformer_edu import _validation as values
from efficientformer_edu.config import SMALLEST_INPUT

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's training images in [0, 1]: red, green, blue
STD = (0.229, 0.224, 0.225)

PIXEL_LIMIT = "EFFICIENTFORMER_EDU_MAX_IMAGE_PIXELS"
"""Environment variable: the value of `PIL.Image.MAX_IMAGE_PIXELS`. Pillow refuses images of more than twice as many."""

ROTATED = 5  # from this EXIF orientation on, height and width are swapped
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Operations that turn an image upright, by EXIF orientation."""

PNG_START, PNG_PIXELS = b"\x89PNG\r\n\x1a\n", (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
JPEG_END, TAIL = b"\xff\xd9", 1024

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR

ImageLike = str | Path | Image.Image | np.ndarray
Split = Literal["train", "test"]


@dataclass(frozen=True)
class CropRule:
    """How one code base converts an image to the network's square input.

    Attributes:
        size: default height and width of the input in pixels.
        crop: edge length of the center crop, relative to the edge length after resizing.
        squash: whether both edges are resized to the same length, ignoring the aspect ratio. If False, the shorter
            edge is resized to it and the longer one in proportion.
        filter: the interpolation of the resizing.
        source: file or documentation that defines the rule.
    """

    size: int
    crop: Fraction
    squash: bool
    filter: Image.Resampling
    source: str

    def cut(self, image: Image.Image, size: int) -> Image.Image:
        """The image as a square of `size` pixels. The edge before the crop scales with `size`, rounded down."""
        edge = int(size / self.crop)
        resized = image.resize((edge, edge), self.filter) if self.squash else resize_shorter(image, edge, self.filter)
        return center_crop(resized, size)


RULES = {
    "official": CropRule(  # resize to 256, center crop 224
        size=224,
        crop=Fraction(224, 256),
        squash=False,
        filter=BICUBIC,
        source="build_transform in util/datasets.py",
    ),
    "timm": CropRule(  # resize to 235, center crop 224
        size=224,
        crop=Fraction("0.95"),
        squash=False,
        filter=BICUBIC,
        source="timm 1.0.31: crop_pct in timm/models/efficientformer.py, and timm/data/transforms_factory.py",
    ),
    "mmpretrain": CropRule(  # resize to 248, center crop 224
        size=224,
        crop=Fraction(224, 248),
        squash=False,
        filter=BICUBIC,
        source="mmpretrain 1.2.0: configs/_base_/datasets/imagenet_bs128_poolformer_small_224.py",
    ),
    "hf": CropRule(  # resize to 224×224 directly; the crop that follows has no effect
        size=224,
        crop=Fraction(1),
        squash=True,
        filter=BICUBIC,
        source="transformers 4.57.6: the defaults of EfficientFormerImageProcessor",
    ),
    "netspresso": CropRule(  # resize to 256×256 directly, without a crop
        size=256,
        crop=Fraction(1),
        squash=True,
        filter=BILINEAR,
        source="NetsPresso Trainer 1.4: config/augmentation/classification.yaml, and its page of augmentations",
    ),
}


def get_crop_rule(rule: str) -> CropRule:
    """The rule of this name. Raises ValueError for an unknown name that lists the available ones."""
    if rule not in RULES:
        raise ValueError(f"rule={rule!r} is unknown; use one of {', '.join(RULES)}")
    return RULES[rule]


def resize_shorter(image: Image.Image, edge: int, filter: Image.Resampling) -> Image.Image:
    """Resize the shorter edge to `edge` pixels and the longer one in proportion, rounded down."""
    shorter = min(image.size)
    width, height = (length * edge // shorter for length in image.size)
    return image.resize((width, height), filter)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """The center size × size pixels; half a pixel is rounded to the even side, as in torchvision."""
    left, top = (round((length - size) / 2) for length in image.size)
    return image.crop((left, top, left + size, top + size))


def preprocess(image: ImageLike, size: int | None = None, rule: str = "official") -> Float[Tensor, "1 3 size size"]:
    """The network's input from an image: cropped to a square by a rule, divided by 255, normalized as ImageNet is.

    First the image is turned upright by its EXIF orientation and converted to 8-bit RGB, from grayscale, CMYK, a
    palette or 16 bits; an alpha channel is dropped.

    An accuracy is only valid for the rule it was measured with: the ports publish different ones for the same weights.

    Args:
        image: a file, a Pillow image, or an array of uint8: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        size: height and width of the result in pixels, at least 32; by default the size of the rule. The size
            before the crop scales in proportion.
        rule: evaluation rule of a code base: `"official"`, resize the shorter edge to 256 and center-crop 224;
            `"timm"`, 235 and 224; `"mmpretrain"`, 248 and 224; `"hf"`, resize to 224×224, ignoring the aspect ratio;
            `"netspresso"`, resize to 256×256. The last one uses bilinear interpolation, the others bicubic.

    Returns:
        (1, 3, size, size), float32.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is not an image or is broken; if the array has another shape or type; if `size` is below
            32; if the rule is unknown. The message names the file or lists the available rules.
    """
    cropping = get_crop_rule(rule)
    size = cropping.size if size is None else values.non_negative_int("size", size, minimum=SMALLEST_INPUT)
    rgb = cropping.cut(to_rgb(open_image(image)), size)
    pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).to(torch.float32) / 255  # (3, size, size)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return ((pixels - mean) / std)[None]  # (1, 3, size, size)


def open_image(image: ImageLike) -> Image.Image:
    """Open and decode an image in the mode of its file, without turning it upright.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not an image, is broken, or is larger than Pillow's limit; the message names the file.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, Image.Image):
        return _loaded(image, getattr(image, "filename", None) or "the image")
    with Path(image).open("rb") as file:
        return _loaded(file, image)


def read_image(image: ImageLike) -> UInt8[Tensor, "3 H W"]:
    """RGB values of an image, upright. Errors are those of `open_image` and `to_rgb`."""
    return torch.from_numpy(np.array(to_rgb(open_image(image)))).permute(2, 0, 1).contiguous()


def check_image(path: Path) -> tuple[int, int]:
    """Height and width of an image file, upright, without decoding it if possible.

    Decoding a large folder would take as long as an epoch. So a JPEG with an end marker counts as complete, because a
    JPEG that is truncated or empty has none. Every other file is decoded.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: same as `open_image`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    if (size := _complete_jpeg(path)) is not None:
        return size
    return _upright_size(open_image(path))


def find_images(folder: Path) -> Iterator[Path]:
    """All image files below a folder, sorted by path.

    Linked folders are followed, except back to a folder above, which would never end. Hidden files and folders are
    skipped, such as the `._name.jpg` that macOS writes.
    """
    return _find_images(folder, frozenset(parent.resolve() for parent in folder.absolute().parents))


def warn_left_out(name: str, reasons: Sequence[str], count: int, what: str = "images") -> None:
    """Warn how many of `count` images, or of other entries, are left out, with the first reason."""
    if reasons:
        text = f"{name}: {len(reasons):,} of {count:,} {what} left out; first reason: {reasons[0]}"
        warnings.warn(text, stacklevel=3)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8. It is 1, upright, if it is missing, unknown, or cannot be read."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged blocks make Pillow raise errors of many types
        return 1
    return value if isinstance(value, int) and value in TURNS else 1


def upright(image: Image.Image) -> Image.Image:
    """The image turned by its `orientation`; a copy without metadata, so that it is not turned a second time."""
    turn = TURNS.get(orientation(image))
    turned = image.copy() if turn is None else image.transpose(turn)
    turned.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return turned


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB, upright.

    Raises:
        ValueError: for floating-point values, and for integers outside 0 to 65535.
    """
    image = upright(image)
    if image.mode.startswith("I"):  # 16-bit integers, which Pillow would clip at 255
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


def _find_images(folder: Path, parents: frozenset[Path]) -> Iterator[Path]:
    if (real := folder.resolve()) in parents or not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _find_images(path, parents | {real})
        elif path.suffix.lower() in SUFFIXES:
            yield path


def _loaded(source: Image.Image | BinaryIO, name: object) -> Image.Image:
    _apply_pixel_limit()
    try:
        image = source if isinstance(source, Image.Image) else Image.open(source)
        image.load()  # before, Pillow may only have read the size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{name}: the image is too large: {error} If you trust it, set the environment variable {PIXEL_LIMIT}, or "
            "PIL.Image.MAX_IMAGE_PIXELS in Python, to the number of pixels to allow"
        ) from error
    except Exception as error:  # decoders raise errors of unrelated classes for broken files
        if not isinstance(source, Image.Image) and (pixels := _png_pixels(source)):
            return _loaded(pixels, name)
        raise ValueError(f"{name}: not an image, or a broken one: {error}") from error
    if 0 in image.size:
        raise ValueError(f"{name}: the image has no pixels: it is {image.height}×{image.width}")
    return image


def _apply_pixel_limit() -> None:
    if limit := os.environ.get(PIXEL_LIMIT):
        if not limit.isdecimal():
            raise values.invalid_value(PIXEL_LIMIT, limit, "a number of pixels")
        Image.MAX_IMAGE_PIXELS = int(limit)


def _png_pixels(file: BinaryIO) -> BinaryIO | None:
    """A PNG file without its metadata; None if it is not a PNG or has no metadata to remove.

    Pillow refuses a PNG with one damaged or oversized text, profile or EXIF chunk. libpng, and so most viewers, ignore
    such a chunk. An EXIF chunk with a correct checksum is kept: it may contain the orientation.
    """
    file.seek(0)
    data = file.read()
    if not data.startswith(PNG_START):
        return None
    kept, start = [PNG_START], len(PNG_START)
    while start < len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4])  # length, type, data, checksum
        kind, checksum = data[start + 4 : start + 8], int.from_bytes(data[end - 4 : end])
        if kind in PNG_PIXELS or (kind == b"eXIf" and checksum == zlib.crc32(data[start + 4 : end - 4])):
            kept.append(data[start:end])
        start = end
    pixels = b"".join(kept)
    return io.BytesIO(pixels) if len(pixels) < len(data) else None


def _complete_jpeg(path: Path) -> tuple[int, int] | None:
    """Height and width, upright, of a JPEG with an end marker; None for all other files."""
    _apply_pixel_limit()
    try:
        with path.open("rb") as file, Image.open(file) as image:
            if image.format != "JPEG":
                return None
            size = _upright_size(image)
            file.seek(-min(TAIL, path.stat().st_size), os.SEEK_END)
            return size if JPEG_END in file.read() else None
    except Exception:  # `open_image` reports the error
        return None


def _upright_size(image: Image.Image) -> tuple[int, int]:
    return image.size if orientation(image) >= ROTATED else (image.height, image.width)


def _from_array(array: np.ndarray) -> Image.Image:
    shape = array.shape[:-1] if array.ndim == 3 and array.shape[-1] in (1, 3, 4) else array.shape
    if array.dtype != np.uint8 or len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"the array is {array.dtype} of shape {array.shape}; allowed: uint8 (H, W), (H, W, 1), (H, W, 3), (H, W, 4)"
        )
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array)
