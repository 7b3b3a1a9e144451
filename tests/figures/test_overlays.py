"""A drawing over a photograph has its pixels, and shows what was found, in words that can be read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex, to_rgb
from PIL import Image
from torch import Tensor

from efficientformer_edu.dense.detections import Detections
from efficientformer_edu.dense.predict import Found
from efficientformer_edu.figures.class_colours import TONES
from efficientformer_edu.figures.overlays import draw_overlay, overlay_alt_text, shares
from efficientformer_edu.figures.photographs import tinted
from efficientformer_edu.figures.style import Drawing, save

OBJECTS = ("disc", "square", "ring")
PIXELS = ("background", *OBJECTS)


def photo(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def boxed(image: Tensor, *rows: tuple[list[float], float, int], classes: tuple[str, ...] = OBJECTS) -> Found:
    boxes = torch.tensor([box for box, _, _ in rows]).reshape(-1, 4)
    labels = torch.tensor([label for *_, label in rows], dtype=torch.int64)
    return Found(image, classes, Detections(boxes, torch.tensor([score for _, score, _ in rows]), labels))


def painted(image: Tensor, semantic: Tensor, classes: tuple[str, ...] = PIXELS) -> Found:
    return Found(image, classes, semantic=semantic.to(torch.uint8))


def texts(figure: Drawing) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def readable(figure: Drawing) -> None:
    """No word is cut off at the edge of the drawing."""
    figure.draw_without_rendering()
    whole = figure.bbox
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= whole.x1 and box.y1 <= whole.y1, text.get_text()


@settings(max_examples=6)
@given(height=st.integers(20, 600), width=st.integers(20, 600))
def test_each_pixel_of_the_photograph_is_a_square_of_dots(height: int, width: int) -> None:
    image = photo(height, width)
    figure = draw_overlay(boxed(image))
    seen = np.asarray(Image.open(io.BytesIO(figure._repr_png_())).convert("RGB"))
    zoom = -(-480 // max(height, width))
    dots = image.permute(1, 2, 0).numpy().repeat(zoom, 0).repeat(zoom, 1)
    margin = (seen.shape[1] - dots.shape[1]) // 2
    columns = slice(margin, margin + dots.shape[1])
    top = next(row for row in range(len(seen)) if np.array_equal(seen[row, columns], dots[0]))
    assert np.array_equal(seen[top : top + len(dots), columns], dots)


def test_boxes_bear_their_class_and_score_the_surest_first() -> None:
    found = boxed(
        photo(300, 600), ([10, 60, 100, 200], 0.456, 2), ([200, 50, 400, 250], 0.98, 0), ([0, 0, 9, 9], 0.29, 1)
    )
    figure = draw_overlay(found)
    assert texts(figure) == ["disc 98%", "ring 46%"]
    lines = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    assert [to_hex(patch.get_edgecolor()).upper() for patch in lines] == ["#FFFFFF", TONES[0], "#FFFFFF", TONES[2]]
    left, top = (figure.axes[0].images[0].get_extent()[side] for side in (0, 3))
    corners = [(patch.get_x() - left, patch.get_y() - top, patch.get_width(), patch.get_height()) for patch in lines]
    assert corners[1] == pytest.approx((200, 50, 200, 200)) and corners[3] == pytest.approx((10, 60, 90, 140))
    assert lines[1].get_zorder() > lines[3].get_zorder()
    assert texts(draw_overlay(found, score=0.5)) == ["disc 98%"]
    assert "square 29%" in texts(draw_overlay(found, score=0.0))


def test_where_nothing_is_found_it_says_so() -> None:
    figure = draw_overlay(boxed(photo(100, 100), ([0, 0, 9, 9], 0.29, 1)))
    assert texts(figure) == ["no object with a score of 30% or more"]
    readable(figure)


@pytest.mark.parametrize(("height", "width"), [(600, 30), (30, 600), (600, 600), (40, 30), (900, 1200)])
def test_no_word_is_cut_off_at_any_shape(height: int, width: int) -> None:
    rows = [([0.9 * width * n / 6, 0.9 * height * n / 6, width, height], 0.9 - n / 10, n % 3) for n in range(6)]
    names = ("a class with a long name", "b", "c")
    found = boxed(photo(height, width), *rows, classes=names)
    readable(draw_overlay(found))
    semantic = torch.arange(height)[:, None] // 7 % 3 + 0 * torch.arange(width)
    readable(draw_overlay(painted(found.image, semantic, names)))


def test_letters_grow_with_the_photograph() -> None:
    sizes = [
        draw_overlay(boxed(photo(side, side), ([0, 0, 20, 20], 0.9, 0))).axes[0].texts[0].get_fontsize()
        for side in (480, 1000, 2000)
    ]
    assert sizes[0] == pytest.approx(12 * 0.72) and sizes[2] == pytest.approx(2 * sizes[1]) == pytest.approx(50 * 0.72)


def test_areas_have_their_names_and_a_legend() -> None:
    semantic = torch.zeros(100, 200)
    semantic[10:90, 20:120] = 1
    semantic[10:40, 150:190] = 3
    semantic[95:] = 255
    figure = draw_overlay(painted(photo(100, 200), semantic))
    assert sorted(texts(figure)) == sorted(["disc", "ring", "disc 40%", "ring 6%", "no class 5%"])
    patches = [to_hex(patch.get_facecolor()).upper() for patch in figure.axes[0].patches]
    assert patches == [TONES[0], TONES[2], "#FFFFFF"]
    readable(figure)


def test_the_background_is_the_photograph_and_areas_are_grey_in_their_colour() -> None:
    image = photo(2, 2).permute(1, 2, 0).numpy()
    shown = tinted(image, np.array([[0, 1], [3, 255]]), PIXELS)
    assert np.array_equal(shown[0, 0], image[0, 0])
    for place, tone, part in (((0, 1), TONES[0], 0.6), ((1, 0), TONES[2], 0.6), ((1, 1), "#FFFFFF", 0.75)):
        wanted = part * 255 * np.array(to_rgb(tone)) + (1 - part) * image[place].mean()
        np.testing.assert_allclose(shown[place], wanted, atol=0.51)


def test_a_legend_of_many_classes_ends() -> None:
    names = tuple(f"class {n}" for n in range(20))
    figure = draw_overlay(painted(photo(40, 400), torch.arange(400).repeat(40, 1) // 20, names))
    assert "and 8 more" in texts(figure) and "class 11 5%" in texts(figure) and "class 12 5%" not in texts(figure)


def test_shares_are_parts_of_the_picture() -> None:
    assert shares(torch.tensor([[1, 1, 1, 0], [255, 1, 1, 0]]), PIXELS) == {
        "disc": 0.625,
        "background": 0.25,
        "no class": 0.125,
    }


def test_words_for_readers_who_do_not_see_it() -> None:
    rows = (([0.0, 0, 10, 10], 0.6, 2), ([150, 90, 190, 99], 0.98, 0), ([0, 0, 5, 5], 0.5, 2), ([0, 0, 5, 5], 0.1, 1))
    assert overlay_alt_text(boxed(photo(100, 200), *rows)) == (
        "A photograph of 200×100 pixels; boxes around disc, 2 × ring; the surest is disc 98%, at the lower right."
    )
    assert overlay_alt_text(boxed(photo(100, 200), *rows), score=0.99) == (
        "A photograph of 200×100 pixels; no object with a score of 99% or more."
    )
    semantic = torch.zeros(100, 200)
    semantic[25:75] = 2
    assert overlay_alt_text(painted(photo(100, 200), semantic)) == (
        "A photograph of 200×100 pixels; its pixels show background 50%, square 50%."
    )


def test_it_is_the_same_each_time(tmp_path: Path) -> None:
    found = boxed(photo(50, 80), ([0, 0, 10, 10], 0.6, 2))
    for name in ("one.png", "two.png", "one.svg", "two.svg"):
        save(draw_overlay(found), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_a_score_that_is_none_is_refused() -> None:
    for score in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"score=.* is not possible"):
            draw_overlay(boxed(photo(50, 50)), score)
