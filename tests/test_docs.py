"""Every code block of README.md, CONTRIBUTING.md and docs/ runs, and prints the output that the page shows.

A page's blocks run in order, in the same namespace and folder, without a network. The folder is empty except for an
image, `photo.jpg`. Python is executed, and its functions whose names start with `test_` are called.
`efficientformer-edu` runs through its own `main`. A YAML block is read as a configuration, and is kept in the folder
under its title. Commands that would change the machine (make, pip, venv, a server) are not run: their targets,
settings, files and modules must exist.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from markdown.extensions.toc import slugify_unicode
from matplotlib import cbook

from efficientformer_edu import cli
from efficientformer_edu.config import EfficientFormerConfig
from tools import NOTEBOOKS, ROOT, fetch_assets, markdown, pages, site
from tools.chapters import chapters, code_cells, read
from tools.snippets import Block, blocks, said

pytestmark = pytest.mark.slow

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
BOOK = {path.stem: read(path) for path in chapters(NOTEBOOKS)}
ABBREVIATIONS = (ROOT / "docs" / pages.ABBREVIATIONS).read_text(encoding="utf-8")
SHOWN_ONLY = {"", "text", "bibtex"}  # compared where a block has them, or below

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.fixture(autouse=True)
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The current folder: empty except for `photo.jpg`. No network, an empty torch cache folder, one thread."""

    def unreachable(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    (tmp_path / "reader").mkdir()
    monkeypatch.chdir(tmp_path / "reader")
    with cbook.get_sample_data("grace_hopper.jpg") as photo:
        Path("photo.jpg").write_bytes(photo.read())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # fastest for networks this small
    yield
    torch.set_num_threads(threads)


def output_of(run: Callable[[], object]) -> tuple[str, bool]:
    """The visible output (printed text, warnings, error), and whether there was neither warning nor error."""
    stream = io.StringIO()
    error, code = "", 0
    with redirect_stdout(stream), redirect_stderr(stream), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            run()
        except SystemExit as end:
            code = end.code
        except Exception as raised:
            render_traceback = getattr(raised, "_render_traceback_", None)  # what Jupyter shows
            error = render_traceback()[0] if render_traceback else f"{type(raised).__name__}: {raised}"
    warning_lines = [f"{type(warning.message).__name__}: {warning.message}" for warning in caught]
    return "\n".join([stream.getvalue(), *warning_lines, error]).strip(), not (warning_lines or error or code)


def run_python(source: str, namespace: dict[str, Any]) -> None:
    before = set(namespace)
    exec(compile(source, "<block>", "exec"), namespace)
    for name in [name for name in namespace if name.startswith("test_") and name not in before]:
        namespace[name]()


def run_command(line: str) -> None:
    """Run a line of a shell block, or check what it refers to."""
    command, *arguments = shlex.split(line, comments=True) or [""]
    command = command.removeprefix(".venv/bin/")
    if command == "efficientformer-edu":
        cli.main(arguments)
    elif command == "make":
        for argument in arguments:
            name, is_setting, _ = argument.partition("=")
            assert re.search(rf"^{name} *\?=" if is_setting else rf"^{name}:", MAKEFILE, re.MULTILINE), line
    elif command == "pip":
        check_pip(arguments)
    elif command in ("python", "python3"):
        assert arguments[0] == "-m" and is_module(arguments[1]), line
    else:
        assert not command, f"say how {command!r} is to be checked"


def check_pip(arguments: list[str]) -> None:
    """Check that the constraints file exists and contains the named packages, and that this package has the extras."""
    install, option, constraints, *requirements = arguments
    assert (install, option) == ("install", "-c")
    if requirements[0] == "-e":
        extras = re.fullmatch(r"\.\[(.+)\]", requirements[1])
        known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
        assert extras and set(extras[1].split(",")) <= set(known)
    else:
        pinned = (ROOT / constraints).read_text(encoding="utf-8")
        assert all(re.search(rf"^{name}==", pinned, re.MULTILINE) for name in requirements)


def run_block(block: Block, namespace: dict[str, Any]) -> None:
    if block.language == "python":
        run_python(block.source, namespace)
    elif block.language == "sh":
        for line in block.source.splitlines():
            run_command(line)
    elif block.language == "yaml":
        path = Path(block.file or "block.yaml")
        path.write_text(block.source, encoding="utf-8")
        EfficientFormerConfig.from_yaml(path)
    else:
        assert block.language in SHOWN_ONLY, f"say how a block of {block.language!r} is to be checked"


def is_module(name: str) -> bool:
    """Whether `python -m name` exists. `find_spec`, called for pip, disables setuptools' distutils."""
    paths = None
    for part in name.split("."):
        spec = PathFinder.find_spec(part, paths)
        if spec is None:
            return False
        paths = spec.submodule_search_locations
    return True


def by_make(block: Block) -> str:
    """The command of a block that runs make and whose output another test produces; else nothing."""
    return block.source.strip() if block.source.startswith("make ") else ""


@by_page
def test_every_block_prints_the_output_on_the_page(page: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "page"}
    torch.manual_seed(0)
    for block in blocks(page):
        output, went_well = output_of(partial(run_block, block, namespace))
        location = f"{page.name}, line {block.line}"
        if block.says is None:
            assert went_well, f"{location}: {output}"
        elif not by_make(block):
            assert said(block, output), f"{location} says otherwise than: {output}"


# The output of make when it fails: each text is compared with that of the tool that prints it.


def old_python(folder: Path) -> str:
    """Run `make env` with a Python that reports version 3.10."""
    old = folder / "python3.10"
    lie = "import sys; sys.version_info = (3, 10, 12); sys.version = '3.10.12 (main)'; exec(sys.argv.pop())"
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{lie}" "$2"\n', encoding="utf-8")
    old.chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    command = ["make", "--silent", "env", "PYTHON=python3.10", f"VENV={folder / 'venv'}"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode and not (folder / "venv").exists()
    return ended.stderr.partition("\n")[0]


def stale_chapter() -> str:
    """What the first test of the notebooks raises when all outputs are missing."""
    spec = importlib.util.spec_from_file_location("of_notebooks", ROOT / "tests" / "test_notebooks.py")
    assert spec and spec.loader
    of_notebooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(of_notebooks)
    path = chapters(NOTEBOOKS)[-1]
    changed = read(path)
    for cell in code_cells(changed):
        cell.outputs = []
    of_notebooks.executed = lambda _: changed
    compares = next(test for name, test in vars(of_notebooks).items() if name.startswith("test_"))
    with pytest.raises(AssertionError) as raised:
        compares(path)
    return f"AssertionError: {raised.value}"


def no_registry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The output of the site builder when npm fails."""
    monkeypatch.setattr(fetch_assets, "npm", lambda: [sys.executable, "-c", "raise SystemExit(1)"])
    monkeypatch.setattr(site, "make", lambda: fetch_assets.fetch(folder / "assets"))
    stream = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(stream):
        assert site.main() == 1
    return stream.getvalue()


def strict_build(folder: Path) -> str:
    """Build a site of one page with a broken link, with the project's settings."""
    (folder / "docs").mkdir()
    (folder / "docs" / "index.md").write_text("# Home\n\n[Glossary](glosary.md)\n", encoding="utf-8")
    (folder / "mkdocs.yml").write_text("site_name: x\nplugins: []\n", encoding="utf-8")
    assert re.search(r"^strict: true$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    ended = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert ended.returncode
    return ended.stdout[ended.stdout.index("WARNING -  Doc") :]


def test_the_faq_shows_the_output_of_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = [block for page in PAGES for block in blocks(page) if by_make(block) and block.says is not None]
    outputs = [strict_build(tmp_path), no_registry(tmp_path, monkeypatch), stale_chapter()]
    if shutil.which("make") and os.name == "posix":
        outputs.append(old_python(tmp_path))
        assert len(says) == len(outputs)
    for output in outputs:
        assert [block for block in says if said(block, output)], f"no block says: {output}"


# The tests on the page of pitfalls: each fails when its bug is inserted.

FAULTS = {
    "test_the_order_of_calls_does_not_matter": """
from efficientformer_edu.model import Attention
class CachedBias(Attention):
    def train(self, mode=True):
        super().train(mode)
        self.kept = None if mode else super().bias((2, 2)).detach()
        return self
    def bias(self, grid):
        return super().bias(grid) if self.kept is None else self.kept.to(self.attention_biases.dtype)
class EfficientFormer(ef.EfficientFormer):
    def __init__(self, config):
        super().__init__(config)
        for module in self.modules():
            if isinstance(module, Attention):
                module.__class__, module.kept = CachedBias, None
""",
    "test_a_bias_depends_on_the_offset_alone": """
def offset_bias(table, trained, grid, right=offset_bias):
    return torch.nn.functional.interpolate(right(table, trained, trained)[None], size=(144, 144), mode="bilinear")[0]
""",
    "test_the_schedule_rises_to_the_rate_that_was_asked_for": """
class Steep:
    drop_path_rates = [0.1 * i for i in range(5)]
    def replace(self, **_):
        return self
config = Steep()
""",
    "test_every_parameter_moves_the_logits": """
def trained(right=trained):
    network = right()
    for block in network.stages[3].mb3d:
        block.token_mixer.bias = lambda grid, mixer=block.token_mixer: mixer.attention_biases[:, 1, None, None]
    return network
""",
    "test_loaded_logits_are_the_mean_of_both_heads": """
def get_model(config, pretrained, distillation, right=ef.get_model):
    network = right(config, pretrained=pretrained)
    network.forward = lambda images: network.forward_heads(images).cls
    return network
""",
    "test_no_setting_is_ignored": """
EfficientFormer = lambda config: type("Same", (), {"__repr__": lambda self: "EfficientFormer"})()
""",
    "test_the_count_is_that_of_the_whole_network": """
from types import SimpleNamespace
count = lambda config, right=ef.count: SimpleNamespace(params=right(config.replace(num_vit=1)).params)
""",
    "test_a_crop_rule_cuts_what_it_says": """
preprocess = lambda image, rule, right=ef.preprocess: right(image)
""",
    "test_eval_returns_the_network": """
class EfficientFormer(ef.EfficientFormer):
    def train(self, mode=True):
        super().train(mode)
""",
    "test_defaults_and_every_number_of_mb3d_blocks_run": """
class EfficientFormer(ef.EfficientFormer):
    def forward(self, images):
        return super().forward(images) if self.config.num_vit else self.features(images)[-1]
""",
    "test_a_depth_counts_all_blocks_of_its_stage": """
EfficientFormer = lambda config, right=ef.EfficientFormer: right(config.replace(depths=(1, 1, 1, 3)))
""",
}


class Faulty:
    """The package with some attributes replaced: `ef` on the page."""

    def __init__(self, package: Any, replaced: dict[str, Any]) -> None:
        self.package, self.replaced = package, replaced

    def __getattr__(self, name: str) -> Any:
        return self.replaced.get(name) or getattr(self.package, name)


def test_pitfall_tests_fail_when_the_bug_is_inserted() -> None:
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks(ROOT / "docs" / "pitfalls.md"):
        exec(block.source, namespace)
    tests = [name for name in namespace if name.startswith("test_")]
    assert tests and set(tests) == set(FAULTS)
    for name in tests:
        broken = dict(namespace)
        for page_function in ("trained", name):  # with their own globals
            function = namespace[page_function]
            broken[page_function] = type(function)(function.__code__, broken, page_function, function.__defaults__)
        exec(FAULTS[name], broken)
        parts = ("EfficientFormer", "get_model", "count", "preprocess")
        broken["ef"] = Faulty(broken["ef"], {part: broken[part] for part in parts if part in broken})
        with pytest.raises(AssertionError):
            broken[name]()


# Facts that are stated more than once.


@by_page
def test_make_targets_and_pages_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"`[^`]*`", "", text)
    assert set(re.findall(r"`make ([a-z]+)", text)) <= set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    for address in re.findall(r"\]\(([^)#\s]+)", prose):
        if not address.startswith(("https://", "chapters/", "report.md")):
            assert (page.parent / address).exists(), address


def headings(text: str) -> set[str]:
    return {slugify_unicode(title, "-") for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@by_page
def test_links_into_pages_and_chapters_find_their_heading(page: Path) -> None:
    for folder, name, anchor in re.findall(
        r"\]\((chapters/)?(\w*)(?:\.md)?#([\w-]+)\)", page.read_text(encoding="utf-8")
    ):
        if folder and name in BOOK:
            assert anchor in headings("\n".join(cell.source for cell in BOOK[name].cells)), f"{name}#{anchor}"
        elif not folder and name != "report":
            text = (page.parent / f"{name or page.stem}.md").read_text(encoding="utf-8")
            assert anchor in headings(text), f"{name}#{anchor}"


def test_the_citations_are_those_of_the_file() -> None:
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (paper,) = cff["references"]
    authors = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    paper_fields = {
        "title": paper["title"],
        "author": authors,
        "booktitle": paper["collection-title"],
        "volume": str(paper["volume"]),
        "pages": f"{paper['start']}--{paper['end']}",
        "year": str(paper["year"]),
    }
    kit_fields = {
        "title": cff["title"],
        "author": f"{{{cff['authors'][0]['name']}}}",
        "version": cff["version"],
        "license": cff["license"],
    }
    cited = [block.source for block in blocks(ROOT / "docs" / "cite.md") if block.language == "bibtex"]
    assert [dict(re.findall(r"^ +(\w+) += \{(.+)\},?$", entry, re.MULTILINE)) for entry in cited] == [
        paper_fields,
        kit_fields,
    ]
    (in_readme,) = [block.source for block in blocks(ROOT / "README.md") if block.language == "bibtex"]
    assert in_readme == cited[0]
    (arxiv,) = [identifier["value"].removeprefix("arXiv:") for identifier in paper["identifiers"]]
    assert f"https://arxiv.org/abs/{arxiv}" in (ROOT / "docs" / "cite.md").read_text(encoding="utf-8")


def test_the_pages_are_filled() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        text = pages.filled(page.read_text(encoding="utf-8"), BOOK, ABBREVIATIONS)
        assert set(re.findall(r"<!-- .+? -->", text)) <= {site.CHAPTERS_HERE}, page.name
        assert all(name in BOOK for name in re.findall(r"\]\(chapters/(\w+)\.", text)), page.name


def test_every_abbreviation_is_in_the_glossary_once() -> None:
    abbreviations = re.findall(r"^\*\[(.+?)\]", ABBREVIATIONS, re.MULTILINE)
    listed = re.findall(r"^\| (.+?) \| .", pages.glossary(ABBREVIATIONS), re.MULTILINE)[1:]
    assert sorted(", ".join(listed).split(", ")) == sorted(abbreviations)


def test_the_lecture_plan_has_every_chapter_once() -> None:
    text = (ROOT / "docs" / "teachers.md").read_text(encoding="utf-8")
    planned = [int(marker["number"]) for marker in pages.CHAPTER.finditer(text)]
    assert sorted(planned) == list(range(12)) and {f"{number:02}" for number in planned} >= {name[:2] for name in BOOK}


def test_a_lesson_has_the_minutes_and_exercises_of_its_chapter() -> None:
    marker = pages.CHAPTER.fullmatch("<!-- chapter 2: Building blocks; in class 2 -->")
    assert marker
    text = pages.lesson(marker, BOOK)
    assert "| 2. Pooling by convolution | in class | 15 | 3/5 | 3/5 |" in text
    assert "| 1. One factor for each channel | at home | 5 | 1/5 | 4/5 |" in text
    assert pages.lesson(marker, {}).startswith("**2. Building blocks**: not written yet.")
    unknown = pages.CHAPTER.fullmatch("<!-- chapter 2: Building blocks; in class 9 -->")
    assert unknown
    with pytest.raises(ValueError, match="has no exercise"):
        pages.lesson(unknown, BOOK)


def test_chapter_figures_are_looked_up_by_alt_text() -> None:
    marker = pages.PICTURE.fullmatch("<!-- picture 9: Six scenes in two rows -->")
    assert marker
    shown = pages.picture(marker, BOOK)
    name = next(name for name in BOOK if name.startswith("09_"))
    assert re.fullmatch(rf"!\[Six scenes in two rows: .+\]\(chapters/{name}/picture-1\.png\)\{{ .+ \}}", shown)
    assert (chapter := markdown.page(BOOK[name], name)).pictures["picture-1.png"] and shown not in chapter.text
    trained = pages.PICTURE.fullmatch("<!-- picture 9: The two test scenes with the most mistakes -->")
    assert trained
    first, _, last = pages.picture(trained, BOOK).partition("\n\n")
    assert "trained, 2" in first and last.startswith("![The two test scenes with the most mistakes")
    for text in ("<!-- picture 9: No such -->", "<!-- picture 9: The two test scenes -->", "<!-- picture 99: Six -->"):
        wrong = pages.PICTURE.fullmatch(text)
        assert wrong
        with pytest.raises(ValueError, match="pictures whose alt text begins"):
            pages.picture(wrong, BOOK)


def test_a_link_to_a_chapter_that_is_not_written_is_text() -> None:
    text = "See [chapter 4](chapters/04_parameters_and_macs.md#rules) and [chapter 2](chapters/02_b.md)."
    assert pages.filled(text, {"02_b": None}, "") == "See chapter 4 and [chapter 2](chapters/02_b.md)."


def test_a_block_has_the_text_that_follows_it() -> None:
    page = Path("page.md")
    page.write_text(
        "```python\n1 / 0\n```\n\n```text\nZero…:\n  by zero\n```\n\n```sh\nls\n```\n\nwords\n\n```text\nx\n```\n"
        '```yaml title="model.yaml"\nact: gelu\n```\n'
    )
    first, _, second, _, third = blocks(page)
    assert (third.language, third.file, first.file) == ("yaml", "model.yaml", "")
    assert (first.line, first.language, second.language, second.says) == (1, "python", "sh", None)
    assert said(first, "ZeroDivisionError: by zero") and not said(first, "ZeroDivisionError: by one")
