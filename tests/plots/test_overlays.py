"""An overlay shows every pixel of its image, its labels are readable, and class colours can be distinguished."""

from __future__ import annotations

import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex, to_rgb
from matplotlib.transforms import Bbox
from PIL import Image
from torch import Tensor

from efficientformer_edu.dense.detection.postprocess import Detections
from efficientformer_edu.dense.evaluation import DensePrediction
from efficientformer_edu.plots import INK, PAPER, QUERY
from efficientformer_edu.plots.overlays import (
    SHADES,
    TONES,
    Mark,
    canvas,
    class_colours,
    class_shares,
    draw_marks,
    draw_overlay,
    free_position,
    image_axes,
    overlay_alt_text,
    tinted,
)
from efficientformer_edu.plots.style import Drawing, contrast, ink_on, save

OBJECTS = ("disc", "square", "ring")
PIXELS = ("background", *OBJECTS)
MANY = tuple(f"class {number}" for number in range(len(TONES) * len(SHADES)))

# Linear red, green and blue as perceived without one kind of cone: Viénot, Brettel and Mollon, 1999.
VISIONS = {
    "any": np.eye(3),
    "protan": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
    "deutan": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
}
TO_LMS = np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]])
TO_LAB = np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]])


def photo(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def boxed(image: Tensor, *rows: tuple[list[float], float, int], classes: tuple[str, ...] = OBJECTS) -> DensePrediction:
    boxes = torch.tensor([box for box, _, _ in rows]).reshape(-1, 4)
    labels = torch.tensor([label for *_, label in rows], dtype=torch.int64)
    return DensePrediction(image, classes, Detections(boxes, torch.tensor([score for _, score, _ in rows]), labels))


def painted(image: Tensor, semantic: Tensor, classes: tuple[str, ...] = PIXELS) -> DensePrediction:
    return DensePrediction(image, classes, semantic=semantic.to(torch.uint8))


def texts(figure: Drawing) -> list[str]:
    """The labels in the image."""
    return [text.get_text() for text in figure.axes[0].texts]


def keys(figure: Drawing) -> list[str]:
    """The labels in the legend."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def check_readable(figure: Drawing) -> None:
    """Check that no label is cut off at the edge of the figure."""
    figure.draw_without_rendering()
    for text in [*figure.axes[0].texts, *(text for legend in figure.legends for text in legend.get_texts())]:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0, text.get_text()
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text.get_text()


@settings(max_examples=6)
@given(height=st.integers(20, 600), width=st.integers(20, 600))
def test_every_pixel_of_the_image_is_a_square_of_dots(height: int, width: int) -> None:
    image = photo(height, width)
    figure = draw_overlay(boxed(image))
    pixels = np.asarray(Image.open(io.BytesIO(figure._repr_png_())).convert("RGB"))
    zoom = -(-480 // max(height, width))
    dots = image.permute(1, 2, 0).numpy().repeat(zoom, 0).repeat(zoom, 1)
    margin = (pixels.shape[1] - dots.shape[1]) // 2
    columns = slice(margin, margin + dots.shape[1])
    top = next(row for row in range(len(pixels)) if np.array_equal(pixels[row, columns], dots[0]))
    assert np.array_equal(pixels[top : top + len(dots), columns], dots)


def test_boxes_are_labelled_with_class_and_score_by_decreasing_score() -> None:
    prediction = boxed(
        photo(300, 600), ([10, 60, 100, 200], 0.456, 2), ([200, 50, 400, 250], 0.98, 0), ([0, 0, 9, 9], 0.29, 1)
    )
    figure = draw_overlay(prediction)
    assert texts(figure) == ["disc 98%", "ring 46%"]
    lines = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    assert [to_hex(patch.get_edgecolor()).upper() for patch in lines] == [TONES[0], TONES[2]]
    corners = [(patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height()) for patch in lines]
    assert corners[0] == pytest.approx((200, 50, 200, 200)) and corners[1] == pytest.approx((10, 60, 90, 140))
    assert lines[0].get_zorder() > lines[1].get_zorder()
    assert texts(draw_overlay(prediction, score=0.5)) == ["disc 98%"]
    assert "square 29%" in texts(draw_overlay(prediction, score=0.0))


def test_a_prediction_without_boxes_has_a_remark() -> None:
    figure = draw_overlay(boxed(photo(100, 100), ([0, 0, 9, 9], 0.29, 1)))
    assert not texts(figure) and ["30%" in key for key in keys(figure)] == [True]
    check_readable(figure)


@pytest.mark.parametrize(("height", "width"), [(600, 30), (30, 600), (600, 600), (40, 30), (900, 1200)])
def test_no_label_is_cut_off_at_any_shape(height: int, width: int) -> None:
    rows = [([0.9 * width * n / 6, 0.9 * height * n / 6, width, height], 0.9 - n / 10, n % 3) for n in range(6)]
    names = ("a class with a long name", "b", "c")
    prediction = boxed(photo(height, width), *rows, classes=names)
    check_readable(draw_overlay(prediction))
    semantic = torch.arange(height)[:, None] // 7 % 3 + 0 * torch.arange(width)
    check_readable(draw_overlay(painted(prediction.image, semantic, names)))


def test_letters_grow_with_the_image() -> None:
    sizes = [
        draw_overlay(boxed(photo(side, side), ([0, 0, 20, 20], 0.9, 0))).axes[0].texts[0].get_fontsize()
        for side in (480, 1000, 2000)
    ]
    assert sizes[0] == pytest.approx(12.5 * 0.72) and sizes[2] == pytest.approx(2 * sizes[1]) == pytest.approx(
        50 * 0.72
    )


def test_areas_have_labels_and_a_legend() -> None:
    semantic = torch.zeros(100, 200)
    semantic[10:90, 20:120] = 1
    semantic[10:40, 150:190] = 3
    semantic[95:] = 255
    figure = draw_overlay(painted(photo(100, 200), semantic))
    assert sorted(texts(figure)) == ["disc", "ring"]
    assert keys(figure) == ["disc 40%", "ring 6%", "no class 5%"]
    patches = [to_hex(patch.get_facecolor()).upper() for patch in figure.legends[0].get_patches()]
    assert patches == [TONES[0], TONES[2], "#FFFFFF"]
    check_readable(figure)


def test_the_background_is_unchanged_and_areas_are_grey_in_their_colour() -> None:
    image = photo(2, 2).permute(1, 2, 0).numpy()
    result = tinted(image, np.array([[0, 1], [3, 255]]), PIXELS)
    assert np.array_equal(result[0, 0], image[0, 0])
    for pixel, tone, share in (((0, 1), TONES[0], 0.6), ((1, 0), TONES[2], 0.6), ((1, 1), "#FFFFFF", 0.75)):
        expected = share * 255 * np.array(to_rgb(tone)) + (1 - share) * image[pixel].mean()
        np.testing.assert_allclose(result[pixel], expected, atol=0.51)


def test_a_legend_of_many_classes_ends() -> None:
    names = tuple(f"class {n}" for n in range(20))
    figure = draw_overlay(painted(photo(40, 400), torch.arange(400).repeat(40, 1) // 20, names))
    assert keys(figure)[:12] == [f"class {n} 5%" for n in range(12)] and " 8 " in keys(figure)[12]
    check_readable(figure)


def test_shares_of_pixels() -> None:
    assert class_shares(torch.tensor([[1, 1, 1, 0], [255, 1, 1, 0]]), PIXELS) == {
        "disc": 0.625,
        "background": 0.25,
        "no class": 0.125,
    }


def test_the_alt_text_has_boxes_scores_and_shares() -> None:
    rows = (([0.0, 0, 10, 10], 0.6, 2), ([150, 90, 190, 99], 0.98, 0), ([0, 0, 5, 5], 0.5, 2), ([0, 0, 5, 5], 0.1, 1))
    text = overlay_alt_text(boxed(photo(100, 200), *rows))
    for part in ("200×100", "disc, 2 × ring", "disc 98%, at the lower right"):
        assert part in text
    assert "square" not in text
    text = overlay_alt_text(boxed(photo(100, 200), *rows), score=0.99)
    assert "99%" in text and "disc" not in text
    semantic = torch.zeros(100, 200)
    semantic[25:75] = 2
    assert "background 50%, square 50%" in overlay_alt_text(painted(photo(100, 200), semantic))


def test_files_are_reproducible(tmp_path: Path) -> None:
    prediction = boxed(photo(50, 80), ([0, 0, 10, 10], 0.6, 2))
    for name in ("a.png", "b.png", "a.svg", "b.svg"):
        save(draw_overlay(prediction), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_an_invalid_score_is_rejected() -> None:
    for score in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="score="):
            draw_overlay(boxed(photo(50, 50)), score)


BOUNDS = Bbox.from_extents(10, 20, 210, 170)


def label_boxes(boxes: list[tuple[float, ...]], labels: list[str]) -> list[Bbox]:
    """The positions of the labels of boxes, in dots from the lower left corner."""
    marks = [Mark(box, "disc", label, TONES[0]) for box, label in zip(boxes, labels, strict=True)]
    with canvas(220, 190) as figure:
        axes = image_axes(figure, np.zeros((190, 220, 3)), (0, 0, 220, 190))
        draw_marks(axes, marks, 12.0, BOUNDS)
        figure.draw_without_rendering()
    patches = [text.get_bbox_patch() for text in axes.texts]
    return [patch.get_window_extent() for patch in patches if patch]


@given(
    st.lists(
        st.tuples(st.floats(-50, 250), st.floats(-50, 250), st.floats(1, 80), st.floats(1, 80), st.integers(1, 20)),
        max_size=6,
    )
)
@settings(max_examples=25)
def test_labels_stay_in_their_bounds(rows: list[tuple[float, float, float, float, int]]) -> None:
    boxes = [(x, y, x + width, y + height) for x, y, width, height, _ in rows]
    for box in label_boxes(boxes, ["n" * length for *_, length in rows]):
        assert box.x0 >= BOUNDS.x0 - 1 and box.y0 >= BOUNDS.y0 - 1
        assert box.x1 <= BOUNDS.x1 + 1 and box.y1 <= BOUNDS.y1 + 1


def test_a_label_is_above_its_box_at_the_left() -> None:
    (label,) = label_boxes([(50, 60, 90, 100)], ["disc"])
    assert (label.x0, label.y0) == pytest.approx((50, 190 - 60), abs=1.5)
    (label,) = label_boxes([(50, 25, 90, 100)], ["disc"])  # without space above, it is moved into the bounds
    assert label.y1 == pytest.approx(BOUNDS.y1, abs=1.5)


@pytest.mark.parametrize("count", [4, 8])
def test_labels_of_the_same_box_do_not_overlap(count: int) -> None:
    labels = label_boxes([(50.0, 60.0, 110.0, 120.0)] * count, ["disc"] * count)
    for number, label in enumerate(labels):
        for other in labels[:number]:
            assert not label.shrunk(0.95, 0.9).overlaps(other.shrunk(0.95, 0.9)), (label, other)


def test_a_flat_image_has_labels_side_by_side() -> None:
    figure = draw_overlay(boxed(photo(30, 500), ([20, 2, 400, 28], 0.9, 2), ([50, 5, 90, 20], 0.8, 1)))
    figure.draw_without_rendering()
    first, second = (text.get_window_extent() for text in figure.axes[0].texts)
    assert not first.overlaps(second)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 4))
def test_a_free_position_is_completely_in_its_area(seed: int, width: int, height: int) -> None:
    area = np.random.default_rng(seed).random((9, 11)) < 0.85
    fits = [
        (x, y)
        for y in range(9 - height + 1)
        for x in range(11 - width + 1)
        if area[y : y + height, x : x + width].all()
    ]
    position = free_position(area, width, height)
    assert position in fits if fits else position is None


def test_a_free_position_is_near_the_centre() -> None:
    assert free_position(np.ones((9, 11), bool), 3, 1) == (4, 4)
    assert free_position(np.ones((9, 11), bool), 12, 1) is None


def perceived(colour: str, vision: str) -> np.ndarray:
    """In Oklab, Ottosson, 2020."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return TO_LAB @ np.cbrt(TO_LMS @ (np.array(VISIONS[vision]) @ linear).clip(0))


@pytest.mark.parametrize("vision", VISIONS)
def test_tones_can_be_distinguished(vision: str) -> None:
    for first, second in combinations([*TONES, QUERY], 2):
        distance = np.linalg.norm(perceived(first, vision) - perceived(second, vision))
        assert distance > (0.05 if QUERY in (first, second) else 0.075), (first, second)


def test_text_on_a_colour_is_readable() -> None:
    assert contrast("#000000", "#FFFFFF") == contrast("#FFFFFF", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)  # WCAG's well-known grey
    for colour in class_colours(MANY).values():
        assert ink_on(colour) in (INK, PAPER) and contrast(ink_on(colour), colour) >= 4.5


def test_the_colour_of_a_class_depends_on_its_index() -> None:
    objects = class_colours(("disc", "square", "ring"))
    assert list(objects.values()) == list(TONES[:3])
    assert class_colours(("background", "disc", "square", "ring")) == objects
    many = class_colours((*MANY, "last"))
    assert len(set(many.values())) == len(MANY)
    assert many["last"] == many["class 0"] == TONES[0]


def test_the_legend_has_the_colours_of_the_areas() -> None:
    semantic = torch.zeros(100, 200, dtype=torch.uint8)
    semantic[10:90, 20:120] = 1
    semantic[10:40, 150:190] = 3
    classes = ("background", "disc", "square", "ring")
    image = torch.zeros(3, 100, 200, dtype=torch.uint8)
    (legend,) = draw_overlay(DensePrediction(image, classes, semantic=semantic)).legends
    for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True):
        assert to_hex(patch.get_facecolor()).upper() == class_colours(classes)[text.get_text().split()[0]]
