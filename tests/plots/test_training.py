"""Figures of training show the values passed to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from efficientformer_edu.data import fashion_mnist
from efficientformer_edu.data.datasets import load_data
from efficientformer_edu.plots.style import save
from efficientformer_edu.plots.training import (
    draw_confusion,
    draw_crops,
    draw_curves,
    draw_rates,
    draw_samples,
    draw_schedules,
    target_labels,
)
from efficientformer_edu.training.evaluation import Evaluation
from efficientformer_edu.training.loading import EvalTransform
from efficientformer_edu.training.optimization import learning_rate
from efficientformer_edu.training.recipe import CODE, LAPTOP

TEN = fashion_mnist.CLASSES
PHOTO = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
CROPS = {"middle": ((2.0, 7.0, 18.0, 23.0), PHOTO[7:23, 2:18]), "all": ((0, 0, 20, 30), PHOTO[:32, :20])}


def rows(*top1: float) -> list[dict[str, Any]]:
    return [
        {"epoch": epoch, "train_loss": 2.0 / epoch, "test_loss": 1.5 / epoch, "top1": value}
        for epoch, value in enumerate(top1, start=1)
    ]


def lines(axes: Any) -> list[tuple[str, str, list[float], list[float]]]:
    """Colour, style and points of the curves, without entries that are only in the legend."""
    return [
        (to_hex(line.get_color()), line.get_linestyle(), list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.lines
        if len(line.get_xdata())
    ]


def test_confusion_of_ten_classes() -> None:
    counts = torch.zeros(10, 10, dtype=torch.int64)
    counts.fill_diagonal_(90)
    counts[0, 6], counts[3, 4] = 10, 30
    counts[9] = 0  # a class without images
    figure = draw_confusion(Evaluation(TEN, counts, 800, 100.0))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == list(TEN)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(TEN)
    assert all(number in axes.get_title() for number in ("95.29%", "94.12%", "850"))
    shown = np.asarray(axes.images[0].get_array())
    assert shown[0, 6] == pytest.approx(0.1) and shown[3, 3] == pytest.approx(0.75)
    assert not shown[9].any()
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(6, 0): "10", (4, 3): "25", (0, 0): "90", (3, 3): "75"} | {
        (index, index): "100" for index in (1, 2, 4, 5, 6, 7, 8)
    }


def test_confusion_of_a_thousand_classes_has_no_labels_and_ten_classes_per_cell(tmp_path: Any) -> None:
    counts = torch.eye(1000, dtype=torch.int64) * 40
    counts[3, 700] = 10
    figure = draw_confusion(Evaluation(tuple(f"class {n}" for n in range(1000)), counts, 40_000, 1.0))
    axes = figure.axes[0]
    assert not axes.texts
    assert not any("class" in label.get_text() for label in axes.get_xticklabels())
    shown = np.asarray(axes.images[0].get_array())
    assert shown.shape == (100, 100) and "10 per cell" in axes.get_ylabel()
    assert (shown[0, 0], shown[0, 70], shown[1, 1]) == (400 / 410, 10 / 410, 1)
    assert axes.images[0].get_extent() == [-0.5, 999.5, 999.5, -0.5]
    assert max(figure.get_size_inches()) <= 10
    save(figure, tmp_path / "thousand.png")


def test_confusion_of_a_number_of_classes_between() -> None:
    counts = torch.ones(103, 103, dtype=torch.int64)
    (axes, _) = draw_confusion(Evaluation(("class",) * 103, counts, 103, 1.0)).axes
    shown = np.asarray(axes.images[0].get_array())
    assert shown.shape == (52, 52)  # the last cell has one class
    np.testing.assert_allclose(shown[:, :-1], 2 / 103)
    np.testing.assert_allclose(shown[:, -1], 1 / 103)
    assert axes.images[0].get_extent() == [-0.5, 103.5, 103.5, -0.5]


def test_curves_have_a_colour_per_run() -> None:
    logs = {"alone": rows(0.5, 0.75), "with a teacher": rows(0.6, 0.7, 0.8125)}
    figure = draw_curves(logs)
    losses, accuracies = (lines(axes) for axes in figure.axes)
    assert [(style, xs, ys) for _, style, xs, ys in losses] == [
        ("--", [1, 2], [2.0, 1.0]),
        ("-", [1, 2], [1.5, 0.75]),
        ("--", [1, 2, 3], [2.0, 1.0, 2 / 3]),
        ("-", [1, 2, 3], [1.5, 0.75, 0.5]),
    ]
    assert [ys for *_, ys in accuracies] == [[50.0, 75.0], [60.0, 70.0, 81.25]]
    first, second = (colour for colour, *_ in accuracies)
    assert first != second
    assert [colour for colour, *_ in losses] == [first, first, second, second]
    legend = figure.axes[1].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["alone: 75.00%", "with a teacher: 81.25%"]


def test_curves_of_a_single_epoch_and_without_epochs() -> None:
    (run,) = lines(draw_curves({"short": rows(0.5)}).axes[1])
    assert run[2:] == ([1], [50.0])
    with pytest.raises(ValueError, match="'none'"):
        draw_curves({"none": []})
    for count in (0, 7):
        with pytest.raises(ValueError, match=f"{count} .* 1 to 6"):
            draw_curves({str(run): rows(0.5) for run in range(count)})


def test_rates_are_those_of_the_schedule() -> None:
    recipes = {"laptop": LAPTOP, "cold": LAPTOP.replace(warmup_epochs=0), "long": CODE.replace(cooldown_epochs=3)}
    figure = draw_rates(recipes, 23)
    for axes, (name, recipe) in zip(figure.axes, recipes.items(), strict=True):
        ((*_, xs, ys),) = lines(axes)
        assert axes.get_title() == f"{name}, at most {max(ys):.2g}"
        steps = [round(23 * x) for x in xs]
        assert steps == sorted(set(steps)) and steps[0] == 0 and steps[-1] == recipe.total_epochs * 23 - 1
        assert ys == [learning_rate(recipe, step, 23) for step in steps]
    labels = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert labels == [["warm-up: 0.5 epochs"], ["no warm-up"], ["warm-up: 5 epochs"]]
    every = lines(figure.axes[0])[0]
    assert len(every[2]) == 4 * 23  # a short run is plotted step by step
    with pytest.raises(ValueError, match="no recipes"):
        draw_rates({}, 23)
    with pytest.raises(ValueError, match="steps_per_epoch"):
        draw_rates({"none": LAPTOP}, 0)


def test_samples_are_shown_without_normalization() -> None:
    data = load_data("fashion-mnist-small", "test")
    images, labels = EvalTransform(32, 1)([data[0], data[1]])
    figure = draw_samples(images, [data.classes[label] for label in labels])
    for number, axes in enumerate(figure.axes):
        picture, label = data[number]
        assert axes.get_title() == data.classes[label]
        shown = np.asarray(axes.images[0].get_array()).reshape(32, 32)
        np.testing.assert_allclose(shown[2:-2, 2:-2], np.asarray(picture)[0] / 255, atol=1e-6)


def test_samples_in_colour() -> None:
    white = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    (axes,) = draw_samples(white.view(1, 3, 1, 1).expand(1, 3, 32, 32), ["white"]).axes
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), np.ones((32, 32, 3)), atol=1e-6)


def test_samples_that_do_not_fit_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"\(2, 4, 8, 8\).*\(B, 1 or 3, H, W\)"):
        draw_samples(torch.zeros(2, 4, 8, 8), ["a", "b"])
    with pytest.raises(ValueError, match="2 images and 1 titles"):
        draw_samples(torch.zeros(2, 1, 8, 8), ["a"])
    with pytest.raises(ValueError, match="0 images and 0 titles"):
        draw_samples(torch.zeros(0, 1, 8, 8), [])


def test_labels_of_targets() -> None:
    targets = torch.tensor([[0.01, 0.67, 0.32], [0.0, 1.0, 0.0]])
    assert target_labels(targets, ("Coat", "Bag", "Dress")) == ["Bag 67%\nDress 32%", "Bag 100%"]


def test_the_frame_is_the_crop() -> None:
    drawing = draw_crops(PHOTO, CROPS)
    for axes, (title, (box, _)) in zip(drawing.axes, CROPS.items(), strict=False):
        frame = [patch for patch in axes.patches if isinstance(patch, Rectangle)][-1]
        left, top = frame.get_xy()
        assert (left, top, left + frame.get_width(), top + frame.get_height()) == box
        assert axes.get_title() == title


def test_the_crop_is_above_the_faded_image_and_clipped_to_its_frame() -> None:
    axes = draw_crops(PHOTO, CROPS).axes[0]
    fade, frame = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    kept = axes.images[1]
    assert fade.get_zorder() < kept.get_zorder() < frame.get_zorder()
    left, bottom, right, top = kept.get_clip_box().transformed(axes.transData.inverted()).extents
    assert np.allclose((left, top, right, bottom), CROPS["middle"][0])


def test_inputs_are_labelled_with_their_size_and_have_a_common_scale() -> None:
    below = draw_crops(PHOTO, CROPS).axes[2:]
    assert [axes.get_title().split()[-1] for axes in below] == ["16×16", "30×20"]
    assert {axes.get_xlim() for axes in below} == {(0, 30)}
    assert below[0].images[0].get_extent() == [7, 23, 23, 7]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_schedule_is_a_line_from_the_first_block(count: int) -> None:
    schedules = {f"schedule {i}": [0.0, 0.5 * i, 1.0 * i] for i in range(count)}
    axes = draw_schedules(schedules).axes[0]
    lines = [line for line in axes.lines if line.get_label() in schedules]
    assert [list(line.get_ydata()) for line in lines] == list(schedules.values())
    assert all(list(line.get_xdata()) == [1, 2, 3] for line in lines)


def test_the_limit_is_visible_even_if_all_rates_are_small() -> None:
    axes = draw_schedules({"small": [0.0, 0.1]}).axes[0]
    assert axes.get_ylim()[1] >= 1.0


def test_legends_have_the_lines_of_the_curves() -> None:
    rows = [{"epoch": 1, "train_loss": 2.0, "test_loss": 1.0, "top1": 0.5}]
    losses, accuracies = draw_curves({"first": rows, "second": rows}).axes
    styles = {float(line.get_ydata()[0]): line.get_linestyle() for line in losses.lines if len(line.get_ydata())}
    legend = losses.get_legend()
    assert legend is not None
    entries = {
        text.get_text(): line.get_linestyle() for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    assert entries == {"training images, augmented": styles[2.0], "test images": styles[1.0]}
    legend = accuracies.get_legend()
    assert legend is not None
    colours = [line.get_color() for line in legend.get_lines()]
    assert (
        colours == [line.get_color() for line in accuracies.lines] == [line.get_color() for line in losses.lines[:4:2]]
    )
