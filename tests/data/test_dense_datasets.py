"""Data sets by name or by the content of a folder; and the shapes in the signatures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dense_folders import annotation, coco_content, write_coco, write_masks

from efficientformer_edu.data.coco import Coco
from efficientformer_edu.data.dense_datasets import SCENES, load_examples
from efficientformer_edu.data.mask_folders import MaskFolder
from efficientformer_edu.data.shapes import Shapes


@pytest.mark.parametrize("split", ["train", "test"])
def test_synthetic_scenes(split):
    scenes = load_examples("shapes", split)
    assert isinstance(scenes, Shapes)
    assert (len(scenes), scenes.split) == (SCENES[split], split)
    assert scenes[0].image.shape == (3, 96, 96)
    assert load_examples("shapes", split, size=48)[0].image.shape == (3, 48, 48)


def test_the_layout_of_coco(tmp_path):
    write_coco(tmp_path, coco_content(annotation()))
    write_coco(tmp_path, coco_content(annotation(), annotation(image=5)), "val2017")
    train, test = (load_examples(tmp_path, split) for split in ("train", "test"))
    assert isinstance(train, Coco)
    assert [len(train[1].labels), len(test[1].labels)] == [0, 1]


def test_coco_of_another_year(tmp_path):
    write_coco(tmp_path, coco_content(annotation()), "train")
    assert len(load_examples(str(tmp_path), "train")) == 2


def test_a_split_of_coco_that_is_not_there(tmp_path):
    write_coco(tmp_path, coco_content(annotation()))
    with pytest.raises(FileNotFoundError, match=r"annotations has no instances_val\*.json"):
        load_examples(tmp_path, "test")


def test_which_year_of_coco(tmp_path):
    for part in ("train2014", "train2017"):
        write_coco(tmp_path, coco_content(), part)
    with pytest.raises(ValueError, match="several: instances_train2014.json, instances_train2017.json; leave one"):
        load_examples(tmp_path, "train")


@pytest.mark.parametrize("masks", ["masks", "annotations"])
def test_masks(tmp_path, masks):
    assert isinstance(load_examples(write_masks(tmp_path, masks), "train"), MaskFolder)


def test_strict_is_passed_on(tmp_path):
    write_coco(tmp_path / "coco", coco_content(annotation(), annotation(category=3)))
    write_masks(tmp_path / "masks")
    (tmp_path / "masks/masks/train/a.png").unlink()
    for folder in ("coco", "masks"):
        with pytest.warns(UserWarning, match="left out"):
            assert load_examples(tmp_path / folder, "train").skipped == 1
        with pytest.raises((ValueError, FileNotFoundError)):
            load_examples(tmp_path / folder, "train", strict=True)


def test_what_is_no_data(tmp_path):
    with pytest.raises(FileNotFoundError, match="square is no folder; use 'shapes', a folder as COCO's, or one of"):
        load_examples("square", "train")
    with pytest.raises(ValueError, match=r"neither annotations/instances_train\*.json.* nor images/ .* is 'shapes'"):
        load_examples(tmp_path, "train")
    with pytest.raises(ValueError, match="'val'.*train, test"):
        load_examples("shapes", "val")


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from jaxtyping import install_import_hook, TypeCheckError

MODULES = ("coco", "data", "examples", "mask_folders", "shapes", "views")
with install_import_hook([f"efficientformer_edu.dense.{name}" for name in MODULES], "beartype.beartype"):
    from efficientformer_edu.data.dense_datasets import load_examples
    from efficientformer_edu.data.letterbox import View

import torch
import dense_folders as small

root = Path(sys.argv[2])
small.write_coco(root / "coco", small.coco_content(small.annotation(iscrowd=1), small.annotation(segmentation=[])))
small.write_masks(root / "masks")
for data in ("shapes", root / "coco", root / "masks"):
    example = load_examples(data, "train")[0]
    for generator in (None, torch.Generator().manual_seed(0)):
        image, target, placement = View(40, (0.5, 2.0), True)(example, generator)
        placement.semantic_back(target.semantic)
        placement.boxes_back(target.boxes)
try:
    placement.boxes_back(torch.zeros(3, 5))
except TypeCheckError:
    print("refused")
"""


def test_every_signature_holds(tmp_path):
    command = [sys.executable, "-B", "-W", "ignore", "-c", PROGRAM, str(Path(__file__).parents[1]), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    assert run.stdout.split() == ["refused"]
