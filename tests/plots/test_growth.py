"""The points are those of the ledger, and the straight lines are power laws."""

from __future__ import annotations

import pytest
from matplotlib.axes import Axes

from efficientformer_edu.audit import count
from efficientformer_edu.config import PRESETS
from efficientformer_edu.plots.growth import WIDE_RESOLUTIONS, draw_attention_share, draw_growth

L1 = count("l1")


def line(axes: Axes, label: str) -> list[tuple[float, float]]:
    curve = next(curve for curve in axes.lines if curve.get_label() == label)
    return list(zip(*map(list, curve.get_data()), strict=True))


def test_multiples_are_of_the_network_at_224_pixels() -> None:
    resolution, width, depth, vit = draw_growth("l1").axes
    assert line(resolution, "MACs") == [(r, count("l1", r).macs / L1.macs) for r in (112, 224, 448, 896)]
    assert line(resolution, "parameters") == [(r, 1) for r in (112, 224, 448, 896)]
    assert line(width, "MACs")[0] == line(depth, "parameters")[0] == line(vit, "MACs")[1] == (1, 1)
    wide = PRESETS["l1"].replace(embed_dims=(96, 192, 448, 896))
    deep = PRESETS["l1"].replace(depths=(6, 4, 12, 8), num_vit=2)
    assert line(width, "parameters")[1] == (2, count(wide).params / L1.params)
    assert line(depth, "MACs")[1] == (2, count(deep).macs / L1.macs)
    exchanged = [count(PRESETS["l1"].replace(num_vit=vit)) for vit in range(5)]
    assert line(vit, "parameters") == [(i, costs.params / L1.params) for i, costs in enumerate(exchanged)]


@pytest.mark.parametrize(("panel", "power"), [(0, 2), (1, 2), (2, 1)])
def test_the_grey_line_is_the_power_in_the_title(panel: int, power: int) -> None:
    axes = draw_growth("l3").axes[panel]
    assert axes.get_title() == f"grey: slope {power}"
    assert axes.get_xscale() == axes.get_yscale() == "log"
    (first, low), *_, (last, high) = zip(*map(list, axes.lines[0].get_data()), strict=True)
    assert high / low == (last / first) ** power
    assert (224.0 if panel == 0 else 1.0, 1.0) in set(zip(*map(tuple, axes.lines[0].get_data()), strict=True))


def test_the_share_is_shown_for_every_published_network() -> None:
    (axes,) = draw_attention_share().axes
    for name in PRESETS:
        for resolution, share in line(axes, name.upper()):
            kinds = count(name, int(resolution)).by("kind")
            assert share == kinds["attention product"].macs / sum(sums.macs for sums in kinds.values())
        assert [x for x, _ in line(axes, name.upper())] == list(WIDE_RESOLUTIONS)


def test_networks_differ_in_more_than_colour() -> None:
    (axes,) = draw_attention_share().axes
    curves = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    assert len({line.get_marker() for line in curves}) == len({line.get_linestyle() for line in curves}) == len(PRESETS)


def test_an_unknown_network_is_rejected() -> None:
    with pytest.raises(ValueError, match="l2"):
        draw_growth("l2")
