"""Hugging Face's image processor: resizes images to 224×224, ignoring the aspect ratio; every step is configurable.

Source: `EfficientFormerImageProcessor` and `image_transforms.py` of transformers 4.57.6: resizing uses 8-bit Pillow
images, rescaling uses float64. The authors, and `preprocess` here, keep the aspect ratio and crop instead; so do the
published files, whose size is `{"shortest_edge": 256}`.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import torch
from huggingface_hub import HfApi
from PIL import Image
from torch import Tensor

from efficientformer_edu import _validation as values
from efficientformer_edu.data.images import MEAN, STD
from efficientformer_edu.hf.config import without_unknown
from efficientformer_edu.hf.hub import find_file, read_json, with_reachable_hub, write_json

FIRST, LAST = FORMATS = ("channels_first", "channels_last")
SQUARE = {"height": 224, "width": 224}
BYTE = 255
FILE = "preprocessor_config.json"

Picture = Image.Image | np.ndarray | Tensor
Size = int | Sequence[int] | dict[str, int]


def sides(name: str, size: Any) -> dict[str, int]:
    """A size in normalized form: height and width, or the shortest edge. Raises ValueError for anything else."""
    if size is None:
        return dict(SQUARE)
    if isinstance(size, Mapping):
        if set(size) not in ({"height", "width"}, {"shortest_edge"}):
            raise values.invalid_value(
                name, size, "{'height': …, 'width': …}, {'shortest_edge': …}, a number or a pair"
            )
        return {side: values.positive_int(f"{name}[{side!r}]", number) for side, number in size.items()}
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
    input_format = input_format or infer_format(array.shape)
    return array.transpose(1, 2, 0) if input_format == FIRST else array, input_format


def infer_format(shape: tuple[int, ...]) -> str:
    """Infer the channel dimension, of size 1 or 3. If both ends qualify, it is the first, with a warning."""
    first, last = shape[0] in (1, 3), shape[2] in (1, 3)
    if not first and not last:
        raise ValueError(f"cannot infer the channel dimension of an image of shape {shape}; set input_data_format")
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
        raise values.invalid_value(
            name, numbers, f"{channels} numbers, one for each channel of the image, or one for all"
        )
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


class BatchFeature(dict[str, Any]):
    """A dictionary that `model(**inputs)` takes; `inputs.pixel_values` is `inputs["pixel_values"]`."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"there is no {name!r}; there is {', '.join(self)}")
        return self[name]

    def to(self, *where: Any) -> BatchFeature:
        """The same on another device or in another dtype, as in `Tensor.to`; only tensors are converted."""
        return BatchFeature({name: v.to(*where) if isinstance(v, Tensor) else v for name, v in self.items()})


