"""One table in four formats."""

from __future__ import annotations

import csv
import io
import json

import pytest

from efficientformer_edu.audit.tables import Table

TABLE = Table(
    ("part", "MACs", "share"),
    (("stem", 40_642_560, 0.0315), ("head, both", None, 0.0007), ("total", 1_291_284_736, 1.0)),
    total=True,
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


def test_without_a_total_nothing_is_left_out() -> None:
    plain = Table(("a", "b"), (("x", 1), ("y", 20)))
    assert plain.to_text() == "a   b\n-  --\nx   1\ny  20\n"
    assert len(json.loads(plain.to_json())) == 2


@pytest.mark.parametrize(
    ("format", "same"), [("table", "to_text"), ("markdown", "to_markdown"), ("csv", "to_csv"), ("json", "to_json")]
)
def test_by_name(format: str, same: str) -> None:
    assert TABLE.to(format) == getattr(TABLE, same)()


def test_another_format() -> None:
    with pytest.raises(ValueError, match="format='html' is not possible; allowed: table, markdown, csv, json"):
        TABLE.to("html")
