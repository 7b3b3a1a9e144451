"""Every entry of a legend has the colour and line style of the artists that it names."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D

from efficientformer_edu.audit import count
from efficientformer_edu.data.examples import Example
from efficientformer_edu.dense.detection.postprocess import Detections
from efficientformer_edu.dense.predict import Found
from efficientformer_edu.latency import Conditions
from efficientformer_edu.latency.operators import CLASSES
from efficientformer_edu.latency.profile import Profile
from efficientformer_edu.plots.latency import draw_profiles
from efficientformer_edu.plots.overlays import canvas, class_colours, class_key, draw_legend, draw_overlay
from efficientformer_edu.plots.scenes import draw_scenes
from efficientformer_edu.plots.strip import strip
from efficientformer_edu.plots.training import draw_curves

A, B = [10.0, 10.0, 30.0, 30.0], [40.0, 40.0, 60.0, 80.0]


def legend_entries(axes: Axes) -> dict[str, Any]:
    """Label to the artist next to it, which is the nearest on its left."""
    axes.figure.draw_without_rendering()
    legend = axes.get_legend()
    assert legend is not None
    handles = [(handle, handle.get_window_extent()) for handle in (*legend.get_lines(), *legend.get_patches())]
    entries = {}
    for text in legend.get_texts():
        box = text.get_window_extent()
        row = [(extent.x1, handle) for handle, extent in handles if box.y0 < (extent.y0 + extent.y1) / 2 < box.y1]
        entries[text.get_text()] = max((pair for pair in row if pair[0] <= box.x0), key=lambda pair: pair[0])[1]
    return entries


@pytest.mark.parametrize("room", [1000, 120])
def test_every_entry_has_its_own_artist(room: int) -> None:
    keys = {
        "patch": class_key("#112233"),
        "line": Line2D([], [], color="#445566"),
        "dashed": Line2D([], [], color="#778899", ls=(0, (4, 2.5))),
        "another patch": class_key("#ddeeff"),
    }
    with canvas(1000, 300) as (_, axes):
        draw_legend(axes, keys, (0, 0), room, 12)
    entries = legend_entries(axes)
    for label, key in keys.items():
        assert type(entries[label]).__name__ == ("Line2D" if isinstance(key, Line2D) else "Rectangle")
        if isinstance(key, Line2D):
            assert entries[label].get_color() == key.get_color()
            assert entries[label]._unscaled_dash_pattern == key._unscaled_dash_pattern
        else:
            assert to_hex(entries[label].get_facecolor()) == to_hex(key.get_facecolor())


def test_right_wrong_and_missed_boxes() -> None:
    image = torch.zeros(3, 100, 80, dtype=torch.uint8)
    boxes, labels = torch.tensor([A, B]), torch.tensor([0, 1])
    masks, semantic = torch.zeros(2, 100, 80, dtype=torch.bool), torch.zeros(100, 80, dtype=torch.uint8)
    example = Example(image, boxes, labels, torch.zeros(2, dtype=torch.bool), masks, semantic)
    boxes = Detections(torch.tensor([A, A]), torch.tensor([0.9, 0.8]), torch.tensor([0, 2]))
    (axes,) = draw_scenes([(example, Found(image, ("disc", "square", "ring"), boxes))]).axes
    rectangles = [patch for patch in axes.patches if not patch.get_fill()]
    right, wrong, missed = (patch._unscaled_dash_pattern for patch in rectangles[-3:])
    entries = legend_entries(axes)
    assert [entries[name]._unscaled_dash_pattern for name in ("right", "wrong", "missed")] == [right, wrong, missed]
    assert len({str(style) for style in (right, wrong, missed)}) == 3


def test_areas() -> None:
    semantic = torch.zeros(100, 200, dtype=torch.uint8)
    semantic[10:90, 20:120] = 1
    semantic[10:40, 150:190] = 3
    classes = ("background", "disc", "square", "ring")
    (axes,) = draw_overlay(Found(torch.zeros(3, 100, 200, dtype=torch.uint8), classes, semantic=semantic)).axes
    entries = legend_entries(axes)
    for text in ("disc 40%", "ring 6%"):
        assert to_hex(entries[text].get_facecolor()).upper() == class_colours(classes)[text.split()[0]]


def test_learning_curves() -> None:
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


def test_classes_of_a_profile() -> None:
    milliseconds = {kind: float(number) for number, kind in enumerate(CLASSES, start=1)}
    figure = draw_profiles([Profile("net", 36.0, milliseconds, 5, Conditions())])
    (bars,) = ([bar for bars in figure.axes[0].containers if isinstance(bars, BarContainer) for bar in bars],)
    colours = {round(bar.get_width()): (bar.get_facecolor(), bar.get_edgecolor()) for bar in bars}
    (legend,) = figure.legends
    for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True):
        assert (patch.get_facecolor(), patch.get_edgecolor()) == colours[round(milliseconds[text.get_text()])]


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
