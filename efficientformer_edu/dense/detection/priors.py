"""Positions of an anchor-free detector's feature maps in the image, and the boxes predicted there.

Source: Ge et al., *YOLOX*, 2021, `decode_outputs` and `get_in_boxes_info`. Position (i, j) of a feature map with stride
s covers an s×s square of the image with the corner (j·s, i·s) and the centre ((j + ½)·s, (i + ½)·s). YOLOX measures box
offsets from the corner, and searches for objects around the centre.

Input: the output of `AnchorFreeDecoupledHead`. Output: all feature maps concatenated, with boxes in pixels.

Anchors: reference boxes of several sizes and aspect ratios at every position of every feature map.

Source: Ren et al., *Faster R-CNN*, 2015; implemented like torchvision's `AnchorGenerator`: an anchor of size s and
aspect ratio r = height / width is s/√r wide and s·√r high, rounded to even numbers of pixels, and centred at the corner
of its position. Here the distance between positions always equals the feature map's stride, so anchors adapt to the
input size; NetsPresso always uses the anchors of a 512×512 input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Places(NamedTuple):
    """All feature-map positions of an image: map by map, in row-major order.

    Attributes:
        centres: (x, y) in pixels.
        strides: distance in pixels between neighbouring positions of the feature map.
    """

    centres: Float[Tensor, "places 2"]
    strides: Float[Tensor, " places"]


class PlacePredictions(NamedTuple):
    """Predictions of an anchor-free detector at each position.

    Attributes:
        boxes: corners (x₁, y₁, x₂, y₂) in pixels.
        objectness: logits of the presence of an object.
        classes: logits.
        places: positions of the predictions.
    """

    boxes: Float[Tensor, "B places 4"]
    objectness: Float[Tensor, "B places"]
    classes: Float[Tensor, "B places num_classes"]
    places: Places


def places_at(grids: Sequence[tuple[int, int]], strides: Sequence[int], like: Tensor) -> Places:
    """Compute the positions of feature maps.

    Args:
        grids: height and width of each feature map.
        strides: stride of each feature map in pixels of the image.
        like: provides the device, and the dtype if it is at least float32.
    """
    centres, strides_by_position, dtype = [], [], torch.promote_types(like.dtype, torch.float32)
    for (height, width), stride in zip(grids, strides, strict=True):
        y = torch.arange(height, device=like.device, dtype=dtype).repeat_interleave(width)  # (positions,)
        x = torch.arange(width, device=like.device, dtype=dtype).repeat(height)
        centres.append((torch.stack([x, y], dim=1) + 0.5) * stride)  # (positions, 2)
        strides_by_position.append(torch.full_like(x, stride))
    return Places(torch.cat(centres), torch.cat(strides_by_position))


def predictions_at_places(maps: Sequence[Float[Tensor, "B _ _ _"]], strides: Sequence[int]) -> PlacePredictions:
    """Concatenate and decode the feature maps of the head, in float32 at least.

    For the four values (dx, dy, w, h) of position (i, j) in a feature map of stride s, the box has

        centre ((dx + j)·s, (dy + i)·s)   and   size (exp(w)·s, exp(h)·s).

    Args:
        maps: (B, 4 + 1 + num_classes, H_j, W_j) each, as returned by the head.
        strides: strides of the feature maps, an attribute of the head.

    Raises:
        ValueError: if the numbers of strides and feature maps differ.
    """
    positions = places_at([(x.shape[2], x.shape[3]) for x in maps], strides, maps[0])
    # (B, positions, 4 + 1 + num_classes)
    values = torch.cat([x.flatten(2) for x in maps], dim=2).mT.to(positions.centres)
    stride = positions.strides[:, None]  # (positions, 1)
    centre = values[..., :2] * stride + (positions.centres - stride / 2)  # (B, positions, 2)
    half = values[..., 2:4].exp() * stride / 2
    boxes = torch.cat([centre - half, centre + half], dim=-1)  # (B, positions, 4)
    return PlacePredictions(boxes, values[..., 4], values[..., 5:], positions)


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
