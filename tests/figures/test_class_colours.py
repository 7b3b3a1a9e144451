"""Classes keep their colours, which stay apart for readers with any colour vision."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from efficientformer_edu.figures.class_colours import SHADES, TONES, class_colours, contrast, ink_on
from efficientformer_edu.figures.colours import INK, PAPER, QUERY

MANY = tuple(f"class {number}" for number in range(len(TONES) * len(SHADES)))

# Linear red, green and blue as readers without one kind of cone see them: Viénot, Brettel and Mollon, 1999.
VISIONS = {
    "any": np.eye(3),
    "protan": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
    "deutan": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
}
TO_LMS = np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]])
TO_LAB = np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]])


def seen(colour: str, vision: str) -> np.ndarray:
    """In Oklab, Ottosson, 2020."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return TO_LAB @ np.cbrt(TO_LMS @ (np.array(VISIONS[vision]) @ linear).clip(0))


@pytest.mark.parametrize("vision", VISIONS)
def test_the_tones_stay_apart(vision: str) -> None:
    for one, other in combinations([*TONES, QUERY], 2):
        least = 0.05 if QUERY in (one, other) else 0.075
        assert np.linalg.norm(seen(one, vision) - seen(other, vision)) > least, (one, other)


def test_words_on_a_colour_can_be_read() -> None:
    assert contrast("#000000", "#FFFFFF") == contrast("#FFFFFF", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)  # WCAG's well-known grey
    for colour in class_colours(MANY).values():
        assert ink_on(colour) in (INK, PAPER) and contrast(ink_on(colour), colour) >= 4.5


def test_a_class_has_the_colour_of_its_place() -> None:
    objects = class_colours(("disc", "square", "ring"))
    assert list(objects.values()) == list(TONES[:3])
    assert class_colours(("background", "disc", "square", "ring")) == objects
    many = class_colours((*MANY, "one more"))
    assert len(set(many.values())) == len(MANY)
    assert many["one more"] == many["class 0"] == TONES[0]
