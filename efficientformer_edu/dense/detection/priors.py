"""Priors: the positions of feature maps in the image (anchor-free), and the anchors at these positions.

Sources: Ge et al., *YOLOX*, 2021, `decode_outputs`; Ren et al., *Faster R-CNN*, 2015, implemented like torchvision's
`AnchorGenerator`. Position (i, j) of a feature map with stride s covers an s×s square of the image with the corner
(j·s, i·s) and the centre ((j + ½)·s, (i + ½)·s). YOLOX measures box offsets from the corner, and searches for objects
around the centre; anchors are centred at the corner.

The distance between positions always equals the feature map's stride, so anchors adapt to the input size; NetsPresso
always uses the anchors of a 512×512 input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Sizes = tuple[tuple[float, ...], ...]


class Positions(NamedTuple):
    """All feature-map positions of an image: map by map, in row-major order.

    Attributes:
        centres: (x, y) in pixels.
        strides: distance in pixels between neighbouring positions of the feature map.
    """

    centres: Float[Tensor, "positions 2"]
    strides: Float[Tensor, " positions"]


class DecodedOutputs(NamedTuple):
    """Predictions of an anchor-free detector at each position.

    Attributes:
        boxes: corners (x₁, y₁, x₂, y₂) in pixels.
        objectness: logits of the presence of an object.
        classes: logits.
        positions: positions of the predictions.
    """

    boxes: Float[Tensor, "B positions 4"]
    objectness: Float[Tensor, "B positions"]
    classes: Float[Tensor, "B positions num_classes"]
    positions: Positions


def positions_at(grids: Sequence[tuple[int, int]], strides: Sequence[int], like: Tensor) -> Positions:
    """Compute the positions of feature maps.

    Args:
        grids: height and width of each feature map.
        strides: stride of each feature map in pixels of the image.
        like: provides the device, and the dtype if it is at least float32.
    """
    centres, strides_by_position, dtype = [], [], torch.promote_types(like.dtype, torch.float32)
    for grid, stride in zip(grids, strides, strict=True):
        x, y = _columns_and_rows(grid, like.device)
        centres.append((torch.stack([x, y], dim=1).to(dtype) + 0.5) * stride)  # (positions, 2)
        strides_by_position.append(torch.full_like(x, stride, dtype=dtype))
    return Positions(torch.cat(centres), torch.cat(strides_by_position))


def decode_outputs(maps: Sequence[Float[Tensor, "B _ _ _"]], strides: Sequence[int]) -> DecodedOutputs:
    """Concatenate and decode the feature maps of `AnchorFreeDecoupledHead`, in float32 at least.

    For the four values (dx, dy, w, h) of position (i, j) in a feature map of stride s, the box has

        centre ((dx + j)·s, (dy + i)·s)   and   size (exp(w)·s, exp(h)·s).

    Args:
        maps: (B, 4 + 1 + num_classes, H_j, W_j) each, as returned by the head.
        strides: strides of the feature maps, an attribute of the head.

    Raises:
        ValueError: if the numbers of strides and feature maps differ.
    """
    positions = positions_at([(x.shape[2], x.shape[3]) for x in maps], strides, maps[0])
    # (B, positions, 4 + 1 + num_classes)
    values = torch.cat([x.flatten(2) for x in maps], dim=2).mT.to(positions.centres)
    stride = positions.strides[:, None]  # (positions, 1)
    centre = values[..., :2] * stride + (positions.centres - stride / 2)  # (B, positions, 2)
    half = values[..., 2:4].exp() * stride / 2
    boxes = torch.cat([centre - half, centre + half], dim=-1)  # (B, positions, 4)
    return DecodedOutputs(boxes, values[..., 4], values[..., 5:], positions)


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Float[Tensor, "A 4"]:
    """The anchors of one position, centred at (0, 0): ordered by ratio, then by size.

    An anchor of size s and aspect ratio r = height / width is s/√r wide and s·√r high, rounded to even numbers of
    pixels.

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
    for grid, stride, map_sizes in zip(grids, strides, sizes, strict=True):
        x, y = _columns_and_rows(grid, like.device)
        corners = (torch.stack([x, y, x, y], dim=1) * stride).to(dtype)  # (positions, 4)
        anchors.append((corners[:, None] + cell_anchors(map_sizes, ratios).to(corners)).flatten(0, 1))
    return torch.cat(anchors)


def _columns_and_rows(grid: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Column and row of each position of a feature map, (positions,) each."""
    height, width = grid
    x, y = torch.arange(width, device=device), torch.arange(height, device=device)
    return x.repeat(height), y.repeat_interleave(width)
