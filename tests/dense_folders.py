"""Small data sets on disk, in COCO's format and as images with masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 20, 30


def put(path: Path, pixels: Any = None, **options: Any) -> Path:
    """An image file; without pixels, a small random image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:
        pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
    return path


def square(left: float, top: float, right: float, bottom: float) -> list[float]:
    """A rectangle as a polygon."""
    return [left, top, right, top, right, bottom, left, bottom]


def annotation(image: int = 1, category: int = 7, **fields: Any) -> dict[str, Any]:
    """An object of 10×8 pixels at (4, 2)."""
    return {
        "image_id": image,
        "category_id": category,
        "bbox": [4, 2, 10, 8],
        "segmentation": [square(4, 2, 14, 10)],
        "iscrowd": 0,
        **fields,
    }


def coco_content(*annotations: dict[str, Any]) -> dict[str, list[Any]]:
    """Two images, and two classes whose ids have gaps and are out of order."""
    return {
        "images": [
            {"id": 1, "file_name": "one.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 5, "file_name": "two.png", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": 90, "name": "dog"}, {"id": 7, "name": "cat"}],
        "annotations": list(annotations),
    }


def write_coco(root: Path, content: Any, part: str = "train2017") -> tuple[Path, Path]:
    """A data set in COCO's layout with both image files: the JSON file and the folder of the images."""
    put(root / part / "one.jpg")
    put(root / part / "two.png")
    path = root / "annotations" / f"instances_{part}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path, root / part


def write_masks(root: Path, masks: str = "masks", splits: tuple[str, str] = ("train", "val")) -> Path:
    """Two images for training, one for testing. Masks are 0 left, 2 right, and 1 and 255 in the last rows."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[:, WIDTH // 2 :] = 2
    ids[-2], ids[-1] = 1, 255
    for split, names in zip(splits, (("a", "deeper/b"), ("c",)), strict=True):
        for name in names:
            put(root / "images" / split / f"{name}.jpg")
            put(root / masks / split / f"{name}.png", ids)
    return root
