"""Every fact in `paper` has a row, and each row states only what its record, check or chapter supports."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

import efficientformer_edu.paper.report as room
from efficientformer_edu import paper
from efficientformer_edu.paper.records import TAGS
from efficientformer_edu.paper.report import MEANINGS, Row, Status, Verdict, report, rows, slimming, to_markdown
from tools import ROOT

ROWS = tuple(rows())
SOURCES = sorted(Path(room.__file__).parent.glob("*.py"))
TYPED = re.compile(r"\d[.,]\d|\d{3}")
"""The format of a result: a decimal, a number with thousands, or three digits in a row."""


def known() -> list[Any]:
    """All that the paper subpackage returns, except the columns of its tables, which report nothing by themselves."""
    external = (*paper.external_latencies(), *paper.external_counts(), *paper.external_accuracies())
    tables = [paper.table1(), paper.table2(), paper.appendix_b(), *external]
    return [
        *(row for table in tables for row in table.rows),
        *(*paper.ratios(), *paper.observations(), paper.figure2(), *paper.equations(), *paper.architectures()),
        *(*paper.differences(), *paper.algorithm1(), *paper.slimming_actions()),
        *(setting for topic in ("recipe", "table1", "table2", "architecture") for setting in paper.settings(topic)),
        *(remark for topic in ("slimming", "appendix_b", "recipe") for remark in paper.remarks(topic)),
    ]


def leaves(record: Any) -> Iterator[Any]:
    """The smallest records in a record: numbers, sentences, and records without nested records."""
    if isinstance(record, tuple):
        for item in record:
            yield from leaves(item)
    elif dataclasses.is_dataclass(record):
        inside = [leaf for field in dataclasses.fields(record) for leaf in leaves(getattr(record, field.name))]
        yield from inside or [record]


def test_every_leaf_of_the_paper_is_in_a_single_row() -> None:
    expected = Counter(leaf for record in known() for leaf in leaves(record))
    expected += Counter(
        dataclasses.replace(architecture, printed=None)
        for architecture in paper.architectures()
        if architecture.printed
    )
    assert Counter(leaf for row in ROWS for leaf in leaves(row.record)) == expected


@pytest.mark.parametrize(
    "records",
    [
        paper.ratios(),
        paper.equations(),
        paper.observations(),
        paper.differences(),
        (*paper.algorithm1(), *paper.slimming_actions()),
        tuple(cell for row in paper.table1().rows if row.preset for cell in row.cells),
        tuple(cell for row in paper.table2().rows if row.preset for cell in row.cells),
        tuple(cell for row in paper.appendix_b().rows for cell in row.cells),
    ],
    ids=["ratios", "equations", "observations", "differences", "algorithm 1", "table 1", "table 2", "appendix B"],
)
def test_these_records_have_a_single_row(records: tuple[Any, ...]) -> None:
    answered = Counter(row.record for row in ROWS)
    assert all(answered[record] == number for record, number in Counter(records).items())


def test_a_lost_row_would_be_detected() -> None:
    expected = Counter(leaf for row in ROWS for leaf in leaves(row.record))
    for index in range(len(ROWS)):
        assert Counter(leaf for row in (*ROWS[:index], *ROWS[index + 1 :]) for leaf in leaves(row.record)) != expected


def test_names_are_unique() -> None:
    assert [name for name, times in Counter(row.name for row in ROWS).items() if times > 1] == []


def test_every_row_has_a_status_a_source_and_a_chapter() -> None:
    for row in ROWS:
        assert row.status in get_args(Status) and row.reported
        assert row.tags and set(row.tags) <= set(TAGS)
        assert 0 <= row.chapter <= 11
        assert (row.status in ("exact", "follows the code")) <= (row.kind == "computed" and bool(row.command)), row.name
        assert (row.status in ("inconclusive", "disagrees", "not reproducible here")) <= bool(row.why), row.name
        assert (row.status in ("not yet", "background")) <= (row.kind is None and not row.why), row.name
    assert list(MEANINGS) == list(get_args(Status))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"status": "fine"}, "status='fine' is not possible; allowed: exact, follows the code, consistent"),
        ({"status": "exact", "result": "1", "kind": "guessed"}, "kind='guessed' is not possible; allowed: computed"),
        ({"status": "exact", "result": "1"}, "result='1' with kind=None"),
        ({"status": "exact", "kind": "computed"}, "result='' with kind='computed'"),
    ],
)
def test_a_wrong_verdict_is_rejected(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Verdict(**fields)


def test_no_number_is_typed_into_a_row() -> None:
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        prose = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        strings = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
        ]
        typed = [text for text in strings if TYPED.search(re.sub(r"(?:Section |§)\d\.\d|a100", "", text))]
        assert typed == [], path.name
    assert TYPED.search("12.3 M") and TYPED.search("12,289,928") and TYPED.search("224")


def chapter(folder: Path, name: str) -> None:
    (folder / "notebooks").mkdir(exist_ok=True)
    (folder / "notebooks" / f"{name}.ipynb").write_text("{}", encoding="utf-8")


def test_a_row_shows_whether_its_chapter_exists(tmp_path: Path) -> None:
    chapter(tmp_path, "01_latency_observations")
    rows = report(tmp_path, tmp_path / "results")
    observation = next(row for row in rows if row.name == "§3: observation 1")
    step = next(row for row in rows if row.where == "Algorithm 1")
    assert (observation.notebook, observation.chapter_label) == (
        "01_latency_observations",
        "chapter 1: no result stored yet",
    )
    assert (step.notebook, step.chapter_label) == ("", "chapter 8: not written yet")
    assert [row.name for row in rows] == [row.name for row in ROWS]


def test_a_folder_without_chapters_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no chapters in .*give the top folder of the kit"):
        report(tmp_path, tmp_path / "results")


def test_the_report_of_this_checkout_links_its_chapters() -> None:
    written = {int(path.name[:2]) for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")}
    assert all(bool(row.notebook) == (row.chapter in written) for row in report(ROOT))


def stored(folder: Path, **changes: Any) -> Path:
    data = {"command": "efficientformer-edu observe", "machine": "a laptop", "date": "2026-01-31", "versions": "torch"}
    entry = {"row": "§3: observation 1", "status": "same trend", "ours": "2.4 times as slow", "why": "Large kernel."}
    data |= {name: value for name, value in changes.items() if name in data}
    entry |= {name: value for name, value in changes.items() if name not in data}
    (folder / "results").mkdir(exist_ok=True)
    path = folder / "results" / f"{entry['row'][-1]}.json"
    path.write_text(json.dumps(data | {"findings": [entry]}), encoding="utf-8")
    return path


def test_a_stored_result_answers_its_row_and_no_other(tmp_path: Path) -> None:
    chapter(tmp_path, "01_latency_observations")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "other.json").write_text('[{"latency": 3}]', encoding="utf-8")
    before = report(tmp_path, tmp_path / "results")
    stored(tmp_path)
    changed = [(a, b) for a, b in zip(before, report(tmp_path, tmp_path / "results"), strict=True) if a != b]
    assert [a.name for a, _ in changed] == ["§3: observation 1"]
    row: Row = changed[0][1]
    assert (row.status, row.result, row.kind) == ("same trend", "2.4 times as slow", "measured")
    assert row.why == "Large kernel. Measured on a laptop; torch; 2026-01-31."
    assert (row.command, row.chapter_label) == ("efficientformer-edu observe", "chapter 1")


@pytest.mark.parametrize("status", slimming.MEASURED)
def test_a_measured_answer_can_leave_a_row_open(tmp_path: Path, status: str) -> None:
    chapter(tmp_path, "01_latency_observations")
    stored(tmp_path, status=status)
    rows = report(tmp_path, tmp_path / "results")
    assert next(row.status for row in rows if row.name == "§3: observation 1") == status
    page = to_markdown(rows)
    assert f"**{status}**<br>Large kernel. Measured on a laptop" in page
    assert f"| **{status}** | {MEANINGS[status]} | " in page


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"row": "§3: observation 9"}, "unknown row of the report: '§3: observation 9'; did you mean '§3: observation"),
        ({"row": "Table 1: EfficientFormer-L1, parameters"}, "already has an answer: 12,289,928, computed"),
        ({"status": "exact"}, "1.json: status='exact' is not possible for a measurement; allowed: same trend"),
        ({"speed": 3}, "1.json: a finding has no field speed; it has row, status, ours and why"),
    ],
)
def test_a_result_without_a_matching_row_is_rejected(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    chapter(tmp_path, "01_latency_observations")
    stored(tmp_path, **changes)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        report(tmp_path, tmp_path / "results")


@pytest.mark.parametrize("name", ["command", "machine", "date", "versions"])
def test_a_result_without_provenance_is_rejected(tmp_path: Path, name: str) -> None:
    chapter(tmp_path, "01_latency_observations")
    path = stored(tmp_path)
    data = json.loads(path.read_text(encoding="utf-8"))
    del data[name]
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match=f"1.json: the field '{name}' is missing"):
        report(tmp_path, tmp_path / "results")


def test_two_answers_to_the_same_row_are_rejected(tmp_path: Path) -> None:
    chapter(tmp_path, "01_latency_observations")
    path = stored(tmp_path)
    (path.parent / "again.json").write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ValueError, match="'§3: observation 1' already has an answer: 2.4 times as slow, measured"):
        report(tmp_path, tmp_path / "results")
