"""The files of the built site: links, sizes, and the content without scripts. No browser is needed for these."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from browser.chromium import Chromium

pytestmark = pytest.mark.slow

MEGABYTE = 1_000_000
LOADED = "return performance.getEntries().filter(one => one.encodedBodySize).map(one => one.encodedBodySize)"


@dataclass
class Links(HTMLParser):
    """Links, images, anchors and text of a page."""

    links: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        self.links |= {values[name] for name in ("href", "src") if name in values}

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> Links:
    page_links = Links()
    page_links.feed(path.read_text(encoding="utf-8"))
    return page_links


@pytest.fixture(scope="module")
def parsed(built: dict[str, Path]) -> dict[str, dict[Path, Links]]:
    return {version: {path: read(path) for path in sorted(top.rglob("*.html"))} for version, top in built.items()}


def test_every_link_and_anchor_leads_somewhere(
    built: dict[str, Path], parsed: dict[str, dict[Path, Links]], version: str
) -> None:
    faults = defaultdict(list)
    for path, page_links in parsed[version].items():
        for link in page_links.links:
            address, fragment = urldefrag(link)
            if urlsplit(link).scheme:
                continue
            start = built[version] if address.startswith("/") else path.parent
            target = (start / unquote(address).lstrip("/")).resolve() if address else path
            target = target / "index.html" if target.is_dir() else target
            there = parsed[version].get(target)
            if not target.is_file() or (fragment and there and unquote(fragment) not in {*there.places, "__skip"}):
                faults[path.relative_to(built[version]).as_posix()].append(link)
    assert faults == {}


def test_a_folder_is_opened_from_its_files(parsed: dict[str, dict[Path, Links]]) -> None:
    """Opened by double click: no link may lead to a folder, because a browser would list it."""
    own = [link for page_links in parsed["folder"].values() for link in page_links.links if not urlsplit(link).scheme]
    assert [link for link in own if urlsplit(link).path.endswith("/")] == []


def test_the_home_page_is_small(chromium: Chromium, addresses: dict[str, str]) -> None:
    chromium.open(addresses["served"])
    assert sum(chromium.ask(LOADED)) < MEGABYTE


def test_the_home_page_is_read_without_scripts(parsed: dict[str, dict[Path, Links]], built: dict[str, Path]) -> None:
    for version, top in built.items():
        text = " ".join(parsed[version][top / "index.html"].text.split())
        assert "EfficientFormer, taken apart" in text and "make site" in text and "2. Building blocks" in text


def test_a_chapter_is_small_with_all_that_it_loads(
    chromium: Chromium, built: dict[str, Path], addresses: dict[str, str]
) -> None:
    """Its images are loaded when scrolled to; here they are all counted."""
    for folder in sorted(path.parent for path in built["served"].glob("chapters/*/index.html")):
        chromium.open(f"{addresses['served']}chapters/{folder.name}/")
        pictures = chromium.ask("return [...document.images].map(image => image.loading = 'eager').length")
        assert chromium.wait("return [...document.images].every(image => image.complete && image.naturalWidth)")
        assert sum(chromium.ask(LOADED)) < 4 * MEGABYTE, f"{folder.name}, with {pictures} pictures"


def test_chapters_lead_on_and_back(parsed: dict[str, dict[Path, Links]], built: dict[str, Path]) -> None:
    for version, top in built.items():
        pages = [path for path in parsed[version] if "chapters" in path.relative_to(top).parts]
        assert len(pages) >= 2
        for path in pages:
            page = path.read_text(encoding="utf-8")
            assert "md-footer__link--prev" in page and "md-footer__link--next" in page
