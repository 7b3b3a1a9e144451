"""Table 2: rows of cells and settings, and that each computed verdict can fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from dense_runs import run

from efficientformer_edu import paper
from efficientformer_edu.cli import dense
from efficientformer_edu.config import PRESETS
from efficientformer_edu.data.letterbox import LetterboxParams
from efficientformer_edu.dense.necks import FPN, FPNConfig
from efficientformer_edu.dense.network import HEADS
from efficientformer_edu.dense.recipe import ADE20K, COCO, DenseRecipe
from efficientformer_edu.dense.trainer import DenseTrainer
from efficientformer_edu.paper.report import rows, table2

ROWS = {row.item.removeprefix("set-up, "): row for row in rows() if row.where == "Table 2"}
PYRAMID = "As NetsPresso has it, the pyramid before a detector is as wide as the backbone's last map. "
EPOCHS = "A run here has whole epochs, of 631 iterations on 20,210 images. This number of them comes nearest."


@pytest.mark.parametrize(
    ("name", "status", "ours", "why"),
    [
        ("COCO: training", "exact", "12 epochs", ""),
        ("COCO: optimiser", "exact", "AdamW, learning rate 2e-4, weight decay 1e-4", ""),
        ("COCO: FPN width", "disagrees", "448 channels for L1", f"{PYRAMID}FPNConfig(out_channels=256) makes the"),
        ("COCO: batch", "exact", "16 images over all processes", ""),
        ("ADE20K: training", "disagrees", "39,753 iterations, 63 epochs", EPOCHS),
        ("ADE20K: batch", "exact", "32 images", ""),
        (
            "ADE20K: optimiser",
            "exact",
            "AdamW, learning rate 2e-4, weight decay 1e-4, polynomial schedule of power 0.9",
            "",
        ),
        ("ADE20K: crop", "exact", "512×512 pixels of an image whose longer side was resized to 256 to 1,024", ""),
    ],
)
def test_a_setting(name: str, status: str, ours: str, why: str) -> None:
    row = ROWS[name]
    assert (row.status, row.kind, row.chapter) == (status, "computed", 9)
    assert row.result.startswith(ours) and row.why.startswith(why)
    assert bool(row.why) == (status == "disagrees")
    assert row.command == f'report.table2.check("{name}")'


def test_every_setting_is_checked_or_states_its_requirements() -> None:
    settings = {setting.name for setting in paper.settings("table2")}
    assert settings == {*table2.CHECKS, *table2.OPEN} and not set(table2.CHECKS) & set(table2.OPEN)
    for name in table2.OPEN:
        assert (ROWS[name].status, ROWS[name].why) == ("not reproducible here", table2.OPEN[name])


def test_a_cell_states_its_requirements() -> None:
    cells = [row for row in ROWS.values() if isinstance(row.record, paper.Reported)]
    assert len(cells) == 2 * 7 + 1
    for row in cells:
        assert row.status == "not reproducible here" and row.why.startswith("Needs a backbone trained on ImageNet, ")
        assert ("COCO" in row.why, "ADE20K" in row.why) == ("AP" in row.item, "mean IoU" in row.item)
    assert not [row for row in ROWS.values() if row.status == "not yet"]


@pytest.mark.parametrize(
    ("which", "fields", "name"),
    [
        ("COCO", {"epochs": 36}, "COCO: training"),
        ("COCO", {"batch": 8}, "COCO: batch"),
        ("ADE20K", {"batch": 16}, "ADE20K: batch"),
        ("ADE20K", {"scale": (1, 1), "batch": 16}, "ADE20K: batch"),
    ],
)
def test_another_recipe_disagrees(
    monkeypatch: pytest.MonkeyPatch, which: str, fields: dict[str, Any], name: str
) -> None:
    monkeypatch.setattr(table2, which, getattr(table2, which).replace(**fields))
    verdict = table2.check(name)
    assert (verdict.status, verdict.why) == ("disagrees", "The recipe here has another value.")


@pytest.mark.parametrize("preset", [COCO, ADE20K])
@pytest.mark.parametrize("fields", [{"learning_rate": 2.04e-4}, {"weight_decay": 1.001e-4}, {"weight_decay": 0.05}])
def test_another_optimiser_disagrees(preset: DenseRecipe, fields: dict[str, Any]) -> None:
    name = "COCO: optimiser" if preset is COCO else "ADE20K: optimiser"
    stated = next(setting.paper for setting in paper.settings("table2") if setting.name == name)
    assert isinstance(stated, paper.Statement)
    assert table2.optimiser(preset, stated).status == "exact"
    assert table2.optimiser(preset.replace(**fields), stated).status == "disagrees"


def test_a_schedule_is_named_after_its_learning_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    from efficientformer_edu.dense import recipe

    assert table2.schedule(COCO) == "step schedule"
    monkeypatch.setattr(recipe, "POWER", 0.91)
    assert table2.schedule(ADE20K) == "polynomial schedule of power 0.91"
    assert table2.schedule(ADE20K.replace(schedule="cosine")) == "cosine schedule"


def test_the_optimiser_is_the_named_optimiser() -> None:
    optimizer = DenseTrainer(run(recipe=ADE20K.replace(batch=4))).optimizer.optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    decays = {group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {0.0, ADE20K.weight_decay}


@pytest.mark.parametrize(("epochs", "nearest"), [(62, False), (63, True), (64, False)])
def test_full_epochs_are_reported_as_nearest_only_if_they_are(
    monkeypatch: pytest.MonkeyPatch, epochs: int, nearest: bool
) -> None:
    monkeypatch.setattr(table2, "ADE20K", ADE20K.replace(epochs=epochs))
    assert ("This number of them comes nearest." in table2.check("ADE20K: training").why) == nearest
    monkeypatch.setattr(table2, "ADE20K", ADE20K.replace(epochs=64))
    monkeypatch.setattr(table2, "ADE20K_IMAGES", 20_000)
    assert table2.check("ADE20K: training").status == "exact"


def test_another_crop_disagrees_and_the_command_uses_the_stated_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    crop = next(setting.paper for setting in paper.settings("table2") if setting.name == "ADE20K: crop")
    assert isinstance(crop, paper.Reported) and crop.value == dense.PHOTO_SIZE
    monkeypatch.setattr(LetterboxParams, "_on_square", lambda self, pixels, fill: pixels)
    assert table2.check("ADE20K: crop").status == "disagrees"


def test_the_pyramid_has_its_documented_width(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = HEADS["anchor_decoupled_head"]
    neck, head = entry.default
    assert isinstance(neck, FPNConfig)
    widths = set(FPN(PRESETS["l1"].embed_dims, (4, 8, 16, 32), neck).out_dims)
    assert table2.check("COCO: FPN width").result == f"{widths.pop()} channels for L1" and not widths
    wide = replace(entry, default=(FPNConfig(out_channels=256), head))
    monkeypatch.setattr(table2, "HEADS", {"anchor_decoupled_head": wide})
    assert table2.check("COCO: FPN width").status == "exact"
