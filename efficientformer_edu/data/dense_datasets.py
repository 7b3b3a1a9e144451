"""Load annotated images for training and evaluation: synthetic scenes, COCO's format, or mask folders.

Paper: section 5.2 trains on COCO 2017 and on ADE20K. Synthetic scenes can be learned on a laptop in minutes.
"""

from __future__ import annotations

from pathlib import Path

from efficientformer_edu import _validation as values
from efficientformer_edu.data.examples import Examples
from efficientformer_edu.data.folders import Split
from efficientformer_edu.data.mask_folders import ADE20K, PLAIN, read_mask_folder
from efficientformer_edu.data.shapes import Shapes

SHAPES = "shapes"
SCENES = {"train": 2000, "test": 200}
COCO_SPLITS = {"train": "train", "test": "val"}


def load_examples(data: str | Path, split: Split, *, strict: bool = False, size: int = 96) -> Examples:
    """Load the images of one split.

    Args:
        data: `"shapes"`, scenes that are drawn when they are indexed; or a folder in one of two layouts. COCO's:
            `annotations/instances_train2017.json` with the images in `train2017`, and the same with `val2017`; the year
            may differ or be missing. Or `images` next to `masks` or, as in ADE20K, next to `annotations`.
        split: `"train"` or `"test"`.
        strict: reject images and entries that cannot be used; by default they are left out, with a warning.
        size: height and width of synthetic scenes in pixels. Images from files keep their size.

    Raises:
        FileNotFoundError: if the data or this split of it does not exist.
        ImportError: if pycocotools, which COCO's layout requires, is missing.
        ValueError: for an unknown split or layout, and as `read_coco` and `read_mask_folder`.
    """
    if split not in SCENES:
        raise values.unknown_name(split, SCENES, "split")
    if data == SHAPES:
        return Shapes(SCENES[split], size, split)
    root = Path(data)
    if not root.is_dir():
        raise FileNotFoundError(f"{data} is no folder; use {SHAPES!r}, a folder as COCO's, or one of images and masks")
    if any((root / "annotations").glob("instances_*.json")):
        from efficientformer_edu.data.coco import read_coco  # only this layout needs pycocotools

        annotations = _instances(root, COCO_SPLITS[split])
        return read_coco(annotations, root / annotations.stem.removeprefix("instances_"), strict)
    if (root / "images").is_dir() and any((root / name).is_dir() for name in (PLAIN, ADE20K)):
        return read_mask_folder(root, split, strict)
    raise ValueError(
        f"{root} holds neither annotations/instances_train*.json, as COCO does, nor images/ with masks/ or, as ADE20K "
        f"does, with annotations/; the third that is possible is {SHAPES!r}, for drawn scenes"
    )


def _instances(root: Path, split_name: str) -> Path:
    """COCO's annotation file of one split."""
    paths = sorted((root / "annotations").glob(f"instances_{split_name}*.json"))
    if not paths:
        raise FileNotFoundError(f"{root / 'annotations'} has no instances_{split_name}*.json")
    if len(paths) > 1:
        raise ValueError(f"{root / 'annotations'} has several: {', '.join(path.name for path in paths)}; leave one")
    return paths[0]
