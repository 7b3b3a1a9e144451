"""Outlines of objects as COCO writes them: polygons, or run lengths.

Source: Lin et al., *Microsoft COCO*, 2014, and its tools, cocoapi's `maskApi.c`. A polygon is a list x₁, y₁, x₂, y₂, …
in pixels, and an object has one or several. Run lengths go down the columns, one column after the other: so many pixels
outside, so many inside, and so on; as a list of numbers, or packed into a text.

Comes: the field `segmentation` of an annotation. Goes: a mask (H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from pycocotools import mask as cocoapi
from torch import Tensor


def check(segmentation: Any, height: int, width: int) -> None:
    """Refuse what is no outline in an image of this height and width.

    Raises:
        ValueError: for a polygon of fewer than three points, of an odd number of coordinates, or with one that is no
            finite number or farther outside than the image is large; for run lengths that do not fill the image.
    """
    if isinstance(segmentation, dict):
        _runs_of(segmentation, height, width)
    elif isinstance(segmentation, list) and segmentation:
        for polygon in segmentation:
            _check_polygon(polygon, max(height, width))
    else:
        raise ValueError("its segmentation is neither a list of polygons nor run lengths with size and counts")


def mask(segmentation: Any, height: int, width: int) -> Bool[Tensor, "height width"]:
    """The pixels inside of an outline that `check` accepts."""
    if isinstance(segmentation, list):  # cocoapi alone decides which pixels at the border of a polygon belong to it
        segmentation = cocoapi.merge(cocoapi.frPyObjects(segmentation, height, width))
    lengths = _runs_of(segmentation, height, width)
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)  # (W·H,)
    return torch.from_numpy(inside).view(width, height).T.contiguous()


def unpacked(counts: str) -> list[int]:
    """Run lengths from the text into which cocoapi packs them.

    A character holds five bits of a number, the lowest first, from "0" on; its sixth bit says that more follow. The
    fifth bit of the last one is the sign. From the fourth number on each is the difference to the one before the last.

    Raises:
        ValueError: if the text ends within a number, or a character stands for no six bits.
    """
    lengths: list[int] = []
    number = bits = 0
    for character in counts:
        code = ord(character) - ord("0")
        if not 0 <= code < 64:
            raise ValueError(f"its run lengths hold {character!r}")
        number |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            number -= 1 << bits
        lengths.append(number + lengths[-2] if len(lengths) > 2 else number)
        number = bits = 0
    if bits:
        raise ValueError("its run lengths end within a number")
    return lengths


def _runs_of(encoded: dict[str, Any], height: int, width: int) -> Sequence[int]:
    """Run lengths that fill the image, or ValueError."""
    if encoded.get("size") != [height, width]:
        raise ValueError(f"its run lengths are for the size {encoded.get('size')}, its image has [{height}, {width}]")
    counts = encoded.get("counts")
    if isinstance(counts, bytes):  # what cocoapi gives
        counts = counts.decode("ascii")
    lengths = unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(lengths, list) or not all(type(length) is int and length >= 0 for length in lengths):
        raise ValueError("its run lengths are no list of whole numbers, at least 0, and no text of them")
    if sum(lengths) != height * width:
        raise ValueError(f"its run lengths add up to {sum(lengths):,} pixels, its image has {height * width:,}")
    return lengths


def _check_polygon(polygon: Any, limit: int) -> None:
    if not isinstance(polygon, list) or len(polygon) % 2 or len(polygon) < 6:
        had = f"{len(polygon)} numbers" if isinstance(polygon, list) else repr(polygon)
        raise ValueError(f"a polygon has {had}; it needs x and y of three points at least")
    # cocoapi walks along every edge, however far it leads. A number that is not finite is in no range.
    if not all(type(number) in (int, float) and -limit <= number <= 2 * limit for number in polygon):
        raise ValueError("a polygon has coordinates that are no finite numbers, or far out of the image")
