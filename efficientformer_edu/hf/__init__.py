"""EfficientFormer with Hugging Face's API: the examples of its documentation run after changing only the import.

transformers removed EfficientFormer in version 5. These classes wrap our network with the same arguments, outputs and
files. In reading order: config, hub, models, images, auto.
"""

from __future__ import annotations

from efficientformer_edu.utils.optional import missing_message

try:
    from efficientformer_edu.hf.auto import AutoImageProcessor, AutoModelForImageClassification, pipeline
    from efficientformer_edu.hf.config import EfficientFormerConfig
    from efficientformer_edu.hf.images import BatchFeature, EfficientFormerImageProcessor
    from efficientformer_edu.hf.models import (
        BaseModelOutput,
        EfficientFormerForImageClassification,
        EfficientFormerForImageClassificationWithTeacher,
        EfficientFormerForImageClassificationWithTeacherOutput,
        EfficientFormerModel,
        EfficientFormerPreTrainedModel,
        ImageClassifierOutput,
    )
except ModuleNotFoundError as error:
    raise ImportError(missing_message(str(error.name))) from error

__all__ = [
    "AutoImageProcessor",
    "AutoModelForImageClassification",
    "BaseModelOutput",
    "BatchFeature",
    "EfficientFormerConfig",
    "EfficientFormerForImageClassification",
    "EfficientFormerForImageClassificationWithTeacher",
    "EfficientFormerForImageClassificationWithTeacherOutput",
    "EfficientFormerImageProcessor",
    "EfficientFormerModel",
    "EfficientFormerPreTrainedModel",
    "ImageClassifierOutput",
    "pipeline",
]
