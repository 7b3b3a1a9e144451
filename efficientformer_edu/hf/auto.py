"""The names that Hugging Face's documentation of EfficientFormer uses: `AutoImageProcessor`, `AutoModel…`, `pipeline`.

In transformers they select one of hundreds of models; here there is only one, so they are short.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import torch
from PIL import Image

from efficientformer_edu.data.images import open_image, to_rgb
from efficientformer_edu.hf.hub import TIMEOUT, HubModel, find_file, read_json, with_reachable_hub
from efficientformer_edu.hf.images import EfficientFormerImageProcessor
from efficientformer_edu.hf.models import (
    EfficientFormerForImageClassification,
    EfficientFormerForImageClassificationWithTeacher,
)

AutoImageProcessor = EfficientFormerImageProcessor

WITH_TEACHER = EfficientFormerForImageClassificationWithTeacher.__name__


class AutoModelForImageClassification:
    """Selects the class with one head or with two, by `architectures` in a repository's `config.json`."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **arguments: Any) -> HubModel:
        """Like `from_pretrained` of the class; one head if `config.json` has no `architectures`."""
        hub = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        name = str(pretrained_model_name_or_path)
        arguments = with_reachable_hub(name, arguments)
        path = find_file(name, ("config.json",), **{key: arguments[key] for key in hub if key in arguments})
        if WITH_TEACHER in read_json(path).get("architectures", ()):
            return EfficientFormerForImageClassificationWithTeacher.from_pretrained(name, **arguments)
        return EfficientFormerForImageClassification.from_pretrained(name, **arguments)


class ImageClassificationPipeline:
    """From images to labels with scores: image processor, network, softmax.

    Args:
        model: a model with one head or two; it is set to evaluation mode.
        image_processor: the processor that prepares its input.
    """

    def __init__(self, model: HubModel, image_processor: EfficientFormerImageProcessor) -> None:
        self.model = model.eval()
        self.image_processor = image_processor

    def __call__(
        self, images: str | Path | Image.Image | np.ndarray | Sequence[Any], top_k: int | None = 5
    ) -> list[Any]:
        """The best labels of an image, or of each image in a list.

        Args:
            images: a file, a URL (http or https), which is downloaded, a Pillow image, a uint8 array (H, W, 3), or a
                list of them.
            top_k: number of labels; None for all.

        Returns:
            `{"label", "score"}` for each label, best first. Scores are softmax probabilities; for a single label, or
            the `problem_type` `multi_label_classification`, sigmoid probabilities.
        """
        if not isinstance(images, (str, Path, Image.Image)) and not (
            isinstance(images, np.ndarray) and images.ndim < 4
        ):
            return [self(image, top_k) for image in images]
        inputs = self.image_processor(picture(images), return_tensors="pt")
        with torch.inference_mode():
            logits = self.model(**inputs.to(self.model.device, self.model.dtype)).logits[0].float()  # (num_labels,)
        config = self.model.config
        independent = len(logits) == 1 or config.problem_type == "multi_label_classification"
        scores = logits.sigmoid() if independent else logits.softmax(0)
        best = scores.topk(len(scores) if top_k is None else min(top_k, len(scores)))
        assert config.id2label is not None  # the configuration fills it
        return [{"label": config.id2label[int(n)], "score": float(score)} for score, n in zip(*best, strict=True)]


def pipeline(
    task: str = "image-classification",
    model: str | Path | HubModel = "snap-research/efficientformer-l1-300",
    image_processor: EfficientFormerImageProcessor | None = None,
    dtype: str | torch.dtype | None = None,
    torch_dtype: str | torch.dtype | None = None,
    device: int | str | torch.device | None = None,
) -> ImageClassificationPipeline:
    """Create an image classification pipeline, as in transformers.

    Args:
        task: "image-classification"; no other task is supported.
        model: a model, or a repository or folder to load it from.
        image_processor: the image processor; None for that of the repository, or the default one for a model object.
        dtype: dtype of the loaded weights, as in `from_pretrained`.
        torch_dtype: older name of `dtype`.
        device: device of the model; a number is a CUDA device, -1 the CPU. None for the CPU, or the device of a model
            object.

    Raises:
        ValueError: for another task, and for a dtype together with a model object.
    """
    if task != "image-classification":
        raise ValueError(f"task={task!r} is not possible; allowed: 'image-classification'")
    dtype = torch_dtype if dtype is None else dtype
    if not isinstance(model, HubModel):
        image_processor = image_processor or EfficientFormerImageProcessor.from_pretrained(model)
        model = AutoModelForImageClassification.from_pretrained(model, dtype=dtype)
    elif dtype is not None:
        raise ValueError("dtype is for a model that is loaded here; call model.to(dtype) for the one that you have")
    if device is not None:
        model.to("cpu" if device == -1 else device)
    return ImageClassificationPipeline(model, image_processor or EfficientFormerImageProcessor())


def picture(image: str | Path | Image.Image | np.ndarray) -> Image.Image:
    """The image in RGB, upright; downloaded if it is a URL. Raises OSError if the server does not respond."""
    if isinstance(image, str) and image.startswith(("http://", "https://")):
        with urlopen(image, timeout=TIMEOUT) as response:
            image = Image.open(io.BytesIO(response.read()))
    return to_rgb(open_image(image))
