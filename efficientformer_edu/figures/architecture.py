"""The whole network in one picture, in the manner of the paper's Fig. 3.

Above: the map that each stage works on, to scale, and its embedding and blocks as cards, one for each block. Below: the
operations of the stem, an embedding, an MB4D, an MB3D and the head. Everything is read off the analytic ledger.
"""

from __future__ import annotations

from matplotlib.axes import Axes

from efficientformer_edu.audit import count
from efficientformer_edu.config import EfficientFormerConfig, Resolution
from efficientformer_edu.figures import chains
from efficientformer_edu.figures.colours import PARTS
from efficientformer_edu.figures.overview import HEIGHT, MARGIN, RIGHT, SPACE, draw_overview
from efficientformer_edu.figures.parts import Part, parts
from efficientformer_edu.figures.shapes import UNITS, canvas, panel
from efficientformer_edu.figures.style import Drawing, drawing

REMARKS = {"MB4D": "Eq. 4, here in {}", "MB3D": "Eq. 5 and 6, here in {}"}


def draw_architecture(model: str | EfficientFormerConfig, resolution: Resolution = 224) -> Drawing:
    """A network's stages, blocks and operations with the shapes of its tensors; `parts.alt_text` says it in words.

    Args:
        model: a configuration, or the name of a published network such as `"l1"`.
        resolution: height and width of the image in pixels, or one number for both.

    Raises:
        ValueError: for an unknown name, or a resolution below 32 pixels.
    """
    costs = count(model, resolution)
    rows = _detail_rows(parts(costs))
    heights = [6.6 + max(chains.height(part.operations) for part in row) for row in rows]
    with drawing((HEIGHT + sum(heights) + SPACE * len(rows) + MARGIN) / UNITS) as figure:
        axes = canvas(figure)
        y = MARGIN
        for row, height in reversed(list(zip(rows, heights, strict=True))):
            _draw_details(axes, y, height, row, costs.config)
            y += height + SPACE
        draw_overview(axes, y, costs)
    return figure


def _detail_rows(found: list[Part]) -> list[list[Part]]:
    """The parts whose operations are shown: the first of each kind, in two rows."""
    first = {part.kind: part for part in reversed(found)}
    rows = (("stem", "embedding", "MB4D"), ("MB3D", "head"))
    return [[first[kind] for kind in row if kind in first] for row in rows]


def _draw_details(axes: Axes, y: float, height: float, row: list[Part], config: EfficientFormerConfig) -> None:
    """One row of panels; the arrows take the length that makes the row fill the drawing."""
    free = RIGHT - MARGIN - SPACE * (len(row) - 1)
    least = [chains.width(part.first, config, 0) for part in row]
    gaps = sum(chains.width(part.first, config, 1) - wide for part, wide in zip(row, least, strict=True))
    gap = min((free - sum(least)) / gaps, 4.0)
    x = MARGIN
    for part in row:
        wide = chains.width(part.first, config, gap)
        panel(axes, x, y, wide, height, part.kind, REMARKS.get(part.kind, "").format(part.stage))
        chains.draw_chain(axes, (x, y + (height - 1.0) / 2), part.first, config, gap, PARTS[part.kind])
        x += wide + SPACE
