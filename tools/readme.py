"""Fills the parts of README.md that come from the code: picture, numbers, chapters, tree. `make readme` stores them.

Each part stands between two comments, `<!-- numbers -->` and `<!-- /numbers -->`; a test compares it with the code.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from efficientformer_edu.audit import count
from efficientformer_edu.config import PRESETS
from efficientformer_edu.figures.architecture import draw_architecture
from efficientformer_edu.figures.style import save
from efficientformer_edu.paper import table1
from tools import NOTEBOOKS, ROOT
from tools.chapters import chapters, read, write_text

README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "images" / "efficientformer_l1.svg"
PACKAGE = ROOT / "efficientformer_edu"
MINUTES = re.compile(r"(\d+) minutes")


def numbers() -> str:
    """Parameters and MACs of the published networks: ours, computed, beside the paper's, reported."""
    rows = [
        "| | parameters, computed | reported | MACs at 224×224, computed | reported |",
        "|---|--:|--:|--:|--:|",
    ]
    for name in PRESETS:
        costs, paper = count(name), table1()
        rows.append(
            f"| EfficientFormer-{name.upper()} | {costs.params:,} | {paper[name, 'params'].value} M "
            f"| {costs.macs:,} | {paper[name, 'macs'].value} G |"
        )
    return "\n".join(rows)


def chapter_list() -> str:
    """The chapters in order, each with its minutes."""
    rows = ["| chapter | minutes |", "|---|--:|"]
    for path in chapters(NOTEBOOKS):
        cells = read(path).cells
        title = cells[0].source.splitlines()[0].lstrip("# ")
        minutes = MINUTES.search("".join(cell.source for cell in cells[:4]))
        assert minutes, f"{path.name} names no minutes in its first cells"
        rows.append(f"| [{title}](notebooks/{path.name}) | {minutes[1]} |")
    return "\n".join(rows)


def tree() -> str:
    """Every module of the package with the first sentence of its docstring."""
    lines = ["efficientformer_edu/"]
    for path in [*sorted(PACKAGE.glob("*.py")), *sorted(p for p in PACKAGE.iterdir() if (p / "__init__.py").exists())]:
        if path.is_dir():
            lines.append(f"    {path.name + '/':<30}{_remark(path / '__init__.py')}")
            lines += [f"        {p.name:<26}{_remark(p)}" for p in sorted(path.glob("*.py")) if p.name[0] != "_"]
        elif path.name != "__init__.py":
            lines.append(f"    {path.name:<30}{_remark(path)}")
    return "\n".join(["```text", *lines, "```"])


def _remark(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, f"{path.name} has no docstring"
    return " ".join(docstring.split("\n\n")[0].split())


def filled(text: str) -> str:
    """README.md with each generated part in its place."""
    for name, part in {"numbers": numbers, "chapters": chapter_list, "tree": tree}.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        assert begin in text and end in text, f"README.md lacks the comments {begin} and {end}"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{part()}\n\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    save(draw_architecture("l1"), PICTURE)
    write_text(README, filled(README.read_text(encoding="utf-8")))
