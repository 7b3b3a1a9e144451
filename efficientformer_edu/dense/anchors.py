"""Anchors: reference boxes of several sizes and aspect ratios at every position of every feature map.

Source: Ren et al., *Faster R-CNN*, 2015; implemented like torchvision's `AnchorGenerator`: an anchor of size s and
aspect ratio r = height / width is s/√r wide and s·√r high, rounded to even numbers of pixels, and centred at the corner
of its position. Here the distance between positions always equals the feature map's stride, so anchors adapt to the
input size; NetsPresso always uses the anchors of a 512×512 input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Sizes = tuple[tuple[float, ...], ...]


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Float[Tensor, "A 4"]:
    """The anchors of one position, centred at (0, 0): ordered by ratio, then by size.

    Returns:
        Corners (x₁, y₁, x₂, y₂) in pixels.
    """
    root = torch.tensor(ratios).sqrt()[:, None]  # (ratios, 1)
    widths, heights = (torch.tensor(sizes) / root).flatten(), (torch.tensor(sizes) * root).flatten()
    return (torch.stack([-widths, -heights, widths, heights], dim=1) / 2).round()


def anchors_at(
    grids: Sequence[tuple[int, int]], strides: Sequence[int], sizes: Sizes, ratios: Sequence[float], like: Tensor
) -> Float[Tensor, "anchors 4"]:
    """All anchors of an image: ordered by feature map, row, column, and within a position as in `cell_anchors`.

    Args:
        grids: height and width of each feature map.
        strides: stride of each feature map in pixels of the image.
        sizes: anchor sizes in pixels for each feature map.
        ratios: aspect ratios (height / width), for all feature maps.
        like: provides the device, and the dtype if it is at least float32: half precision cannot represent coordinates
            of single pixels far from the corner.

    Returns:
        Corners (x₁, y₁, x₂, y₂) in pixels; anchors at the border may extend beyond the image.
    """
    anchors, dtype = [], torch.promote_types(like.dtype, torch.float32)
    for (height, width), stride, map_sizes in zip(grids, strides, sizes, strict=True):
        y = torch.arange(height, device=like.device).repeat_interleave(width) * stride  # (positions,)
        x = torch.arange(width, device=like.device).repeat(height) * stride
        corners = torch.stack([x, y, x, y], dim=1).to(dtype)  # (positions, 4)
        anchors.append((corners[:, None] + cell_anchors(map_sizes, ratios).to(corners)).flatten(0, 1))
    return torch.cat(anchors)
