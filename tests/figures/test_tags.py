"""Tags stay within their bounds and clear of each other, names within their areas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientformer_edu.figures.tags import Box, leader, place_tags, room_for, words_width

BOUNDS: Box = (10.0, 20.0, 210.0, 170.0)


@st.composite
def boxes_and_sizes(draw: st.DrawFn) -> tuple[list[Box], list[tuple[float, float]]]:
    count = draw(st.integers(0, 6))
    sides, places = st.floats(1, 80), st.floats(-50, 250)
    corners = [(draw(places), draw(places), draw(sides), draw(sides)) for _ in range(count)]
    sizes = [(draw(st.floats(5, 200)), draw(st.floats(5, 30))) for _ in range(count)]
    return [(x, y, x + width, y + height) for x, y, width, height in corners], sizes


@given(boxes_and_sizes())
def test_a_tag_keeps_its_size_and_stays_in_its_bounds(drawn: tuple[list[Box], list[tuple[float, float]]]) -> None:
    boxes, sizes = drawn
    tags = place_tags(boxes, sizes, BOUNDS)
    assert len(tags) == len(boxes)
    for (left, top, right, bottom), size in zip(tags, sizes, strict=True):
        assert (right - left, bottom - top) == pytest.approx(size)
        assert left >= BOUNDS[0] and top >= BOUNDS[1]
        assert right <= BOUNDS[2] + 1e-9 and bottom <= BOUNDS[3] + 1e-9


def test_the_first_choice_is_above_at_the_left() -> None:
    assert place_tags([(50, 60, 90, 100)], [(30, 12)], BOUNDS) == [(50, 48, 80, 60)]
    # Where there is no room above, the tag is moved down into the bounds.
    assert place_tags([(50, 25, 90, 100)], [(30, 12)], BOUNDS) == [(50, 20, 80, 32)]
    assert place_tags([(195, 60, 205, 100)], [(30, 12)], BOUNDS) == [(180, 48, 210, 60)]


def test_tags_of_one_box_do_not_cover_each_other() -> None:
    boxes, sizes = [(50.0, 60.0, 110.0, 120.0)] * 8, [(40.0, 12.0)] * 8
    tags = place_tags(boxes, sizes, BOUNDS)
    for number, one in enumerate(tags):
        for other in tags[:number]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, (one, other)


def test_a_tag_without_room_at_its_box_stands_as_near_as_it_can() -> None:
    box, wide = (100.0, 90.0, 110.0, 100.0), (80.0, 12.0)
    tags = place_tags([box] * 8, [wide] * 8, BOUNDS)
    lines = [leader(tag, box) for tag in tags]
    assert lines[0] is None  # it touches its box
    far = [abs(tag[1] - box[1]) for tag, line in zip(tags, lines, strict=True) if line is not None]
    assert far and max(far) < 50  # half as far as the farthest place there is


def test_a_line_leads_from_a_tag_to_its_box_by_the_shortest_way() -> None:
    box = (50.0, 60.0, 90.0, 100.0)
    assert leader((50, 48, 80, 60), box) is None
    assert leader((20, 70, 40, 80), box) == ((40, 75), (50, 75))  # level with it, on the left
    assert leader((60, 10, 80, 22), box) == ((70, 22), (70, 60))  # above
    assert leader((100, 110, 120, 122), box) == ((100, 110), (90, 100))  # corner to corner


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 4))
def test_a_name_has_room_where_every_place_is_of_its_area(seed: int, width: int, height: int) -> None:
    area = np.random.default_rng(seed).random((9, 11)) < 0.85
    fits = [
        (x, y)
        for y in range(9 - height + 1)
        for x in range(11 - width + 1)
        if area[y : y + height, x : x + width].all()
    ]
    place = room_for(area, (width - 0.5, height))
    assert place in fits if fits else place is None


def test_a_name_stands_near_the_middle() -> None:
    assert room_for(np.ones((9, 11), bool), (3, 1)) == (4, 4)
    assert room_for(np.ones((9, 11), bool), (12, 1)) is None


def test_longer_words_are_wider() -> None:
    assert words_width("disc 98%", 12) > words_width("disc", 12) > 0
    assert words_width("disc", 24) == pytest.approx(2 * words_width("disc", 12), rel=0.1)  # but for whole dots
