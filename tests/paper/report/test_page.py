"""The page of the report: complete tables, marked numbers, working links, commands that run."""

from __future__ import annotations

import html
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from efficientformer_edu.paper.report import MEANINGS, Row, Verdict, report, rows, to_markdown
from efficientformer_edu.paper.report.page import INTRODUCTION, mark
from tools import ROOT
from tools import report as tool

REPORT = report(ROOT)
PAGE = to_markdown(REPORT)
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
SPAN = re.compile(r'<span class="kind (computed|measured|reported)" title="[^"<>]+">([^<>]+)</span>')


def test_tables_are_complete_and_at_most_five_columns_wide() -> None:
    for table in TABLE.findall(PAGE):
        lines = table.splitlines()
        widths = {line.count("|") for line in lines}
        assert len(lines) > 2 and len(widths) == 1 and widths.pop() <= 6
        assert set(lines[1]) <= set("|- ")
    assert len(TABLE.findall(PAGE)) == len({row.part for row in REPORT}) + 2


def test_blank_lines_surround_every_table_and_block() -> None:
    assert not re.search(r"^[^|\n].*\n\|", PAGE, re.MULTILINE)
    assert not re.search(r"^\|.*\n[^|\n]", PAGE, re.MULTILINE)
    assert (
        PAGE.count('<div class="report" markdown>\n\n|') == PAGE.count("|\n\n</div>") == len({r.part for r in REPORT})
    )
    assert PAGE.count("\n$$\n") % 2 == 0


def test_headings_are_in_order_and_once() -> None:
    headings = re.findall(r"^(#+) (.+)$", PAGE, re.MULTILINE)
    assert [level for level, _ in headings] == ["#", *["##"] * (len(headings) - 1)]
    assert max(Counter(text for _, text in headings).values()) == 1


def test_every_row_is_a_single_line_and_its_number_is_marked() -> None:
    lines = [line for line in PAGE.splitlines() if "<span" in line]
    assert len(lines) == len(REPORT)
    for row, line in zip(REPORT, lines, strict=True):
        assert SPAN.sub("", line).count("<span") == 0
        marked = [(kind, html.unescape(text)) for kind, text in SPAN.findall(line)]
        expected = [("reported", row.reported), (row.kind, row.result)] if row.kind else [("reported", row.reported)]
        assert marked == [(kind, " ".join(text.split())) for kind, text in expected]
        assert f"**{row.status}**" in line and f"({', '.join(row.tags)})" in line


def test_the_summary_counts_the_rows() -> None:
    counts = Counter(row.status for row in REPORT)
    for status in MEANINGS:
        assert re.search(rf"^\| \*\*{status}\*\* \|.*\| {counts[status]} \|$", PAGE, re.MULTILINE)


def test_chapters_are_linked_when_they_are_written() -> None:
    for name in set(re.findall(r"\(chapters/(\w+)\.md\)", PAGE)):
        assert (ROOT / "notebooks" / f"{name}.ipynb").exists()
    unwritten = to_markdown(rows())
    assert "](chapters/" not in unwritten and "chapter 3: not written yet" in unwritten


def test_text_is_no_markup() -> None:
    text = "a | b_c_d *e* [f](g) <b> & $x$ `y` \\z"
    marked = mark(text, "computed", 'a "title"')
    assert not re.search(r"[|*_`\[\]$\\]", marked)
    assert html.unescape(re.sub(r"<[^>]+>", "", marked)) == text


def row(**fields: Any) -> Row:
    first = REPORT[0]
    return Row(first.part, "Table 1", "a row", first.record, 5, **fields)


def test_a_measured_row_states_its_method() -> None:
    verdict = Verdict("same trend", "1.9 times as fast", "measured", "Measured on a laptop.")
    page = to_markdown([row(verdict=verdict, command="efficientformer-edu bench l1")])
    assert '<span class="kind measured" title="measured">1.9 times as fast</span>, measured' in page
    assert "**same trend**<br>Measured on a laptop." in page and "<br>`efficientformer-edu bench l1`" in page


@pytest.fixture(scope="module")
def namespace() -> dict[str, Any]:
    code = re.search(r"```python\n(.*?)```", INTRODUCTION, re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    exec(code[1], names)
    return names


@pytest.mark.parametrize("command", sorted({row.command for row in rows() if row.command}))
def test_the_commands_run(command: str, namespace: dict[str, Any]) -> None:
    assert eval(command, namespace) is not None


def test_a_count_equals_the_result_of_its_command(namespace: dict[str, Any]) -> None:
    starts = ("ef.count(", "2 * ef.count(", "deit.")
    counted = [row for row in rows() if row.command.startswith(starts)]
    assert len(counted) == 6 + 2 + 20
    for counted_row in counted:
        assert counted_row.result.partition(";")[0] == f"{eval(counted_row.command, namespace):,}"


def test_the_page_is_written(tmp_path: Path) -> None:
    tool.write(tmp_path / "docs" / "report.md")
    assert (tmp_path / "docs" / "report.md").read_text(encoding="utf-8") == tool.WIDE + PAGE
