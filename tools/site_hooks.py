"""What mkdocs.yml leaves to code: the chapters in the navigation, the repository's one address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHAPTERS = "Chapters"


def on_config(config: Any) -> Any:
    """Fill the entry `Chapters` with the pages in docs/chapters; leave it out where there are none."""
    pages = sorted(Path(config.docs_dir, "chapters").glob("*.md"))
    config.nav = [
        {CHAPTERS: [f"chapters/{page.name}" for page in pages]} if entry == CHAPTERS else entry
        for entry in config.nav
        if entry != CHAPTERS or pages
    ]
    if address := config.extra.get("repository"):
        config.repo_url = address
        config.repo_name = address.rstrip("/").rsplit("/", 1)[-1]
    return config
