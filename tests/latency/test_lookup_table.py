"""The table itself: the parts of a network, interpolation between measured parts, and what it refuses."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from strategies import configs, resolutions

from efficientformer_edu.audit import count
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.latency import Conditions
from efficientformer_edu.latency.lookup_table import Entry, Lookup, Part, macs, parts


def table(seconds: dict[Part, float]) -> Lookup:
    entries = tuple(Entry(part, value, 9.0) for part, value in seconds.items())
    return Lookup("folded", (224, 224), PRESETS["l1"], Conditions(), entries)


@given(config=configs(), resolution=resolutions)
def test_the_parts_of_a_network_make_up_the_network(config: EfficientFormerConfig, resolution: tuple[int, int]) -> None:
    single_head = config.replace(distillation=False)
    counts = parts(single_head, resolution)
    total = sum(number * macs(part, single_head, resolution) for part, number in counts.items())
    assert total == count(single_head, resolution).macs
    kinds = Counter(part.kind for part in counts.elements())
    assert (kinds["stem"], kinds["head"]) == (1, 1)
    assert kinds["embedding"] == sum(config.downsamples)
    assert (kinds["MB3D"], kinds["MB4D"]) == (sum(config.vits), sum(config.depths) - sum(config.vits))
    assert min(counts.values()) > 0


def test_blocks_between_two_widths_lie_on_the_line_over_their_macs() -> None:
    known = [Part("MB4D", (14, 14), (width,)) for width in (32, 64, 128)]
    lookup = table(dict(zip(known, (3.0, 5.0, 6.0), strict=True)))
    # MACs grow with the square: 48² lies at (48² − 32²) / (64² − 32²) of the way, 96² likewise in its own segment
    assert lookup.part(known[0]._replace(widths=(48,))) == pytest.approx(3 + 2 * (48**2 - 32**2) / (64**2 - 32**2))
    assert lookup.part(known[0]._replace(widths=(96,))) == pytest.approx(5 + 1 * (96**2 - 64**2) / (128**2 - 64**2))
    assert [lookup.part(part) for part in known] == pytest.approx([3, 5, 6])


def test_an_embedding_is_linear_in_both_of_its_widths() -> None:
    def seconds(before: int, after: int) -> float:
        return 7 * before * after + 3 * before + 5 * after + 11

    pairs = [(before, after) for before in (16, 64, 128) for after in (32, 96)]
    known = {Part("embedding", (14, 14), pair): seconds(*pair) for pair in pairs}
    lookup = table(known)
    for widths in [(16, 64), (32, 96), (112, 80), (48, 48), (64, 32)]:
        assert lookup.part(Part("embedding", (14, 14), widths)) == pytest.approx(seconds(*widths))
    incomplete = table(dict(list(known.items())[:-1]))
    with pytest.raises(ValueError, match="128 to 96 channels: .*not complete"):
        incomplete.part(Part("embedding", (14, 14), (112, 80)))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part("MB4D", (14, 14), (40,)), "multiples of 16"),
        (Part("MB4D", (14, 14), (160,)), "160 is outside of the table, which has 32 to 128 channels"),
        (Part("MB4D", (14, 14), (16,)), "16 is outside of the table, which has 32 to 128 channels"),
        (Part("MB3D", (14, 14), (32,)), "MB3D at 14×14, 32 channels: 32 is outside .* none on this grid"),
    ],
)
def test_there_is_no_extrapolation(part: Part, message: str) -> None:
    lookup = table({Part("MB4D", (14, 14), (width,)): 1.0 for width in (32, 64, 128)})
    with pytest.raises(ValueError, match=message):
        lookup.part(part)


def test_an_empty_table_has_no_reference() -> None:
    with pytest.raises(ValueError, match="empty"):
        _ = table({}).reference
