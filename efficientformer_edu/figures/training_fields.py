"""Drawings of effective receptive fields: what one place of a map looks at.

Takes what `training.fields.receptive_field` returns. In the paper: section 4.1, the two token mixers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.colors import LogNorm

from efficientformer_edu.figures.colours import FRAME_LINE
from efficientformer_edu.figures.parts import shape_text
from efficientformer_edu.figures.style import Drawing, array, drawing
from efficientformer_edu.training.fields import half, reached

DECADES = 4  # of colour; what counts less than 1e-4 of the first pixel is drawn as if it had this much
IN_A_ROW = 5


def draw_receptive_fields(fields: Mapping[str, Any]) -> Drawing:
    """How much each pixel counts, beside the pixel that counts most: colours are logarithmic, white is exactly nothing.

    Below the name of each: which part of the pixels counts at all, and which smallest part makes up half of the field.

    Args:
        fields: (H, W) each, by the names that they shall bear.

    Raises:
        ValueError: without fields, or for one of another shape or without a pixel that counts.
    """
    if not fields:
        raise ValueError("no fields to draw; wanted: at least one")
    columns = min(IN_A_ROW, len(fields))
    rows = -(-len(fields) // columns)
    with drawing(height=0.4 + 2.15 * rows, width=1.0 + 1.8 * columns) as figure:
        panels = figure.subplots(rows, columns, squeeze=False)
        for axes in panels.flat[len(fields) :]:
            axes.set_visible(False)
        for axes, (name, field) in zip(panels.flat, fields.items(), strict=False):
            tensor = torch.as_tensor(array(field))
            if tensor.ndim != 2:
                raise ValueError(f"the field {name!r} has the shape {tuple(tensor.shape)}; wanted: (H, W)")
            words = f"{reached(tensor):.0%} of {shape_text(tensor.shape)} pixels,\nhalf of it on {half(tensor):.1%}"
            shown = array(tensor / tensor.max())
            shown = shown.clip(10.0**-DECADES) * (shown > 0)
            norm = LogNorm(10.0**-DECADES, 1)
            drawn = axes.imshow(shown, cmap="viridis", norm=norm)
            axes.set_title(f"{name}\n{words}", fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color(FRAME_LINE)
        figure.colorbar(drawn, ax=panels, label="beside the largest", shrink=0.8)
    return figure
