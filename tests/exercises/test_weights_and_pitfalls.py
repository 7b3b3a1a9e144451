"""Mistakes that chapter 10 does not list: each check also names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from efficientformer_edu.exercises import weights_and_pitfalls as checks
from efficientformer_edu.exercises._check import ExerciseError

State = Mapping[str, Tensor]


def refused(check: Any, answer: Any, match: str) -> None:
    with pytest.raises(ExerciseError, match=match):
        check(answer)


def test_the_other_head_alone_is_no_mean() -> None:
    def teacher_alone(state: State) -> State:
        remaining = {name: value for name, value in state.items() if not name.startswith("head_dist.")}
        return remaining | {f"head.{kind}": state[f"head_dist.{kind}"] for kind in ("weight", "bias")}

    refused(checks.check_one_head, teacher_alone, "dropped the head that learned from the labels")


def test_a_head_that_is_left_over_is_named() -> None:
    refused(checks.check_one_head, dict, "no head_dist.weight, head_dist.bias")


def test_the_other_layers_are_unchanged() -> None:
    def heads_alone(state: State) -> State:
        return {f"head.{kind}": (state[f"head.{kind}"] + state[f"head_dist.{kind}"]) / 2 for kind in ("weight", "bias")}

    refused(checks.check_one_head, heads_alone, "norm.bias is missing")


def test_concatenated_heads_are_not_a_mean() -> None:
    def stacked(state: State) -> State:
        both = {kind: [state[f"head.{kind}"], state[f"head_dist.{kind}"]] for kind in ("weight", "bias")}
        return {"norm.bias": state["norm.bias"]} | {f"head.{kind}": torch.cat(two) for kind, two in both.items()}

    refused(checks.check_one_head, stacked, "as large as each of the two")


def test_weights_of_another_mean() -> None:
    def mostly_the_first(state: State) -> State:
        remaining = {"norm.bias": state["norm.bias"]}
        for kind in ("weight", "bias"):
            remaining[f"head.{kind}"] = 0.9 * state[f"head.{kind}"] + 0.1 * state[f"head_dist.{kind}"]
        return remaining

    refused(checks.check_one_head, mostly_the_first, "not the mean of both heads' logits")


def test_a_schedule_needs_a_rate_per_block() -> None:
    refused(checks.check_schedule, lambda depths, rate: [0.0] * len(depths), "there are 15 blocks, so 15 rates; 4")


def test_a_constant_rate_is_no_schedule() -> None:
    refused(checks.check_schedule, lambda depths, rate: [rate] * sum(depths), "rise evenly from 0 to 0.1")


def test_values_before_keys() -> None:
    def swapped(qkv: Tensor, heads: int, key_dim: int) -> Any:
        query, key, value = qkv.unflatten(0, (heads, -1)).tensor_split([key_dim, 2 * key_dim], dim=1)
        return query.flatten(0, 1), value.flatten(0, 1), key.flatten(0, 1)

    refused(checks.check_split_qkv, swapped, "the key has the wrong shape")


def test_keys_for_queries() -> None:
    def swapped(qkv: Tensor, heads: int, key_dim: int) -> Any:
        query, key, value = qkv.unflatten(0, (heads, -1)).tensor_split([key_dim, 2 * key_dim], dim=1)
        return key.flatten(0, 1), query.flatten(0, 1), value.flatten(0, 1)

    refused(checks.check_split_qkv, swapped, "The query must be the rows")


def test_two_parts_are_not_three() -> None:
    refused(checks.check_split_qkv, lambda qkv, heads, key_dim: qkv.chunk(2), "returns query, key and value")


def test_a_test_that_always_agrees_is_fooled() -> None:
    refused(checks.check_by_offset, lambda bias, grid: True, "the last row differs")


def test_a_check_that_rejects_everything_is_detected() -> None:
    refused(checks.check_by_offset, lambda bias, grid: False, "rejects biases that were looked up")


def test_counting_different_values_can_be_fooled() -> None:
    def count(bias: Tensor, grid: tuple[int, int]) -> bool:
        return len(bias[0].unique()) <= grid[0] * grid[1]

    refused(checks.check_by_offset, count, "head 0 is sound and head 1 is not")
