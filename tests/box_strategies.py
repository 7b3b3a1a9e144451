"""Random boxes on a small integer pixel grid, where every area can be counted; some are empty."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

SIDE = 12  # pixels of the grid, along each side


@st.composite
def boxes(draw: st.DrawFn, least: int = 0, most: int = 8) -> Tensor:
    """Boxes (n, 4) in float32, `least` to `most` of them."""
    ends = st.tuples(st.integers(0, SIDE), st.integers(0, SIDE)).map(sorted)
    ranges = draw(st.lists(st.tuples(ends, ends), min_size=least, max_size=most))
    corners = [[left, top, right, bottom] for (left, right), (top, bottom) in ranges]
    return torch.tensor(corners, dtype=torch.float32).view(-1, 4)


def pixels(box: list[float]) -> set[tuple[int, int]]:
    """The pixels that a box with integer corners covers."""
    left, top, right, bottom = map(int, box)
    return {(x, y) for x in range(left, right) for y in range(top, bottom)}


def counted_iou(a: list[float], b: list[float]) -> float:
    """Intersection over union by counting pixels."""
    either = pixels(a) | pixels(b)
    return len(pixels(a) & pixels(b)) / len(either) if either else 0.0
