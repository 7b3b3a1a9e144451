"""One table in four formats."""

from __future__ import annotations

import csv
import io
import json
import math
import re

import pytest

from efficientformer_edu.utils.statistics import Estimate
from efficientformer_edu.utils.tables import Table

TABLE = Table(
    ("part", "MACs", "share"),
    (("stem", 40_642_560, 0.0315), ("head, both", None, 0.0007), ("total", 1_291_284_736, 1.0)),
    total=True,
    formats={"share": ".1%"},
)


def test_text_is_aligned_and_the_total_set_apart() -> None:
    assert TABLE.to_text() == (
        "part                 MACs    share\n"
        "----------  -------------  -------\n"
        "stem           40,642,560    3.1 %\n"
        "head, both                   0.1 %\n"
        "----------  -------------  -------\n"
        "total       1,291,284,736  100.0 %\n"
    )


def test_markdown() -> None:
    assert TABLE.to_markdown().splitlines() == [
        "| part | MACs | share |",
        "| --- | ---: | ---: |",
        "| stem | 40,642,560 | 3.1 % |",
        "| head, both |  | 0.1 % |",
        "| **total** | **1,291,284,736** | **100.0 %** |",
    ]


def test_csv_quotes_and_leaves_the_total_out() -> None:
    lines = list(csv.reader(io.StringIO(TABLE.to_csv())))
    assert lines == [["part", "MACs", "share"], ["stem", "40642560", "0.0315"], ["head, both", "", "0.0007"]]


def test_json_keeps_numbers() -> None:
    assert json.loads(TABLE.to_json())[0] == {"part": "stem", "MACs": 40_642_560, "share": 0.0315}
    assert len(json.loads(TABLE.to_json())) == 2


MIXED = Table(("operation", "ratio", "exact", "ms"), (("a|b", 2.5, True, 1234.5678), (r"c\|d", 0.25, False, 7)))


def test_floats_are_unchanged_unless_the_column_has_a_format() -> None:
    assert MIXED.formatted() == [["a|b", "2.5", "yes", "1,234.57"], [r"c\|d", "0.25", "no", "7"]]
    formats = {"ratio": ".1%", "ms": ".2f"}
    rows = Table(MIXED.columns, MIXED.rows, formats=formats).formatted()
    assert [row[1:] for row in rows] == [["250.0 %", "yes", "1234.57"], ["25.0 %", "no", "7.00"]]


@pytest.mark.parametrize("formats", [{}, {"ratio": ".1%", "ms": ".0f"}])
def test_csv_and_json_hold_numbers_and_booleans(formats: dict[str, str]) -> None:
    table = Table(MIXED.columns, MIXED.rows, formats=formats)
    assert [tuple(row.values()) for row in json.loads(table.to_json())] == list(MIXED.rows)
    _, *lines = csv.reader(io.StringIO(table.to_csv()))
    assert [(name, float(ratio), exact == "True", float(ms)) for name, ratio, exact, ms in lines] == list(MIXED.rows)


def test_a_bar_does_not_end_a_cell_of_markdown() -> None:
    table = Table(("|x|", *MIXED.columns[1:]), MIXED.rows)
    for line, first in zip(table.to_markdown().splitlines(), ["|x|", None, "a|b", r"c\|d"], strict=True):
        cells = re.findall(r" ((?:\\.|[^|\\])*) (?=\|)", line)  # a backslash escapes the next character
        assert len(cells) == len(table.columns)
        assert first is None or re.sub(r"\\(.)", r"\1", cells[0]) == first


def test_a_line_break_does_not_end_a_row() -> None:
    table = Table(("a", "b"), (("one\ntwo", 1),))
    assert table.formatted() == [["one two", "1"]]
    assert json.loads(table.to_json()) == [{"a": "one\ntwo", "b": 1}]


def test_numbers_are_right_aligned_and_booleans_are_not() -> None:
    assert MIXED.to_markdown().splitlines()[1] == "| --- | ---: | --- | ---: |"


def test_a_format_for_a_missing_column_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"'shares'.*allowed: 'part', 'share'"):
        Table(("part", "share"), (), formats={"shares": ".1%"})


@pytest.mark.parametrize("columns", [("table", "rank", "rank"), ("ms", "rank", "ms low")])
def test_a_repeated_column_name_is_rejected(columns: tuple[str, ...]) -> None:
    """JSON would keep only the last of these columns; the second table has an estimate, whose ends are columns too."""
    with pytest.raises(ValueError, match=f"{columns[-1]!r} is repeated"):
        Table(columns, ((Estimate(2.0, 1.5, 2.5, 9), 1, 2),))


def test_an_estimate_is_one_column_for_reading_and_three_numbers_otherwise() -> None:
    rows = (("a", Estimate(2.0, 1.5, 2.5, 9)), ("b", Estimate(4.0, -math.inf, math.inf, 2)), ("c", None))
    table = Table(("name", "ms"), rows, formats={"ms": ".1f"}, missing="–")
    assert [row[1] for row in table.formatted()] == ["2.0 (1.5 to 2.5)", "4.0 (too few: 2)", "–"]
    columns = ("name", "ms", "ms low", "ms high")
    expected = [("a", 2.0, 1.5, 2.5), ("b", 4.0, None, None), ("c", None, None, None)]
    assert json.loads(table.to_json()) == [dict(zip(columns, row, strict=True)) for row in expected]
    assert list(csv.reader(io.StringIO(table.to_csv()))) == [
        list(columns),
        *(["" if cell is None else str(cell) for cell in row] for row in expected),
    ]
    assert table.to_markdown().splitlines()[1] == "| --- | ---: |"


def test_some_columns_keep_their_formats() -> None:
    assert TABLE.select(("share", "part")).to_markdown().splitlines()[2:] == [
        "| 3.1 % | stem |",
        "| 0.1 % | head, both |",
        "| **100.0 %** | **total** |",
    ]
    with pytest.raises(ValueError, match="'bytes'.*allowed: 'part', 'MACs'"):
        TABLE.select(("part", "bytes"))


def test_without_a_total_nothing_is_left_out() -> None:
    table = Table(("a", "b"), (("x", 1), ("y", 20)))
    assert table.to_text() == "a   b\n-  --\nx   1\ny  20\n"
    assert len(json.loads(table.to_json())) == 2


@pytest.mark.parametrize(
    ("format", "same"), [("table", "to_text"), ("markdown", "to_markdown"), ("csv", "to_csv"), ("json", "to_json")]
)
def test_by_name(format: str, same: str) -> None:
    assert TABLE.to(format) == getattr(TABLE, same)()


def test_another_format() -> None:
    with pytest.raises(ValueError, match="format='html' is not possible; allowed: table, markdown, csv, json"):
        TABLE.to("html")
