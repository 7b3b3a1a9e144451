"""The strip is well-formed, its bars have the exact costs of the blocks, and nothing leaves the card."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from strategies import configs, resolutions

from efficientformer_edu.audit import Costs, count
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.plots import FAINT, INK, PAPER
from efficientformer_edu.plots.strip import GROUND, LANE, LETTER, Svg, bars_by_stage, short, strip
from efficientformer_edu.plots.style import contrast

SVG = "{http://www.w3.org/2000/svg}"
BAR = re.compile(r"(.+): ([\d,]+) MACs, ([\d,]+) parameters")
L1 = PRESETS["l1"]
HARD = [
    count("l7"),
    count("l3", (384, 640), form="folded"),
    count(L1.replace(depths=(1, 1, 97, 1), distillation=False), 2048),
    count(L1.replace(depths=(40, 30, 20, 10), num_vit=(1, 1, 1, 10)), 30_000),
    count(L1.replace(downsamples=(False,) * 4, embed_dims=(48,) * 4, num_vit=0), 32),
]


def bars(picture: Svg) -> list[tuple[str, int, int, list[ElementTree.Element]]]:
    """Name, MACs, parameters and the two rectangles of each bar."""
    result = []
    for group in ElementTree.fromstring(picture).iter(f"{SVG}g"):
        match = BAR.fullmatch(group.findtext(f"{SVG}title") or "")
        assert match
        macs, params = (int(number.replace(",", "")) for number in match.groups()[1:])
        result.append((match[1], macs, params, group.findall(f"{SVG}rect")))
    return result


def check(costs: Costs) -> None:
    rendered = bars(strip(costs))
    expected = [(name, sums.macs, sums.params) for name, sums in costs.by("block").items()]
    assert [bar[:3] for bar in rendered] == expected
    assert sum(macs for _, macs, _, _ in rendered) == costs.macs
    assert sum(params for _, _, params, _ in rendered) == costs.params
    most_macs, most_params = max(bar[1] for bar in rendered), max(bar[2] for bar in rendered)
    for _, macs, params, (up, down) in rendered:
        assert float(up.attrib["height"]) == pytest.approx(LANE * macs / most_macs, abs=0.006)
        assert float(down.attrib["height"]) == pytest.approx(LANE * params / most_params, abs=0.006)
        bottom = float(up.attrib["y"]) + float(up.attrib["height"])
        assert bottom == pytest.approx(float(down.attrib["y"]), abs=0.011)


@given(config=configs(), resolution=resolutions)
def test_bars_are_the_blocks_of_any_network(config: EfficientFormerConfig, resolution: tuple[int, int]) -> None:
    check(count(config, resolution))
    check(count(config, resolution, form="folded"))


@pytest.mark.parametrize("costs", [count("l1"), *HARD], ids=repr)
def test_nothing_overlaps_or_leaves_the_card(costs: Costs) -> None:
    check(costs)
    picture = ElementTree.fromstring(strip(costs))
    _, _, width, height = map(float, picture.attrib["viewBox"].split())
    ends = []
    for _, _, _, (up, _) in bars(strip(costs)):
        left = float(up.attrib["x"])
        assert not ends or left > ends[-1] - 0.01
        ends.append(left + float(up.attrib["width"]))
    assert ends[-1] < width
    rows: dict[float, list[tuple[float, float]]] = {}
    for text in picture.iter(f"{SVG}text"):
        x, y, wide = float(text.attrib["x"]), float(text.attrib["y"]), LETTER * len(text.text or "")
        left = x - wide / 2 if text.attrib["text-anchor"] == "middle" else x
        rows.setdefault(y, []).append((left, left + wide))
    assert max(rows) < height - 8
    for spans in rows.values():
        assert spans[0][0] >= 0 and spans[-1][1] <= width
        for (_, end), (start, _) in pairwise(spans):
            assert end <= start


def test_stages_are_labelled_with_name_grid_and_width() -> None:
    assert [group.lines for group in bars_by_stage(count("l1", (384, 640)))] == [
        ("stem",),
        ("stage 1", "96×160", "width 48"),
        ("stage 2", "48×80", "width 96"),
        ("stage 3", "24×40", "width 224"),
        ("stage 4", "12×20", "width 448"),
        ("head",),
    ]
    kinds = [bar.kind for bar in bars_by_stage(count("l1"))[4].bars]
    assert kinds == ["embedding", "MB4D", "MB4D", "MB4D", "MB3D"]


def test_the_svg_has_a_title_and_a_description() -> None:
    picture = strip(count("l1", form="folded"))
    root = ElementTree.fromstring(picture)
    assert root.attrib["role"] == "img"
    assert root.findtext(f"{SVG}title") == picture.caption == "11.8 M parameters, 1.29 G MACs at 224×224, folded"
    macs = 49 * (448 * 8 * 192 + 8 * 128 * 448 + 2 * 448 * 1792) + 8 * 49 * 49 * 160
    description = root.findtext(f"{SVG}desc") or ""
    assert "20 bars" in description and f"stage 4, MB3D 1, {macs:,}" in description


def test_jupyter_gets_the_svg_and_its_title() -> None:
    picture = strip(count("l1"))
    shown = picture._repr_mimebundle_()
    assert shown == {"image/svg+xml": str(picture), "text/plain": "12.3 M parameters, 1.29 G MACs at 224×224"}


@pytest.mark.parametrize("ink", [INK, FAINT])
@pytest.mark.parametrize("ground", [PAPER, GROUND])
def test_text_has_contrast(ink: str, ground: str) -> None:
    assert contrast(ground, ink) >= 4.5


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (640, "640"),
        (999, "999"),
        (1000, "1.00 k"),
        (99_960, "100 k"),
        (999_499, "999 k"),
        (999_500, "1.00 M"),
        (12_289_928, "12.3 M"),
        (10_119_325_696, "10.1 G"),
        (123_456_000_000_000_000, "123,456 T"),
    ],
)
def test_three_significant_digits(number: int, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize("model", ["l1", "l7"])
def test_the_legend_has_the_colours_of_the_bars(model: str) -> None:
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
