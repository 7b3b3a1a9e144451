"""The loss of Hugging Face's classes, computed if `labels` are passed.

Source: `ForSequenceClassificationLoss` of transformers 4.57.6. There the first call stores the inferred problem type in
the configuration; here a call does not change the configuration.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def classification_loss(
    logits: Float[Tensor, "B num_labels"], labels: Tensor, problem_type: str | None = None
) -> Float[Tensor, ""]:
    """The loss of Hugging Face's classes.

    Args:
        logits: one row per image.
        labels: for one label per image, integers (B,): cross entropy; for several labels per image, 0 or 1 for each,
            (B, num_labels): binary cross entropy; for a regression, targets, (B,) with one output and (B, num_labels)
            with more: mean squared error.
        problem_type: which of them. None infers it: with one output a regression; with int32 or int64 labels one label
            per image; else several.

    Returns:
        The mean over the batch, a scalar.

    Raises:
        ValueError: if the labels have a different shape.
    """
    if problem_type is None and logits.shape[1] == 1:
        problem_type = "regression"
    elif problem_type is None:
        is_integer = labels.dtype in (torch.int32, torch.int64)
        problem_type = "single_label_classification" if is_integer else "multi_label_classification"
    labels = labels.to(logits.device)
    if problem_type == "single_label_classification":
        return F.cross_entropy(logits, same_shape(labels, logits[:, 0]).long())
    if problem_type == "regression" and logits.shape[1] == 1:
        logits = logits[:, 0]
    labels = same_shape(labels, logits).to(logits.dtype)
    return (
        F.mse_loss(logits, labels)
        if problem_type == "regression"
        else F.binary_cross_entropy_with_logits(logits, labels)
    )


def same_shape(labels: Tensor, like: Tensor) -> Tensor:
    """Labels in the expected shape; one label per image may have the shape (B, 1)."""
    if labels.shape != like.shape and labels.shape != (*like.shape, 1):
        raise ValueError(f"labels have the shape {tuple(labels.shape)}; allowed: {tuple(like.shape)}")
    return labels.reshape(like.shape)
