"""The strip is well-formed, its bars are the ledger's blocks to the last digit, and nothing leaves the card."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from strategies import configs, resolutions

from efficientformer_edu.audit import Costs, count
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.figures.colours import FAINT, INK, PAPER
from efficientformer_edu.figures.strip import GROUND, LANE, LETTER, Svg, groups, short, strip

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
    found = []
    for group in ElementTree.fromstring(picture).iter(f"{SVG}g"):
        words = BAR.fullmatch(group.findtext(f"{SVG}title") or "")
        assert words
        macs, params = (int(number.replace(",", "")) for number in words.groups()[1:])
        found.append((words[1], macs, params, group.findall(f"{SVG}rect")))
    return found


def check(costs: Costs) -> None:
    found = bars(strip(costs))
    assert [bar[:3] for bar in found] == [(name, each.macs, each.params) for name, each in costs.by("block").items()]
    assert sum(macs for _, macs, _, _ in found) == costs.macs
    assert sum(params for _, _, params, _ in found) == costs.params
    most_macs, most_params = max(bar[1] for bar in found), max(bar[2] for bar in found)
    for _, macs, params, (up, down) in found:
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


def test_stages_say_name_map_and_width() -> None:
    assert [group.lines for group in groups(count("l1", (384, 640)))] == [
        ("stem",),
        ("stage 1", "96×160", "width 48"),
        ("stage 2", "48×80", "width 96"),
        ("stage 3", "24×40", "width 224"),
        ("stage 4", "12×20", "width 448"),
        ("head",),
    ]
    parts = [bar.part for bar in groups(count("l1"))[4].bars]
    assert parts == ["embedding", "MB4D", "MB4D", "MB4D", "MB3D"]


def test_it_is_described_in_words() -> None:
    picture = strip(count("l1", form="folded"))
    root = ElementTree.fromstring(picture)
    assert root.attrib["role"] == "img"
    assert root.findtext(f"{SVG}title") == picture.caption == "11.8 M parameters, 1.29 G MACs at 224×224, folded"
    macs = 49 * (448 * 8 * 192 + 8 * 128 * 448 + 2 * 448 * 1792) + 8 * 49 * 49 * 160
    assert f"20 bars in the order in which the blocks run. Most MACs: stage 4, MB3D 1, {macs:,}." in picture


def test_jupyter_gets_the_picture_and_one_line() -> None:
    picture = strip(count("l1"))
    shown = picture._repr_mimebundle_()
    assert shown == {"image/svg+xml": str(picture), "text/plain": "12.3 M parameters, 1.29 G MACs at 224×224"}


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("ink", [INK, FAINT])
@pytest.mark.parametrize("ground", [PAPER, GROUND])
def test_text_stands_out(ink: str, ground: str) -> None:
    assert (luminance(ground) + 0.05) / (luminance(ink) + 0.05) >= 4.5


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
def test_three_digits(number: int, text: str) -> None:
    assert short(number) == text
