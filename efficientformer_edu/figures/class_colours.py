"""One colour for each class of objects, the same in every drawing, and apart for readers with any colour vision.

The tones are six of Okabe and Ito's; the seventh, `colours.QUERY`, marks what is wrong and belongs to no class. After
six classes they come again paler, after twelve darker, and after eighteen from the start: no more can be told apart.
So colour never stands alone: boxes and areas bear their names.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_hex, to_rgb

from efficientformer_edu.dense.examples import BACKGROUND
from efficientformer_edu.figures.colours import INK, PAPER

TONES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442")
SHADES = ((PAPER, 0.0), (PAPER, 0.5), (INK, 0.45))  # what is mixed into the tones, and how much of it


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """The colour of each class, as hexadecimal RGB; the background has none.

    An object has the same colour whether `classes` are those of boxes or those of pixels, which may start with the
    background.
    """
    return {name: _colour(place) for place, name in enumerate(name for name in classes if name != BACKGROUND)}


def ink_on(colour: str) -> str:
    """Near-black or white, whichever has more contrast on the colour."""
    return max((INK, PAPER), key=lambda ink: contrast(ink, colour))


def contrast(one: str, other: str) -> float:
    """Of two colours, by WCAG 2.2: from 1 to 21."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _colour(place: int) -> str:
    other, part = SHADES[place // len(TONES) % len(SHADES)]
    tone = TONES[place % len(TONES)]
    red, green, blue = (1 - part) * np.array(to_rgb(tone)) + part * np.array(to_rgb(other))
    return to_hex((red, green, blue)).upper()


def _luminance(colour: str) -> float:
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
