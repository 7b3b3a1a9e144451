"""Every entry of a legend has the colour and line style of the artists that it names."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer

from efficientformer_edu.audit import count
from efficientformer_edu.dense.evaluation import DensePrediction
from efficientformer_edu.latency import Conditions
from efficientformer_edu.latency.profile import CLASSES, Profile
from efficientformer_edu.plots.latency import draw_profiles
from efficientformer_edu.plots.overlays import class_colours, draw_overlay
from efficientformer_edu.plots.strip import strip
from efficientformer_edu.plots.training import draw_curves


def test_areas() -> None:
    semantic = torch.zeros(100, 200, dtype=torch.uint8)
    semantic[10:90, 20:120] = 1
    semantic[10:40, 150:190] = 3
    classes = ("background", "disc", "square", "ring")
    image = torch.zeros(3, 100, 200, dtype=torch.uint8)
    (legend,) = draw_overlay(DensePrediction(image, classes, semantic=semantic)).legends
    for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True):
        assert to_hex(patch.get_facecolor()).upper() == class_colours(classes)[text.get_text().split()[0]]


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
