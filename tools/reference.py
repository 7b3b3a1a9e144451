"""Generate parts of two reference pages: the options of each command, and the module map of the package."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import typer

from efficientformer_edu.cli import app
from tools import ROOT

PACKAGE = ROOT / "efficientformer_edu"
HEADER = ("| module | contents |", "|---|---|")


def commands() -> dict[str, Any]:
    """Return the commands of the command line by name, as Click objects."""
    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def options(name: str) -> str:
    """Return the help text, usage, and table of arguments and options of a command.

    Raises:
        ValueError: for an unknown command.
    """
    if name not in commands():
        raise ValueError(f"unknown command {name!r}; commands: {', '.join(commands())}")
    command = commands()[name]
    context = typer.Context(command, info_name=name)
    usage = f"efficientformer-edu {name} {' '.join(command.collect_usage_pieces(context))}"
    records = [parameter.get_help_record(context) for parameter in command.params]
    rows = [f"| {_code(option)} | {_cell(meaning)} |" for option, meaning in filter(None, records)]
    help_text = "\n\n".join(" ".join(paragraph.split()) for paragraph in command.help.split("\n\n"))
    return "\n".join([help_text, "", "```text", usage, "```", "", "| option | meaning |", "|---|---|", *rows])


def _code(text: str) -> str:
    return f"<code>{_cell(text)}</code>"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def module_map() -> str:
    """Return the top-level modules and all subpackages with their modules, each with its docstring's first line."""
    lines = []
    for folder in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
        lines += ["", f"### {folder.name}/", "", _summary(folder / "__init__.py"), "", *HEADER]
        modules = [path for path in sorted(folder.rglob("*.py")) if not path.name.startswith("_")]
        lines += [f"| `{path.relative_to(folder).as_posix()}` | {_summary(path)} |" for path in modules]
    top = [path for path in sorted(PACKAGE.glob("*.py")) if path.name != "__init__.py"]
    rows = [f"| `{path.name}` | {_summary(path)} |" for path in top]
    return "\n".join(["### Top level", "", *HEADER, *rows, *lines])


def _summary(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not docstring:
        raise ValueError(f"{path.relative_to(ROOT)} has no docstring")
    return " ".join(docstring.split("\n\n")[0].split()).replace("|", "\\|")
