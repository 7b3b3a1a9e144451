"""Read the code blocks of a Markdown page, so that tests/test_docs.py can run them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from textwrap import dedent

FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>`{3,})(?P<header>[^`\n]*)\n(?P<body>.*?)^(?P=indent)(?P=ticks) *$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One code block of a page.

    Attributes:
        line: line number of its opening fence, from 1.
        language: the first word after the fence, such as `python`; empty if there is none.
        source: the code between the fences, without their indentation.
        says: the text block directly after it, with the expected output; None if there is none.
        file: the title after the fence, `title="model.yaml"`: the file that the reader creates; else empty.
    """

    line: int
    language: str
    source: str
    says: str | None
    file: str = ""


def blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page, in order. A `text` block directly after another block belongs to it."""
    text = page.read_text(encoding="utf-8")
    fences = list(FENCE.finditer(text))
    for fence, following in zip_longest(fences, fences[1:]):
        belongs = following and _language(following) == "text" and not text[fence.end() : following.start()].strip()
        yield Block(
            line=text.count("\n", 0, fence.start()) + 1,
            language=_language(fence),
            source=dedent(fence["body"]),
            says=dedent(following["body"]) if following and belongs else None,
            file="".join(re.findall(r'title="(.+?)"', fence["header"])),
        )


def said(block: Block, output: str) -> bool:
    """Return whether the output matches the text block; line breaks are ignored, and `…` matches anything."""
    pattern = ".*".join(re.escape(" ".join(part.split())) for part in (block.says or "").split("…"))
    return re.fullmatch(pattern, " ".join(output.split())) is not None


def _language(fence: re.Match[str]) -> str:
    labels = re.findall(r"\w[\w+-]*", fence["header"])
    return labels[0] if labels else ""
