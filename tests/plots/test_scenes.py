"""Truth and prediction next to each other: wrong and missed objects, and wrong pixels, are marked and counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from efficientformer_edu.data.examples import Example
from efficientformer_edu.dense.detection.postprocess import Detections
from efficientformer_edu.dense.evaluation import DensePrediction
from efficientformer_edu.plots import QUERY
from efficientformer_edu.plots.overlays import DASHED, DOTTED, SOLID
from efficientformer_edu.plots.scenes import draw_scenes, draw_truth, match_detections, scenes_alt_text, wrong_pixels
from efficientformer_edu.plots.style import Drawing

OBJECTS = ("disc", "square", "ring")
PIXELS = ("background", *OBJECTS)
Row = tuple[list[float], int]


def example(*objects: Row, crowds: tuple[int, ...] = (), size: tuple[int, int] = (100, 80)) -> Example:
    boxes = torch.tensor([box for box, _ in objects]).reshape(-1, 4)
    labels = torch.tensor([label for _, label in objects], dtype=torch.int64)
    crowd = torch.tensor([number in crowds for number in range(len(objects))], dtype=torch.bool)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    semantic = torch.zeros(size, dtype=torch.uint8)
    return Example(image, boxes, labels, crowd, torch.zeros(len(objects), *size, dtype=torch.bool), semantic)


def detections(*rows: Row) -> Detections:
    """With decreasing scores, from 90 %."""
    scores = torch.tensor([0.9 - 0.1 * n for n in range(len(rows))])
    labels = torch.tensor([label for _, label in rows], dtype=torch.int64)
    return Detections(torch.tensor([box for box, _ in rows]).reshape(-1, 4), scores, labels)


A, B = [10.0, 10.0, 30.0, 30.0], [40.0, 40.0, 60.0, 80.0]
ALMOST_A = [10.0, 10.0, 30.0, 21.0]  # IoU 0.55
HALF_OFF = [20.0, 10.0, 40.0, 30.0]  # IoU 1/3


@pytest.mark.parametrize(
    ("truth", "crowds", "rows", "correct", "detected"),
    [
        ([(A, 0), (B, 1)], (), [(A, 0), (B, 1)], [True, True], [True, True]),
        ([(A, 0)], (), [(A, 1)], [False], [False]),  # another class
        ([(A, 0)], (), [(HALF_OFF, 0)], [False], [False]),
        ([(A, 0)], (), [(ALMOST_A, 0)], [True], [True]),
        ([(A, 0)], (), [(ALMOST_A, 0), (A, 0)], [True, False], [True]),  # taken by the more confident one
        ([(A, 0), (ALMOST_A, 0)], (), [(ALMOST_A, 0), (ALMOST_A, 0)], [True, True], [True, True]),  # the next best
        ([(A, 0), (ALMOST_A, 0)], (), [(ALMOST_A, 0)], [True], [False, True]),
        ([], (), [(A, 0)], [False], []),
        ([(A, 0)], (), [], [], [False]),
        ([([0.0, 0, 80, 80], 0)], (0,), [(A, 0), (B, 0), (B, 1)], [True, True, False], []),  # in a crowd
        ([([0.0, 0, 19, 80], 0), (A, 0)], (0,), [(A, 0), (A, 0)], [True, False], [True]),  # less than half inside it
    ],
)
def test_boxes_are_matched_with_objects(
    truth: list[Row], crowds: tuple[int, ...], rows: list[Row], correct: list[bool], detected: list[bool]
) -> None:
    assert match_detections(example(*truth, crowds=crowds), detections(*rows)) == (correct, detected)


def labels(figure: Drawing) -> list[str]:
    """The labels of boxes and areas."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def remarks(figure: Drawing) -> list[str]:
    return [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]


def keys(figure: Drawing) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def boxes(figure: Drawing) -> list[object]:
    """The line styles of the boxes."""
    return [patch.get_linestyle() for axes in figure.axes for patch in axes.patches if not patch.get_fill()]


def scene(truth: list[Row], rows: list[Row], **fields: object) -> tuple[Example, DensePrediction]:
    annotated = example(*truth, **fields)
    return annotated, DensePrediction(annotated.image, OBJECTS, detections(*rows))


MIXED = scene([(A, 0), (B, 1)], [(A, 0), (A, 2)])


def test_wrong_boxes_are_dashed_and_missed_objects_dotted() -> None:
    figure = draw_scenes([MIXED])
    assert [axes.get_title() for axes in figure.axes] == ["truth", "prediction"]
    assert labels(figure) == ["disc", "square", "disc 90%", "ring 80%, wrong", "square missed"]
    assert boxes(figure) == [SOLID, SOLID, SOLID, DASHED, DOTTED]
    (remark,) = remarks(figure)
    assert "1 of 2" in remark and "1 wrong" in remark
    styles = [line._unscaled_dash_pattern for line in figure.legends[0].get_lines()]
    patches = [patch._unscaled_dash_pattern for patch in figure.axes[1].patches]
    assert keys(figure) == ["correct", "wrong", "missed"] and styles == patches


