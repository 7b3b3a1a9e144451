"""Places: where the maps of an anchor-free detector lie in the image, and the boxes that it predicts there.

Source: Ge et al., *YOLOX*, 2021, `decode_outputs` and `get_in_boxes_info`. Place (i, j) of a map is a square of the
image, as large as the map's stride s, with the corner (j·s, i·s) and the centre ((j + ½)·s, (i + ½)·s). YOLOX counts
the offsets of a box from the corner, and looks for objects around the centre.

Comes: what `AnchorFreeDecoupledHead` gives. Goes: the same for all maps in one row, with boxes in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Places(NamedTuple):
    """All places of an image: map by map, row by row.

    Attributes:
        centres: (x, y) in pixels.
        strides: pixels from a place to the next in its map.
    """

    centres: Float[Tensor, "places 2"]
    strides: Float[Tensor, " places"]


class PlacePredictions(NamedTuple):
    """What an anchor-free detector says of each place.

    Attributes:
        boxes: corners (x₁, y₁, x₂, y₂) in pixels.
        objectness: logits of there being an object.
        classes: logits.
        places: where they are.
    """

    boxes: Float[Tensor, "B places 4"]
    objectness: Float[Tensor, "B places"]
    classes: Float[Tensor, "B places num_classes"]
    places: Places


def places_at(grids: Sequence[tuple[int, int]], strides: Sequence[int], like: Tensor) -> Places:
    """The places of maps.

    Args:
        grids: height and width of each map.
        strides: pixels of the image between two places of each.
        like: gives the device, and the type where it is no shorter than float32.
    """
    centres, steps, dtype = [], [], torch.promote_types(like.dtype, torch.float32)
    for (height, width), stride in zip(grids, strides, strict=True):
        y = torch.arange(height, device=like.device, dtype=dtype).repeat_interleave(width)  # (places,)
        x = torch.arange(width, device=like.device, dtype=dtype).repeat(height)
        centres.append((torch.stack([x, y], dim=1) + 0.5) * stride)  # (places, 2)
        steps.append(torch.full_like(x, stride))
    return Places(torch.cat(centres), torch.cat(steps))


def predictions_at_places(maps: Sequence[Float[Tensor, "B _ _ _"]], strides: Sequence[int]) -> PlacePredictions:
    """The maps of the head, in one row and decoded, in float32 at least.

    For the four numbers (dx, dy, w, h) of place (i, j) in a map of stride s, the box has

        centre ((dx + j)·s, (dy + i)·s)   and   size (exp(w)·s, exp(h)·s).

    Args:
        maps: (B, 4 + 1 + num_classes, H_j, W_j) each, as the head gives them.
        strides: of the maps; the head has them.

    Raises:
        ValueError: if there are not as many strides as maps.
    """
    places = places_at([(x.shape[2], x.shape[3]) for x in maps], strides, maps[0])
    row = torch.cat([x.flatten(2) for x in maps], dim=2).mT.to(places.centres)  # (B, places, 4 + 1 + num_classes)
    stride = places.strides[:, None]  # (places, 1)
    centre = row[..., :2] * stride + (places.centres - stride / 2)  # (B, places, 2)
    half = row[..., 2:4].exp() * stride / 2
    boxes = torch.cat([centre - half, centre + half], dim=-1)  # (B, places, 4)
    return PlacePredictions(boxes, row[..., 4], row[..., 5:], places)
