"""MkDocs settings that need code: chapters in the navigation, glossary tooltips, the repository's address."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

CHAPTERS = "Chapters"
ABBREVIATION = re.compile(r"^\*\[(.+?)\]: (.+)$", re.MULTILINE)


def on_config(config: Any) -> Any:
    """Fill the entry `Chapters` of the navigation, or remove it if there are none, and load the glossary."""
    pages = sorted(Path(config.docs_dir, "chapters").glob("*.md"))
    config.nav = [
        {CHAPTERS: [f"chapters/{page.name}" for page in pages]} if entry == CHAPTERS else entry
        for entry in config.nav
        if entry != CHAPTERS or pages
    ]
    # Loaded once for the site. As a snippet, the glossary would be parsed again for every docstring.
    abbreviations = Path(config.docs_dir, "includes", "abbreviations.md").read_text(encoding="utf-8")
    config.mdx_configs["abbr"] = {"glossary": dict(ABBREVIATION.findall(abbreviations))}
    if address := config.extra.get("repository"):
        config.repo_url = address
        config.repo_name = address.rstrip("/").rsplit("/", 1)[-1]
    return config
