"""One colour for each part of the network, the same in every drawing.

The tones are after Okabe and Ito's, which stay apart for readers with any colour vision. Each part is filled with a
pale tint of its tone, framed by the tone, and written on in near-black, so that text keeps a contrast of at least 9 to
1 whether the page around it is light or dark. Colour never stands alone: every part also bears its name.
"""

from __future__ import annotations

from typing import NamedTuple


class Colour(NamedTuple):
    """Fill and frame of a part, as hexadecimal RGB."""

    fill: str
    line: str


INK = "#1A1A1A"  # text and arrows
FAINT = "#5F6368"  # remarks and shapes
FRAME_LINE = "#888888"  # stands out against a light page and a dark one
PAPER = "#FFFFFF"
QUERY = "#D55E00"  # what the reader should look at

PARTS = {
    "image": Colour("#EEEEEE", "#6E6E6E"),
    "stem": Colour("#FBF3B0", "#A08F00"),
    "embedding": Colour("#C5E8DC", "#009E73"),
    "MB4D": Colour("#CBE5F6", "#0072B2"),
    "MB3D": Colour("#F9DFA8", "#C47F00"),
    "head": Colour("#F0D3E2", "#B0508A"),
}
NECK = Colour("#DFDBF3", "#5546A6")  # stands in networks for dense tasks only
