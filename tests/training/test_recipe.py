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
    rename_old_fields,
)

SETTINGS = {setting.name: setting for setting in paper.settings("recipe")}


def numbers(side: str) -> dict[str, float]:
    """The settings for which a source states a number and a recipe has a field."""
    values = {name: getattr(setting, side) for name, setting in SETTINGS.items() if name in FIELDS}
    return {name: value.value for name, value in values.items() if isinstance(value, Reported)}


def stated_text(name: str, side: str) -> str:
    values = getattr(SETTINGS[name], side)
    assert isinstance(values, Statement)
    return values.text


def test_the_code_recipe_has_every_number_of_the_released_code() -> None:
    stated = numbers("code")
    assert len(stated) == 11
    for name, value in stated.items():
        assert getattr(CODE, FIELDS[name]) == (0 if name in WITHOUT_EFFECT else value), name


def test_the_code_recipe_matches_the_released_code() -> None:
    assert re.match(r"m(\d+)-", stated_text("RandAugment", "code"))[1] == f"{CODE.rand_augment:g}"
    assert stated_text("precision", "code") == CODE.precision
    assert CODE.sync_bn and stated_text("BatchNorm", "code").startswith("synchronised")
    assert CODE.repeated_aug > 1 and stated_text("repeated augmentation", "code") == "on"
    assert stated_text("distillation", "code") == f"{CODE.distillation}, α {CODE.alpha:g}, τ {CODE.tau:g}"


def test_the_paper_recipe_has_every_number_of_the_paper_and_of_its_run() -> None:
    assert numbers("paper") == {"epochs": 300, "minimum learning rate": 1e-5, "warm-up": 5}
    for name, value in numbers("paper").items():
        assert getattr(PAPER, FIELDS[name]) == value, name
    assert stated_text("learning rate", "paper") == "1e-3 × batch / 1024"
    assert PAPER.learning_rate == 1e-3
    assert {"batch": PAPER.batch, "learning rate": PAPER.max_lr} == numbers("run")
    assert stated_text("distillation", "paper") == PAPER.distillation


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
    once, twice = (CODE.replace(batch=batch * k, learning_rate=rate).max_lr for k in (1, 2))
    assert twice == pytest.approx(2 * once, rel=1e-12)
    assert CODE.replace(batch=1024, learning_rate=rate).max_lr == rate


def test_cooldown_comes_after_the_epochs() -> None:
    assert CODE.total_epochs == 300
    assert CODE.replace(cooldown_epochs=10).total_epochs == 310


def test_recipes_by_name() -> None:
    assert [get_recipe(name) for name in PRESETS] == [PAPER, CODE, LAPTOP]
    assert get_recipe(own := LAPTOP.replace(epochs=1)) is own
    with pytest.raises(ValueError, match="recipe='home' is not possible; allowed: paper, code, laptop"):
        get_recipe("home")


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("epochs", 0, "at least 1"),
        ("batch", 12.5, "a whole number"),
        ("learning_rate", 0, "above 0"),
        ("learning_rate", float("nan"), "a finite number"),
        ("min_lr", -1e-5, "at least 0"),
        ("min_lr", 0.1, "0.001 × 1024 / 1024 = 0.001"),
        ("warmup_lr", 0.1, "0.001 × 1024 / 1024 = 0.001"),
        ("cooldown_epochs", -1, "at least 0"),
        ("agc_clip", 0, "above 0"),
        ("ema", 1.0, "below 1"),
        ("label_smoothing", 1.0, "below 1"),
        ("mixup", -0.1, "at least 0"),
        ("erasing", 1.1, "from 0 to 1"),
        ("rand_augment", 11, "from 0 to 10"),
        ("repeated_aug", 0, "at least 1"),
        ("flip", 1, "True or False"),
        ("crop", -2, "at least 0"),
        ("distillation", "none", "None, 'hard', 'soft'"),
        ("alpha", 2, "from 0 to 1"),
        ("tau", 0, "above 0"),
        ("precision", "fp16", "'fp32', 'bf16'"),
    ],
)
def test_an_invalid_field_is_named_with_its_value_and_the_allowed_values(
    field: str, value: object, allowed: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{field}={re.escape(repr(value))} .*{re.escape(allowed)}"):
        Recipe(**{field: value})  # type: ignore[arg-type]


def test_fields_that_do_not_fit_together() -> None:
    with pytest.raises(ValueError, match="warmup_epochs=5.0 .* epochs=5"):
        Recipe(epochs=5)
    with pytest.raises(ValueError, match=r"min_lr=1e-05 .* 0\.001 × 8 / 1024 = 7\.8125e-06"):
        Recipe(batch=8)


def test_recipes_of_earlier_versions_can_be_read() -> None:
    old = {"min_rate": 1e-6, "warm_up_epochs": 2, "warm_up_rate": 1e-7, "clipping": None, "repeats": 2}
    expected = Recipe(min_lr=1e-6, warmup_epochs=2, warmup_lr=1e-7, agc_clip=None, repeated_aug=2)
    assert Recipe(**rename_old_fields({**old, "epochs": 300})) == expected


def test_a_misspelt_field_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="'epoch'.*'epochs'"):
        CODE.replace(epoch=3)
