"""Run commands in tests: the output of a command, or its error line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from efficientformer_edu.cli import app, main

PREFIX = "efficientformer-edu: "


def run(*arguments: str | Path) -> tuple[str, str]:
    """Stdout and stderr of a command that succeeds."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The last line on stderr of a command that ends with exit code 2."""
    return _refused(capsys, *arguments)[1][-1].removeprefix(PREFIX)


def refused_at_once(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The single error line of a command that failed before it printed or wrote anything."""
    before = set(Path.cwd().rglob("*"))
    out, (line,) = _refused(capsys, *arguments)
    assert out == ""
    assert set(Path.cwd().rglob("*")) == before
    return line.removeprefix(PREFIX)


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[str, list[str]]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert lines[-1].startswith(PREFIX)
    return out, lines
