"""Outputs of Hugging Face's classes: access by attribute, key or index; outputs that were not requested are omitted.

Source: `ModelOutput` and its subclasses in transformers 4.57.6, `modeling_outputs.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor


class ModelOutput(Mapping[str, Any]):
    """An output read as `output.logits`, `output["logits"]` or `output[0]`. None fields are only attributes."""

    def _present(self) -> dict[str, Any]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in fields.items() if value is not None}

    def __getitem__(self, key: str | int | slice) -> Any:
        return self._present()[key] if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._present())

    def __len__(self) -> int:
        return len(self._present())

    def to_tuple(self) -> tuple[Any, ...]:
        """The values that are not None, in the order of the fields: what `return_dict=False` returns."""
        return tuple(self._present().values())


@dataclass(frozen=True, eq=False)
class BaseModelOutput(ModelOutput):
    """Output of `EfficientFormerModel`.

    Attributes:
        last_hidden_state: tokens after the final LayerNorm.
        hidden_states: feature maps after the stem, after each stage and after each embedding between them, eight with
            four stages; the last element are the tokens, (B, N, C₄), before the final LayerNorm.
        attentions: the attention probabilities of each MB3D, (B, heads, N, N).
    """

    last_hidden_state: Float[Tensor, "B N C4"]
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass(frozen=True, eq=False)
class ImageClassifierOutput(ModelOutput):
    """Output of `EfficientFormerForImageClassification`: `loss` if labels were passed, other fields as in the base."""

    loss: Float[Tensor, ""] | None
    logits: Float[Tensor, "B num_labels"]
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass(frozen=True, eq=False)
class EfficientFormerForImageClassificationWithTeacherOutput(ModelOutput):
    """Output of `EfficientFormerForImageClassificationWithTeacher`: the mean of both heads, and each head alone."""

    logits: Float[Tensor, "B num_labels"]
    cls_logits: Float[Tensor, "B num_labels"]
    distillation_logits: Float[Tensor, "B num_labels"]
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
