"""The tools that run, check, cut and convert the chapters, on a synthetic chapter."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import Any

import nbformat.v4 as v4
import pytest

from tools import markdown, notebooks, offline, site_hooks, student
from tools.chapters import Notebook, cut, exercises, same_everywhere, shown, tags, write
from tools.exercises import verdicts
from tools.shape import faults

SOLUTION = '''def count_tokens(height: int, width: int) -> int:
    """Tokens of a map of 1/32 of the image."""
    ### BEGIN SOLUTION
    return -(-height // 32) * -(-width // 32)
    ### END SOLUTION'''
CHECK = """from efficientformer_edu.exercises._check import call, done, require

require(call(count_tokens, 224, 224) == 49, "The map is halved five times.")
require(call(count_tokens, 33, 33) == 4, "A stride of two rounds up.")
done("49 tokens.")"""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WORDS = "Feature maps first, tokens last. " * 80


def prose(source: str, *names: str) -> Any:
    return v4.new_markdown_cell(source, metadata={"tags": list(names)})


def code(source: str, *names: str, outputs: list[Any] | None = None, **metadata: Any) -> Any:
    return v4.new_code_cell(source, metadata={"tags": list(names), **metadata}, outputs=outputs or [])


def mistake(source: str, explains: str) -> Any:
    return v4.new_raw_cell(source, metadata={"tags": ["mistake"], "explains": explains})


def exercise(number: int) -> list[Any]:
    output = v4.new_output("stream", name="stdout", text="Well done: 49 tokens.\n")
    return [
        prose(f"### Exercise {number}: Count tokens\n\nDifficulty 2/5 · importance 4/5 · 10 minutes\n\nCount."),
        prose("Look at $2^5$.", "hint"),
        code(SOLUTION, "solution"),
        mistake("def count_tokens(h, w):\n    return (h // 32) * (w // 32)", "rounds up"),
        mistake("def count_tokens(h, w):\n    return h * w", "halved five times"),
        code(CHECK, "check", "exact", outputs=[output]),
    ]


def chapter() -> Notebook:
    shape = v4.new_output("execute_result", data={"text/plain": "(1, 3)"}, execution_count=2)
    picture = v4.new_output("display_data", data={"image/png": PIXEL, "text/plain": "<Figure size 1x1>"})
    diagram = v4.new_output("display_data", data={"text/vnd.mermaid": "flowchart LR\n    A --> B"})
    cells = [
        prose(f"# 2. Building blocks\n\nAll blocks. {WORDS}"),
        prose("## What you will learn\n\n* blocks\n\n## What you need\n\n40 minutes; a laptop."),
        code("import math"),
        prose("## A block\n\nSee [the network](03_the_network.ipynb#heads)."),
        code("(1, 3)", "exact", outputs=[shape]),
        code("draw()", alt="One pixel", outputs=[picture]),
        code("diagram()", "exact", alt="A leads to B", outputs=[diagram]),
        prose("## What we found\n\n* 49\n\n## Exercises"),
        *exercise(1),
        *exercise(2),
        *exercise(3),
        prose("## What next\n\nThe network."),
    ]
    ran = [cell for cell in cells if cell.cell_type == "code"]
    for number, cell in enumerate(ran, start=1):
        cell.execution_count = number
    made = v4.new_notebook(cells=cells)
    made.metadata["efficientformer_edu"] = {"machine": "a laptop", "date": "2026-01-02"}
    return made


def test_a_good_chapter_has_no_fault() -> None:
    assert faults(chapter()) == []


def spoilt(*, at: int, **changes: Any) -> Notebook:
    made = chapter()
    made.cells[at].update(changes)
    return made


def printed(text: str, name: str = "stdout") -> list[Any]:
    return [v4.new_output("stream", name=name, text=text)]


@pytest.mark.parametrize(
    ("notebook", "sentence"),
    [
        (spoilt(at=0, source=f"# Building blocks\n\n{WORDS}"), "its chapter's number"),
        (spoilt(at=3, source="# Another title"), "only H1"),
        (spoilt(at=3, source="## A\n\n#### B"), "skips a level"),
        (spoilt(at=3, source="Look:\n* a list"), "blank line before it"),
        (spoilt(at=3, source="* a list\n  * inside"), "four spaces"),
        (spoilt(at=3, source="![](a.png)"), "no alt text"),
        (spoilt(at=1, source="## What you will learn\n\n## What you need"), "no minutes"),
        (spoilt(at=7, source="## What we found"), "the last H2"),
        (spoilt(at=0, source="# 2. Building blocks"), "less prose"),
        (spoilt(at=4, execution_count=9), "top to bottom"),
        (spoilt(at=4, metadata={"tags": []}), "tagged with one of"),
        (spoilt(at=4, metadata={"tags": ["exact", "measured"]}), "tagged with one of"),
        (spoilt(at=4, metadata={"tags": ["exact", "reported"]}), "only then"),
        (spoilt(at=4, outputs=printed("12.3 M (reported, V, CP)")), "tagged reported if"),
        (spoilt(at=4, outputs=printed("30.1 M (derived from what is reported, D)")), "tagged reported if"),
        (spoilt(at=4, metadata={"tags": ["exakt"]}), "no such tag"),
        (spoilt(at=4, outputs=[]), "has no text output"),
        (spoilt(at=4, outputs=printed("slow", "stderr")), "wrote to stderr"),
        (spoilt(at=4, outputs=printed("in '/" + "home/ada/kit'")), "a path of the machine"),
        (spoilt(at=4, source="%timeit 1"), "a magic"),
        (spoilt(at=4, source="a = 1\n" * 31), "more than 30"),
        (spoilt(at=5, metadata={}), "1 pictures and has 0 alt texts"),
        (spoilt(at=8, source="### Exercise 1: Count\n\nSoon."), "lacks its line"),
        (spoilt(at=8, source="### Exercise 7: Count"), "not numbered"),
        (spoilt(at=10, source="count_tokens = 1"), "BEGIN SOLUTION"),
        (spoilt(at=11, metadata={"tags": ["mistake"]}), "without the metadata"),
        (spoilt(at=11, metadata={"tags": []}), "a raw cell that is not tagged mistake"),
    ],
)
def test_every_fault_is_reported(notebook: Notebook, sentence: str) -> None:
    assert sentence in "\n".join(faults(notebook))


@pytest.mark.parametrize("beside", [[], ["exact"], ["measured"], ["trained"]])
def test_reported_values_are_alone_or_next_to_computed_values(beside: list[str]) -> None:
    made = spoilt(at=4, outputs=printed("12.3 M (reported, V, CP)"), metadata={"tags": ["reported", *beside]})
    assert faults(made) == []
    assert same_everywhere(made.cells[4]) == (beside in ([], ["exact"]))


def test_the_cut_leaves_signature_and_docstring() -> None:
    assert cut(SOLUTION).splitlines()[1:] == [
        '    """Tokens of a map of 1/32 of the image."""',
        '    raise NotImplementedError("your turn")',
    ]
    assert "SOLUTION" not in shown(SOLUTION)
    compile(shown(SOLUTION), "shown", "exec")


def test_the_cut_of_assignments_keeps_their_names() -> None:
    source = "### BEGIN SOLUTION\nheight, width = 7, 7\ntokens = height * width\n### END SOLUTION\nprint(tokens)"
    assert cut(source).splitlines() == [
        "height = ...  # your turn",
        "width = ...  # your turn",
        "tokens = ...  # your turn",
        "print(tokens)",
    ]


def test_the_student_version_holds_no_answer() -> None:
    made = chapter()
    derived = student.student_version(made)
    everything = "\n".join(cell.source for cell in derived.cells)
    assert "-height" not in everything and "(h // 32)" not in everything
    assert everything.count("your turn") == 3 and everything.count("<summary>Hint</summary>") == 3
    assert not any(cell.outputs for cell in derived.cells if tags(cell) & {"solution", "check"})
    assert "-height" in made.cells[10].source  # the chapter itself is unchanged


def test_exercises_are_run_separately() -> None:
    made = chapter()
    made.cells[5].source = made.cells[6].source = "pass"
    outcomes = [(verdict["version"], verdict["outcome"]) for verdict in verdicts(made)]
    assert outcomes == 3 * [
        ("solution", "passed"),
        ("cut", "refused"),
        ("mistake 1", "refused"),
        ("mistake 2", "refused"),
    ]
    assert [len(exercise.mistakes) for exercise in exercises(made)] == [2, 2, 2]


def test_a_cell_that_depends_on_a_solution_is_detected() -> None:
    made = chapter()
    made.cells[5].source = made.cells[6].source = "pass"
    made.cells.append(code("count_tokens(1, 1)"))
    with pytest.raises(NameError, match="count_tokens"):
        verdicts(made)


def test_the_page_folds_marks_and_describes() -> None:
    made = markdown.page(chapter(), "02_building_blocks", links="[Notebook](x.ipynb)")
    text = made.text
    assert text.startswith("# 2. Building blocks\n\n[Notebook](x.ipynb)\n")
    assert "(03_the_network.md#heads)" in text
    assert "{ .numbers }\n\n```{ .text .output }\n(1, 3)\n```" in text
    assert "![One pixel](02_building_blocks/picture-1.png)" in text and list(made.pictures) == ["picture-1.png"]
    assert "```mermaid\nflowchart LR\n    accDescr: A leads to B\n    A --> B\n```" in text
    assert text.count('??? success "Solution"\n\n    ```python\n    def count_tokens') == 3
    assert text.count('??? tip "Hint"\n\n    Look') == 3
    assert "(h // 32)" not in text and "BEGIN SOLUTION" not in text


@pytest.mark.parametrize(
    ("kinds", "words", "title"),
    [
        (["exact"], ["= computed"], "the same on every machine"),
        (["measured"], ["± measured, 2026-01-02"], 'title="measured on a &quot;laptop&quot;; 2026-01-02"'),
        (["trained"], ["↻ trained, 2026-01-02"], "trained on a &quot;laptop&quot;; 2026-01-02"),
        (["reported"], ["“ reported"], "each value with its source"),
        (["reported", "exact"], ["= computed", "“ reported"], "reported in the paper or by others"),
        (["reported", "measured"], ["± measured, 2026-01-02", "“ reported"], "2026-01-02"),
    ],
)
def test_outputs_show_their_kinds_of_numbers(kinds: list[str], words: list[str], title: str) -> None:
    made = spoilt(at=4, metadata={"tags": kinds})
    made.metadata["efficientformer_edu"]["machine"] = 'a "laptop"'
    before, _ = markdown.page(made, "02").text.split("```{ .text .output }\n(1, 3)\n```")
    *_, marks, attributes, _ = before.split("\n")[:-1]
    assert attributes == "{ .numbers }" and title in marks
    assert [" ".join(match) for match in re.findall(r'aria-hidden="true">(.)</span> ([^<]+)<', marks)] == words


def test_a_chapter_is_stale_if_its_code_or_an_input_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    for name, text in {
        "package/used.py": "x = 1",
        "package/unused.py": "x = 1",
        "constraints.txt": "torch==1\nmkdocs==1",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    made = chapter()
    assert notebooks.key(made) is None and not notebooks.up_to_date(made)
    made.metadata["efficientformer_edu"] = {"inputs": {"files": ["package/used.py"], "packages": ["torch"]}}
    made.metadata["efficientformer_edu"]["key"] = notebooks.key(made)
    assert notebooks.up_to_date(made)
    for at, source, still in ((3, "Other prose.", True), (4, "(1, 4)", False)):
        changed = copy.deepcopy(made)
        changed.cells[at].source = source
        assert notebooks.up_to_date(changed) == still
    changes = {"package/unused.py": "x = 2", "package/used.py": "x = 2", "constraints.txt": "torch==1\nmkdocs==2"}
    for name, text in changes.items():
        before = (tmp_path / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert notebooks.up_to_date(made) == (name != "package/used.py")
        (tmp_path / name).write_text(before, encoding="utf-8")
    (tmp_path / "constraints.txt").write_text("torch==2\nmkdocs==1", encoding="utf-8")
    assert not notebooks.up_to_date(made)


def test_a_run_records_its_imports_and_files() -> None:
    made = small("from efficientformer_edu import paper\n\nlen(paper.table1().rows)")
    inputs = notebooks.run(made)
    assert {"efficientformer_edu/__init__.py", "efficientformer_edu/paper/tables.py"} <= set(inputs["files"])
    assert "efficientformer_edu/paper/table1.toml" in inputs["files"]
    assert not any("model" in name for name in inputs["files"]) and "torch" not in inputs["packages"]
    torch_too = notebooks.run(small("import torch\nfrom efficientformer_edu.model import blocks"))
    assert "efficientformer_edu/model/blocks.py" in torch_too["files"] and "torch" in torch_too["packages"]


def small(source: str) -> Notebook:
    return v4.new_notebook(cells=[prose("# 1. Small"), code(source, "exact")])


def test_a_run_is_clean_kept_and_repeated_only_when_the_code_changes(tmp_path: Path) -> None:
    path, copies = tmp_path / "02_small.ipynb", tmp_path / "copies"
    write(small("import os\n\nprint(os.listdir())"), path)
    first = notebooks.executed(path, copies)
    assert first.cells[1].outputs[0].text == "[]\n" and first.cells[1].execution_count == 1
    assert "execution" not in first.cells[1].metadata and "version" not in first.metadata.language_info
    kept = (copies / path.name).stat().st_mtime_ns
    changed = small(first.cells[1].source)
    changed.cells[0].source = "# 1. Other prose"
    write(changed, path)
    again = notebooks.executed(path, copies)
    assert again.cells[0].source == "# 1. Other prose" and again.cells[1].outputs == first.cells[1].outputs
    assert (copies / path.name).stat().st_mtime_ns != kept
    assert notebooks.up_to_date(again) and not notebooks.up_to_date(changed)


def test_a_port_is_used_if_sockets_in_folders_are_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as windows:
        windows.setattr(os, "name", "nt")
        transport = notebooks._transport(tmp_path)
    assert transport == {}
    monkeypatch.setattr(notebooks, "_transport", lambda home: transport)
    notebooks.run(made := small("print(6 * 7)"))
    assert made.cells[1].outputs[0].text == "42\n"


def test_the_static_image_of_a_widget_is_kept() -> None:
    made = small("from efficientformer_edu.plots.live import Sliders\n\nSliders()")
    notebooks.run(made)
    (output,) = made.cells[1].outputs
    assert set(output.data) == {"image/svg+xml", "text/plain"}
    assert "widgets" not in made.metadata
    made.cells[1].metadata["alt"] = "A strip of bars"
    page = markdown.page(made, "04_small")
    assert "![A strip of bars](04_small/picture-1.svg)" in page.text
    assert page.pictures["picture-1.svg"].startswith(b"<svg ")


@pytest.mark.parametrize(
    ("source", "sentence"), [("1 / 0", "ZeroDivisionError"), ("import sys\n\nsys.prefix", "a path of this machine")]
)
def test_a_chapter_that_cannot_be_stored_is_rejected(tmp_path: Path, source: str, sentence: str) -> None:
    path = tmp_path / "02_small.ipynb"
    write(small(source), path)
    with pytest.raises(notebooks.NotebookError, match=sentence):
        notebooks.executed(path, tmp_path / "copies")
    assert not (tmp_path / "copies").exists()


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//cdn.example/x.css">',
        '<img alt="" src="http://cdn.example/x.png">',
        "<style>@import 'https://cdn.example/x.css';</style>",
        '<p style="background: url(https://cdn.example/x.png)">',
        '<script>import("https://cdn.example/x.mjs")</script>',
        '<pre class="mermaid"><code>flowchart</code></pre>',
    ],
)
def test_external_resources_are_detected(tmp_path: Path, html: str) -> None:
    (tmp_path / "index.html").write_text(html, encoding="utf-8")
    assert list(offline.outside(tmp_path))


def test_links_to_follow_are_no_loads(tmp_path: Path) -> None:
    page = '<a href="https://arxiv.org">it</a><script src="javascripts/mermaid.js"></script><pre class="mermaid"></pre>'
    (tmp_path / "index.html").write_text(page, encoding="utf-8")
    assert list(offline.outside(tmp_path)) == []


class Config:
    def __init__(self, docs: Path, repository: str) -> None:
        self.docs_dir, self.extra = str(docs), {"repository": repository}
        self.nav: list[Any] = [{"Home": "index.md"}, "Chapters"]
        self.repo_url = self.repo_name = ""
        self.mdx_configs: dict[str, Any] = {}
        (docs / "includes").mkdir(exist_ok=True)
        (docs / "includes" / "abbreviations.md").write_text("*[GELU]: an activation\n*[MAC]: a product and a sum\n")


def test_the_glossary_is_loaded_once(tmp_path: Path) -> None:
    glossary = site_hooks.on_config(Config(tmp_path, "")).mdx_configs["abbr"]["glossary"]
    assert glossary == {"GELU": "an activation", "MAC": "a product and a sum"}


def test_the_navigation_lists_the_chapters_there_are(tmp_path: Path) -> None:
    assert site_hooks.on_config(Config(tmp_path, "")).nav == [{"Home": "index.md"}]
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters/02_b.md").touch()
    assert site_hooks.on_config(Config(tmp_path, "")).nav[1] == {"Chapters": ["chapters/02_b.md"]}


def test_the_repository_address_is_a_single_setting(tmp_path: Path) -> None:
    assert site_hooks.on_config(Config(tmp_path, "")).repo_url == ""
    assert site_hooks.on_config(Config(tmp_path, "https://git.example/a/kit/")).repo_name == "kit"
