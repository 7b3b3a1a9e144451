"""Images to train and evaluate on, for boxes and for the class of each pixel: drawn ones, COCO's, or a folder of masks.

Paper: section 5.2 trains on COCO 2017 and on ADE20K. Drawn scenes are what a laptop can learn in minutes.
"""

from __future__ import annotations

from pathlib import Path

from efficientformer_edu import config_values as values
from efficientformer_edu.dense.coco import read_coco
from efficientformer_edu.dense.examples import Examples
from efficientformer_edu.dense.mask_folders import ADE20K, PLAIN, read_mask_folder
from efficientformer_edu.dense.shapes import Shapes
from efficientformer_edu.training.data import Split

SHAPES = "shapes"
SCENES = {"train": 2000, "test": 200}
COCO_SPLITS = {"train": "train", "test": "val"}


def load_examples(data: str | Path, split: Split, *, strict: bool = False, size: int = 96) -> Examples:
    """The images of one split.

    Args:
        data: `"shapes"`, scenes that are drawn when they are asked for; or a folder, with one of two contents. COCO's:
            `annotations/instances_train2017.json` with the images in `train2017`, and the same with `val2017`; other
            names may stand for the year. Or `images` beside `masks` or, as ADE20K has it, beside `annotations`.
        split: `"train"` or `"test"`.
        strict: refuse a folder with broken images or entries; otherwise they are left out and counted.
        size: height and width of drawn scenes in pixels. Photographs keep theirs.

    Raises:
        FileNotFoundError: if there are no such data, or not this split of them.
        ValueError: for another split or content; with `strict`, for what is broken.
    """
    if split not in SCENES:
        raise values.unknown(split, SCENES, "split")
    if data == SHAPES:
        return Shapes(SCENES[split], size, split)
    root = Path(data)
    if not root.is_dir():
        raise FileNotFoundError(f"{data} is no folder; use {SHAPES!r}, a folder as COCO's, or one of images and masks")
    if any((root / "annotations").glob("instances_*.json")):
        annotations = _instances(root, COCO_SPLITS[split])
        return read_coco(annotations, root / annotations.stem.removeprefix("instances_"), strict)
    if (root / "images").is_dir() and any((root / name).is_dir() for name in (PLAIN, ADE20K)):
        return read_mask_folder(root, split, strict)
    raise ValueError(
        f"{root} holds neither annotations/instances_train*.json, as COCO does, nor images/ with masks/ or, as ADE20K "
        f"does, with annotations/; the third that is possible is {SHAPES!r}, for drawn scenes"
    )


def _instances(root: Path, part: str) -> Path:
    """COCO's file of one split."""
    found = sorted((root / "annotations").glob(f"instances_{part}*.json"))
    if not found:
        raise FileNotFoundError(f"{root / 'annotations'} has no instances_{part}*.json")
    if len(found) > 1:
        raise ValueError(f"{root / 'annotations'} has several: {', '.join(path.name for path in found)}; leave one")
    return found[0]
