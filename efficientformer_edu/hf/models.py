"""Hugging Face's three classes as wrappers of our network, with their outputs and their loss.

Sources: `modeling_efficientformer.py`, `modeling_outputs.py` and `ForSequenceClassificationLoss` of transformers
4.57.6. Three of its bugs are not reproduced: the class with two heads could not be built from its configuration, the
stochastic depth rate exceeded 1, and the first call stored the inferred problem type in the configuration. Its
LayerNorm has an epsilon of 1e-12 and ours 1e-5, which changes the logits of L1 by 7e-6. All else is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu.config import EfficientFormerConfig as NetworkConfig
from efficientformer_edu.hf.config import EfficientFormerConfig
from efficientformer_edu.hf.hub import HubModel
from efficientformer_edu.model import Attention, EfficientFormer, Embedding


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


class EfficientFormerPreTrainedModel(HubModel):
    """Base of the three classes: the network, its configuration, and one forward pass.

    Args:
        config: Hugging Face's configuration, or ours.

    Attributes:
        config: Hugging Face's configuration.
        network: our `EfficientFormer`, with our tensor names; `save_pretrained` writes Hugging Face's names.
    """

    def __init__(self, config: EfficientFormerConfig | NetworkConfig) -> None:
        super().__init__()
        self.config = EfficientFormerConfig.from_network(config) if isinstance(config, NetworkConfig) else config
        self.network = EfficientFormer(self.config.network(distillation=self.heads == 2))
        if self.heads == 0:
            del self.network.head

    def run(
        self, pixel_values: Tensor | None, output_attentions: bool | None, output_hidden_states: bool | None
    ) -> BaseModelOutput:
        """Forward pass without the heads. Raises ValueError if `pixel_values` is not a batch of images."""
        if pixel_values is None:
            raise ValueError("pixel_values is missing; wanted: a float tensor (B, num_channels, H, W)")
        with_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        with_hidden = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        hidden: list[Tensor] = []
        attentions: list[Tensor] = []
        with ExitStack() as hooks:
            if with_hidden:
                record(hooks, hidden_modules(self.network), hidden)
            if with_attentions:
                mixers = [module for module in self.network.modules() if isinstance(module, Attention)]
                record(hooks, [mixer.softmax for mixer in mixers], attentions)
            tokens = self.network.features(pixel_values)[-1].permute(0, 2, 3, 1).flatten(1, 2)  # (B, N, C₄)
        return BaseModelOutput(
            last_hidden_state=self.network.norm(tokens),
            hidden_states=(*hidden[:-1], tokens) if with_hidden else None,
            attentions=tuple(attentions) if with_attentions else None,
        )

    def as_requested(self, output: Any, return_dict: bool | None) -> Any:
        """Return the output, or its tuple if `return_dict` is False."""
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()


class EfficientFormerModel(EfficientFormerPreTrainedModel):
    """The network without heads."""

    heads = 0

    def forward(
        self,
        pixel_values: Float[Tensor, "B num_channels H W"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Tokens of images of any size from 32×32.

        Args:
            pixel_values: the images, as `EfficientFormerImageProcessor` returns them.
            output_attentions: whether to return the attention probabilities as well.
            output_hidden_states: whether to return the intermediate feature maps as well.
            return_dict: False for a tuple. For these three, None uses the value of the configuration.

        Returns:
            `BaseModelOutput`, or its tuple.

        Raises:
            ValueError: if `pixel_values` is missing or not a batch of images.
        """
        return self.as_requested(self.run(pixel_values, output_attentions, output_hidden_states), return_dict)


class EfficientFormerForImageClassification(EfficientFormerPreTrainedModel):
    """The network with one head. From a file with two heads it uses only the first, which is a different function."""

    heads = 1

    def forward(
        self,
        pixel_values: Float[Tensor, "B num_channels H W"] | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Logits, and a loss if labels are passed; see `classification_loss`.

        The other arguments and the errors are those of `EfficientFormerModel`.

        Returns:
            `ImageClassifierOutput`, or its tuple.
        """
        base = self.run(pixel_values, output_attentions, output_hidden_states)
        logits = self.network.head(base.last_hidden_state.mean(1))  # (B, num_labels)
        loss = None if labels is None else classification_loss(logits, labels, self.config.problem_type)
        return self.as_requested(ImageClassifierOutput(loss, logits, base.hidden_states, base.attentions), return_dict)


class EfficientFormerForImageClassificationWithTeacher(EfficientFormerPreTrainedModel):
    """The network with two heads, as distilled and published. Like Hugging Face's class it computes no loss."""

    heads = 2

    def forward(
        self,
        pixel_values: Float[Tensor, "B num_channels H W"] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """The mean of both heads' logits, and each head's. Arguments and errors as for `EfficientFormerModel`.

        Returns:
            `EfficientFormerForImageClassificationWithTeacherOutput`, or its tuple.
        """
        base = self.run(pixel_values, output_attentions, output_hidden_states)
        pooled = base.last_hidden_state.mean(1)  # (B, C₄)
        assert self.network.head_dist is not None  # this class builds it
        cls, dist = self.network.head(pooled), self.network.head_dist(pooled)  # (B, num_labels) each
        output = EfficientFormerForImageClassificationWithTeacherOutput(
            (cls + dist) / 2, cls, dist, base.hidden_states, base.attentions
        )
        return self.as_requested(output, return_dict)


def hidden_modules(network: EfficientFormer) -> Iterable[nn.Module]:
    """The modules whose outputs are Hugging Face's hidden states, in call order."""
    yield network.stem
    for stage in network.stages:
        if isinstance(stage.downsample, Embedding):
            yield stage.downsample
        yield stage


def record(hooks: ExitStack, modules: Iterable[nn.Module], outputs: list[Tensor]) -> None:
    """Append the output of each module to `outputs` until `hooks` is closed."""
    for module in modules:
        hooks.enter_context(module.register_forward_hook(lambda *call: outputs.append(call[-1])))