@dataclass(frozen=True)
class EfficientFormerImageProcessor:
    """Convert images to the network's input: resize, crop, rescale, normalize.

    Attributes:
        do_resize: whether to resize.
        size: `{"height": h, "width": w}` for exactly this size; `{"shortest_edge": n}` to keep the aspect ratio; a
            number for a square, a pair for height and width. None for 224×224.
        resample: Pillow's filter: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic, 4 box, 5 Hamming.
        do_center_crop: whether to crop the center. Missing pixels are filled with zeros.
        do_rescale: whether to multiply by `rescale_factor`.
        rescale_factor: 1/255, from bytes to [0, 1].
        crop_size: height and width of the crop. None for 224×224.
        do_normalize: whether to subtract `image_mean` and divide by `image_std`.
        image_mean: one value per channel, or one for all. None for ImageNet's mean.
        image_std: the same for the standard deviation.

    Raises:
        ValueError: if a value is not allowed; the message names the field, the value and the allowed values.
    """

    do_resize: bool = True
    size: Size | None = None
    resample: int = Image.Resampling.BICUBIC
    do_center_crop: bool = True
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    crop_size: Size | None = None
    do_normalize: bool = True
    image_mean: float | Sequence[float] | None = None
    image_std: float | Sequence[float] | None = None

    def __post_init__(self) -> None:
        for name in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
            values.boolean(name, getattr(self, name))
        if self.resample not in list(Image.Resampling):
            raise values.invalid_value("resample", self.resample, "one of Pillow's filters, 0 to 5")
        factor = values.finite_float("rescale_factor", self.rescale_factor)
        fields = {"size": sides("size", self.size), "crop_size": sides("crop_size", self.crop_size)}
        if "height" not in fields["crop_size"]:
            raise values.invalid_value("crop_size", self.crop_size, "a height and a width")
        mean = MEAN if self.image_mean is None else self.image_mean
        std = STD if self.image_std is None else self.image_std
        for name, value in {"rescale_factor": factor, "image_mean": mean, "image_std": std, **fields}.items():
            object.__setattr__(self, name, value)

    def __call__(self, images: Picture | Sequence[Picture], **options: Any) -> BatchFeature:
        """Same as `preprocess`."""
        return self.preprocess(images, **options)

    def preprocess(
        self,
        images: Picture | Sequence[Picture],
        do_resize: bool | None = None,
        size: Size | None = None,
        resample: int | None = None,
        do_center_crop: bool | None = None,
        crop_size: Size | None = None,
        do_rescale: bool | None = None,
        rescale_factor: float | None = None,
        do_normalize: bool | None = None,
        image_mean: float | Sequence[float] | None = None,
        image_std: float | Sequence[float] | None = None,
        return_tensors: str | None = None,
        data_format: str | None = "channels_first",
        input_data_format: str | None = None,
    ) -> BatchFeature:
        """Convert images to the network's input. Options that are None use the settings of the processor.

        Args:
            images: one image or a list: Pillow images, which are converted to RGB; arrays or tensors of three
                dimensions, with uint8 values, integers from 0 to 255, or floats from 0 to 1.
            do_resize: this and the next nine are as the attributes of the class.
            size: see there.
            resample: see there.
            do_center_crop: see there.
            crop_size: see there.
            do_rescale: see there.
            rescale_factor: see there.
            do_normalize: see there.
            image_mean: see there.
            image_std: see there.
            return_tensors: "pt" for a tensor, "np" for an array, None for a list of arrays.
            data_format: "channels_first", "channels_last", or None for that of the input.
            input_data_format: format of arrays and tensors; None infers it from the dimension of size 1 or 3.

        Returns:
            `pixel_values`: (B, C, height, width), or (B, height, width, C) for channels last.

        Raises:
            ValueError: for an invalid option, an image that cannot be read, or images of different sizes in one tensor.
        """
        options = {name: value for name, value in locals().items() if name in self.__dataclass_fields__}
        steps = dataclasses.replace(self, **{name: value for name, value in options.items() if value is not None})
        for name, value in {"data_format": data_format, "input_data_format": input_data_format}.items():
            if value not in (None, *FORMATS):
                raise values.invalid_value(name, value, f"{' or '.join(FORMATS)}, or None")
        if return_tensors not in ("pt", "np", None):
            raise values.invalid_value("return_tensors", return_tensors, "'pt', 'np' or None")
        pictures = list(images) if isinstance(images, (list, tuple)) else [images]
        if not pictures:
            raise ValueError("images are none; give at least one")
        arrays = []
        for picture in pictures:
            array, form = channels_last(picture, input_data_format)  # (H, W, C)
            array = steps._apply(array)
            arrays.append(array.transpose(2, 0, 1) if (data_format or form) == FIRST else array)
        return BatchFeature(pixel_values=stacked(arrays, return_tensors))

    def _apply(self, image: np.ndarray) -> np.ndarray:
        if self.do_rescale and image.dtype != np.uint8 and image.min() >= 0 and image.max() <= 1:
            warnings.warn(
                "the image is already between 0 and 1, and rescaled again; give do_rescale=False", stacklevel=4
            )
        if self.do_resize:
            image = resize(image, sides("size", self.size), self.resample)
        if self.do_center_crop:
            image = center_crop(image, sides("crop_size", self.crop_size))
        if self.do_rescale:
            image = (image.astype(np.float64) * self.rescale_factor).astype(np.float32)
        if self.do_normalize:
            image = image if np.issubdtype(image.dtype, np.floating) else image.astype(np.float32)
            mean, std = (for_channels(name, getattr(self, name), image) for name in ("image_mean", "image_std"))
            image = (image - mean) / std
        return image

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **fields: Any,
    ) -> Self:
        """The processor of a repository on the hub, or of a folder: its `preprocessor_config.json`.

        Args:
            pretrained_model_name_or_path: name of the repository, or the folder.
            revision: this and the next four are as in `huggingface_hub.hf_hub_download`.
            cache_dir: see there.
            force_download: see there.
            local_files_only: see there.
            token: see there.
            **fields: attributes to change.

        Raises:
            ValueError: for an invalid field, or a file that is not JSON.
            FileNotFoundError: if the folder does not contain the file; for a repository, errors of `huggingface_hub`.
        """
        values.known_fields(fields, cls.__dataclass_fields__)
        arguments = {
            "revision": revision,
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": token,
        }
        name = str(pretrained_model_name_or_path)
        path = find_file(name, (FILE,), **with_reachable_hub(name, arguments))
        about = ("image_processor_type", "feature_extractor_type", "processor_class", "_valid_processor_keys")
        content = {name: value for name, value in read_json(path).items() if name not in about}
        return cls(**without_unknown(content, cls.__dataclass_fields__) | fields)

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write `preprocessor_config.json` into a folder, which is created if it does not exist."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(self.to_dict() | {"image_processor_type": type(self).__name__}, folder / FILE)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Image processor",
        private: bool | None = None,
        token: str | None = None,
    ) -> str:
        """Upload `preprocessor_config.json` to a repository, which is created if it does not exist.

        Args:
            repo_id: name of the repository.
            commit_message: message of the commit.
            private: whether a new repository is private; None for the account's default.
            token: token of the account; None for the one that is logged in on this machine.

        Returns:
            The URL of the commit.
        """
        api = HfApi(token=token)
        name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            file = Path(folder, FILE)
            commit = api.upload_file(
                path_or_fileobj=file, path_in_repo=FILE, repo_id=name, commit_message=commit_message
            )
        return commit.commit_url

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, tuples as lists."""
        fields = dataclasses.asdict(self) | {"resample": int(self.resample)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
