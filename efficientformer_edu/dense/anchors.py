"""Anchors: boxes of some sizes and shapes at every place of every map, which a detector moves and stretches.

Source: Ren et al., *Faster R-CNN*, 2015; built as torchvision's `AnchorGenerator`: an anchor of size s and aspect ratio
r = height / width is s/√r wide and s·√r high, rounded to even numbers of pixels, and stands at the corner of its place.
Here a place is always as large as its map's stride, so anchors follow the input's size; NetsPresso's are those of
512×512 whatever comes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Sizes = tuple[tuple[float, ...], ...]


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Float[Tensor, "A 4"]:
    """The anchors of one place around (0, 0): ratio by ratio, and within a ratio size by size.

    Returns:
        Corners (x₁, y₁, x₂, y₂) in pixels.
    """
    root = torch.tensor(ratios).sqrt()[:, None]  # (ratios, 1)
    widths, heights = (torch.tensor(sizes) / root).flatten(), (torch.tensor(sizes) * root).flatten()
    return (torch.stack([-widths, -heights, widths, heights], dim=1) / 2).round()


def anchors_at(
    grids: Sequence[tuple[int, int]], strides: Sequence[int], sizes: Sizes, ratios: Sequence[float], like: Tensor
) -> Float[Tensor, "anchors 4"]:
    """All anchors of an image: map by map, row by row, place by place, and within a place as `cell_anchors`.

    Args:
        grids: height and width of each map.
        strides: pixels of the image between two places of each.
        sizes: of the anchors, some for each map, in pixels.
        ratios: of their heights over their widths, for all maps.
        like: gives the device, and the type where it is no shorter than float32: half precision cannot tell one pixel
            from the next far from the corner.

    Returns:
        Corners (x₁, y₁, x₂, y₂) in pixels; at the border they stand out of the image.
    """
    found, dtype = [], torch.promote_types(like.dtype, torch.float32)
    for (height, width), stride, some in zip(grids, strides, sizes, strict=True):
        y = torch.arange(height, device=like.device).repeat_interleave(width) * stride  # (places,)
        x = torch.arange(width, device=like.device).repeat(height) * stride
        corners = torch.stack([x, y, x, y], dim=1).to(dtype)  # (places, 4)
        found.append((corners[:, None] + cell_anchors(some, ratios).to(corners)).flatten(0, 1))
    return torch.cat(found)
