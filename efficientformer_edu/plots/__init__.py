"""Figures, and the palette that they share: one colour per component of the network.

The tones are based on Okabe and Ito's, which readers with any colour vision can distinguish. Each component has a pale
fill and a frame in the full tone; near-black text on the fill has a contrast of at least 9 to 1. Colour is never the
only cue: every component is labelled, too. This module needs the standard library only.
"""

from __future__ import annotations

from typing import NamedTuple


class Colour(NamedTuple):
    """Fill and frame of a component, as hexadecimal RGB."""

    fill: str
    line: str


INK = "#1A1A1A"  # text and arrows
FAINT = "#5F6368"  # remarks and shapes
FRAME_LINE = "#888888"  # visible on a light page and on a dark one
PAPER = "#FFFFFF"
GRID = "#E6E6E6"
QUERY = "#D55E00"  # what the reader should look at

PARTS = {
    "image": Colour("#EEEEEE", "#6E6E6E"),
    "stem": Colour("#FBF3B0", "#A08F00"),
    "embedding": Colour("#C5E8DC", "#009E73"),
    "MB4D": Colour("#CBE5F6", "#0072B2"),
    "MB3D": Colour("#F9DFA8", "#C47F00"),
    "head": Colour("#F0D3E2", "#B0508A"),
}
NECK = Colour("#DFDBF3", "#5546A6")  # only in networks for dense tasks
WARNING = Colour("#F8D3BC", QUERY)  # contradicted claims and worse variants
