"""What one place of a map can see of the photograph: the drawing of chapter 3's walk through the stages.

Takes the size of the gradient of one place with respect to each pixel, which the chapter computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from efficientformer_edu.figures.colours import PAPER, QUERY
from efficientformer_edu.figures.style import Drawing, array, bare, drawing

FAINTEST = 1e-3  # of the strongest pixel; what is fainter is hidden as much as what is zero


def draw_reach(image: Any, strengths: Sequence[Any]) -> Drawing:
    """For each stage, the photograph behind a veil that is thin where a pixel acts strongly on one place of the map.

    The veil is logarithmic, from the strongest pixel to a thousandth of it. A frame is drawn around all pixels that act
    at all.

    Args:
        image: (H, W, 3), uint8 or floats from 0 to 1, as the network saw it.
        strengths: one array (H, W) a stage, not negative and not all zero.

    Raises:
        ValueError: if a strength has another shape than the image.
    """
    photo = array(image)
    fields = [array(each) for each in strengths]
    for each in fields:
        if each.shape != photo.shape[:2]:
            raise ValueError(f"a strength has shape {each.shape}; allowed: {photo.shape[:2]}, as the image")
    with drawing(height=2.9) as figure:
        panels = figure.subplots(1, len(fields), squeeze=False)[0]
        for stage, (axes, each) in enumerate(zip(panels, fields, strict=True), start=1):
            bare(axes)
            axes.imshow(photo)
            axes.imshow(_veil(each))
            top, left, height, width = _frame(each)
            axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=QUERY, lw=2))
            axes.set_title(f"stage {stage}\n{height}×{width} pixels")
    return figure


def _veil(strength: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 4): paper, more opaque the less a pixel acts."""
    share = np.clip(strength / strength.max(), FAINTEST, 1.0)
    veil = np.empty((*strength.shape, 4))
    veil[..., :3] = to_rgb(PAPER)
    veil[..., 3] = 0.95 * np.log(share) / np.log(FAINTEST)
    return veil


def _frame(strength: NDArray[Any]) -> tuple[int, int, int, int]:
    """Top, left, height and width of the smallest rectangle around the pixels that are not zero."""
    rows, columns = (np.flatnonzero((strength > 0).any(axis=axis)) for axis in (1, 0))
    return rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
