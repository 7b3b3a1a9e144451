"""The recipes against their sources, and invalid settings."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientformer_edu import paper
from efficientformer_edu.paper import Reported, Statement
from efficientformer_edu.training.recipe import (
    CHECKS,
    CODE,
    FIELDS,
    LAPTOP,
    PAPER,
    PRESETS,
    WITHOUT_EFFECT,
    Recipe,
    differences,
    get_recipe,
)

SETTINGS = {setting.name: setting for setting in paper.settings("recipe")}


def numbers(side: str) -> dict[str, float]:
    """The settings for which a source states a number and a recipe has a field."""
    values = {name: getattr(setting, side) for name, setting in SETTINGS.items() if name in FIELDS}
    return {name: value.value for name, value in values.items() if isinstance(value, Reported)}


def words(name: str, side: str) -> str:
    values = getattr(SETTINGS[name], side)
    assert isinstance(values, Statement)
    return values.text


def test_the_code_recipe_has_every_number_of_the_released_code() -> None:
    stated = numbers("code")
    assert len(stated) == 11
    for name, value in stated.items():
        assert getattr(CODE, FIELDS[name]) == (0 if name in WITHOUT_EFFECT else value), name


def test_the_code_recipe_matches_the_released_code() -> None:
    assert re.match(r"m(\d+)-", words("RandAugment", "code"))[1] == f"{CODE.rand_augment:g}"
    assert words("precision", "code") == CODE.precision
    assert CODE.sync_bn and words("BatchNorm", "code").startswith("synchronised")
    assert CODE.repeats > 1 and words("repeated augmentation", "code") == "on"
    assert words("distillation", "code") == f"{CODE.distillation}, α {CODE.alpha:g}, τ {CODE.tau:g}"


def test_the_paper_recipe_has_every_number_of_the_paper_and_of_its_run() -> None:
    assert numbers("paper") == {"epochs": 300, "minimum learning rate": 1e-5, "warm-up": 5}
    for name, value in numbers("paper").items():
        assert getattr(PAPER, FIELDS[name]) == value, name
    assert words("learning rate", "paper") == "1e-3 × batch / 1024"
    assert PAPER.learning_rate == 1e-3
    assert {"batch": PAPER.batch, "learning rate": PAPER.peak} == numbers("run")
    assert words("distillation", "paper") == PAPER.distillation


def test_the_two_recipes_differ_in_the_batch_alone() -> None:
    assert PAPER.replace(batch=CODE.batch) == CODE == Recipe()


def test_every_setting_has_a_field_or_is_the_same_for_every_recipe() -> None:
    assert set(FIELDS.values()) <= {field.name for field in fields(Recipe)}
    always = {"start", "data", "input", "optimiser", "schedule", "interpolation", "loss"}
    assert SETTINGS.keys() - FIELDS.keys() == always | {"teacher", "teacher's top-1 accuracy"}
    assert CHECKS.keys() == {field.name for field in fields(Recipe)}


def test_differences_list_reported_values_next_to_the_recipe() -> None:
    table = differences()
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert list(rows) == [name for name in SETTINGS if name in FIELDS]
    assert rows["epochs"] == {
        "setting": "epochs",
        "paper": "300 epochs (reported, V, CP; L1 also 1000)",
        "the authors' run": None,
        "released code": None,
        "here: paper": "300",
        "here: code": "300",
        "here: laptop": f"{LAPTOP.epochs}",
        "why other than the code": None,
    }
    assert rows["learning rate"]["here: paper"] == "0.001 × batch / 1024 = 0.003"
    assert rows["distillation"]["here: laptop"] == "off"
    assert rows["BatchNorm"]["here: code"] == "synchronised"
    assert {name for name, row in rows.items() if row["why other than the code"]} == set(WITHOUT_EFFECT)
    for row in rows.values():
        values = [row[side] for side in ("paper", "the authors' run", "released code") if row[side]]
        assert values and all("reported" in text for text in values)


def test_the_laptop_recipe_is_small() -> None:
    assert LAPTOP.total_epochs <= 10
    assert LAPTOP.crop is not None
    assert LAPTOP.distillation is None


@given(st.integers(16, 10_000), st.floats(1e-3, 1e-1))
def test_the_rate_grows_with_the_batch(batch: int, rate: float) -> None:
    once, twice = (CODE.replace(batch=batch * k, learning_rate=rate).peak for k in (1, 2))
    assert twice == pytest.approx(2 * once, rel=1e-12)
    assert CODE.replace(batch=1024, learning_rate=rate).peak == rate


def test_cooldown_comes_after_the_epochs() -> None:
    assert CODE.total_epochs == 300
    assert CODE.replace(cooldown_epochs=10).total_epochs == 310


def test_recipes_by_name() -> None:
    assert [get_recipe(name) for name in PRESETS] == [PAPER, CODE, LAPTOP]
    assert get_recipe(own := LAPTOP.replace(epochs=1)) is own
    with pytest.raises(ValueError, match="recipe='home' is not possible; allowed: paper, code, laptop"):
        get_recipe("home")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"epochs": 0}, "epochs=0 is not possible; allowed: a whole number, at least 1"),
        ({"batch": 12.5}, "batch=12.5 is not possible; allowed: a whole number"),
        ({"learning_rate": 0}, "learning_rate=0 is not possible; allowed: a finite number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan is not possible"),
        ({"min_rate": -1e-5}, "min_rate=-1e-05 is not possible; allowed: a finite number, at least 0"),
        ({"min_rate": 0.1}, "min_rate=0.1 .* at most the highest rate, 0.001 × 1024 / 1024 = 0.001"),
        ({"batch": 8}, "min_rate=1e-05 .* at most the highest rate, 0.001 × 8 / 1024 = 7.8125e-06"),
        ({"warm_up_rate": 0.1}, "warm_up_rate=0.1 .* at most the highest rate"),
        ({"epochs": 5}, "warm_up_epochs=5.0 is not possible; allowed: below epochs=5"),
        ({"cooldown_epochs": -1}, "cooldown_epochs=-1 is not possible; allowed: a whole number, at least 0"),
        ({"clipping": 0}, "clipping=0 is not possible"),
        ({"ema": 1.0}, "ema=1.0 is not possible; allowed: a number from 0 to below 1"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0 is not possible"),
        ({"mixup": -0.1}, "mixup=-0.1 is not possible"),
        ({"erasing": 1.1}, "erasing=1.1 is not possible; allowed: a number from 0 to 1"),
        ({"rand_augment": 11}, "rand_augment=11 is not possible; allowed: a number from 0 to 10"),
        ({"repeats": 0}, "repeats=0 is not possible"),
        ({"flip": 1}, "flip=1 is not possible; allowed: True or False"),
        ({"crop": -2}, "crop=-2 is not possible"),
        ({"distillation": "none"}, "distillation='none' is not possible; allowed: None, 'hard', 'soft'"),
        ({"alpha": 2}, "alpha=2 is not possible"),
        ({"tau": 0}, "tau=0 is not possible"),
        ({"precision": "fp16"}, "precision='fp16' is not possible; allowed: 'fp32', 'bf16'"),
    ],
)
def test_what_no_recipe_can_have_is_refused(wrong: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Recipe(**wrong)


def test_a_misspelt_field_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="'epoch'.*'epochs'"):
        CODE.replace(epoch=3)
