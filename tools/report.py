"""Write the reproduction report as a page of the site: `python -m tools.report`. `tools.site` calls `write`."""

from __future__ import annotations

from pathlib import Path

from efficientformer_edu.paper.report import report, to_markdown
from tools import ROOT
from tools.chapters import write_text

PAGE = ROOT / "build" / "docs" / "report.md"
WIDE = "---\nhide:\n  - navigation\n---\n\n"  # leaves more space for the wide tables


def write(page: Path = PAGE, checkout: Path = ROOT) -> None:
    """Write the report to `page`, atomically."""
    write_text(page, WIDE + to_markdown(report(checkout)))


if __name__ == "__main__":
    write()
    print(f"  {PAGE.relative_to(ROOT)}")
