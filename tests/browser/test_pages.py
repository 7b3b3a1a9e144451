"""Every page of both versions, as a browser renders it: wide and light, dark, and on a phone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from browser.chromium import PHONE, Chromium

pytestmark = pytest.mark.slow

FORMULAS = (
    "return ['.arithmatex', '.arithmatex .katex', '.katex-error'].map(at => document.querySelectorAll(at).length)"
)
COLOURS = ["color-contrast", "link-in-text-block"]  # these take longest, and do not depend on the width
NO_COLOURS = {rule: {"enabled": False} for rule in COLOURS}
# Elements that overflow and are not inside a scrolling element.
SIDEWAYS = """
const width = document.documentElement.clientWidth
if (document.documentElement.scrollWidth <= width && innerWidth === width) return []
const scrolls = (box) => box && box !== document.body
    && (["auto", "scroll", "hidden"].includes(getComputedStyle(box).overflowX) || scrolls(box.parentElement))
const found = [...document.querySelectorAll("main *, footer *, header *")].filter(
    (box) => box.getBoundingClientRect().right > width + 1 && !scrolls(box.parentElement))
return [`${document.documentElement.scrollWidth} pixels`, ...found.slice(0, 3).map(box => box.outerHTML.slice(0, 160))]
"""


@dataclass
class Visit:
    """The observations on a page."""

    page: str
    errors: list[str]
    outside: list[str]
    sources: int  # diagrams in the page's source
    diagrams: list[str]
    formulas: tuple[int, int, int]  # marked, set, refused
    sideways: list[str]
    violations: list[str]


def visit(chromium: Chromium, start: str, path: Path, name: str, *, thorough: bool) -> Visit:
    chromium.open(start + name)
    violations = [f"light, {violation}" for violation in chromium.axe()] if thorough else []
    if thorough:
        chromium.colours("dark")
        violations += [f"dark, {violation}" for violation in chromium.axe(runOnly=COLOURS)]
        chromium.colours("light")
    sources = path.read_text(encoding="utf-8").count('<pre class="mermaid">')
    diagrams = chromium.diagrams() if sources else []
    formulas = chromium.ask(FORMULAS)
    chromium.resize(PHONE)
    sideways = chromium.ask(SIDEWAYS)
    if thorough:
        violations += [f"on a phone, {violation}" for violation in chromium.axe(rules=NO_COLOURS)]
    return Visit(
        page=name,
        errors=chromium.errors(),
        outside=[address for address in chromium.requests() if not address.startswith((start, "data:", "blob:"))],
        sources=sources,
        diagrams=diagrams,
        formulas=tuple(formulas),
        sideways=sideways,
        violations=violations,
    )


@pytest.fixture(scope="module")
def visits(chromium: Chromium, built: dict[str, Path], addresses: dict[str, str]) -> dict[str, list[Visit]]:
    """Every page once in each version. Both have the same boxes and colours, so axe checks only one of them."""
    return {
        version: [
            visit(chromium, addresses[version], path, path.relative_to(top).as_posix(), thorough=version == "served")
            for path in sorted(top.rglob("*.html"))
        ]
        for version, top in built.items()
    }


def test_both_versions_have_the_same_pages(visits: dict[str, list[Visit]]) -> None:
    served = {visit.page.removesuffix("index.html") for visit in visits["served"]} - {"404.html"}
    folder = {visit.page.removesuffix(".html") for visit in visits["folder"]}
    assert served == {"" if name == "index" else f"{name}/" for name in folder} and len(served) > 10


def test_no_page_writes_an_error_to_the_console(visits: dict[str, list[Visit]], version: str) -> None:
    assert {visit.page: visit.errors for visit in visits[version] if visit.errors} == {}


def test_no_page_asks_for_anything_outside(visits: dict[str, list[Visit]], version: str) -> None:
    assert {visit.page: visit.outside for visit in visits[version] if visit.outside} == {}


def test_every_diagram_is_rendered(visits: dict[str, list[Visit]], version: str) -> None:
    assert sum(visit.sources for visit in visits[version]) > 0
    for visit in visits[version]:
        assert len(visit.diagrams) == visit.sources, visit.page
        assert all(labels and "Syntax error" not in labels for labels in visit.diagrams), visit.page


def test_every_formula_is_set(visits: dict[str, list[Visit]], version: str) -> None:
    assert sum(visit.formulas[0] for visit in visits[version]) > 0
    assert {
        visit.page: visit.formulas for visit in visits[version] if visit.formulas != (visit.formulas[0],) * 2 + (0,)
    } == {}


def test_nothing_scrolls_sideways_on_a_phone(visits: dict[str, list[Visit]], version: str) -> None:
    assert {visit.page: visit.sideways for visit in visits[version] if visit.sideways} == {}


def test_axe_finds_nothing_serious(visits: dict[str, list[Visit]]) -> None:
    assert {visit.page: visit.violations for visit in visits["served"] if visit.violations} == {}
