"""Mistakes that chapter 2 does not list: each check also names them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu.exercises import building_blocks as checks
from efficientformer_edu.exercises._check import ExerciseError


def test_layer_scale_of_the_batch_is_no_layer_scale() -> None:
    def of_samples(x: Tensor, gamma: Tensor) -> Tensor:
        return x * gamma.view(-1, *[1] * (x.ndim - 1))

    with pytest.raises(ExerciseError, match=r"channel c must be multiplied by gamma\[c\]"):
        checks.check_layer_scale(of_samples)


def test_a_mean_over_all_channels_is_detected_if_the_border_is_right() -> None:
    def across(x: Tensor) -> Tensor:
        kernel = torch.ones(x.shape[1], x.shape[1], 3, 3)
        return F.conv2d(x, kernel, padding=1) / F.conv2d(torch.ones_like(x), kernel, padding=1) - x

    with pytest.raises(ExerciseError, match="mixes the channels"):
        checks.check_pool_by_convolution(across)


def test_layer_scale_that_never_reached_the_weight() -> None:
    def norm_alone(conv: nn.Conv2d, norm: nn.BatchNorm2d, gamma: Tensor) -> Any:
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return scale.view(-1, 1, 1, 1) * conv.weight, scale * (conv.bias - norm.running_mean) + norm.bias

    with pytest.raises(ExerciseError, match="The weight lacks layer scale"):
        checks.check_fold_all(norm_alone)


def test_a_folded_weight_without_its_bias() -> None:
    with pytest.raises(ExerciseError, match="two tensors"):
        checks.check_fold_all(lambda conv, norm, gamma: conv.weight)


def test_attention_without_a_scale() -> None:
    def unscaled(x: Tensor, qkv: nn.Linear, bias: Tensor, heads: int, key_dim: int) -> Tensor:
        parts = [own.tensor_split([key_dim, 2 * key_dim], dim=-1) for own in qkv(x).chunk(heads, dim=-1)]
        mixed = [(q @ k.transpose(1, 2) + b).softmax(-1) @ v for (q, k, v), b in zip(parts, bias, strict=True)]
        return torch.cat(mixed, dim=-1)

    with pytest.raises(ExerciseError, match="left out the scale"):
        checks.check_attend(unscaled)


def test_a_table_that_was_not_resized() -> None:
    def as_trained(table: Tensor, trained: tuple[int, int], image: tuple[int, int]) -> Tensor:
        h, w = -(-image[0] // 32), -(-image[1] // 32)
        y, x = torch.arange(h).repeat_interleave(w), torch.arange(w).repeat(h)
        down, right = (y[:, None] - y).abs().clamp(max=6), (x[:, None] - x).abs().clamp(max=6)
        return table[:, down * trained[1] + right]

    with pytest.raises(ExerciseError, match=r"must be the resized table at \|Δy\|·10 \+ \|Δx\|"):
        checks.check_bias_for_image(as_trained)
