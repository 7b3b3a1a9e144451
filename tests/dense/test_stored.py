"""The records of the study on synthetic scenes: complete, of the current recipe, and unchanged when read."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from efficientformer_edu.data.shapes import Shapes
from efficientformer_edu.dense.network import DEFAULT_HEADS
from efficientformer_edu.dense.recipe import SHAPES
from efficientformer_edu.dense.stored import measured, stored_study, study_table
from efficientformer_edu.training.recipe import rename_old_fields
from tools import dense_study

STUDY = stored_study()


def test_every_network_of_the_study_has_its_record() -> None:
    assert set(STUDY) == {*dense_study.FIRST, *dense_study.THEN}
    for records in STUDY.values():
        assert [record.seed for record in records] == list(range(dense_study.SEEDS))


@pytest.mark.parametrize("variant", STUDY)
def test_the_records_are_of_the_recipe_and_the_scenes_as_they_are_now(variant: str) -> None:
    train = Shapes(dense_study.SCENES, dense_study.SIZE, "train")
    for record in STUDY[variant]:
        run = record.run
        assert rename_old_fields(run["recipe"]) == {**asdict(SHAPES), "scale": list(SHAPES.scale)}
        assert (run["train"], run["size"]) == (train.description, dense_study.SIZE)
        assert run["config"]["norms"] is ("without norms" not in variant)
        assert run["task"] == variant.split()[0]
        assert run["config"]["head"]["name"] == dense_study.OTHER_HEADS.get(variant, DEFAULT_HEADS[run["task"]])
        started_from = run.get("init_from", run.get("backbone"))  # the current and the earlier name of the field
        assert bool(started_from) == (variant in dense_study.THEN)
        assert len(record.log) == SHAPES.epochs
        assert measured(record) == record.log[-1]["ap50" if run["task"] == "detection" else "miou"]


def test_the_table_has_every_seed_and_the_mean(tmp_path: Path) -> None:
    for seed, result in enumerate(({"ap": 0.25, "ap50": 0.5}, {"ap": 0.5, "ap50": 0.75})):
        record = {"variant": "detection", "result": result, "run": {"seed": seed}}
        (tmp_path / f"detection_seed{seed}.json").write_text(json.dumps(record), encoding="utf-8")
    table = study_table(stored_study(tmp_path))
    assert table.columns == ("network", "metric", "seed 0", "seed 1", "mean")
    assert table.rows == (("detection", "AP50", 0.5, 0.75, 0.625),)


def test_what_is_no_record_is_named(tmp_path: Path) -> None:
    assert stored_study(tmp_path / "nowhere") == {}
    (tmp_path / "detection_seed0.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"detection_seed0\.json"):
        stored_study(tmp_path)
