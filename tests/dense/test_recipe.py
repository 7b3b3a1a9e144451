"""Recipes for detection and segmentation: the learning rate by hand, and valid values of the fields."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest

from efficientformer_edu.dense.recipe import ADE20K, COCO, PRESETS, SHAPES, DenseRecipe, get_dense_recipe

TEN = {"epochs": 2, "batch": 4, "learning_rate": 0.8}  # of 10 steps each


@pytest.mark.parametrize(
    ("schedule", "step", "rate"),
    [
        ("cosine", 0, 0.8),
        ("cosine", 5, 0.4 * (1 + math.sqrt(0.5))),
        ("cosine", 10, 0.4),
        ("cosine", 15, 0.4 * (1 - math.sqrt(0.5))),
        ("poly", 0, 0.8),
        ("poly", 10, 0.8 * 0.5**0.9),
        ("poly", 18, 0.8 * 0.1**0.9),
    ],
)
def test_the_rate_by_hand(schedule: str, step: int, rate: float) -> None:
    recipe = DenseRecipe(**TEN, schedule=schedule)
    assert recipe.lr_at_step(step, 10) == pytest.approx(rate)


def test_the_rate_falls_to_a_tenth_after_two_thirds_and_after_eleven_twelfths() -> None:
    recipe = DenseRecipe(epochs=12, batch=4, learning_rate=1, schedule="step")
    rates = [recipe.lr_at_step(step, 10) for step in range(120)]
    assert rates == pytest.approx([1.0] * 80 + [0.1] * 30 + [0.01] * 10)


@pytest.mark.parametrize("epochs", range(1, 40))
def test_the_drops_are_at_the_start_of_an_epoch_for_any_number_of_epochs(epochs: int) -> None:
    """The first epoch that starts after two thirds of the training, in integers."""
    recipe = DenseRecipe(epochs=epochs, batch=4, learning_rate=1, schedule="step")
    for epoch in range(epochs):
        drops = (3 * epoch >= 2 * epochs) + (12 * epoch >= 11 * epochs)
        assert recipe.lr_at_step(7 * epoch, 7) == recipe.lr_at_step(7 * epoch + 6, 7) == pytest.approx(0.1**drops)


def test_the_rate_rises_to_the_schedule_from_a_thousandth() -> None:
    base = DenseRecipe(**TEN)
    rising = base.replace(warmup_steps=4)
    parts = [rising.lr_at_step(step, 10) / base.lr_at_step(step, 10) for step in range(6)]
    assert parts == pytest.approx([0.001, 0.25, 0.5, 0.75, 1, 1])


def test_the_protocols_of_the_paper() -> None:
    """40,000 steps of 32 of ADE20K's 20,210 images; 12 epochs of COCO, with drops after epochs 8 and 11."""
    steps = 20_210 // ADE20K.batch
    assert ADE20K.epochs * steps == pytest.approx(40_000, rel=0.01)
    assert ADE20K.lr_at_step(ADE20K.epochs * steps // 2, steps) == pytest.approx(2e-4 * 0.5**0.9, rel=1e-3)
    steps = 117_266 // COCO.batch  # images of train2017 that have an object
    assert [COCO.lr_at_step(epoch * steps + 500, steps) for epoch in (7, 8, 10, 11)] == pytest.approx(
        [2e-4, 2e-5, 2e-5, 2e-6]
    )
    assert COCO.lr_at_step(250, steps) == pytest.approx(1e-4)


def test_what_a_trainer_asks_for() -> None:
    assert (SHAPES.max_lr, SHAPES.total_epochs) == (SHAPES.learning_rate, SHAPES.epochs)


def test_presets_by_name() -> None:
    for name, recipe in PRESETS.items():
        assert get_dense_recipe(name) is recipe
    assert get_dense_recipe(SHAPES) is SHAPES
    with pytest.raises(ValueError, match=r"recipe='laptop' is not possible; allowed: shapes, ade20k, coco"):
        get_dense_recipe("laptop")


def test_a_recipe_comes_back_from_json_values() -> None:
    assert DenseRecipe(**{**asdict(ADE20K), "scale": [0.5, 2]}) == ADE20K  # JSON has lists
    assert DenseRecipe(1, 1, 1, scale=[1, 1]).scale == (1.0, 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("epochs", 0, "a whole number, at least 1"),
        ("batch", 2.5, "a whole number, at least 1"),
        ("learning_rate", 0, "a finite number above 0"),
        ("schedule", "linear", "cosine, poly, step"),
        ("warmup_steps", -1, "a whole number, at least 0"),
        ("weight_decay", -0.1, "a finite number, at least 0"),
        ("agc_clip", 0, "a finite number above 0"),
        ("ema", 1.0, "a number from 0 to below 1"),
        ("scale", (2, 0.5), "the smaller first"),
        ("scale", (0, 1), "a finite number above 0"),
        ("scale", (1, 1, 1), "two factors"),
        ("scale", 1.0, "two factors"),
        ("scale", None, "two factors"),
        ("scale", "12", "two factors"),
        ("flip", 1, "True or False"),
        ("drop_path", 1, "a number from 0 to below 1"),
        ("sync_bn", None, "True or False"),
        ("precision", "fp16", "bf16"),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_what_is_allowed(field: str, value: object, allowed: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s)^{field}=.* is not possible; allowed: .*{allowed}"):
        SHAPES.replace(**{field: value})


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'warmup_steps'"):
        SHAPES.replace(warmup_epochs=1)
