"""Find external resources that a built page would load, because the site must work offline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

OUTSIDE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
CSS = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])(?P<address>[^'")]+)""", re.IGNORECASE)
LOADED = re.compile(
    r"""(?:\bimport\s*\(?|importScripts\(|fetch\(|\.src\s*=)\s*["'`](?P<address>(?:https?:)?//[^"'`]+)"""
)
SOURCES = {"src", "srcset", "poster", "data", "background", "action"}
FOLLOWED = {"canonical", "prev", "next", "alternate", "license", "author", "help"}


class _Page(HTMLParser):
    """Collect the addresses that a browser loads automatically, which excludes links."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inside: str | None = None
        self.mermaid = False
        self.mermaid_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.inside = tag if tag in {"style", "script"} else None
        self.mermaid |= "mermaid" in values.get("class", "").split()
        self.mermaid_script |= tag == "script" and values.get("src", "").endswith("javascripts/mermaid.js")
        self.addresses += [value for name, value in values.items() if name in SOURCES]
        if tag == "link" and not set(values.get("rel", "").split()) & FOLLOWED:
            self.addresses.append(values.get("href", ""))
        self.addresses += [match["address"] for match in CSS.finditer(values.get("style", ""))]

    def handle_data(self, data: str) -> None:
        if self.inside == "style":
            self.addresses += [match["address"] for match in CSS.finditer(data)]
        if self.inside == "script":
            self.addresses += [match["address"] for match in LOADED.finditer(data)]

    def handle_endtag(self, tag: str) -> None:
        self.inside = None


def outside(site: Path) -> Iterator[str]:
    """Yield one sentence per external address that a page, a style sheet or our own scripts would load."""
    for path in sorted(site.rglob("*")):
        name = path.relative_to(site)
        if path.suffix == ".html":
            page = _Page()
            page.feed(path.read_text(encoding="utf-8"))
            addresses = page.addresses
            if page.mermaid and not page.mermaid_script:  # the theme would download Mermaid
                yield f"{name}: has a diagram, and does not load the site's own Mermaid"
        elif path.suffix == ".css":
            addresses = [match["address"] for match in CSS.finditer(path.read_text(encoding="utf-8"))]
        elif path.suffix == ".js" and "javascripts" in name.parts and "assets" not in name.parts:
            addresses = [match["address"] for match in LOADED.finditer(path.read_text(encoding="utf-8"))]
        else:
            continue
        yield from (f"{name}: loads {address}" for address in addresses if OUTSIDE.match(address))
