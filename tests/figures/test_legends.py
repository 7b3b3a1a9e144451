"""The legend of a figure shows the colour and the line that the figure itself uses for what each entry names."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer

from efficientformer_edu.audit import count
from efficientformer_edu.dense.detections import Detections
from efficientformer_edu.dense.examples import Example
from efficientformer_edu.dense.predict import Found
from efficientformer_edu.figures.class_colours import class_colours
from efficientformer_edu.figures.latency import draw_profiles
from efficientformer_edu.figures.legends import Key, paint_legend
from efficientformer_edu.figures.overlays import draw_overlay
from efficientformer_edu.figures.photographs import DASHED, DOTTED, SOLID, canvas
from efficientformer_edu.figures.scenes import draw_scenes
from efficientformer_edu.figures.strip import strip
from efficientformer_edu.figures.training import draw_curves
from efficientformer_edu.latency import Conditions
from efficientformer_edu.latency.operators import CLASSES
from efficientformer_edu.latency.profile import Profile

A, B = [10.0, 10.0, 30.0, 30.0], [40.0, 40.0, 60.0, 80.0]


def painted(axes: Axes) -> dict[str, tuple[str, Any]]:
    """What stands to the left of each text of a legend, on its line: colour and line style (None for a patch)."""
    marks: list[tuple[float, float, str, Any]] = []
    for patch in (patch for patch in axes.patches if patch.get_fill()):
        middle = patch.get_y() + patch.get_height() / 2
        marks.append((patch.get_x(), middle, to_hex(patch.get_facecolor()), None))
    for line in axes.lines:
        left, middle = line.get_xydata()[0]
        style = line._unscaled_dash_pattern  # get_linestyle() says "--" for every pattern of its own
        marks.append((left, middle, to_hex(line.get_color()), style))
    entries = {}
    for text in axes.texts:
        x, y = text.get_position()
        left = [mark for mark in marks if mark[0] < x and abs(mark[1] - y) < text.get_fontsize()]
        if left:
            entries[text.get_text()] = max(left)[2:]
    return entries


def pattern(style: Any) -> Any:
    return (0, None) if style == SOLID else (style[0], list(style[1]))


def test_each_entry_has_its_own_colour_and_line() -> None:
    keys = [
        Key("patch", "#112233"),
        Key("solid", "#445566", SOLID),
        Key("dashed", "#778899", DASHED),
        Key("dotted", "#aabbcc", DOTTED),
        Key("another patch", "#ddeeff"),
    ]
    for room in (1000, 120):  # in one row, and one below the other
        with canvas(1000, 300) as (_, axes):
            paint_legend(axes, [*keys, Key("neither")], (0, 0), room, 12)
        entries = painted(axes)
        for key in keys:
            colour, style = entries[key.words]
            assert colour == key.colour
            assert style is None if key.line is None else (style[0], style[1] and list(style[1])) == pattern(key.line)
        assert [text.get_text() for text in axes.texts][-1] == "neither"


def test_right_wrong_and_missed_boxes() -> None:
    image = torch.zeros(3, 100, 80, dtype=torch.uint8)
    boxes, labels = torch.tensor([A, B]), torch.tensor([0, 1])
    masks, semantic = torch.zeros(2, 100, 80, dtype=torch.bool), torch.zeros(100, 80, dtype=torch.uint8)
    example = Example(image, boxes, labels, torch.zeros(2, dtype=torch.bool), masks, semantic)
    boxes = Detections(torch.tensor([A, A]), torch.tensor([0.9, 0.8]), torch.tensor([0, 2]))
    (axes,) = draw_scenes([(example, Found(image, ("disc", "square", "ring"), boxes))]).axes
    boxes_drawn = [patch for patch in axes.patches if not patch.get_fill()][1::2]  # without the white ones below them
    right, wrong, missed = (patch._unscaled_dash_pattern for patch in boxes_drawn[-3:])
    entries = painted(axes)
    assert [entries[name][1] for name in ("right", "wrong", "missed")] == [right, wrong, missed]
    assert len({str(style) for style in (right, wrong, missed)}) == 3


def test_areas() -> None:
    semantic = torch.zeros(100, 200, dtype=torch.uint8)
    semantic[10:90, 20:120] = 1
    semantic[10:40, 150:190] = 3
    classes = ("background", "disc", "square", "ring")
    (axes,) = draw_overlay(Found(torch.zeros(3, 100, 200, dtype=torch.uint8), classes, semantic=semantic)).axes
    entries = painted(axes)
    for text in ("disc 40%", "ring 6%"):
        assert entries[text] == (class_colours(classes)[text.split()[0]].lower(), None)


def test_learning_curves() -> None:
    rows = [{"epoch": 1, "train_loss": 2.0, "test_loss": 1.0, "top1": 0.5}]
    losses, accuracies = draw_curves({"one run": rows, "another": rows}).axes
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


def test_classes_of_a_profile() -> None:
    milliseconds = {kind: float(number) for number, kind in enumerate(CLASSES, start=1)}
    figure = draw_profiles([Profile("net", 36.0, milliseconds, 5, Conditions())])
    (bars,) = ([bar for one in figure.axes[0].containers if isinstance(one, BarContainer) for bar in one],)
    drawn = {round(bar.get_width()): (bar.get_facecolor(), bar.get_edgecolor()) for bar in bars}
    (legend,) = figure.legends
    for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True):
        assert (patch.get_facecolor(), patch.get_edgecolor()) == drawn[round(milliseconds[text.get_text()])]


@pytest.mark.parametrize("model", ["l1", "l7"])
def test_kinds_of_blocks(model: str) -> None:
    svg = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(strip(count(model)))
    bars = {group.findtext(f"{svg}title", ""): group.attrib["fill"] for group in root.iter(f"{svg}g")}
    children = list(root)
    entries = {
        text.text: rect.attrib["fill"]
        for rect, text in pairwise(children)
        if rect.tag == f"{svg}rect" and text.tag == f"{svg}text" and rect.attrib["width"] == "14.00"
    }
    for kind in ("MB4D", "MB3D", "stem", "head", "embedding"):
        (fill,) = {fill for title, fill in bars.items() if kind in title}
        assert entries[kind] == fill, kind
    assert len(set(entries.values())) == len(entries)
