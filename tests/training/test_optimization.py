"""Weight decay, learning rates, clipping and averages, against hand-computed values and torch."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import SMALL, configs
from torch import nn

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training.optimization import (
    WeightAverage,
    clip_adaptive_,
    learning_rate,
    parameter_groups,
    unit_norms,
)
from efficientformer_edu.training.recipe import CODE, PRESETS, Recipe

recipes = st.builds(
    Recipe,
    epochs=st.integers(3, 50),
    batch=st.integers(1, 5000),
    learning_rate=st.just(0.1),
    min_lr=st.floats(0, 5e-5),
    warmup_epochs=st.floats(0, 2.9),
    warmup_lr=st.floats(0, 5e-5),
    cooldown_epochs=st.integers(0, 3),
)


def names(group: dict) -> set[str]:
    return {name for name, _ in group["params"]}


@given(configs())
def test_what_decays_is_what_multiplies(config: EfficientFormerConfig) -> None:
    model = EfficientFormer(config)
    decaying, exempt = parameter_groups(model, 0.025)
    weights = {f"{path}.weight" for path, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    tables = {name for name, _ in model.named_parameters() if name.endswith("attention_biases")}
    assert names(decaying) == weights | tables
    assert names(exempt) == {name for name, _ in model.named_parameters()} - weights - tables
    assert (decaying["weight_decay"], exempt["weight_decay"]) == (0.025, 0.0)


def test_a_step_without_gradients_shows_the_decay() -> None:
    model = EfficientFormer(SMALL)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.5), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in model.named_parameters():
        kept = 1 - 0.1 * 0.5 if value.ndim > 1 else 1
        torch.testing.assert_close(value.detach(), kept * before[name], msg=name)


def test_the_optimizer_keeps_the_names_through_its_state() -> None:
    model = EfficientFormer(SMALL)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.025), lr=1e-3)
    assert "norm.weight" in optimizer.param_groups[1]["param_names"]
    again = torch.optim.AdamW(parameter_groups(EfficientFormer(SMALL), 0.025), lr=1e-3)
    again.load_state_dict(optimizer.state_dict())
    assert [group["param_names"] for group in again.param_groups] == [
        group["param_names"] for group in optimizer.param_groups
    ]


def test_what_is_frozen_is_in_no_group() -> None:
    model = EfficientFormer(SMALL)
    model.stem.requires_grad_(False)
    grouped = set.union(*(names(group) for group in parameter_groups(model, 0.025)))
    assert grouped == {name for name, _ in model.named_parameters() if not name.startswith("stem.")}


def test_a_negative_decay_is_refused() -> None:
    with pytest.raises(ValueError, match="weight_decay=-1 is not possible; allowed: a finite number, at least 0"):
        parameter_groups(nn.Linear(1, 1), -1)


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        (0, 1e-5),
        (2.5, (1e-5 + 1e-3) / 2),  # half of the warm-up
        (4.999, 1e-5 + 0.9998 * 9.9e-4),
        (5, 1e-5 + 9.9e-4 * (1 + math.cos(math.pi / 60)) / 2),
        (100, 1e-5 + 9.9e-4 * 0.75),  # cos 60° = 1/2
        (150, 1e-5 + 9.9e-4 * 0.5),
        (200, 1e-5 + 9.9e-4 * 0.25),
        (300, 1e-5),
        (305, 1e-5),
        (1000, 1e-5),
    ],
)
def test_the_rate_of_the_released_recipe(epoch: float, rate: float) -> None:
    assert learning_rate(CODE, round(epoch * 1000), 1000) == pytest.approx(rate, rel=1e-12)


def test_a_larger_batch_scales_the_peak_and_neither_end() -> None:
    large = CODE.replace(batch=4096)
    assert learning_rate(large, 0, 10) == learning_rate(CODE, 0, 10) == 1e-5
    assert learning_rate(large, 3000, 10) == 1e-5
    assert learning_rate(large, 1500, 10) == pytest.approx((4e-3 + 1e-5) / 2, rel=1e-12)


@given(recipes, st.integers(1, 20))
def test_the_rate_rises_to_the_cosine_and_falls_to_the_end(recipe: Recipe, steps: int) -> None:
    rates = [learning_rate(recipe, step, steps) for step in range(recipe.total_epochs * steps)]
    turn = math.ceil(recipe.warmup_epochs * steps)
    slack = 1e-15
    assert all(a <= b + slack for a, b in pairwise(rates[:turn]))
    assert all(a >= b - slack for a, b in pairwise(rates[turn:]))
    assert max(rates) <= recipe.max_lr + slack
    assert min(rates) >= min(recipe.min_lr, recipe.warmup_lr) - slack
    assert rates[recipe.epochs * steps :] == [recipe.min_lr] * (recipe.cooldown_epochs * steps)


@pytest.mark.parametrize("recipe", PRESETS.values(), ids=PRESETS)
def test_without_warm_up_it_is_the_cosine_of_torch(recipe: Recipe) -> None:
    recipe = recipe.replace(warmup_epochs=0)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.max_lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=recipe.epochs * 7, eta_min=recipe.min_lr)
    for step in range(recipe.epochs * 7):
        assert learning_rate(recipe, step, 7) == pytest.approx(schedule.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(("step", "steps"), [(-1, 10), (0, 0), (1.5, 10)])
def test_a_step_that_does_not_exist_is_refused(step: int, steps: int) -> None:
    with pytest.raises(ValueError, match="is not possible; allowed: a whole number"):
        learning_rate(CODE, step, steps)


def clipped(weight: object, gradient: object, factor: float) -> torch.Tensor:
    parameter = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
    parameter.grad = torch.tensor(gradient, dtype=torch.float64)
    clip_adaptive_([parameter], factor)
    return parameter.grad


def test_every_row_is_clipped_by_its_own_norm() -> None:
    gradients = clipped(
        [[3.0, 4.0], [0.0, 0.0], [30.0, 40.0], [1.0, 0.0]],  # norms 5, 0, 50, 1
        [[6.0, 8.0], [0.0, 1.0], [0.3, 0.4], [0.0, 0.0]],  # norms 10, 1, 0.5, 0
        0.01,
    )
    # Longest: 0.05; 0.01 · 1e-3, for weights of 0; 0.5, just reached; 0.01, and a gradient of 0 stays 0.
    expected = [[0.03, 0.04], [0.0, 1e-5], [0.3, 0.4], [0.0, 0.0]]
    torch.testing.assert_close(gradients, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_a_vector_is_a_single_unit_and_so_is_a_scalar() -> None:
    expected = torch.tensor([0.3, 0.4], dtype=torch.float64)
    torch.testing.assert_close(clipped([3.0, 4.0], [6.0, 8.0], 0.1), expected)
    assert clipped(-2.0, -7.0, 0.5) == -1.0


def test_a_filter_of_a_convolution_is_a_single_unit() -> None:
    weight = torch.ones(2, 3, 2, 3)  # 18 weights per filter: norm √18
    weight[1] *= 10
    gradients = clipped(weight.tolist(), torch.ones(2, 3, 2, 3).tolist(), 0.5)
    torch.testing.assert_close(gradients[0], torch.full((3, 2, 3), 0.5, dtype=torch.float64))
    assert torch.equal(gradients[1], torch.ones(3, 2, 3, dtype=torch.float64))
    assert unit_norms(weight).shape == (2, 1, 1, 1)


@given(st.integers(0, 10_000), st.floats(1e-4, 2), st.sampled_from([(), (4,), (3, 5), (2, 3, 3, 3)]))
def test_clipping_keeps_directions_and_bounds_lengths(seed: int, factor: float, shape: tuple[int, ...]) -> None:
    torch.manual_seed(seed)
    parameter = nn.Parameter(torch.randn(shape, dtype=torch.float64))
    parameter.grad = before = torch.randn(shape, dtype=torch.float64)
    before = before.clone()
    clip_adaptive_([parameter], factor)
    units = [...] if len(shape) < 2 else range(shape[0])
    for unit in units:
        weight, old, new = parameter.detach()[unit], before[unit], parameter.grad[unit]
        longest = factor * max(float(weight.square().sum().sqrt()), 1e-3)
        length = float(old.square().sum().sqrt())
        torch.testing.assert_close(new, old * min(1.0, longest / length))


def test_what_has_no_gradient_is_passed_over() -> None:
    with_none, with_gradient = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    with_gradient.grad = torch.full((2,), 9.0)
    clip_adaptive_(iter([with_none, with_gradient]), 1.0)
    assert with_none.grad is None
    torch.testing.assert_close(with_gradient.grad, torch.ones(2))


def test_a_factor_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="factor=0 is not possible"):
        clip_adaptive_([], 0)


def filled(value: float) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(1)
    for tensor in norm.state_dict().values():
        tensor.fill_(value)
    return norm


def test_an_average_of_weights_and_statistics() -> None:
    average = WeightAverage(filled(1.0), 0.9)
    average.update(filled(2.0))  # 0.9 · 1 + 0.1 · 2 = 1.1
    average.update(filled(4.0))  # 0.9 · 1.1 + 0.1 · 4 = 1.39
    state = average.state_dict()
    assert state.pop("num_batches_tracked") == 4  # a count is copied
    assert set(state) == {"weight", "bias", "running_mean", "running_var"}
    for value in state.values():
        torch.testing.assert_close(value, torch.tensor([1.39]))


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=8), st.floats(0, 0.999))
def test_the_average_is_a_weighted_sum(values: list[float], decay: float) -> None:
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(values[0])
        average = WeightAverage(model, decay)
        for value in values[1:]:
            model.weight.fill_(value)
            average.update(model)
    n = len(values) - 1
    expected = decay**n * values[0] + sum((1 - decay) * decay ** (n - k) * values[k] for k in range(1, n + 1))
    assert float(average.network.weight) == pytest.approx(expected, abs=1e-9)


def test_the_averaged_network_is_separate_and_in_evaluation_mode() -> None:
    model = EfficientFormer(SMALL).train()
    average = WeightAverage(model, 0.5)
    kept = average.network.norm.weight.clone()
    with torch.no_grad():
        model.norm.weight.add_(1)
    assert torch.equal(average.network.norm.weight, kept)
    assert not average.network.training and model.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_average_continues_from_its_state() -> None:
    unbroken = WeightAverage(filled(1.0), 0.9)
    unbroken.update(filled(2.0))
    resumed = WeightAverage(filled(0.0), 0.9)
    resumed.load_state_dict(unbroken.state_dict())
    for average in (unbroken, resumed):
        average.update(filled(5.0))
    assert all(torch.equal(resumed.state_dict()[name], value) for name, value in unbroken.state_dict().items())


@pytest.mark.parametrize("decay", [1.0, -0.1, None])
def test_a_decay_that_is_none_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay=.* is not possible; allowed: a number from 0 to below 1"):
        WeightAverage(nn.Linear(1, 1), decay)