def test_boxes_with_a_low_score_are_not_counted() -> None:
    figure = draw_scenes([MIXED], score=0.85)
    assert "0 wrong" in remarks(figure)[0] and "ring 80%, wrong" not in labels(figure)


def test_a_crowd_is_labelled_and_never_missed() -> None:
    figure = draw_scenes([scene([(B, 1)], [], crowds=(0,))])
    assert "square, crowd" in labels(figure) and "0 of 0" in remarks(figure)[0] and "0 wrong" in remarks(figure)[0]
    assert boxes(figure) == [SOLID]


def areas(size: tuple[int, int] = (100, 80)) -> tuple[Example, DensePrediction]:
    annotated = example(size=size)
    annotated.semantic[:50, :40] = 1
    annotated.semantic[50:60] = 255
    predicted = torch.zeros(size, dtype=torch.uint8)
    predicted[:60, :20] = 1
    return annotated, DensePrediction(annotated.image, PIXELS, semantic=predicted)


def striped(figure: Drawing) -> np.ndarray:
    return np.asarray(figure.axes[1].images[-1].get_array())


def test_wrong_pixels_are_striped() -> None:
    figure = draw_scenes([areas()])
    stripes = striped(figure)
    assert stripes.shape == (300, 240, 4)
    wrong = stripes[..., 3].reshape(100, 3, 80, 3).max(axis=(1, 3)) > 0  # a pixel is 3×3 dots
    assert not wrong[:, :20].any() and not wrong[50:].any() and not wrong[:, 40:].any()
    assert stripes[:150, 60:120, 3].mean() == pytest.approx(4 / 12, abs=0.01)
    assert (stripes[:150, 60:120] == to_rgba(QUERY)).all(-1).mean() == pytest.approx(3 / 12, abs=0.01)
    assert "13.9%" in remarks(figure)[0]  # 1000 of 8000 − 800
    assert keys(figure) == ["disc", "wrong pixels"]


def test_pixels_without_a_class_are_not_wrong() -> None:
    annotated, prediction = areas()
    assert prediction.semantic is not None
    assert int(wrong_pixels(annotated, prediction.semantic).sum()) == 1000
    nothing = example()
    nothing.semantic[:] = 255
    assert "0.0%" in remarks(draw_scenes([(nothing, prediction)]))[0]


@pytest.mark.parametrize("size", [(100, 80), (40, 100), (100, 11), (700, 1)])
def test_labels_stay_in_the_figure(size: tuple[int, int]) -> None:
    height, width = size
    rows: list[Row] = [([0.7 * width, 0.7 * height, width, height], 2), ([0.0, 0.0, 2.0, 2.0], 0)]
    for figure in (draw_scenes([scene(rows, rows[:1], size=size)] * 2), draw_scenes([areas(size)] * 2)):
        figure.draw_without_rendering()
        for text in (text for axes in figure.axes for text in (*axes.texts, axes.xaxis.label, axes.title)):
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.y0 >= 0, text.get_text()
            assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text.get_text()


def test_the_alt_text_has_objects_mistakes_and_shares() -> None:
    heading, first, second = scenes_alt_text([MIXED, scene([], [])]).split(". ")
    assert "2" in heading
    assert first == "1: disc, square; 1 of 2 detected, 1 wrong; missed: square; wrong: ring"
    assert "0 of 0 detected, 0 wrong" in second
    text = scenes_alt_text([areas()])
    assert "background 65%, disc 25%, no class 10%" in text and "13.9%" in text


def other_size(prediction: DensePrediction) -> DensePrediction:
    image = torch.zeros(3, 7, 9, dtype=torch.uint8)
    return DensePrediction(image, prediction.classes, prediction.detections, prediction.semantic)


def test_scenes_that_do_not_fit_are_rejected() -> None:
    for draw in (draw_scenes, scenes_alt_text):
        with pytest.raises(ValueError, match="0 scenes"):
            draw([])
        with pytest.raises(ValueError, match="2 scenes"):
            draw([MIXED, areas()])
        with pytest.raises(ValueError, match="100×80 .* 7×9"):
            draw([(MIXED[0], other_size(MIXED[1]))])
        with pytest.raises(ValueError, match="neither boxes nor classes"):
            draw([(MIXED[0], DensePrediction(MIXED[0].image, OBJECTS))])
        with pytest.raises(ValueError, match="score=2"):
            draw([MIXED], 2)


def test_the_truth_has_a_labelled_box_per_object() -> None:
    figure = draw_truth([example((A, 0), (B, 1)), example((B, 2)), example(), example((A, 2))], OBJECTS)
    assert labels(figure) == ["disc", "square", "ring", "ring"]
    lefts, bottoms = ({round(getattr(axes.bbox, side)) for axes in figure.axes} for side in ("x0", "y0"))
    assert (len(lefts), len(bottoms)) == (3, 2)  # three per row, and the fourth below


def test_the_truth_of_different_sizes_is_rejected() -> None:
    with pytest.raises(ValueError, match="2 examples of 2 sizes"):
        draw_truth([example(), example(size=(80, 80))], OBJECTS)
    with pytest.raises(ValueError, match="0 examples of 0 sizes"):
        draw_truth([], OBJECTS)
